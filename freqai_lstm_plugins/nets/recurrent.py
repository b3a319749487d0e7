"""What LSTM and GRU nets have in common."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import RowWindows
from freqai_lstm_plugins.nets.base import SequenceNet
from freqai_lstm_plugins.nets.cpu.cells import GRU, LSTM, Cell, runs_compiled
from freqai_lstm_plugins.nets.cpu.layers import (
    RecurrentLayers,
    all_states,
    last_states_over_rows,
    states_over_rows,
)

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

        Windows that overlap share the first layer's product with the rows. Gradients and dropout
        are those of `forward`; for them, `ends` ascend. For the CPU alone.
        """
        if torch.is_grad_enabled():
            states = run_layers(self.recurrent, RowWindows(rows, ends, window))
            outputs: Tensor = self.head(states[-1])
            return outputs
        cell, layers = CELLS[self.cell], _layers(self.recurrent)
        if runs_compiled():
            last = last_states_over_rows(cell, rows, ends, window, layers)
        else:
            states = states_over_rows(cell, rows, ends, window, layers[0])
            # torch's own layers are faster than its operations if nothing is kept for later.
            for weights in layers[1:]:
                states = self._torch_layer(states, weights)
            last = states[-1]
        prediction: Tensor = self.head(last)
        return prediction

    def _torch_layer(self, states: Tensor, weights: list[Tensor]) -> Tensor:
        """Run one layer by torch over states (W, B, H)."""
        zeros = states.new_zeros(1, states.shape[1], self.recurrent.hidden_size)
        options = (True, 1, 0.0, False, False, False)
        if self.cell is nn.LSTM:
            return torch.lstm(states, (zeros, zeros), weights, *options)[0]
        return torch.gru(states, zeros, weights, *options)[0]


def serves_rows(net: nn.Module) -> bool:
    """Whether `forward_rows` of a net does what its `forward` does.

    A subclass of a user may have a `forward` of its own, which alone counts then.
    """
    if not isinstance(net, RecurrentNet):
        return False
    kind = type(net)
    is_inherited = kind.forward is RecurrentNet.forward
    return is_inherited or kind.forward_rows is not RecurrentNet.forward_rows


def run_layers(recurrent: nn.LSTM | nn.GRU, x: Tensor | RowWindows) -> Tensor:
    """Run stacked layers from a zero state: x (B, W, F) -> states of the last layer (W, B, H).

    On the CPU by `layers`, which give what torch's own do, round-off apart.
    """
    batch, n_steps, _ = x.shape
    if isinstance(x, Tensor) and (x.device.type != "cpu" or batch < SMALLEST_OWN_BATCH):
        states: Tensor = recurrent(x)[0]
        return states.transpose(0, 1)
    cell, layers = CELLS[type(recurrent)], _layers(recurrent)
    fraction = recurrent.dropout if recurrent.training else 0.0
    keeps_nothing = runs_compiled() and not (fraction or torch.is_grad_enabled())
    if isinstance(x, Tensor) and keeps_nothing:
        return all_states(cell, x, layers)
    shape = (len(layers) - 1, n_steps, batch, recurrent.hidden_size)
    masks = _dropout_mask(shape, fraction) if fraction and len(layers) > 1 else None
    weights = [weight for layer in layers for weight in layer]
    result: Tensor = RecurrentLayers.apply(cell, x, masks, *weights)  # type: ignore[no-untyped-call]
    return result


def _layers(recurrent: nn.LSTM | nn.GRU) -> list[list[Tensor]]:
    """Return the four weights of each layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        [getattr(recurrent, f"{name}_l{layer}") for name in names]
        for layer in range(recurrent.num_layers)
    ]


def _dropout_mask(shape: tuple[int, ...], fraction: float) -> Tensor:
    """Draw zeros at random and scale what is kept, from 16 random bits a value.

    torch draws 53 bits for each, one after another, which costs as much as a layer's gates.
    """
    dropped = min(round(fraction * 2**16), 2**16 - 1)
    numel = math.prod(shape)
    words = torch.empty(-(-numel // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[:numel].view(shape) >= dropped - 2**15
    return kept.float().mul_(2**16 / (2**16 - dropped))


CELLS: dict[type[nn.Module], Cell] = {nn.LSTM: LSTM, nn.GRU: GRU}
