"""Recurrent nets for FreqAI: models that train, save, load and trade.

`SequenceRegressor` and `SequenceClassifier` are the quick way to research; the FreqAI models stand
in `freqai_lstm_plugins.freqai`. Importing this package imports neither torch nor freqtrade.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.version import __version__

if TYPE_CHECKING:
    from freqai_lstm_plugins.explanations.explanation import explain
    from freqai_lstm_plugins.explanations.trees import explain_trees
    from freqai_lstm_plugins.models.classifier import SequenceClassifier
    from freqai_lstm_plugins.models.registry import load_model
    from freqai_lstm_plugins.models.regressor import SequenceRegressor

__all__ = [
    "SequenceClassifier",
    "SequenceRegressor",
    "__version__",
    "explain",
    "explain_trees",
    "load_model",
]

_MODULES = {
    "SequenceClassifier": "models.classifier",
    "SequenceRegressor": "models.regressor",
    "explain": "explanations.explanation",
    "explain_trees": "explanations.trees",
    "load_model": "models.registry",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
