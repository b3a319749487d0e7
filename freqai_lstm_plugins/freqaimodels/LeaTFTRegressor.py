"""FreqAI model with a TFT net.

freqtrade finds this file by its name: `--freqaimodel LeaTFTRegressor`.
"""

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class LeaTFTRegressor(SequenceRegressorModel):
    """Temporal fusion transformer over the last `conv_width` candles."""

    net = "tft"
