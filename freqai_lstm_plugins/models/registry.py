"""Model files whose kind is not known beforehand."""

from __future__ import annotations

from pathlib import Path

from freqai_lstm_plugins.checkpoint import Checkpoint, model_class, read_checkpoint
from freqai_lstm_plugins.models.estimator import NetFactory, SequenceEstimator


def from_checkpoint(checkpoint: Checkpoint) -> SequenceEstimator:
    """Build the model that a file holds; a net of one's own waits for `bind`."""
    model: SequenceEstimator = model_class(checkpoint.kind).from_checkpoint(checkpoint)
    return model


def load_model(path: str | Path, net: NetFactory | None = None) -> SequenceEstimator:
    """Read a regressor or a classifier from a file without executing anything that it holds.

    Args:
        path: A file that `save` or freqtrade wrote.
        net: The function that makes the net, where the file holds a net of your own.

    Raises:
        CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
    """
    model: SequenceEstimator = model_class(read_checkpoint(Path(path)).kind).load(path, net)
    return model
