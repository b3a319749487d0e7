"""Model files whose kind is not known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freqai_lstm_plugins.checkpoint import (
    Checkpoint,
    model_class,
    read_checkpoint,
    write_checkpoint,
)
from freqai_lstm_plugins.models.contract import Model
from freqai_lstm_plugins.models.estimator import SequenceEstimator, with_net
from freqai_lstm_plugins.models.parameters import NetFactory


def from_checkpoint(checkpoint: Checkpoint) -> Any:
    """Build the model that a file holds; a net of one's own waits for `bind`.

    Raises:
        CheckpointError: The state is damaged, or of another version.
    """
    return model_class(checkpoint.kind).from_state(checkpoint.state)


def load_model(path: str | Path, net: NetFactory | None = None) -> Any:
    """Read a model of any kind from a file without executing anything that it holds.

    Args:
        path: A file that `save`, `save_model` or freqtrade wrote.
        net: The function that makes the net, where the file holds a net of your own.

    Raises:
        CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
    """
    model = from_checkpoint(read_checkpoint(Path(path)))
    return with_net(model, path, net) if isinstance(model, SequenceEstimator) else model


def save_model(model: Model, path: str | Path) -> None:
    """Write a fitted model of any kind in `KINDS` to a file, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_checkpoint(Checkpoint(model.kind, model.to_state()), Path(path))
