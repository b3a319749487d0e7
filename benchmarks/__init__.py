"""Measurements of this package beside its peers: `python -m benchmarks`.

Each module of a row has one function that takes a `Size` and returns a `Row` of ratios; `rows.ROWS`
names them. In a row our code and the peer's do the same work, and `Row.work` says what that is.
"""
