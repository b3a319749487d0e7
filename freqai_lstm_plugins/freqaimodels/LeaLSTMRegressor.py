"""FreqAI model with an LSTM net.

freqtrade finds this file by its name: `--freqaimodel LeaLSTMRegressor`.
"""

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class LeaLSTMRegressor(SequenceRegressorModel):
    """Stacked LSTM layers over the last `conv_width` candles, with a dense head."""

    net = "lstm"
