"""Runs torch's recurrent layers by steps of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.nets.cpu.cells import Cell, cell_of, weights_of
from freqai_lstm_plugins.nets.cpu.compiled import compiled_steps, runs_compiled
from freqai_lstm_plugins.nets.cpu.layers import (
    RecurrentLayers,
    all_states,
    first_states,
    last_states_over_rows,
)
from freqai_lstm_plugins.nets.cpu.memory import Memory

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.windows import RowWindows

# Windows of a batch from which our steps predict, where no rows are shared. torch's LSTM would be
# up to a third faster on one core, but saved models would predict other numbers in the last bits.
PREDICT_FROM = 64


def has_cell(recurrent: nn.RNNBase) -> bool:
    """Whether the equations of such layers are those of `cells`, on the CPU."""
    return cell_of(recurrent) is not None and recurrent.weight_hh_l0.device.type == "cpu"


def knows_layers(recurrent: nn.RNNBase, *, learn: bool = False) -> bool:
    """Whether compiled steps can run such layers; `learn` asks for their gradients too.

    Layers of another kind, with projections, of two directions, without biases or with batches
    second are torch's alone, and so are accelerators and double precision.
    """
    cell = _single_cell(recurrent)
    return cell is not None and compiled_steps(cell.name, learn=learn) is not None


def _single_cell(recurrent: nn.RNNBase) -> Cell | None:
    is_single = recurrent.weight_hh_l0.dtype == torch.float32
    return cell_of(recurrent) if is_single and has_cell(recurrent) else None


def serves_windows(recurrent: nn.RNNBase, n_windows: int) -> bool:
    """Whether our steps run so many windows where the caller stands.

    With gradients or without, as the caller's torch and the layers' mode are set. With gradients
    that is where they take less time than torch; without, where they ever did (see `PREDICT_FROM`).
    """
    cell = _single_cell(recurrent)
    if cell is None:
        return False
    if _learns(recurrent):
        return n_windows >= cell.learns_from and runs_compiled(cell.name, learn=True)
    return n_windows >= PREDICT_FROM


def serves_rows(recurrent: nn.RNNBase) -> bool:
    """Whether our steps run windows that share rows; as above."""
    cell = _single_cell(recurrent)
    return cell is not None and (not _learns(recurrent) or runs_compiled(cell.name, learn=True))


def _learns(recurrent: nn.RNNBase) -> bool:
    # What drops, as in a training, runs as with gradients, even where nobody asks for any.
    return torch.is_grad_enabled() or recurrent.training


def run_layers(
    recurrent: nn.RNNBase, x: Tensor | RowWindows, masks: Tensor | None = None
) -> Tensor:
    """Run stacked layers from a zero state; whoever calls has asked whether they are served.

    Args:
        recurrent: torch's layers.
        x: (B, W, F) windows, or the rows that they share, which then get no gradient.
        masks: (L - 1, W, B, H) factors of the states between layers.

    Returns:
        (W, B, H) states of the last layer.
    """
    cell, layers = cell_of(recurrent), weights_of(recurrent)
    assert cell is not None, "torch's layers are of another kind"
    if isinstance(x, Tensor) and masks is None and not torch.is_grad_enabled():
        return all_states(cell, x, layers)
    weights = [weight for layer in layers for weight in layer]
    result: Tensor = RecurrentLayers.apply(cell, x, masks, *weights)  # type: ignore[no-untyped-call]
    return result


def last_states(recurrent: nn.RNNBase, windows: RowWindows) -> Tensor:
    """Return the last layer's last states (B, H) of windows that share rows, without gradients."""
    cell, layers = cell_of(recurrent), weights_of(recurrent)
    assert cell is not None, "torch's layers are of another kind"
    if runs_compiled(cell.name):
        return last_states_over_rows(cell, windows, layers)
    # Only the first layer has anything to share.
    states = first_states(cell, windows, layers[0], Memory())
    for number in range(1, recurrent.num_layers):
        states = torch_layer(recurrent, number, states)
    return states[-1]


def torch_layer(recurrent: nn.RNNBase, number: int, states: Tensor) -> Tensor:
    """Run one of torch's layers, without dropout, over states (W, B, F): (W, B, H)."""
    weights = list(weights_of(recurrent)[number])
    start = states.new_zeros(1, states.shape[1], recurrent.hidden_size)
    options = (weights, True, 1, 0.0, recurrent.training, False, False)
    if isinstance(recurrent, nn.LSTM):
        return torch.lstm(states, (start, start), *options)[0]
    return torch.gru(states, start, *options)[0]
