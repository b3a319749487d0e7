"""Candles and the rows that are made of them: reading, calendars and splits."""
