"""Notices labels that change, or become known, later than they are said to.

Whatever follows labels takes one for known `label_period_candles` after its candle. A label that
looks further, such as a smoothed one or a zigzag, says something else later, or nothing until then,
and nothing in a frame tells so: only two frames of different candles do.
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

# Newest labels that are compared, of those that no later candle should change.
NEWEST = 100
# Share of a label's deviation that is taken for round-off.
TOLERANCE = 1e-3


class LabelWatch:
    """Remembers the newest labels of each pair, and warns once where they change.

    Args:
        label_period: Candles after which a label is said to be known.
    """

    def __init__(self, label_period: int) -> None:
        self._label_period = label_period
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
        # What the newest candles' labels say may change until they are known.
        settled = slice(max(len(positions) - self._label_period, 0))
        with self._lock:
            for label, values in labels.items():
                self._look(pair, label, positions[settled], values[settled])

    def _look(self, pair: str, label: str, places: IntArray, values: FloatArray) -> None:
        key = (pair, label)
        if key in self._seen and key not in self._told:
            before, former = self._seen[key]
            _, old, new = np.intersect1d(before, places, assume_unique=True, return_indices=True)
            was, now = former[old], values[new]
            known = values[np.isfinite(values)]
            is_changed = np.abs(was - now) > TOLERANCE * (known.std() if len(known) else 0.0)
            # At the end of a frame nothing means not yet; elsewhere a label may lack for good.
            n_known = len(was) - np.argmax(np.isfinite(was)[::-1]) if np.isfinite(was).any() else 0
            is_changed[n_known:] = np.isfinite(now[n_known:])
            if is_changed.any():
                self._told.add(key)
                logger.warning(
                    "%s: label %s of %d candles changed, or became known, more than "
                    "label_period_candles = %d after them: it looks further. Raise that number to "
                    "the last candle that the label uses, or weights follow labels that nobody had "
                    "at the time.",
                    pair,
                    label,
                    is_changed.sum(),
                    self._label_period,
                )
        self._seen[key] = (places[-NEWEST:], values[-NEWEST:])
