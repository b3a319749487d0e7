"""Stacked LSTM and GRU layers on the CPU, in parts of a batch that run beside each other.

Everything is time first: states (W, B, H). See `cells` for weights and gates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from freqai_lstm_plugins.data.arrays import chunks
from freqai_lstm_plugins.data.windows import RowWindows
from freqai_lstm_plugins.nets.cpu.cells import Cell, Weights, run_steps
from freqai_lstm_plugins.nets.cpu.memory import Memory, current_memory
from freqai_lstm_plugins.nets.cpu.threads import in_threads, n_workers

# A thread gets at least so many windows of a batch: products of fewer are slow.
SMALLEST_PART = 32
# Numbers that a prediction holds of a layer's sums at once: 8 MB.
MOST_SUMS = 2**21


class RecurrentLayers(torch.autograd.Function):
    """Stacked layers from a zero state: (cell, x, masks, *weights) -> last layer's states.

    x is (B, W, F), or `RowWindows` of as many windows, whose rows get no gradient and meet the
    first layer's weights once each. The states are (W, B, H). `masks` (L - 1, W, B, H) multiply the
    states between layers; None multiplies by nothing. Weights are four a layer. In a team, parts of
    the batch run beside each other, and the gradients of weights are the sum over parts.
    """

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, x: Tensor | RowWindows, masks: Tensor | None, *weights: Tensor
    ) -> Tensor:
        """Run all layers."""
        layers = [weights[first : first + 4] for first in range(0, len(weights), 4)]
        batch, n_steps, _ = x.shape
        memory = current_memory()

        def run(part: slice) -> tuple[list[Tensor], Tensor | None]:
            inputs, places = _inputs(x, part, memory)
            found: list[Tensor] = []
            for layer, own in enumerate(layers):
                if layer and masks is not None:
                    dropped = memory.empty(*inputs.shape, dtype=inputs.dtype)
                    mask = masks[layer - 1, :, part]
                    torch.mul(inputs.view(mask.shape), mask, out=dropped.view(mask.shape))
                    inputs = dropped
                sums = cell.project(inputs, own, memory)
                if not layer and places is not None:
                    each_step = memory.empty(places.numel(), sums.shape[1], dtype=sums.dtype)
                    torch.index_select(sums, 0, places.flatten(), out=each_step)
                    memory.put(sums)
                    sums = each_step
                states, needed = cell.forward(sums.view(n_steps, -1, sums.shape[1]), own, memory)
                found += [inputs, states, *needed]
                inputs = states.flatten(0, 1)
            return found, places

        size = max(-(-batch // n_workers()), SMALLEST_PART)
        parts = list(chunks(batch, size))
        every = in_threads(run, parts)
        ctx.cell, ctx.parts, ctx.memory, ctx.n_weights = cell, parts, memory, len(weights)
        ctx.places, ctx.is_spent = [places for _, places in every], False
        kept = (tensor for found, _ in every for tensor in found)
        ctx.save_for_backward(masks, *weights, *kept)
        # The output is a copy: what is kept must not leave.
        return torch.cat([found[-2 - cell.n_scratch] for found, _ in every], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Any, ...]:
        """Propagate through all layers and steps."""
        masks, *saved = ctx.saved_tensors
        weights, kept = saved[: ctx.n_weights], saved[ctx.n_weights :]
        needs_x = ctx.needs_input_grad[1]
        n_layers, each = len(weights) // 4, 3 + ctx.cell.n_scratch
        memory = ctx.memory.borrow(kept)
        if ctx.is_spent and memory is not ctx.memory:
            raise RuntimeError("Gradients of one result can be computed once inside keep_memory().")
        ctx.is_spent = True

        def run(numbered: tuple[int, slice]) -> tuple[Tensor | None, list[Tensor]]:
            number, part = numbered
            mine = kept[number * n_layers * each : (number + 1) * n_layers * each]
            above = grad_states[:, part]
            grad = memory.empty(*above.shape, dtype=above.dtype).copy_(above)
            found: list[Tensor] = []
            for layer in range(n_layers - 1, -1, -1):
                w_ih, w_hh = weights[4 * layer : 4 * layer + 2]
                inputs, states, *needed = mine[layer * each : (layer + 1) * each]
                by_input, by_state = ctx.cell.back(grad, w_hh, states, needed, memory)
                by_row = by_input.flatten(0, 1)
                if not layer and (places := ctx.places[number]) is not None:
                    by_row = memory.empty(len(inputs), by_row.shape[1], dtype=by_row.dtype).zero_()
                    run_steps("add_rows", by_input.flatten(0, 1), places.flatten(), by_row)
                found = _weight_gradients(inputs, states, by_row, by_state) + found
                if not (layer or needs_x):
                    return None, found
                grad = memory.empty(*by_state.shape[:2], w_ih.shape[1], dtype=w_ih.dtype)
                torch.mm(by_row, w_ih, out=grad.flatten(0, 1))
                if layer and masks is not None:
                    grad.mul_(masks[layer - 1, :, part])
            return grad, found

        every = in_threads(run, list(enumerate(ctx.parts)))
        by_part = [grad.transpose(0, 1) for grad, _ in every if grad is not None]
        grad_x = torch.cat(by_part) if needs_x else None
        memory.give_back()
        totals = every[0][1]
        for _, found in every[1:]:
            for total, grad in zip(totals, found, strict=True):
                total += grad
        return None, grad_x, None, *totals


def _inputs(x: Tensor | RowWindows, part: slice, memory: Memory) -> tuple[Tensor, Tensor | None]:
    """Return the first layer's inputs (N, F), and where those of each step are, if not in order."""
    if isinstance(x, RowWindows):
        used, places = x.places(part)
        inputs = memory.empty(len(used), x.rows.shape[1], dtype=x.rows.dtype)
        return torch.index_select(x.rows, 0, used, out=inputs), places
    windows = x[part].transpose(0, 1)
    return memory.empty(*windows.shape, dtype=x.dtype).copy_(windows).flatten(0, 1), None


