"""LSTM and GRU layers for the CPU, with the same equations and weights as torch's.

torch's own layers spend about half of a training step beside the matrix products. Here all inputs
are projected at once, inputs that need no gradient get none, and the steps are either compiled
(`kernels`) or a few operations of torch (`steps`). Results differ from torch's by round-off.

Everything is time first: x (W, B, F), states (W, B, H). Weights are those of a torch layer: w_ih
(G, F), w_hh (G, H), b_ih and b_hh (G,). Gates are ordered as in torch: input, forget, cell, output
for the LSTM, so G = 4H; reset, update, new for the GRU, so G = 3H.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from freqai_lstm_plugins.nets import steps
from freqai_lstm_plugins.parallel import in_threads, n_workers, one_blas_thread

logger = logging.getLogger(__name__)

Weights = Sequence[Tensor]
Empty = Callable[..., Tensor]

# A thread gets at least so many windows of a batch: products of fewer are slow.
SMALLEST_PART = 32


@functools.cache
def compiled_kernels() -> Any:
    """Return the module of compiled steps, or None where numba or SciPy is missing or disabled."""
    try:
        import numba
        import scipy.linalg  # noqa: F401  # numba's products

        if numba.config.DISABLE_JIT:
            return None
        if (numba_log := logging.getLogger("numba")).level == logging.NOTSET:
            # It tells each step of a compilation to whoever asked for debug messages of anything.
            numba_log.setLevel(logging.INFO)
        from freqai_lstm_plugins.nets import kernels
    except ImportError as error:
        logger.debug("Recurrent layers run by torch alone: %s.", error)
        return None
    return kernels


def runs_compiled() -> bool:
    """Whether the calling thread would run the compiled steps.

    They work on one core each. A thread whose torch may use several is better served by torch's
    operations, whose helpers would otherwise busy the other cores while they wait.
    """
    return torch.get_num_threads() == 1 and compiled_kernels() is not None


def _run(name: str, *arguments: Tensor | int) -> None:
    """Call a function of `kernels` or of `steps`."""
    tensors = [item for item in arguments if isinstance(item, Tensor)]
    if not (runs_compiled() and all(t.dtype in (torch.float32, torch.int64) for t in tensors)):
        getattr(steps, name)(*arguments)
        return
    arrays = [
        item.detach().contiguous().numpy() if isinstance(item, Tensor) else item
        for item in arguments
    ]
    with one_blas_thread():
        getattr(compiled_kernels(), name)(*arrays)


def _doubled(weight: Tensor, gate: int, size: int) -> Tensor:
    """Double the rows of one gate, whose tanh then is a sigmoid like the others."""
    doubled = weight.clone()
    doubled[gate * size : (gate + 1) * size] *= 2
    return doubled


class LSTM:
    """The LSTM's equations over a whole layer."""

    n_kept: ClassVar[int] = 3

    @staticmethod
    def project(x: Tensor, weights: Weights, empty: Empty = torch.empty) -> Tensor:
        """Return the sums (N, G) of the inputs (N, F)."""
        w_ih, w_hh, b_ih, b_hh = weights
        size = w_hh.shape[1]
        return _sums(x, _doubled(w_ih, 2, size), _doubled(b_ih + b_hh, 2, size), empty)

    @staticmethod
    def forward(sums: Tensor, weights: Weights, empty: Empty) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the states (W, B, H), and what `back` needs, of sums (W, B, G) to lose."""
        w_hh = weights[1]
        shape = (*sums.shape[:2], w_hh.shape[1])
        cells, squashed, states = (empty(*shape, dtype=sums.dtype) for _ in range(3))
        _run("lstm_forward", sums, _doubled(w_hh, 2, shape[2]).t(), cells, squashed, states)
        return states, (sums, cells, squashed)

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], empty: Empty
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients (W, B, G) of the sums of the inputs, and of those of the states."""
        gates, cells, squashed = kept
        grads = empty(*gates.shape, dtype=gates.dtype)
        _run("lstm_back", gates, w_hh, cells, squashed, grad_states, grads)
        return grads, grads

    @staticmethod
    def states(sums: Tensor, starts: Tensor, stride: int, weights: Weights, n_steps: int) -> Tensor:
        """Return the states (W, B, H) of inputs at `starts` (B,) and `stride` rows on each step."""
        w_hh = weights[1]
        states = sums.new_empty(n_steps, len(starts), w_hh.shape[1])
        _run("lstm_states", sums, starts, stride, _doubled(w_hh, 2, w_hh.shape[1]).t(), states)
        return states


