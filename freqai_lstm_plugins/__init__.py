"""Recurrent nets for FreqAI: LSTM and GRU models that train, save, load and trade.

`SequenceRegressor` is the quick way to research; the FreqAI models stand in
`freqai_lstm_plugins.freqai`. Importing this package imports neither torch nor freqtrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freqai_lstm_plugins.estimator import SequenceRegressor

__version__ = "0.1.0"
__all__ = ["SequenceRegressor", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "SequenceRegressor":
        from freqai_lstm_plugins.estimator import SequenceRegressor

        return SequenceRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
