"""The regressors of this package as models of qlib: `SequenceModel`, for datasets and recorders.

This is the one place that imports qlib. qlib wants an environment of its own: beside freqtrade it
exchanges packages that the bot runs on.
"""

from __future__ import annotations

from importlib.util import find_spec

from freqai_lstm_plugins.errors import MissingExtraError

if find_spec("qlib") is None:
    raise MissingExtraError("pyqlib", "qlib", "SequenceModel")

from freqai_lstm_plugins.qlib.model import SequenceModel

__all__ = ["SequenceModel"]
