"""Cuts rows into parts whose labels know nothing of each other."""

from __future__ import annotations

import numpy as np

from freqai_lstm_plugins.data.arrays import BoolArray


def purged(earlier: BoolArray, later: BoolArray, label_period: int) -> BoolArray:
    """Drop the targets of `earlier` whose labels reach into `later`.

    A label at row r describes the candles up to r + `label_period`, so the targets of the last
    `label_period` rows before the later part know candles of that part.

    Args:
        earlier: (N,) target rows of the part that comes first.
        later: (N,) target rows of the part that comes after it.
        label_period: Rows that a label looks ahead.
    """
    if not later.any():
        return earlier
    first_later = int(np.flatnonzero(later)[0])
    kept = earlier.copy()
    kept[max(first_later - label_period, 0) :] = False
    return kept
