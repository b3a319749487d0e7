"""FreqAI model with a GRU net.

freqtrade finds this file by its name: `--freqaimodel LeaGRUClassifier`.
"""

from freqai_lstm_plugins.freqai import SequenceClassifierModel


class LeaGRUClassifier(SequenceClassifierModel):
    """Stacked GRU layers over the last `conv_width` candles, with a dense head."""

    net = "gru"
