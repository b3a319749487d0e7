"""Candles for tests of features: prices on ticks, as an exchange has them."""

from __future__ import annotations

import numpy as np
import pandas as pd

PRICES = ["open", "high", "low", "close"]


def make_candles(rows: int, seed: int = 0, *, price: float = 100.0) -> pd.DataFrame:
    """Return a random walk of 5-minute candles, with ties and with a market that stands still."""
    rng = np.random.default_rng(seed)
    tick = price / 10_000
    moves = rng.integers(-40, 41, size=rows)
    moves[rng.random(rows) < 0.1] = 0
    close = np.maximum(10_000 + np.cumsum(moves), 100)
    before = np.concatenate([[10_000], close[:-1]])
    high = np.maximum(before, close) + rng.integers(0, 20, size=rows)
    low = np.minimum(before, close) - rng.integers(0, 20, size=rows)
    return pd.DataFrame(
        {
            "date": pd.date_range("2025-06-02", periods=rows, freq="5min", tz="UTC"),
            "open": before * tick,
            "high": high * tick,
            "low": low * tick,
            "close": close * tick,
            "volume": rng.integers(1, 10_000, size=rows).astype(float),
        }
    )


def with_warts(candles: pd.DataFrame) -> pd.DataFrame:
    """Return candles with a flat run, a bar without volume, unknown values and a wild jump."""
    candles = candles.copy()
    n = len(candles)
    flat = candles.index[n // 4 : n // 4 + n // 8]
    candles.loc[flat, PRICES] = candles["close"].iloc[n // 4]
    candles.loc[candles.index[n // 2], "volume"] = 0.0
    candles.loc[candles.index[5 * n // 8], [*PRICES, "volume"]] = np.nan
    candles.loc[candles.index[7 * n // 8] :, PRICES] *= 3.7
    return candles
