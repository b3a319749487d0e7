"""All steps of an LSTM or GRU layer by torch's own operations, a few in place for each step.

`kernels` has the same functions, compiled by numba; `cells` chooses. Sums of gates come in, and
sigmoids of them stay: as torch's tanh costs several times its sigmoid, tanh(a) is computed as
2 sigmoid(2a) - 1, and whoever calls doubles the weights and sums of the gate that has a tanh.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def lstm_forward(
    gates: Tensor,
    w_state: Tensor,
    cells: Tensor,
    squashed: Tensor,
    states: Tensor,
) -> None:
    """Run an LSTM layer from a zero state.

    Args:
        gates: (W, B, 4H) sums of the inputs; becomes the sigmoids. The cell gate's are doubled.
        w_state: (H, 4H) weights of the state; the cell gate's are doubled.
        cells: (W, B, H), written.
        squashed: (W, B, H) tanh of the cells, written.
        states: (W, B, H), written.
    """
    before = torch.zeros_like(states[0])
    state = None
    for gate, cell, short, new in _each_step(gates, cells, squashed, states):
        if state is not None:
            gate.addmm_(state, w_state)
        _lstm_step(gate, before, cell, short, new)
        before, state = cell, new


def _lstm_step(gate: Tensor, before: Tensor, cell: Tensor, squashed: Tensor, state: Tensor) -> None:
    """Take one step with gates (B, 4H); `before`, the cell of the step before, may be `cell`."""
    in_gate, forget, cell_gate, out = gate.sigmoid_().chunk(4, dim=1)
    # The state's place serves for the tanh of the cell gate until the state is known.
    new = torch.mul(cell_gate, 2, out=state).sub_(1)
    torch.mul(forget, before, out=cell).addcmul_(in_gate, new)
    torch.mul(cell, 2, out=squashed).sigmoid_().mul_(2).sub_(1)
    torch.mul(out, squashed, out=state)


def lstm_back(
    gates: Tensor,
    w_hh: Tensor,
    cells: Tensor,
    squashed: Tensor,
    grad_states: Tensor,
    grads: Tensor,
) -> None:
    """Propagate gradients through all steps of `lstm_forward`.

    Args:
        gates: (W, B, 4H) from `lstm_forward`.
        w_hh: (4H, H) weights of the state, none doubled.
        cells: (W, B, H) from `lstm_forward`.
        squashed: (W, B, H) from `lstm_forward`.
        grad_states: (W, B, H) gradients of the states by what uses them outside the layer.
        grads: (W, B, 4H) gradients of the sums before any was doubled, written; may be `gates`.
    """
    every = list(_each_step(gates, cells, squashed, grad_states, grads))
    grad_state = every[-1][3]
    grad_cell = grad_state.new_zeros(grad_state.shape)
    slope, by_gate = torch.empty_like(grad_cell), torch.empty_like(grad_cell)
    for step in range(len(every) - 1, -1, -1):
        gate, _, short, _, grad = every[step]
        in_gate, forget, cell_gate, out = gate.chunk(4, dim=1)
        if grad.data_ptr() == gate.data_ptr():
            in_gate, forget, cell_gate, out = gate.clone().chunk(4, dim=1)
        # How the cell moves the state: out (1 - tanh(cell)^2).
        torch.mul(short, short, out=slope)
        torch.addcmul(out, out, slope, value=-1, out=slope)
        grad_cell.addcmul_(grad_state, slope)
        # The slope of every sigmoid, then what stands behind each gate.
        torch.addcmul(gate, gate, gate, value=-1, out=grad)
        grad_in, grad_forget, grad_new, grad_out = grad.chunk(4, dim=1)
        torch.mul(cell_gate, 2, out=by_gate).sub_(1)
        grad_in.mul_(by_gate.mul_(grad_cell))
        grad_new.mul_(torch.mul(in_gate, grad_cell, out=by_gate).mul_(4))
        grad_out.mul_(torch.mul(short, grad_state, out=by_gate))
        if step:
            before = every[step - 1]
            grad_forget.mul_(torch.mul(before[1], grad_cell, out=by_gate))
            grad_cell.mul_(forget)
            grad_state = torch.addmm(before[3], grad, w_hh)
        else:
            grad_forget.zero_()


def lstm_states(
    inputs: Tensor, starts: Tensor, stride: int, w_state: Tensor, states: Tensor
) -> None:
    """Run an LSTM layer from a zero state, and keep nothing for gradients.

    Args:
        inputs: (N, 4H) sums of the inputs; the cell gate's are doubled.
        starts: (B,) rows of `inputs` at which the batch's first step is.
        stride: Rows from one step to the next.
        w_state: As in `lstm_forward`.
        states: (W, B, H), written.
    """
    cell, squashed = torch.zeros_like(states[0]), torch.empty_like(states[0])
    for step, state in enumerate(states):
        gate = inputs[starts + step * stride]
        if step:
            gate.addmm_(states[step - 1], w_state)
        _lstm_step(gate, cell, cell, squashed, state)


def gru_forward(
    gates: Tensor,
    w_state: Tensor,
    b_hh: Tensor,
    recalled: Tensor,
    states: Tensor,
) -> None:
    """Run a GRU layer from a zero state.

    Args:
        gates: (W, B, 3H) sums of the inputs; becomes the sigmoids. The new gate's are doubled.
        w_state: (H, 3H) weights of the state, none doubled.
        b_hh: (3H,) their bias.
        recalled: (W, B, H) product of the state with the new gate's weights, and bias, written.
        states: (W, B, H), written.
    """
    before = torch.zeros_like(states[0])
    products = b_hh.repeat(len(before), 1)
    for step, (gate, recall, state) in enumerate(_each_step(gates, recalled, states)):
        if step:
            torch.addmm(b_hh, before, w_state, out=products)
        _gru_step(gate, products, before, recall, state)
        before = state


def _gru_step(
    gate: Tensor, products: Tensor, before: Tensor, recalled: Tensor, state: Tensor
) -> None:
    """Take one step with gates and products (B, 3H)."""
    size = state.shape[1]
    reset_update, new_gate = gate.split((2 * size, size), dim=1)
    reset_update.add_(products[:, : 2 * size]).sigmoid_()
    recalled.copy_(products[:, 2 * size :])
    new_gate.addcmul_(reset_update[:, :size], recalled, value=2).sigmoid_()
    new = new_gate * 2
    torch.lerp(new.sub_(1), before, reset_update[:, size:], out=state)


def gru_back(
    gates: Tensor,
    w_hh: Tensor,
    recalled: Tensor,
    states: Tensor,
    grad_states: Tensor,
    by_input: Tensor,
    by_state: Tensor,
) -> None:
    """Propagate gradients through all steps of `gru_forward`.

    Args:
        gates: (W, B, 3H) from `gru_forward`.
        w_hh: (3H, H) weights of the state.
        recalled: (W, B, H) from `gru_forward`.
        states: (W, B, H) from `gru_forward`.
        grad_states: (W, B, H) gradients of the states by what uses them outside the layer.
        by_input: (W, B, 3H) gradients of the inputs' sums before any was doubled, written; may be
            `gates`.
        by_state: (W, B, 3H) gradients of the states' products, written.
    """
    size = states.shape[2]
    every = list(_each_step(gates, recalled, states, grad_states, by_input, by_state))
    grad_state = every[-1][3]
    by_gate, nothing = torch.empty_like(grad_state), torch.zeros_like(grad_state)
    for step in range(len(every) - 1, -1, -1):
        gate, recall, _, _, grad, grad_product = every[step]
        reset, update, new_gate = gate.chunk(3, dim=1)
        if grad.data_ptr() == gate.data_ptr():
            reset, update, new_gate = gate.clone().chunk(3, dim=1)
        before = every[step - 1][2] if step else nothing
        # The slope of every sigmoid, then what stands behind each gate.
        torch.addcmul(gate, gate, gate, value=-1, out=grad)
        grad_reset, grad_update, grad_new = grad.chunk(3, dim=1)
        # The state before, less the new gate 2 sigmoid - 1.
        torch.sub(before, new_gate, alpha=2, out=by_gate).add_(1)
        grad_update.mul_(by_gate.mul_(grad_state))
        torch.addcmul(grad_state, grad_state, update, value=-1, out=by_gate)
        grad_new.mul_(by_gate.mul_(4))
        grad_reset.mul_(torch.mul(grad_new, recall, out=by_gate))
        grad_product.copy_(grad)
        grad_product[:, 2 * size :].mul_(reset)
        if step:
            kept = torch.addcmul(every[step - 1][3], grad_state, update)
            grad_state = kept.addmm_(grad_product, w_hh)


def gru_states(
    inputs: Tensor, starts: Tensor, stride: int, w_state: Tensor, b_hh: Tensor, states: Tensor
) -> None:
    """Run a GRU layer from a zero state, and keep nothing for gradients.

    Args:
        inputs: (N, 3H) sums of the inputs; the new gate's are doubled.
        starts: (B,) rows of `inputs` at which the batch's first step is.
        stride: Rows from one step to the next.
        w_state: As in `gru_forward`.
        b_hh: (3H,).
        states: (W, B, H), written.
    """
    before, recalled = torch.zeros_like(states[0]), torch.empty_like(states[0])
    for step, state in enumerate(states):
        products = torch.addmm(b_hh, before, w_state)
        _gru_step(inputs[starts + step * stride], products, before, recalled, state)
        before = state


def add_rows(source: Tensor, places: Tensor, target: Tensor) -> None:
    """Add the rows of source (N, G) to those of target (U, G) that `places` (N,) names."""
    target.index_add_(0, places, source)


def _each_step(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Give what tensors (W, B, ...) hold at each step, (B, ...) each."""
    return zip(*(tensor.unbind() for tensor in tensors), strict=True)
