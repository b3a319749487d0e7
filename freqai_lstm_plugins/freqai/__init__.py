"""FreqAI adapter: FreqAI's contract on top of the estimators.

Derive your own FreqAI model from `SequenceRegressorModel` or `SequenceClassifierModel` and override
`build_net`.
"""

from freqai_lstm_plugins.freqai.classifier import SequenceClassifierModel
from freqai_lstm_plugins.freqai.regressor import SequenceRegressorModel

__all__ = ["SequenceClassifierModel", "SequenceRegressorModel"]
