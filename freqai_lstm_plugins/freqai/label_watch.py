"""Notices labels that change after they were first known.

Whatever follows labels takes one for known `label_period_candles` after its candle. A label that
looks further, such as a smoothed one or a zigzag, says something else later, and nothing in a frame
tells so: only two frames of different candles do.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray

logger = logging.getLogger(__name__)

# Newest labels of a frame that are compared: those that a later candle may still change.
NEWEST = 100
# Share of a label's deviation that is taken for round-off.
TOLERANCE = 1e-3


class LabelWatch:
    """Remembers the newest labels of each pair, and warns once where they change."""

    def __init__(self) -> None:
        # A bot trains in one thread and predicts in another.
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[IntArray, FloatArray]] = {}
        self._told: set[tuple[str, str]] = set()

    def look(self, pair: str, positions: IntArray, labels: Mapping[str, FloatArray]) -> None:
        """Compare the labels of a frame with those that were seen before.

        Args:
            pair: The pair.
            positions: (N,) number of each row's candle, rising.
            labels: (N,) values of each label, NaN where it is not known.
        """
        with self._lock:
            for label, values in labels.items():
                self._look(pair, label, positions, values)

    def _look(self, pair: str, label: str, positions: IntArray, values: FloatArray) -> None:
        key = (pair, label)
        known = np.isfinite(values)
        places, found = positions[known], values[known]
        if key in self._seen and len(found) and key not in self._told:
            before, former = self._seen[key]
            _, old, new = np.intersect1d(before, places, assume_unique=True, return_indices=True)
            is_changed = np.abs(former[old] - found[new]) > TOLERANCE * found.std()
            if is_changed.any():
                self._told.add(key)
                logger.warning(
                    "%s: label %s of %d candles changed after it was known: it looks further than "
                    "label_period_candles. Raise that number to the last candle that the label "
                    "uses, or weights follow labels that nobody had at the time.",
                    pair,
                    label,
                    is_changed.sum(),
                )
        self._seen[key] = (places[-NEWEST:], found[-NEWEST:])
