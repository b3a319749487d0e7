"""ALSTM net: recurrent layers with attention over their states.

Source: Qin et al., A Dual-Stage Attention-Based Recurrent Neural Network for Time Series
Prediction, IJCAI 2017, in the simplified form that Microsoft's qlib made known as ALSTM: the
paper's attention over time, without its attention over inputs and its recurrent decoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.config import ALSTMConfig, AnyNetConfig
from freqai_lstm_plugins.nets.base import SequenceNet, read_config
from freqai_lstm_plugins.nets.recurrent import dense_head, run_layers, stacked

_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class ALSTMNet(SequenceNet):
    """Recurrent layers, and a dense head on the last state beside an average of all states.

    x (B, W, F) -> Linear, tanh (B, W, H) -> recurrent layers: states s (B, W, H)
    weights (B, W) = softmax over time of v · tanh(dropout(A s + a))
    [last state, weighted sum of the states] (B, 2H) -> `dense_head` -> (B, O)

    The attention works in H // 2 dimensions, at least 1. Each window starts from a zero state, so
    a row's prediction does not depend on its batch.
    """

    config = ALSTMConfig
    keeps_nothing = True

    def __init__(
        self, n_features: int, n_outputs: int, config: AnyNetConfig | None = None, **settings: Any
    ) -> None:
        super().__init__(n_features, n_outputs)
        shape = read_config(ALSTMConfig, config, settings, type(self).__name__)
        hidden_size = shape.hidden_size
        self.input = nn.Sequential(nn.Linear(n_features, hidden_size), nn.Tanh())
        self.recurrent = stacked(_CELLS[shape.cell_type], hidden_size, shape)
        score_size = max(hidden_size // 2, 1)
        self.score = nn.Sequential(
            nn.Linear(hidden_size, score_size),
            nn.Dropout(shape.dropout),
            nn.Tanh(),
            # A bias would be the same number at every step, which softmax cancels.
            nn.Linear(score_size, 1, bias=False),
        )
        self.head = dense_head(2 * hidden_size, n_outputs, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to outputs (B, O)."""
        states, weights = self._attend(x)
        attended = torch.einsum("bw,bwh->bh", weights, states)
        prediction: Tensor = self.head(torch.cat([states[:, -1], attended], dim=-1))
        return prediction

    def attention(self, x: Tensor) -> Tensor:
        """Return how much each row of the windows (B, W, F) counts: (B, W), summing to 1.

        In evaluation mode these are the weights that `forward` uses; in training mode they are
        another draw of dropout.
        """
        return self._attend(x)[1]

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = run_layers(self.recurrent, self.input(x)).transpose(0, 1)
        return states, torch.softmax(self.score(states).squeeze(-1), dim=-1)
