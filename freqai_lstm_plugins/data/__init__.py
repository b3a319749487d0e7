"""Rows, windows and splits: arrays in, arrays out."""
