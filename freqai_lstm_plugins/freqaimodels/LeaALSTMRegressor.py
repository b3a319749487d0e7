"""FreqAI model with an ALSTM net.

freqtrade finds this file by its name: `--freqaimodel LeaALSTMRegressor`.
"""

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class LeaALSTMRegressor(SequenceRegressorModel):
    """Stacked recurrent layers with attention over the last `conv_width` candles."""

    net = "alstm"
