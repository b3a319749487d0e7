"""One net for all pairs: rows of every pair, cut at one moment, joined and trained on once.

`layout` gives all pairs the same columns, `joining` makes one table of their rows, `value` is what
a training leaves, and `model` trains it in a backtest and in a bot.
"""
