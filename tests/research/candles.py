"""Candles for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd


def candles(closes, opens=None, *, volumes=None, start="2024-01-01", freq="D"):
    """Make a long table of (dates, symbols) prices; NaN is no candle. Opens are the last closes."""
    closes = np.asarray(closes, float)
    n_dates, n_symbols = closes.shape
    if opens is None:
        opens = pd.DataFrame(closes).ffill().shift(1).fillna(pd.DataFrame(closes)).to_numpy()
    dates = pd.date_range(start, periods=n_dates, freq=freq, tz="UTC")
    frame = pd.DataFrame(
        {
            "date": np.repeat(dates, n_symbols),
            "symbol": [f"S{number:02d}" for number in range(n_symbols)] * n_dates,
            "open": np.asarray(opens, float).ravel(),
            "close": closes.ravel(),
            "volume": np.ravel(volumes) if volumes is not None else 1.0,
        }
    )
    return frame[np.isfinite(frame["close"])].reset_index(drop=True)


def walk_of(rng, n_dates, n_symbols, scale=0.02):
    """Return prices that walk at random."""
    return 100 * np.exp(scale * rng.normal(size=(n_dates, n_symbols)).cumsum(axis=0))


def forecasts_of(values, start="2024-01-01"):
    """Make a frame of (dates, symbols) predictions."""
    values = np.asarray(values, float)
    dates = pd.date_range(start, periods=len(values), freq="D", tz="UTC")
    return pd.DataFrame(values, dates, [f"S{number:02d}" for number in range(values.shape[1])])
