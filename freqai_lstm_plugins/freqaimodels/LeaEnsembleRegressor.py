"""FreqAI model with nets and trees that forecast together.

freqtrade finds this file by its name: `--freqaimodel LeaEnsembleRegressor`.
"""

from freqai_lstm_plugins.freqai.ensemble import EnsembleRegressorModel


class LeaEnsembleRegressor(EnsembleRegressorModel):
    """Members of several kinds over the last `conv_width` candles, weighed out of fold."""
