"""Real candles: where they lie, what a net learns from them, and walking forward over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import find_files
from freqai_lstm_plugins.errors import DataError

# Named by the caller alone: a folder found by itself would make figures depend on the machine.
CANDLES = Path(os.environ.get("FREQAI_LSTM_CANDLES") or "no folder is named")
HORIZON = 12
# Labels by what they are.
RETURN = "return"
IN_VOLATILITIES = "return in volatilities"


def find(timeframe: str, count: int) -> dict[str, Path]:
    """Return the files of at most `count` pairs, by the pairs' names."""
    try:
        files = find_files(CANDLES, timeframe=timeframe)
    except DataError:  # There is no folder, or nothing of this timeframe in it.
        return {}
    return {file.symbol: file.path for file in files[:count]}


def missing(timeframe: str) -> str:
    """Return what a row says where `find` finds nothing."""
    return f"No candles of {timeframe} at FREQAI_LSTM_CANDLES ({CANDLES.name})."


def features_and_labels(candles: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 15 features, and the return over the next `HORIZON` candles in two units.

    In volatilities it is divided by the deviation of the last 48 changes.
    """
    close = np.log(candles["close"])
    change = close.diff()
    volatility = change.rolling(48).std()
    volume = np.log1p(candles["volume"])
    hour = candles["date"].dt.hour * (2 * np.pi / 24)
    span = np.log(candles["high"] / candles["low"])
    place = (candles["close"] - candles["low"]) / (candles["high"] - candles["low"])
    features = {f"change {lag}": close.diff(lag) / volatility for lag in (1, 3, 6, 12, 24, 48, 96)}
    features |= {
        "volume": (volume - volume.rolling(96).mean()) / volume.rolling(96).std(),
        "range": span / volatility,
        "place in range": place.fillna(0.5),
        "volatility": np.log(volatility / change.rolling(336).std()),
        "up share": (change > 0).rolling(14).mean(),
        "hour, sine": np.sin(hour),
        "hour, cosine": np.cos(hour),
        "weekday": candles["date"].dt.day_of_week / 6,
    }
    future = close.shift(-HORIZON) - close
    labels = {RETURN: future, IN_VOLATILITIES: (future / volatility).clip(-20, 20)}
    known = pd.DataFrame(features).replace([np.inf, -np.inf], np.nan)
    kept = slice(340, -HORIZON)
    return (
        known.iloc[kept].reset_index(drop=True),
        pd.DataFrame(labels).iloc[kept].reset_index(drop=True),
    )


def walk_forward(
    n_rows: int, train_rows: int, test_rows: int, folds: int
) -> Iterator[tuple[slice, slice]]:
    """Yield the training and the test rows of each fold; the last test ends at the last row."""
    first = n_rows - folds * test_rows - train_rows
    for fold in range(folds):
        start = first + fold * test_rows
        stop = start + train_rows
        # The labels of the last rows reach into the test.
        yield slice(start, stop - HORIZON), slice(stop, stop + test_rows)
