"""Model files whose kind is not known beforehand."""

from __future__ import annotations

from pathlib import Path

from freqai_lstm_plugins.checkpoint import Checkpoint, read_checkpoint
from freqai_lstm_plugins.classifier import SequenceClassifier
from freqai_lstm_plugins.errors import NotACheckpointError
from freqai_lstm_plugins.estimator import NetFactory, SequenceEstimator
from freqai_lstm_plugins.regressor import SequenceRegressor

KINDS: dict[str, type[SequenceEstimator]] = {
    model.kind: model for model in (SequenceRegressor, SequenceClassifier)
}


def kind_of(checkpoint: Checkpoint) -> type[SequenceEstimator]:
    """Return the class of the model that a file holds.

    Raises:
        NotACheckpointError: The file names no kind of model.
    """
    if checkpoint.kind not in KINDS:
        raise NotACheckpointError(
            f"The model file is damaged: it holds a {checkpoint.kind!r}, and the kinds of models "
            f"are {', '.join(KINDS)}."
        )
    return KINDS[checkpoint.kind]


def from_checkpoint(checkpoint: Checkpoint) -> SequenceEstimator:
    """Build the model that a file holds; a net of one's own waits for `bind`."""
    return kind_of(checkpoint).from_checkpoint(checkpoint)


def load_model(path: str | Path, net: NetFactory | None = None) -> SequenceEstimator:
    """Read a regressor or a classifier from a file without executing anything that it holds.

    Args:
        path: A file that `save` or freqtrade wrote.
        net: The function that makes the net, where the file holds a net of your own.

    Raises:
        CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
    """
    return kind_of(read_checkpoint(Path(path))).load(path, net)
