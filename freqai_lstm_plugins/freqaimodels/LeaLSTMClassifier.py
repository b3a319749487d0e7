"""FreqAI model with an LSTM net.

freqtrade finds this file by its name: `--freqaimodel LeaLSTMClassifier`.
"""

from freqai_lstm_plugins.freqai import SequenceClassifierModel


class LeaLSTMClassifier(SequenceClassifierModel):
    """Stacked LSTM layers over the last `conv_width` candles, with a dense head."""

    net = "lstm"
