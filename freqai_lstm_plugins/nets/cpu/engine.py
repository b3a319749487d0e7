"""Runs torch's recurrent layers by compiled steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import RowWindows
from freqai_lstm_plugins.nets.cpu.cells import cell_of, weights_of
from freqai_lstm_plugins.nets.cpu.compiled import compiled_steps
from freqai_lstm_plugins.nets.cpu.layers import (
    RecurrentLayers,
    all_states,
    last_states_over_rows,
)


def has_cell(recurrent: nn.RNNBase) -> bool:
    """Whether the equations of such layers are those of `cells`, on the CPU."""
    return cell_of(recurrent) is not None and recurrent.weight_hh_l0.device.type == "cpu"


def knows_layers(recurrent: nn.RNNBase, *, learn: bool = False) -> bool:
    """Whether compiled steps can run such layers; `learn` asks for their gradients too.

    Layers of another kind, with projections, of two directions, without biases or with batches
    second are torch's alone, and so are accelerators and double precision.
    """
    cell, is_single = cell_of(recurrent), recurrent.weight_hh_l0.dtype == torch.float32
    if cell is None or not (is_single and has_cell(recurrent)):
        return False
    return compiled_steps(cell.name, learn=learn) is not None


def runs_layers(recurrent: nn.RNNBase, *, learn: bool) -> bool:
    """Whether compiled steps run such layers in the calling thread; `learn` asks for gradients.

    They work on one core each. A thread whose torch may use several is better served by torch's
    own layers, whose helpers would otherwise busy the other cores while they wait.
    """
    return torch.get_num_threads() == 1 and knows_layers(recurrent, learn=learn)


def run_layers(
    recurrent: nn.RNNBase, x: Tensor | RowWindows, masks: Tensor | None = None
) -> Tensor:
    """Run stacked layers from a zero state, where `runs_layers` says so.

    Args:
        recurrent: torch's layers.
        x: (B, W, F) windows, or the rows that they share, which then get no gradient.
        masks: (L - 1, W, B, H) factors of the states between layers.

    Returns:
        (W, B, H) states of the last layer.
    """
    cell, layers = cell_of(recurrent), weights_of(recurrent)
    assert cell is not None
    if isinstance(x, Tensor) and masks is None and not torch.is_grad_enabled():
        return all_states(cell, x, layers)
    weights = [weight for layer in layers for weight in layer]
    result: Tensor = RecurrentLayers.apply(cell, x, masks, *weights)  # type: ignore[no-untyped-call]
    return result


def last_states(recurrent: nn.RNNBase, windows: RowWindows) -> Tensor:
    """Return the last layer's last states (B, H) of windows that share rows, without gradients."""
    cell = cell_of(recurrent)
    assert cell is not None
    return last_states_over_rows(cell, windows, weights_of(recurrent))
