"""Research on many models and symbols; knows neither a host nor torch."""
