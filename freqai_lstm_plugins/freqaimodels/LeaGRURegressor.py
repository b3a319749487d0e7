"""FreqAI model with a GRU net.

freqtrade finds this file by its name: `--freqaimodel LeaGRURegressor`.
"""

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class LeaGRURegressor(SequenceRegressorModel):
    """Stacked GRU layers over the last `conv_width` candles, with a dense head."""

    net = "gru"
