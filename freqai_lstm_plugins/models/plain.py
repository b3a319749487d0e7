"""Reads plain data of model files into values, and refuses what cannot be.

A forged file holds sound types in wrong places as easily as the right ones, so each value is looked
at before anything computes with it. Whoever reads a state turns these errors into one of files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.intervals import Calibration
from freqai_lstm_plugins.training.history import Epoch, History

# Rows a window at most, by which a forged file cannot ask for all memory.
LARGEST_WINDOW = 2**20


def read_number(value: Any, what: str = "a number") -> float:
    """Return a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise DataError(f"{what} is {str(value)[:40]}")
    return float(value)


def read_numbers(value: Any, count: int, what: str = "numbers") -> list[float]:
    """Return so many finite numbers."""
    if not isinstance(value, list) or len(value) != count:
        raise DataError(f"{what} are {str(value)[:40]}, not {count} numbers")
    return [read_number(item, what) for item in value]


def read_whole(value: Any, least: int, most: int, what: str = "a number") -> int:
    """Return a whole number of that range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DataError(f"{what} is {str(value)[:40]}")
    return value


def read_names(value: Any, what: str = "names") -> list[str]:
    """Return a list of texts."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{what} are {str(value)[:40]}")
    return list(value)


def read_window(value: Any) -> int:
    """Return the rows of a window."""
    return read_whole(value, 1, LARGEST_WINDOW, "the window")


def read_schema(value: Any) -> Schema:
    """Return the names of columns of a model of numbers."""
    found = Schema(**value)
    for what in ("feature_names", "label_names", "symbols"):
        read_names(getattr(found, what), what)
    if not found.feature_names or not found.label_names or found.classes != []:
        raise DataError("names of features or labels are missing, or there are classes")
    if not isinstance(found.single_target, bool):
        raise DataError(f"single_target is {str(found.single_target)[:40]}")
    return found


def read_history(value: Any) -> History:
    """Return the losses of a training."""
    found = History.from_dict(value)
    for epoch in found.epochs:
        _check_epoch(epoch)
    read_whole(found.best_epoch, min(1, len(found.epochs)), len(found.epochs), "the best epoch")
    for count in (found.n_train_windows, found.n_valid_windows):
        read_whole(count, 0, 2**62, "a number of windows")
    for figure in (found.constant_loss, found.rank_correlation):
        if figure is not None:
            read_number(figure, "a figure of the history")
    return found


def _check_epoch(epoch: Epoch) -> None:
    read_whole(epoch.number, 0, 2**62, "the number of an epoch")
    for value in (epoch.train_loss, epoch.learning_rate, epoch.seconds):
        read_number(value, "a figure of an epoch")
    if epoch.valid_loss is not None:
        read_number(epoch.valid_loss, "a validation loss")


def read_calibration(value: Any, n_labels: int) -> dict[str, Any] | None:
    """Return how far intervals reach, as plain data."""
    if value is None:
        return None
    found = Calibration(**value)
    if not 0 < read_number(found.interval, "the interval") < 1:
        raise DataError(f"the interval is {found.interval}")
    for numbers in (found.margins, found.blank_lower, found.blank_upper):
        read_numbers(numbers, n_labels, "margins")
    read_whole(found.n_rows, 0, 2**62, "the rows of a calibration")
    if not isinstance(found.by_symbol, Mapping):
        raise DataError(f"margins by symbol are {str(found.by_symbol)[:40]}")
    for numbers in found.by_symbol.values():
        read_numbers(numbers, n_labels, "margins of a symbol")
    return found.to_dict()
