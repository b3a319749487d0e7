"""Multilayer perceptron on the newest row: what a net makes of a candle without its past."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from freqai_lstm_plugins.config import AnyNetConfig, MLPConfig
from freqai_lstm_plugins.nets.base import SequenceNet, read_config


class MLPNet(SequenceNet):
    """Dense layers on the last row of a window; the rows before it change nothing.

    x (B, W, F) -> x[:, -1] (B, F) -> num_layers times Linear, ReLU, dropout -> Linear -> (B, O)

    It stands beside the recurrent nets in comparisons: what it loses to them is what windows are
    worth.
    """

    config = MLPConfig
    keeps_nothing = True

    def __init__(
        self, n_features: int, n_outputs: int, config: AnyNetConfig | None = None, **settings: Any
    ) -> None:
        super().__init__(n_features, n_outputs)
        shape = read_config(MLPConfig, config, settings, type(self).__name__)
        layers: list[nn.Module] = []
        size = n_features
        for _ in range(shape.num_layers):
            layers += [nn.Linear(size, shape.hidden_size), nn.ReLU(), nn.Dropout(shape.dropout)]
            size = shape.hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(size, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to outputs (B, O)."""
        outputs: Tensor = self.layers(x[:, -1])
        return outputs

    def forward_steps(self, x: Tensor, n_steps: int) -> Tensor:
        """Map sequences (B, L, F) to outputs at each of their last `n_steps` rows: (B, S, O)."""
        outputs: Tensor = self.layers(x[:, -n_steps:])
        return outputs
