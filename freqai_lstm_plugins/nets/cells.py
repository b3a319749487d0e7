"""LSTM and GRU layers for the CPU, with the same equations and weights as torch's.

torch's own layers spend about half of a training step beside the matrix products. Here all inputs
are projected at once, a step is one product and a few operations in place, and inputs that need no
gradient get none. As torch's tanh costs several times its sigmoid, tanh(a) is computed as
2 sigmoid(2a) - 1. Results differ from torch's by round-off.

Everything is time first: x (W, B, F), states (W, B, H). Gates are ordered as in torch: input,
forget, cell, output for the LSTM; reset, update, new for the GRU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

Gradients = tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]


def _doubled(weight: Tensor, gate: int, size: int) -> Tensor:
    """Double the rows of one gate, whose tanh then is a sigmoid like the others."""
    doubled = weight.clone()
    doubled[gate * size : (gate + 1) * size] *= 2
    return doubled


def _over_rows(
    rows: Tensor, ends: Tensor, window: int, w_in: Tensor, bias: Tensor
) -> Iterator[Tensor]:
    """Project each row once, and give the inputs of each step: (B, G) for each of W."""
    first = int(ends.min()) - window + 1
    projected = torch.addmm(bias, rows[first : int(ends.max()) + 1], w_in.t())
    starts = ends - (first + window - 1)
    return (projected[starts + step] for step in range(window))


def _lstm_step(
    gate: Tensor, before: Tensor | None, cell: Tensor, squashed: Tensor, state: Tensor
) -> None:
    """Turn gates (B, 4H) into sigmoids, and write cell, tanh of it and state, each (B, H).

    `before` is the cell of the step before, None at the first; it may be `cell` itself.
    """
    in_gate, forget, cell_gate, out = gate.sigmoid_().chunk(4, dim=1)
    # The state's place serves for the tanh of the cell gate until the state is known.
    new = torch.mul(cell_gate, 2, out=state).sub_(1)
    if before is None:
        torch.mul(in_gate, new, out=cell)
    else:
        torch.mul(forget, before, out=cell).addcmul_(in_gate, new)
    torch.mul(cell, 2, out=squashed).sigmoid_().mul_(2).sub_(1)
    torch.mul(out, squashed, out=state)


def _lstm_forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the layer.

    Returns:
        gates: (W, B, 4H) sigmoids; the cell gate is 2 of them minus 1.
        cells: (W, B, H).
        squashed: (W, B, H) tanh of the cells.
        states: (W, B, H).
    """
    steps, batch, _ = x.shape
    size = w_hh.shape[1]
    w_in, w_state, bias = (_doubled(weight, 2, size) for weight in (w_ih, w_hh, b_ih + b_hh))
    gates = torch.addmm(bias, x.flatten(0, 1), w_in.t()).view(steps, batch, 4 * size)
    cells, squashed, states = (x.new_empty(steps, batch, size) for _ in range(3))
    for step, gate in enumerate(gates):
        if step:
            gate.addmm_(states[step - 1], w_state.t())
        before = cells[step - 1] if step else None
        _lstm_step(gate, before, cells[step], squashed[step], states[step])
    return gates, cells, squashed, states


