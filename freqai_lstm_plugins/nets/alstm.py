"""ALSTM net: recurrent layers with attention over their states.

Source: Qin et al., A Dual-Stage Attention-Based Recurrent Neural Network for Time Series
Prediction, IJCAI 2017, in the simplified form that Microsoft's qlib made known as ALSTM: the
paper's attention over time, without its attention over inputs and its recurrent decoder.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.config import ALSTMConfig
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets.base import SequenceNet
from freqai_lstm_plugins.nets.recurrent import run_layers

CellType = Literal["gru", "lstm"]
_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class ALSTMNet(SequenceNet):
    """Recurrent layers, and a dense head on the last state beside an average of all states.

    x (B, W, F) -> Linear, tanh (B, W, H) -> recurrent layers: states s (B, W, H)
    weights (B, W) = softmax over time of v · tanh(dropout(A s + a))
    [last state, weighted sum of the states] (B, 2H) -> Linear, ReLU, dropout, Linear -> (B, O)

    The attention works in H // 2 dimensions, at least 1. Each window starts from a zero state, so
    a row's prediction does not depend on its batch.
    """

    config = ALSTMConfig

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.2,
        head_size: int = 64,
        cell_type: CellType = "gru",
    ) -> None:
        super().__init__(n_features, n_outputs)
        if cell_type not in _CELLS:
            choices = ", ".join(get_args(CellType))
            raise ConfigError(f"cell_type must be one of {choices}, not {cell_type!r}.")
        self.input = nn.Sequential(nn.Linear(n_features, hidden_size), nn.Tanh())
        self.recurrent = _CELLS[cell_type](
            hidden_size,
            hidden_size,
            num_layers,
            batch_first=True,
            # torch drops only between layers, and warns where there is no between.
            dropout=dropout if num_layers > 1 else 0.0,
        )
        score_size = max(hidden_size // 2, 1)
        self.score = nn.Sequential(
            nn.Linear(hidden_size, score_size),
            nn.Dropout(dropout),
            nn.Tanh(),
            # A bias would be the same number at every step, which softmax cancels.
            nn.Linear(score_size, 1, bias=False),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * hidden_size, head_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(head_size, n_outputs),
        )

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
