"""A frame of features, filled column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features.candles import Candles, finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from freqai_lstm_plugins.features.rolling import Array

Missing = Literal["nan", "neutral"]
"""What stands for an unknown value: NaN, or a constant known beforehand."""


def require_missing(missing: str) -> None:
    """Refuse a word that is no `Missing`.

    Raises:
        DataError: It is another word.
    """
    if missing not in ("nan", "neutral"):
        raise DataError(f"missing is {missing!r}; it must be 'nan' or 'neutral'.")


def to_table(
    candles: Candles,
    columns: Iterable[tuple[str, Array]],
    *,
    names: Sequence[str],
    index: pd.Index,
    longest: int,
    neutral: Callable[[str], float] | None,
) -> pd.DataFrame:
    """Put features of all candles into a frame of those that exist.

    Args:
        candles: What the features were made of.
        columns: Name and values (N,) of each feature, in any order; they are used up one by one.
        names: The frame's columns.
        index: The frame's rows.
        longest: How many candles a feature looks back at most.
        neutral: Gives the constant for unknown values behind the first `longest` candles, by the
            feature's name; None leaves NaN.
    """
    # In Fortran's order a column is one piece of memory, and pandas takes the matrix as it is.
    values = np.full((len(index), len(names)), np.nan, order="F")
    places = {name: place for place, name in enumerate(names)}
    has_history = candles.rows >= longest
    if len(index):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for name, column in columns:
                known = column[candles.rows]
                if not candles.partial:
                    known = finite(known)
                if neutral is not None:
                    known[np.isnan(known) & has_history] = neutral(name)
                values[:, places[name]] = known
    return pd.DataFrame(values, index=index, columns=list(names), copy=False)
