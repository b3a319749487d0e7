"""Experiments that ask which model is better, and whether the difference is more than luck.

Nothing here knows torch, freqtrade or qlib: models come through the registry, rows as tables.
"""
