"""Features and labels made from candles."""
