"""FreqAI's contract on top of the sequence regressor.

Derive your own FreqAI model from `SequenceRegressorModel` and override `build_net`.
"""

from freqai_lstm_plugins.freqai.model import SequenceRegressorModel

__all__ = ["SequenceRegressorModel"]
