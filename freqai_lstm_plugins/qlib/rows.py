"""Rows of a dataset as windows need them: an instrument after the other, along the calendar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from qlib.data import D

from freqai_lstm_plugins.data.arrays import BoolArray, IntArray, to_float32
from freqai_lstm_plugins.data.assembly import Rows
from freqai_lstm_plugins.qlib.dataset import dates_of
from freqai_lstm_plugins.qlib.expressions import qlib_loaders

if TYPE_CHECKING:
    from qlib.data.dataset import DatasetH


@dataclass(frozen=True)
class Panel:
    """Rows of all instruments, one instrument after the other.

    Attributes:
        rows: The rows.
        days: (N,) number of each row's date in the calendar.
        order: (N,) where each row stood in the frame.
    """

    rows: Rows
    days: IntArray
    order: IntArray


def panel_of(
    dataset: DatasetH, features: pd.DataFrame, label: pd.DataFrame | None, days: IntArray
) -> Panel:
    """Sort rows by instrument and date; those of suspended stocks break windows.

    Args:
        dataset: Where the rows are from.
        features: (N, F), by date and instrument.
        label: (N, 1) in the same order; None where nothing is learned.
        days: (N,) number of each row's date in the calendar.
    """
    codes, _ = pd.factorize(features.index.get_level_values("instrument"), sort=True)
    order = np.lexsort((days, codes))
    codes, days = codes[order].astype(np.int64), days[order]
    follows = np.zeros(len(order), dtype=bool)
    follows[1:] = (np.diff(codes) == 0) & (np.diff(days) == 1)
    values = to_float32(features.to_numpy()[order])
    values[_is_suspended(dataset, features.index)[order]] = np.nan
    targets = np.full((len(order), 1), np.nan) if label is None else label.to_numpy(float)[order]
    return Panel(Rows(values, targets, follows, codes), days, order)


def _is_suspended(dataset: DatasetH, index: pd.Index[Any]) -> BoolArray:
    """Tell at which rows qlib itself has no price.

    qlib's loader gives a row for each day of the calendar, and its usual processors fill that of a
    suspended stock with zeros, so the features no longer tell.
    """
    loaders = qlib_loaders(dataset.handler)
    if not loaders or index.empty:
        return np.zeros(len(index), dtype=bool)
    freq = loaders[0].freq
    dates = dates_of(index)
    close = D.features(
        list(index.get_level_values("instrument").unique()),
        ["$close"],
        dates.min(),
        dates.max(),
        freq=freq["feature"] if isinstance(freq, dict) else freq,
    )
    has_none = close.iloc[:, 0].isna().swaplevel()
    return np.asarray(has_none.reindex(index, fill_value=False))
