"""Features and labels computed from candles."""