class GRU:
    """The GRU's equations over a whole layer; the functions are those of `LSTM`."""

    n_kept: ClassVar[int] = 2

    @staticmethod
    def project(x: Tensor, weights: Weights, empty: Empty = torch.empty) -> Tensor:
        w_ih, w_hh, b_ih, _ = weights
        size = w_hh.shape[1]
        return _sums(x, _doubled(w_ih, 2, size), _doubled(b_ih, 2, size), empty)

    @staticmethod
    def forward(sums: Tensor, weights: Weights, empty: Empty) -> tuple[Tensor, tuple[Tensor, ...]]:
        w_hh, b_hh = weights[1], weights[3]
        shape = (*sums.shape[:2], w_hh.shape[1])
        recalled, states = (empty(*shape, dtype=sums.dtype) for _ in range(2))
        _run("gru_forward", sums, w_hh.t(), b_hh, recalled, states)
        return states, (sums, recalled)

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], empty: Empty
    ) -> tuple[Tensor, Tensor]:
        gates, recalled = kept
        by_input, by_state = (empty(*gates.shape, dtype=gates.dtype) for _ in range(2))
        _run("gru_back", gates, w_hh, recalled, states, grad_states, by_input, by_state)
        return by_input, by_state

    @staticmethod
    def states(sums: Tensor, starts: Tensor, stride: int, weights: Weights, n_steps: int) -> Tensor:
        w_hh, b_hh = weights[1], weights[3]
        states = sums.new_empty(n_steps, len(starts), w_hh.shape[1])
        _run("gru_states", sums, starts, stride, w_hh.t(), b_hh, states)
        return states


Cell = type[LSTM] | type[GRU]


def _sums(x: Tensor, w_in: Tensor, bias: Tensor, empty: Empty) -> Tensor:
    out = empty(len(x), len(bias), dtype=x.dtype)
    return torch.addmm(bias, x, w_in.t(), out=out)


class _Memory:
    """Tensors with any content, from the allocator."""

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    def borrow(self, kept: Iterable[Tensor]) -> _Memory:
        return self

    def give_back(self) -> None:
        """Nothing: the allocator sees for itself what nobody reads any more."""


