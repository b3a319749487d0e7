"""Recurrent nets for FreqAI: models that train, save, load and trade.

`SequenceRegressor` and `SequenceClassifier` are the quick way to research; the FreqAI models stand
in `freqai_lstm_plugins.freqai`. Importing this package imports neither torch nor freqtrade.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freqai_lstm_plugins.classifier import SequenceClassifier
    from freqai_lstm_plugins.explanation import explain
    from freqai_lstm_plugins.models import load_model
    from freqai_lstm_plugins.regressor import SequenceRegressor
    from freqai_lstm_plugins.trees import explain_trees

__version__ = "0.1.0"
__all__ = [
    "SequenceClassifier",
    "SequenceRegressor",
    "__version__",
    "explain",
    "explain_trees",
    "load_model",
]

_MODULES = {
    "SequenceClassifier": "classifier",
    "SequenceRegressor": "regressor",
    "explain": "explanation",
    "explain_trees": "trees",
    "load_model": "models",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