def lstm_over_rows(rows: Tensor, ends: Tensor, window: int, *weights: Tensor) -> Tensor:
    """Run a first layer over windows that share rows, each of which is projected once.

    Args:
        rows: (N, F).
        ends: (B,) rows at which the windows end.
        window: W.
        weights: w_ih (4H, F), w_hh (4H, H), b_ih and b_hh (4H,).

    Returns:
        (W, B, H) states.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    size = w_hh.shape[1]
    w_in, w_state, bias = (_doubled(weight, 2, size) for weight in (w_ih, w_hh, b_ih + b_hh))
    states = rows.new_empty(window, len(ends), size)
    cell, squashed = torch.empty_like(states[0]), torch.empty_like(states[0])
    for step, gate in enumerate(_over_rows(rows, ends, window, w_in, bias)):
        if step:
            gate.addmm_(states[step - 1], w_state.t())
        _lstm_step(gate, cell if step else None, cell, squashed, states[step])
    return states


class LSTMLayer(torch.autograd.Function):
    """One LSTM layer from a zero state: (x, w_ih, w_hh, b_ih, b_hh) -> states (W, B, H)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        """Shapes: x (W, B, F), w_ih (4H, F), w_hh (4H, H), b_ih and b_hh (4H,)."""
        gates, cells, squashed, states = _lstm_forward(x, w_ih, w_hh, b_ih, b_hh)
        ctx.save_for_backward(x, w_ih, w_hh, gates, cells, squashed, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> Gradients:
        """Propagate through all steps."""
        x, w_ih, w_hh, gates, cells, squashed, states = ctx.saved_tensors
        grads = torch.empty_like(gates)
        grad_state = grad_states[-1]
        grad_cell = torch.zeros_like(grad_state)
        slope, by_gate = torch.empty_like(grad_cell), torch.empty_like(grad_cell)
        for step in range(len(gates) - 1, -1, -1):
            in_gate, forget, cell_gate, out = gates[step].chunk(4, dim=1)
            # How the cell moves the state: out (1 - tanh(cell)^2).
            torch.mul(squashed[step], squashed[step], out=slope)
            torch.addcmul(out, out, slope, value=-1, out=slope)
            grad_cell.addcmul_(grad_state, slope)
            # The slope of every sigmoid, then what stands behind each gate.
            grad = torch.addcmul(gates[step], gates[step], gates[step], value=-1, out=grads[step])
            grad_in, grad_forget, grad_new, grad_out = grad.chunk(4, dim=1)
            torch.mul(cell_gate, 2, out=by_gate).sub_(1)
            grad_in.mul_(by_gate.mul_(grad_cell))
            grad_new.mul_(torch.mul(in_gate, grad_cell, out=by_gate).mul_(4))
            grad_out.mul_(torch.mul(squashed[step], grad_state, out=by_gate))
            if step:
                grad_forget.mul_(torch.mul(cells[step - 1], grad_cell, out=by_gate))
                grad_cell.mul_(forget)
                grad_state = torch.addmm(grad_states[step - 1], grad, w_hh)
            else:
                grad_forget.zero_()
        return _weight_gradients(ctx, x, w_ih, states, grads, grads)


class GRULayer(torch.autograd.Function):
    """One GRU layer from a zero state: (x, w_ih, w_hh, b_ih, b_hh) -> states (W, B, H)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        """Shapes: x (W, B, F), w_ih (3H, F), w_hh (3H, H), b_ih and b_hh (3H,)."""
        gates, recalled, states = _gru_forward(x, w_ih, w_hh, b_ih, b_hh)
        ctx.save_for_backward(x, w_ih, w_hh, gates, recalled, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> Gradients:
        """Propagate through all steps."""
        x, w_ih, w_hh, gates, recalled, states = ctx.saved_tensors
        size = w_hh.shape[1]
        by_input, by_state = torch.empty_like(gates), torch.empty_like(gates)
        grad_state = grad_states[-1]
        by_gate = torch.empty_like(grad_state)
        nothing = torch.zeros_like(grad_state)
        for step in range(len(gates) - 1, -1, -1):
            reset, update, new_gate = gates[step].chunk(3, dim=1)
            before = states[step - 1] if step else nothing
            # The slope of every sigmoid, then what stands behind each gate.
            grad = torch.addcmul(
                gates[step], gates[step], gates[step], value=-1, out=by_input[step]
            )
            grad_reset, grad_update, grad_new = grad.chunk(3, dim=1)
            # The state before, less the new gate 2 sigmoid - 1.
            torch.sub(before, new_gate, alpha=2, out=by_gate).add_(1)
            grad_update.mul_(by_gate.mul_(grad_state))
            torch.addcmul(grad_state, grad_state, update, value=-1, out=by_gate)
            grad_new.mul_(by_gate.mul_(4))
            grad_reset.mul_(torch.mul(grad_new, recalled[step], out=by_gate))
            by_state[step].copy_(grad)
            by_state[step, :, 2 * size :].mul_(reset)
            if step:
                kept = torch.addcmul(grad_states[step - 1], grad_state, update)
                grad_state = kept.addmm_(by_state[step], w_hh)
        return _weight_gradients(ctx, x, w_ih, states, by_input, by_state)


def _gru_forward(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the layer.

    Returns:
        gates: (W, B, 3H) sigmoids; the new gate is 2 of them minus 1.
        recalled: (W, B, H) product of the state with the new gate's weights, before the reset.
        states: (W, B, H).
    """
    steps, batch, _ = x.shape
    size = w_hh.shape[1]
    w_in, bias = (_doubled(weight, 2, size) for weight in (w_ih, b_ih))
    gates = torch.addmm(bias, x.flatten(0, 1), w_in.t()).view(steps, batch, 3 * size)
    recalled, states = (x.new_empty(steps, batch, size) for _ in range(2))
    products = b_hh.repeat(batch, 1)
    before = x.new_zeros(batch, size)
    for step, gate in enumerate(gates):
        if step:
            torch.addmm(b_hh, before, w_hh.t(), out=products)
        _gru_step(gate, products, before, recalled[step], states[step])
        before = states[step]
    return gates, recalled, states


def _gru_step(
    gate: Tensor, products: Tensor, before: Tensor, recalled: Tensor, state: Tensor
) -> None:
    """Turn gates (B, 3H) into sigmoids, and write the new gate's part of the products, and states.

    `products` (B, 3H) are those of the state `before` with the weights, and bias.
    """
    size = state.shape[1]
    reset_update, new_gate = gate.split((2 * size, size), dim=1)
    reset_update.add_(products[:, : 2 * size]).sigmoid_()
    recalled.copy_(products[:, 2 * size :])
    new_gate.addcmul_(reset_update[:, :size], recalled, value=2).sigmoid_()
    new = new_gate * 2
    torch.lerp(new.sub_(1), before, reset_update[:, size:], out=state)


def gru_over_rows(rows: Tensor, ends: Tensor, window: int, *weights: Tensor) -> Tensor:
    """Run a first layer over windows that share rows; as `lstm_over_rows`, with 3H for 4H."""
    w_ih, w_hh, b_ih, b_hh = weights
    size = w_hh.shape[1]
    w_in, bias = (_doubled(weight, 2, size) for weight in (w_ih, b_ih))
    states = rows.new_empty(window, len(ends), size)
    before, recalled = torch.zeros_like(states[0]), torch.empty_like(states[0])
    for step, gate in enumerate(_over_rows(rows, ends, window, w_in, bias)):
        products = torch.addmm(b_hh, before, w_hh.t())
        _gru_step(gate, products, before, recalled, states[step])
        before = states[step]
    return states


def _weight_gradients(
    ctx: Any, x: Tensor, w_ih: Tensor, states: Tensor, by_input: Tensor, by_state: Tensor
) -> Gradients:
    """Turn the gradients of both products (W, B, G) into those of inputs, weights and biases."""
    flat_input, flat_state = by_input.flatten(0, 1), by_state.flatten(0, 1)
    grad_x = (flat_input @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None
    # The state before the first step is zero, so its product moves no weight.
    grad_hh = by_state[1:].flatten(0, 1).t() @ states[:-1].flatten(0, 1)
    grad_bias = flat_input.sum(0)
    bias_by_state = grad_bias if by_state is by_input else flat_state.sum(0)
    return grad_x, flat_input.t() @ x.flatten(0, 1), grad_hh, grad_bias, bias_by_state
