"""Stacked LSTM and GRU layers by steps of our own, in parts of a batch that run beside each other.

Everything is time first: states (W, B, H). See `cells` for weights and gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from freqai_lstm_plugins.data.arrays import chunks
from freqai_lstm_plugins.data.windows import RowWindows
from freqai_lstm_plugins.nets.cpu.cells import Cell, StepTape, SumGradients, Weights
from freqai_lstm_plugins.nets.cpu.compiled import runs_compiled
from freqai_lstm_plugins.nets.cpu.memory import Memory, current_memory
from freqai_lstm_plugins.nets.cpu.threads import in_threads, n_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A thread gets at least so many windows of a batch: products of fewer are slow.
SMALLEST_PART = 32
# Numbers that a prediction holds of a layer's sums at once: 8 MB.
MOST_SUMS = 2**21


class LayerTape(NamedTuple):
    """What one layer keeps of one part of a batch, until its gradients are computed.

    Attributes:
        inputs: (N, F) what met the weights of the inputs, each row once.
        states: (W, B, H).
        steps: What the cell keeps.
    """

    inputs: Tensor
    states: Tensor
    steps: StepTape

    def tensors(self) -> Iterator[Tensor]:
        """Yield all that is kept, which may go back to the memory once the gradients are there."""
        yield from (self.inputs, self.states, *self.steps)


class PartTape(NamedTuple):
    """What one part of a batch keeps.

    Attributes:
        places: (W, B) where each step's input is among the first layer's; None where in order.
        layers: The lowest layer first.
    """

    places: Tensor | None
    layers: list[LayerTape]


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
        layers, memory = _by_layer(weights), current_memory()
        batch = x.shape[0]
        # Windows do not know each other, so any cut gives the same states.
        parts = list(chunks(batch, max(-(-batch // n_workers()), SMALLEST_PART)))
        tapes = in_threads(lambda part: _run_part(cell, x, part, masks, layers, memory), parts)
        ctx.cell, ctx.parts, ctx.memory, ctx.tapes = cell, parts, memory, tapes
        ctx.is_spent = False
        ctx.save_for_backward(masks, *weights)
        # The output is a copy: what is kept must not leave.
        return torch.cat([tape.layers[-1].states for tape in tapes], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Any, ...]:
        """Propagate through all layers and steps."""
        masks, *weights = ctx.saved_tensors
        layers, needs_x = _by_layer(weights), ctx.needs_input_grad[1]
        kept = [item for tape in ctx.tapes for layer in tape.layers for item in layer.tensors()]
        memory = ctx.memory.borrow(kept)
        if ctx.is_spent and memory is not ctx.memory:
            # In memory that is used again, gradients took the place of the gates.
            raise RuntimeError("Gradients of one result can be computed once inside keep_memory().")
        ctx.is_spent = True

        def run(numbered: tuple[int, slice]) -> tuple[Tensor | None, list[Weights]]:
            number, part = numbered
            own = None if masks is None else masks[:, :, part]
            above = grad_states[:, part]
            return _part_back(ctx.cell, above, ctx.tapes[number], own, layers, needs_x, memory)

        every = in_threads(run, list(enumerate(ctx.parts)))
        by_part = [grad.transpose(0, 1) for grad, _ in every if grad is not None]
        grad_x = torch.cat(by_part) if needs_x else None
        memory.give_back()
        # Always in the order of the parts, so that round-off does not depend on who was first.
        totals = [grad for layer in every[0][1] for grad in layer]
        for _, found in every[1:]:
            for total, grad in zip(totals, (g for layer in found for g in layer), strict=True):
                total += grad
        return None, grad_x, None, *totals


def _by_layer(weights: Sequence[Tensor]) -> list[Weights]:
    return [Weights(*weights[first : first + 4]) for first in range(0, len(weights), 4)]


def _run_part(
    cell: Cell,
    x: Tensor | RowWindows,
    part: slice,
    masks: Tensor | None,
    layers: Sequence[Weights],
    memory: Memory,
) -> PartTape:
    inputs, places = _inputs(x, part, memory)
    tapes: list[LayerTape] = []
    for number, weights in enumerate(layers):
        if number and masks is not None:
            inputs = _masked(inputs, masks[number - 1, :, part], memory)
        sums = cell.project(inputs, weights, memory)
        if not number and places is not None:
            sums = _each_step(sums, places, memory)
        states, tape = cell.forward(sums.view(x.shape[1], -1, sums.shape[1]), weights, memory)
        tapes.append(LayerTape(inputs, states, tape))
        # (W, B, H) as (W B, H): the layer above sums all steps in one product.
        inputs = states.flatten(0, 1)
    return PartTape(places, tapes)


def _masked(inputs: Tensor, mask: Tensor, memory: Memory) -> Tensor:
    dropped = memory.empty(*inputs.shape, dtype=inputs.dtype)
    torch.mul(inputs.view(mask.shape), mask, out=dropped.view(mask.shape))
    return dropped


def _each_step(sums: Tensor, places: Tensor, memory: Memory) -> Tensor:
    """Spread the sums (U, G) of the rows that are used over the steps (W B, G) that use them."""
    spread = memory.empty(places.numel(), sums.shape[1], dtype=sums.dtype)
    torch.index_select(sums, 0, places.flatten(), out=spread)
    memory.put(sums)
    return spread


def _part_back(
    cell: Cell,
    above: Tensor,
    tape: PartTape,
    masks: Tensor | None,
    layers: Sequence[Weights],
    needs_x: bool,
    memory: Memory,
) -> tuple[Tensor | None, list[Weights]]:
    """Return the gradients of one part's x (W, B, F), where it needs any, and of all weights."""
    grad = memory.empty(*above.shape, dtype=above.dtype).copy_(above)
    found: list[Weights] = []
    for number in range(len(layers) - 1, -1, -1):
        own = tape.layers[number]
        sums = cell.back(grad, layers[number].hh, own.states, own.steps, memory)
        by_row = sums.by_input.flatten(0, 1)
        if not number and tape.places is not None:
            # A row's sum is in many windows: its gradient is the sum of theirs.
            by_row = memory.empty(len(own.inputs), by_row.shape[1], dtype=by_row.dtype).zero_()
            cell.add_rows(sums.by_input.flatten(0, 1), tape.places.flatten(), by_row)
        found.insert(0, _weight_gradients(own, by_row, sums))
        if not (number or needs_x):
            return None, found
        w_ih = layers[number].ih
        grad = memory.empty(*above.shape[:2], w_ih.shape[1], dtype=w_ih.dtype)
        torch.mm(by_row, w_ih, out=grad.flatten(0, 1))
        if number and masks is not None:
            grad.mul_(masks[number - 1])
    return grad, found


