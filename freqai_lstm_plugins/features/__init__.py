"""Features and labels made from candles.

`alpha158` and `alpha360` are the feature sets of qlib, `RobustZScore` scales what they give.
"""

# Not lazy: a function that is named as its module must be bound after the module is imported.
from freqai_lstm_plugins.features.alpha158 import ALPHA158_20, alpha158
from freqai_lstm_plugins.features.alpha360 import alpha360
from freqai_lstm_plugins.features.robust import RobustZScore

__all__ = ["ALPHA158_20", "RobustZScore", "alpha158", "alpha360"]
