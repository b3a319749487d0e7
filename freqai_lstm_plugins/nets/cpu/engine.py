"""Runs torch's recurrent layers by compiled steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.nets.cpu.cells import cell_of, weights_of
from freqai_lstm_plugins.nets.cpu.compiled import compiled_steps
from freqai_lstm_plugins.nets.cpu.layers import (
    RecurrentLayers,
    all_states,
    last_states_over_rows,
)

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.windows import RowWindows


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


def serves_windows(recurrent: nn.RNNBase, n_windows: int) -> bool:
    """Whether compiled steps run so many windows in less time than torch, where the caller stands.

    With gradients or without, as the caller's torch and the layers' mode are set.
    """
    learn, cell = _learns(recurrent), cell_of(recurrent)
    if cell is None or n_windows < (cell.pays.learn_from if learn else cell.pays.predict_from):
        return False
    return _runs_here(recurrent, learn)


def serves_rows(recurrent: nn.RNNBase) -> bool:
    """Whether compiled steps run windows that share rows in less time than torch; as above."""
    learn, cell = _learns(recurrent), cell_of(recurrent)
    if cell is None or not (learn or recurrent.input_size >= cell.pays.rows_from):
        return False
    return _runs_here(recurrent, learn)


def _learns(recurrent: nn.RNNBase) -> bool:
    # What drops, as in a training, runs as with gradients, even where nobody asks for any.
    return torch.is_grad_enabled() or recurrent.training


def _runs_here(recurrent: nn.RNNBase, learn: bool) -> bool:
    # Compiled steps work on one core each. A thread whose torch may use several is better served by
    # torch's own layers, whose helpers would otherwise busy the other cores while they wait.
    return torch.get_num_threads() == 1 and knows_layers(recurrent, learn=learn)


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
    cell = cell_of(recurrent)
    assert cell is not None, "torch's layers are of another kind"
    return last_states_over_rows(cell, windows, weights_of(recurrent))
