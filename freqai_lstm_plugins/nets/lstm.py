"""LSTM net.

Source: Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997.
"""

from __future__ import annotations

from torch import nn

from freqai_lstm_plugins.nets.recurrent import RecurrentNet


class LSTMNet(RecurrentNet):
    """Stacked LSTM layers with a dense head: (B, W, F) -> (B, O)."""

    keeps_nothing = True
    cell = nn.LSTM