def _weight_gradients(
    inputs: Tensor, states: Tensor, by_row: Tensor, by_state: Tensor
) -> list[Tensor]:
    """Turn the gradients of sums into those of a layer's four weights.

    Args:
        inputs: (N, F).
        states: (W, B, H).
        by_row: (N, G) gradients of the inputs' sums.
        by_state: (W, B, G) gradients of the states' sums.
    """
    # The state before the first step is zero, so its product moves no weight.
    grad_hh = by_state[1:].flatten(0, 1).t() @ states[:-1].flatten(0, 1)
    flat_state = by_state.flatten(0, 1)
    grad_bias = by_row.sum(0)
    is_same = flat_state.data_ptr() == by_row.data_ptr()
    bias_by_state = grad_bias.clone() if is_same else flat_state.sum(0)
    return [by_row.t() @ inputs, grad_hh, grad_bias, bias_by_state]


def all_states(cell: Cell, x: Tensor, layers: Sequence[Weights]) -> Tensor:
    """Run stacked layers and keep nothing for gradients: x (B, W, F) -> states (W, B, H)."""
    batch, n_steps, _ = x.shape
    found = x.new_empty(n_steps, batch, layers[-1][1].shape[1])
    for block in _blocks(batch, n_steps, layers):
        memory = current_memory().borrow()
        found[:, block] = _run_layers(cell, x[block].transpose(0, 1), layers, memory)
        memory.give_back()
    return found


def last_states_over_rows(
    cell: Cell, rows: Tensor, ends: Tensor, window: int, layers: Sequence[Weights]
) -> Tensor:
    """Run stacked layers over windows that share rows; arguments as in `states_over_rows`.

    Returns:
        (B, H) last states of the last layer.
    """
    found = rows.new_empty(len(ends), layers[-1][1].shape[1])
    for block in _blocks(len(ends), window, layers):
        memory = current_memory().borrow()
        states = _first_states(cell, rows, ends[block], window, layers[0], memory)
        found[block] = _run_layers(cell, states, layers[1:], memory)[-1]
        memory.give_back()
    return found


def states_over_rows(
    cell: Cell, rows: Tensor, ends: Tensor, window: int, weights: Weights
) -> Tensor:
    """Run one layer over windows that share rows, each of which is projected once.

    Args:
        cell: `LSTM` or `GRU`.
        rows: (N, F).
        ends: (B,) rows at which the windows end.
        window: W.
        weights: The layer's four weights.

    Returns:
        (W, B, H) states.
    """
    return _first_states(cell, rows, ends, window, weights, Memory())


def _first_states(
    cell: Cell, rows: Tensor, ends: Tensor, window: int, weights: Weights, memory: Memory
) -> Tensor:
    first = int(ends.min()) - window + 1
    sums = cell.project(rows[first : int(ends.max()) + 1], weights, memory)
    starts = ends - (first + window - 1)
    return cell.states(sums, starts, 1, weights, window, memory)


def _run_layers(cell: Cell, x: Tensor, layers: Sequence[Weights], memory: Memory) -> Tensor:
    n_steps, batch = x.shape[:2]
    starts = torch.arange(batch)
    for weights in layers:
        sums = cell.project(x.flatten(0, 1), weights, memory)
        x = cell.states(sums, starts, batch, weights, n_steps, memory)
    return x


def _blocks(batch: int, n_steps: int, layers: Sequence[Weights]) -> Iterator[slice]:
    """Divide a batch so that the sums of one block's windows need little memory."""
    size = max(MOST_SUMS // (n_steps * len(layers[0][0])), SMALLEST_PART)
    return chunks(batch, size)
