"""Prints where the model files stand."""

from __future__ import annotations

from freqai_lstm_plugins.commands.console import out


def path() -> None:
    """Print the folder for freqtrade's --freqaimodel-path.

    freqtrade trade --freqaimodel LeaLSTMRegressor --freqaimodel-path "$(freqai-lstm path)"
    """
    from freqai_lstm_plugins.install import MODELS_DIR

    out.print(str(MODELS_DIR))