class _Kept(_Memory):
    """Tensors that one training step leaves to the next.

    A step uses some tens of MB, in pieces that an allocator gives back to the system and fetches
    anew, page by page, in a tenth of the step's time.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.dtype], list[Tensor]] = {}

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        size = math.prod(shape)
        # Eight sizes for each power of two, as the rows that a batch uses differ in number.
        grain = 1 << max(size.bit_length() - 4, 0)
        room = -(-size // grain) * grain
        try:
            found = self._free[room, dtype].pop()
        except (KeyError, IndexError):
            found = super().empty(room, dtype=dtype)
        return found[:size].view(shape)

    def borrow(self, kept: Iterable[Tensor]) -> _Memory:
        return _Borrowed(self, kept)

    def put(self, tensor: Tensor) -> None:
        whole = tensor.new_empty(0).set_(tensor.untyped_storage())
        self._free.setdefault((len(whole), whole.dtype), []).append(whole)


class _Borrowed(_Memory):
    """What a step has from `_Kept`, and gives back when its gradients are computed."""

    def __init__(self, owner: _Kept, kept: Iterable[Tensor]) -> None:
        self._owner = owner
        # One layer's states may be the inputs of the next: each counts once.
        self._taken = {tensor.data_ptr(): tensor for tensor in kept}

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        found = self._owner.empty(*shape, dtype=dtype)
        self._taken[found.data_ptr()] = found
        return found

    def give_back(self) -> None:
        for tensor in self._taken.values():
            self._owner.put(tensor)


_own = threading.local()


@contextmanager
def keep_memory() -> Iterator[None]:
    """Let the layers that the calling thread trains use the same memory in each step.

    Inside, the gradients of a result are to be computed once at most.
    """
    before = _memory()
    _own.memory = _Kept()
    try:
        yield
    finally:
        _own.memory = before


def _memory() -> _Memory:
    return getattr(_own, "memory", None) or _Memory()


class RowWindows(NamedTuple):
    """Windows of `rows` (N, F) that end at `ends` (B,), ascending, and share rows."""

    rows: Tensor
    ends: Tensor
    window: int

    def part(self, part: slice, memory: _Memory) -> tuple[Tensor, Tensor]:
        """Return the rows (U, F) that a part of the windows uses, and where each is (W, b)."""
        ends = self.ends[part]
        starts = ends - (self.window - 1)
        seen = torch.cat([starts[:1] - 1, ends[:-1]])
        n_new = ends - torch.maximum(starts, seen + 1) + 1
        places = n_new.cumsum(0) - 1
        used = torch.repeat_interleave(ends - places, n_new)
        used += torch.arange(len(used))
        inputs = memory.empty(len(used), self.rows.shape[1], dtype=self.rows.dtype)
        torch.index_select(self.rows, 0, used, out=inputs)
        # The rows of a window follow each other, and all of them are used.
        return inputs, places + torch.arange(1 - self.window, 1).unsqueeze(1)


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
        n_steps, batch = (
            (x.window, len(x.ends)) if isinstance(x, RowWindows) else (x.shape[1], len(x))
        )
        memory = _memory()

        def run(part: slice) -> tuple[list[Tensor], Tensor | None]:
            inputs, places = _inputs(x, part, memory)
            found: list[Tensor] = []
            for layer, own in enumerate(layers):
                if layer and masks is not None:
                    dropped = memory.empty(*inputs.shape, dtype=inputs.dtype)
                    mask = masks[layer - 1, :, part]
                    torch.mul(inputs.view(mask.shape), mask, out=dropped.view(mask.shape))
                    inputs = dropped
                sums = cell.project(inputs, own, memory.empty)
                if not layer and places is not None:
                    each_step = memory.empty(places.numel(), sums.shape[1], dtype=sums.dtype)
                    sums = torch.index_select(sums, 0, places.flatten(), out=each_step)
                states, needed = cell.forward(
                    sums.view(n_steps, -1, sums.shape[1]), own, memory.empty
                )
                found += [inputs, states, *needed]
                inputs = states.flatten(0, 1)
            return found, places

        parts = _parts(batch)
        every = in_threads(run, parts)
        ctx.cell, ctx.parts, ctx.memory, ctx.n_weights = cell, parts, memory, len(weights)
        ctx.places = [places for _, places in every]
        kept = (tensor for found, _ in every for tensor in found)
        ctx.save_for_backward(masks, *weights, *kept)
        # The output is a copy: what is kept must not leave.
        return torch.cat([found[-1 - cell.n_kept] for found, _ in every], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Any, ...]:
        """Propagate through all layers and steps."""
        masks, *saved = ctx.saved_tensors
        weights, kept = saved[: ctx.n_weights], saved[ctx.n_weights :]
        needs_x = ctx.needs_input_grad[1]
        n_layers, each = len(weights) // 4, 2 + ctx.cell.n_kept
        memory = ctx.memory.borrow(kept)

        def run(numbered: tuple[int, slice]) -> tuple[Tensor | None, list[Tensor]]:
            number, part = numbered
            mine = kept[number * n_layers * each : (number + 1) * n_layers * each]
            above = grad_states[:, part]
            grad = memory.empty(*above.shape, dtype=above.dtype).copy_(above)
            found: list[Tensor] = []
            for layer in range(n_layers - 1, -1, -1):
                w_ih, w_hh = weights[4 * layer : 4 * layer + 2]
                inputs, states, *needed = mine[layer * each : (layer + 1) * each]
                by_input, by_state = ctx.cell.back(grad, w_hh, states, needed, memory.empty)
                by_row = by_input.flatten(0, 1)
                if not layer and (places := ctx.places[number]) is not None:
                    by_row = memory.empty(len(inputs), by_row.shape[1], dtype=by_row.dtype).zero_()
                    _run("add_rows", by_input.flatten(0, 1), places.flatten(), by_row)
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


def _inputs(x: Tensor | RowWindows, part: slice, memory: _Memory) -> tuple[Tensor, Tensor | None]:
    """Return the first layer's inputs (N, F), and where those of each step are, if not in order."""
    if isinstance(x, RowWindows):
        return x.part(part, memory)
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


def _parts(batch: int) -> list[slice]:
    """Divide a batch between the workers of this thread's team."""
    size = max(-(-batch // n_workers()), SMALLEST_PART)
    return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]


def last_states(cell: Cell, x: Tensor, layers: Sequence[Weights]) -> Tensor:
    """Run stacked layers and keep nothing for gradients: x (B, W, F) -> states (W, B, H)."""
    return _upper_states(cell, x.transpose(0, 1), layers)


def states_over_rows(
    cell: Cell, rows: Tensor, ends: Tensor, window: int, layers: Sequence[Weights]
) -> Tensor:
    """Run stacked layers over windows that share rows, each of which is projected once.

    Args:
        cell: `LSTM` or `GRU`.
        rows: (N, F).
        ends: (B,) rows at which the windows end.
        window: W.
        layers: The four weights of each layer.

    Returns:
        (W, B, H) states of the last layer.
    """
    first = int(ends.min()) - window + 1
    sums = cell.project(rows[first : int(ends.max()) + 1], layers[0])
    states = cell.states(sums, ends - (first + window - 1), 1, layers[0], window)
    return _upper_states(cell, states, layers[1:])


def _upper_states(cell: Cell, x: Tensor, layers: Sequence[Weights]) -> Tensor:
    n_steps, batch = x.shape[:2]
    starts = torch.arange(batch)
    for weights in layers:
        sums = cell.project(x.flatten(0, 1), weights)
        x = cell.states(sums, starts, batch, weights, n_steps)
    return x
