"""GRU net.

Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014.
"""

from __future__ import annotations

from torch import nn

from freqai_lstm_plugins.nets.recurrent import RecurrentNet


class GRUNet(RecurrentNet):
    """Stacked GRU layers with a dense head: (B, W, F) -> (B, O)."""

    keeps_nothing = True
    cell = nn.GRU
