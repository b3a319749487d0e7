"""The steps of LSTM and GRU layers by torch's operations, where nothing is kept for gradients.

For predictions of threads whose torch may use several cores, and of machines without numba. torch's
layers take about the same time; but the first layer's products are computed once a row here, and
models that were saved before predict the same numbers as ever, to the last bit. So the order of the
operations is part of what is promised.

Arguments are those of the functions of the same names in `kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm_states(
    inputs: Tensor, starts: Tensor, stride: int, w_state: Tensor, states: Tensor
) -> None:
    """Run an LSTM layer from a zero state.

    Args:
        inputs: (N, 4H) sums of the inputs; the cell gate's are doubled.
        starts: (B,) rows of `inputs` at which the batch's first step is.
        stride: Rows from one step to the next.
        w_state: (H, 4H) weights of the state; the cell gate's are doubled.
        states: (W, B, H), written.
    """
    cell, squashed = torch.zeros_like(states[0]), torch.empty_like(states[0])
    for step, state in enumerate(states):
        sums = inputs[starts + step * stride]
        if step:
            sums.addmm_(states[step - 1], w_state)
        in_gate, forget, cell_gate, out = sums.sigmoid_().chunk(4, dim=1)
        # Until the state is known, its place serves for the tanh of the cell gate.
        new = torch.mul(cell_gate, 2, out=state).sub_(1)
        cell.mul_(forget).addcmul_(in_gate, new)
        torch.mul(cell, 2, out=squashed).sigmoid_().mul_(2).sub_(1)
        torch.mul(out, squashed, out=state)


def gru_states(
    inputs: Tensor, starts: Tensor, stride: int, w_state: Tensor, b_hh: Tensor, states: Tensor
) -> None:
    """Run a GRU layer from a zero state.

    Args:
        inputs: (N, 3H) sums of the inputs; the new gate's are doubled.
        starts: (B,) rows of `inputs` at which the batch's first step is.
        stride: Rows from one step to the next.
        w_state: (H, 3H) weights of the state, none doubled.
        b_hh: (3H,) their bias.
        states: (W, B, H), written.
    """
    size, before = states.shape[2], torch.zeros_like(states[0])
    for step, state in enumerate(states):
        by_state, sums = torch.addmm(b_hh, before, w_state), inputs[starts + step * stride]
        gates, new_gate = sums.split((2 * size, size), dim=1)
        gates.add_(by_state[:, : 2 * size]).sigmoid_()
        reset, update = gates.chunk(2, dim=1)
        new_gate.addcmul_(reset, by_state[:, 2 * size :], value=2).sigmoid_()
        torch.lerp((new_gate * 2).sub_(1), before, update, out=state)
        before = state
