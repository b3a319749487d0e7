"""What LSTM and GRU nets have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.nets.base import SequenceNet
from freqai_lstm_plugins.nets.cells import GRULayer, LSTMLayer, gru_over_rows, lstm_over_rows

# Below, torch's own layers are faster: a step is too small for its operations' fixed cost.
SMALLEST_OWN_BATCH = 64


class RecurrentNet(SequenceNet):
    """Stacked recurrent layers, and a small dense head on the last state.

    x (B, W, F) -> recurrent layers -> last state (B, H) -> Linear, ReLU, dropout, Linear -> (B, O)

    Subclasses name the cell. The only state between calls is the weights: each window starts from
    a zero state, so a row's prediction does not depend on its batch.
    """

    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]]

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        hidden_size: int = 128,
        num_layers: int = 2,
        dropout: float = 0.2,
        head_size: int = 64,
    ) -> None:
        super().__init__(n_features, n_outputs)
        self.recurrent = self.cell(
            n_features,
            hidden_size,
            num_layers,
            batch_first=True,
            # torch drops only between layers, and warns where there is no between.
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.head = nn.Sequential(
            nn.Linear(hidden_size, head_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(head_size, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to outputs (B, O)."""
        prediction: Tensor = self.head(run_layers(self.recurrent, x)[-1])
        return prediction

    def forward_steps(self, x: Tensor, n_steps: int) -> Tensor:
        """Map sequences (B, L, F) to outputs at each of their last `n_steps` rows: (B, S, O).

        The states run forwards only, so no step sees a row after it.
        """
        prediction: Tensor = self.head(run_layers(self.recurrent, x)[-n_steps:]).transpose(0, 1)
        return prediction

    def forward_rows(self, rows: Tensor, ends: Tensor, window: int) -> Tensor:
        """Map the windows of `rows` (N, F) that end at `ends` (B,) to outputs (B, O).

        Windows that overlap share the first layer's product with the rows. For evaluation on the
        CPU: there is no dropout and no gradient.
        """
        states = OWN_LAYERS[self.cell][1](rows, ends, window, *self._weights(0))
        for layer in range(1, self.recurrent.num_layers):
            states = self._torch_layer(states, layer)
        prediction: Tensor = self.head(states[-1])
        return prediction

    def _torch_layer(self, states: Tensor, layer: int) -> Tensor:
        """Run one layer by torch over states (W, B, H): faster where nothing is kept for later."""
        zeros = states.new_zeros(1, states.shape[1], self.recurrent.hidden_size)
        options = (True, 1, 0.0, False, False, False)
        if self.cell is nn.LSTM:
            return torch.lstm(states, (zeros, zeros), self._weights(layer), *options)[0]
        return torch.gru(states, zeros, self._weights(layer), *options)[0]

    def _weights(self, layer: int) -> list[Tensor]:
        return _weights_of(self.recurrent, layer)


def run_layers(recurrent: nn.LSTM | nn.GRU, x: Tensor) -> Tensor:
    """Run stacked layers from a zero state: x (B, W, F) -> states of the last layer (W, B, H).

    On the CPU by the layers of `cells`, which give what torch's own do, round-off apart.
    """
    if not (x.device.type == "cpu" and len(x) >= SMALLEST_OWN_BATCH):
        states: Tensor = recurrent(x)[0]
        return states.transpose(0, 1)
    layer_function, _ = OWN_LAYERS[type(recurrent)]
    states = x.transpose(0, 1).contiguous()
    for layer in range(recurrent.num_layers):
        if layer:
            states = _dropout(states, recurrent.dropout if recurrent.training else 0.0)
        states = layer_function.apply(states, *_weights_of(recurrent, layer))
    return states


def _weights_of(recurrent: nn.LSTM | nn.GRU, layer: int) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(recurrent, f"{name}_l{layer}") for name in names]


def _dropout(x: Tensor, fraction: float) -> Tensor:
    """Drop values at random and scale the others up, from 16 random bits a value.

    torch draws 53 bits for each, one after another, which costs as much as a layer's gates.
    """
    dropped = round(fraction * 2**16)
    if not dropped:
        return x
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: x.numel()].view_as(x) >= dropped - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


OWN_LAYERS: dict[type[nn.Module], tuple[type[torch.autograd.Function], Callable[..., Tensor]]] = {
    nn.LSTM: (LSTMLayer, lstm_over_rows),
    nn.GRU: (GRULayer, gru_over_rows),
}
