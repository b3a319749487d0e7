"""Puts files aside that FreqAI could not read at its start, so that a bot starts in any case."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import cloudpickle
import pandas as pd
import rapidjson

from freqai_lstm_plugins.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

PREDICTIONS = "historic_predictions.pkl"
PREDICTIONS_BACKUP = "historic_predictions.backup.pkl"

_ENTRY = {"model_filename", "trained_timestamp", "data_path"}


def set_aside_damaged(folder: Path) -> None:
    """Rename what cannot be read in an identifier's folder to `NAME.damaged`.

    FreqAI reads these files in its constructor and takes them for sound. Without the list of pairs
    every pair is trained again; without past predictions they begin anew.

    Args:
        folder: The identifier's folder. It need not exist.
    """
    _set_aside(folder / "pair_dictionary.json", _read_pairs)
    _set_aside(folder / "global_metadata.json", _read_json)
    _set_aside(folder / "metric_tracker.json", _read_json)
    predictions, backup = folder / PREDICTIONS, folder / PREDICTIONS_BACKUP
    is_lost = _set_aside(predictions, _read_predictions)
    if is_lost and not _set_aside(backup, _read_predictions) and backup.is_file():
        write_bytes(predictions, backup.read_bytes())
        logger.warning("Took the past predictions from %s.", backup)


def _set_aside(path: Path, read: Callable[[Path], Any]) -> bool:
    """Rename a file that `read` fails on, and tell whether it did."""
    if not path.is_file():
        return False
    try:
        read(path)
    # A pickle that is damaged, or of other packages, may raise anything.
    except Exception as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        logger.warning(
            "%s cannot be read (%s: %s), so it counts for nothing. It is kept as %s.",
            path,
            type(error).__name__,
            error,
            aside.name,
        )
        return True
    return False


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("r", encoding="utf-8") as text:
        value = rapidjson.load(text, number_mode=rapidjson.NM_NATIVE)
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__}, no table")
    return value


def _read_pairs(path: Path) -> None:
    for pair, entry in _read_json(path).items():
        if not isinstance(entry, dict) or not entry.keys() >= _ENTRY:
            raise ValueError(f"the entry of {pair} lacks some of {', '.join(sorted(_ENTRY))}")


def _read_predictions(path: Path) -> None:
    with path.open("rb") as stream:
        value = cloudpickle.load(stream)
    if not isinstance(value, dict) or not all(
        isinstance(frame, pd.DataFrame) for frame in value.values()
    ):
        raise TypeError("it holds no frames of predictions")
