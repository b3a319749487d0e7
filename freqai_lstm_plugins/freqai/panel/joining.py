"""One table of all pairs' rows, pair after pair; no window crosses from one to the next."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
import torch

from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


def time_of_cut(
    dates: Iterable[pd.Series], test_size: float, label_period: int, *, reverse: bool
) -> pd.Timestamp | None:
    """Return the one moment at which the later part of all pairs begins.

    Args:
        dates: For each pair the dates of its candles, in order.
        test_size: `data_split_parameters.test_size`: a fraction, or a number of candles.
        label_period: Newest candles of each pair that have no label yet.
        reverse: The earlier part is the test split.

    Returns:
        None where there is no test split.
    """
    known = [part.iloc[: len(part) - label_period] for part in dates if len(part) > label_period]
    if not test_size or not known:
        return None
    times = pd.concat(known).sort_values(ignore_index=True)
    n_late = round(len(times) * test_size) if test_size < 1 else int(test_size)
    n_late = len(times) - n_late if reverse else n_late
    return times.iloc[max(len(times) - n_late, 0)] if n_late > 0 else None


logger = logging.getLogger(__name__)

# For each row the number of its candle, and of that at which its label is known.
_MOMENTS = ("times", "known_at")


class JoinedRows:
    """Scaled rows of all pairs with their windows, filled in pair by pair.

    Args:
        n_rows: Rows of all pairs, as far as they can be counted; more make the table longer.
        n_pairs: How many pairs there are, for the message.
        n_features: F.
        has_symbol: Whether a last column holds the pair's number.

    Raises:
        DataError: There is less free memory than the table takes.
    """

    def __init__(self, n_rows: int, n_pairs: int, n_features: int, *, has_symbol: bool) -> None:
        width = n_features + has_symbol
        logger.info("In this training %s.", require_memory(n_rows, n_pairs, width))
        self._values = np.empty((n_rows, width), dtype=np.float32)
        self._moments = {name: np.empty(n_rows, dtype=np.int64) for name in _MOMENTS}
        self._parts: dict[str, list[WindowSet]] = {"train": [], "valid": []}
        self._pairs: list[str] = []
        self._used = 0
        self._has_symbol = has_symbol

    def add(self, pair: str, data: dict[str, Any]) -> None:
        """Append a pair.

        Args:
            pair: Its name.
            data: What `prepare_slice` of a model returned for it.
        """
        rows = data["train_windows"].rows.numpy()
        start, stop = self._used, self._used + len(rows)
        if stop > len(self._values):
            # Candles that came while the pairs before were prepared.
            self._values = _longer(self._values, stop)
            self._moments = {name: _longer(old, stop) for name, old in self._moments.items()}
        self._values[start:stop, : rows.shape[1]] = rows
        if self._has_symbol:
            self._values[start:stop, -1] = len(self._pairs)
        for name, moments in self._moments.items():
            moments[start:stop] = data[name]
        for name, parts in self._parts.items():
            own = data[f"{name}_windows"]
            # Its rows stand in the table now, and need not stand twice.
            parts.append(replace(own, rows=torch.empty(0), ends=own.ends + start))
        self._pairs.append(pair)
        self._used = stop

    def finish(self, balance: str) -> dict[str, Any]:
        """Return the windows of all pairs, in the form that `prepare_slice` gives.

        Args:
            balance: `candles`: each candle counts by its own weight; `pairs`: each pair's windows
                together count the same.
        """
        rows = torch.from_numpy(self._values[: self._used])
        sets = {name: _joined(rows, parts, balance) for name, parts in self._parts.items()}
        counts = [len(part) for part in self._parts["valid"]]
        return {
            "train_windows": sets["train"],
            "valid_windows": sets["valid"],
            "valid_symbols": np.repeat(np.array(self._pairs, dtype=object), counts),
            **{name: moments[: self._used] for name, moments in self._moments.items()},
            "symbols": list(self._pairs) if self._has_symbol else [],
        }


def require_memory(n_rows: int, n_pairs: int, width: int) -> str:
    """Return how large the joined rows are, in words.

    Raises:
        DataError: There is less free memory.
    """
    size, free = 4 * n_rows * width, psutil.virtual_memory().available
    words = (
        f"{n_pairs} pairs have {n_rows:,} rows of {width} numbers, which take {size / 1e6:,.0f} MB"
    )
    if size > free:
        raise DataError(
            f"Training one net for all pairs needs more memory than is free: {words}, and "
            f"{free / 1e6:,.0f} MB are free. Shorten train_period_days, make fewer features, or "
            f"name fewer pairs in panel.pairs."
        )
    return words


def _longer(array: npt.NDArray[Any], n_rows: int) -> npt.NDArray[Any]:
    made = np.empty((n_rows, *array.shape[1:]), dtype=array.dtype)
    made[: len(array)] = array
    return made


def _joined(rows: torch.Tensor, parts: list[WindowSet], balance: str) -> WindowSet:
    factors, mean = _factors(parts, balance)
    weights = [part.weights * factor for part, factor in zip(parts, factors, strict=True)]
    return WindowSet(
        rows,
        torch.cat([part.ends for part in parts]),
        torch.cat([part.targets for part in parts]),
        torch.cat(weights),
        parts[0].window,
        mean,
    )


def _factors(parts: list[WindowSet], balance: str) -> tuple[list[float], float]:
    """Return by what each pair's weights, of mean 1, are multiplied, and what their mean was."""
    total, n_filled = sum(map(len, parts)), sum(len(part) > 0 for part in parts)
    if not total:
        return [1.0] * len(parts), 1.0
    if balance == "pairs":
        mean = sum(part.mean_weight for part in parts if len(part)) / n_filled
        return [total / (n_filled * max(len(part), 1)) for part in parts], mean
    mean = sum(part.mean_weight * len(part) for part in parts) / total
    return [part.mean_weight / mean for part in parts], mean