def _inputs(x: Tensor | RowWindows, part: slice, memory: Memory) -> tuple[Tensor, Tensor | None]:
    """Return the first layer's inputs (N, F), and where those of each step are, if not in order."""
    if isinstance(x, RowWindows):
        used, places = x.places(part)
        inputs = memory.empty(len(used), x.rows.shape[1], dtype=x.rows.dtype)
        return torch.index_select(x.rows, 0, used, out=inputs), places
    windows = x[part].transpose(0, 1)
    return memory.empty(*windows.shape, dtype=x.dtype).copy_(windows).flatten(0, 1), None


def _weight_gradients(tape: LayerTape, by_row: Tensor, sums: SumGradients) -> Weights:
    """Turn the gradients of sums, and those (N, G) of the inputs' sums by row, into weights'."""
    # The state before the first step is zero, so its product moves no weight.
    grad_hh = sums.by_state[1:].flatten(0, 1).t() @ tape.states[:-1].flatten(0, 1)
    flat_state, grad_bias = sums.by_state.flatten(0, 1), by_row.sum(0)
    is_same = flat_state.data_ptr() == by_row.data_ptr()
    # An LSTM's sums share one gradient, but torch wants a tensor for each bias.
    bias_hh = grad_bias.clone() if is_same else flat_state.sum(0)
    return Weights(by_row.t() @ tape.inputs, grad_hh, grad_bias, bias_hh)


def all_states(cell: Cell, x: Tensor, layers: Sequence[Weights]) -> Tensor:
    """Run stacked layers and keep nothing for gradients: x (B, W, F) -> states (W, B, H)."""
    batch, n_steps, _ = x.shape
    found = x.new_empty(n_steps, batch, layers[-1].size)
    # torch shares each product among its threads: cut into blocks, it would have other round-off.
    is_cut = runs_compiled(cell.name)
    for block in _blocks(batch, n_steps, layers) if is_cut else (slice(None),):
        memory = current_memory().borrow()
        found[:, block] = _run_layers(cell, x[block].transpose(0, 1), layers, memory)
        memory.give_back()
    return found


def first_states(cell: Cell, windows: RowWindows, weights: Weights, memory: Memory) -> Tensor:
    """Run the first layer over windows, each of whose rows is projected once: (W, B, H)."""
    rows, ends, window = windows
    first = int(ends.min()) - window + 1
    sums = cell.project(rows[first : int(ends.max()) + 1], weights, memory)
    return cell.states(sums, ends - (first + window - 1), 1, weights, window, memory)


def last_states_over_rows(cell: Cell, windows: RowWindows, layers: Sequence[Weights]) -> Tensor:
    """Run stacked layers over windows that share rows, each of which is projected once.

    Returns:
        (B, H) last states of the last layer; nothing is kept for gradients.
    """
    rows, ends, window = windows
    found = rows.new_empty(len(ends), layers[-1].size)
    for block in _blocks(len(ends), window, layers):
        memory = current_memory().borrow()
        states = first_states(cell, RowWindows(rows, ends[block], window), layers[0], memory)
        found[block] = _run_layers(cell, states, layers[1:], memory)[-1]
        memory.give_back()
    return found


def _run_layers(cell: Cell, x: Tensor, layers: Sequence[Weights], memory: Memory) -> Tensor:
    n_steps, batch = x.shape[:2]
    starts = torch.arange(batch)
    for weights in layers:
        sums = cell.project(x.flatten(0, 1), weights, memory)
        x = cell.states(sums, starts, batch, weights, n_steps, memory)
    return x


def _blocks(batch: int, n_steps: int, layers: Sequence[Weights]) -> Iterator[slice]:
    """Divide a batch so that the sums of one block's windows need little memory."""
    size = max(MOST_SUMS // (n_steps * len(layers[0].ih)), SMALLEST_PART)
    return chunks(batch, size)
