"""One LSTM or GRU layer on the CPU, with the same equations and weights as torch's.

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
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from freqai_lstm_plugins.nets import steps
from freqai_lstm_plugins.nets.memory import Memory
from freqai_lstm_plugins.parallel import one_blas_thread

logger = logging.getLogger(__name__)

Weights = Sequence[Tensor]
Empty = Callable[..., Tensor]


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
    except Exception as error:  # A numba that does not fit its surroundings raises what it likes.
        logger.warning("Recurrent layers run by torch alone, as numba fails: %s.", error)
        return None
    return kernels


def runs_compiled() -> bool:
    """Whether the calling thread would run the compiled steps.

    They work on one core each. A thread whose torch may use several is better served by torch's
    operations, whose helpers would otherwise busy the other cores while they wait.
    """
    return torch.get_num_threads() == 1 and compiled_kernels() is not None


def run_steps(name: str, *arguments: Tensor | int) -> None:
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
    def project(x: Tensor, weights: Weights, empty: Empty) -> Tensor:
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
        run_steps("lstm_forward", sums, _doubled(w_hh, 2, shape[2]).t(), cells, squashed, states)
        return states, (sums, cells, squashed)

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients (W, B, G) of the sums of the inputs, and of those of the states."""
        gates, cells, squashed = kept
        grads = memory.over(gates)
        run_steps("lstm_back", gates, w_hh, cells, squashed, grad_states, grads)
        return grads, grads

    @staticmethod
    def states(
        sums: Tensor, starts: Tensor, stride: int, weights: Weights, n_steps: int, empty: Empty
    ) -> Tensor:
        """Return the states (W, B, H) of inputs at `starts` (B,) and `stride` rows on each step."""
        w_hh = weights[1]
        states = empty(n_steps, len(starts), w_hh.shape[1], dtype=sums.dtype)
        run_steps("lstm_states", sums, starts, stride, _doubled(w_hh, 2, w_hh.shape[1]).t(), states)
        return states


class GRU:
    """The GRU's equations over a whole layer; the functions are those of `LSTM`."""

    n_kept: ClassVar[int] = 2

    @staticmethod
    def project(x: Tensor, weights: Weights, empty: Empty) -> Tensor:
        w_ih, w_hh, b_ih, _ = weights
        size = w_hh.shape[1]
        return _sums(x, _doubled(w_ih, 2, size), _doubled(b_ih, 2, size), empty)

    @staticmethod
    def forward(sums: Tensor, weights: Weights, empty: Empty) -> tuple[Tensor, tuple[Tensor, ...]]:
        w_hh, b_hh = weights[1], weights[3]
        shape = (*sums.shape[:2], w_hh.shape[1])
        recalled, states = (empty(*shape, dtype=sums.dtype) for _ in range(2))
        run_steps("gru_forward", sums, w_hh.t(), b_hh, recalled, states)
        return states, (sums, recalled)

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], memory: Memory
    ) -> tuple[Tensor, Tensor]:
        gates, recalled = kept
        by_input, by_state = memory.over(gates), memory.empty(*gates.shape, dtype=gates.dtype)
        run_steps("gru_back", gates, w_hh, recalled, states, grad_states, by_input, by_state)
        return by_input, by_state

    @staticmethod
    def states(
        sums: Tensor, starts: Tensor, stride: int, weights: Weights, n_steps: int, empty: Empty
    ) -> Tensor:
        w_hh, b_hh = weights[1], weights[3]
        states = empty(n_steps, len(starts), w_hh.shape[1], dtype=sums.dtype)
        run_steps("gru_states", sums, starts, stride, w_hh.t(), b_hh, states)
        return states


Cell = type[LSTM] | type[GRU]


def _sums(x: Tensor, w_in: Tensor, bias: Tensor, empty: Empty) -> Tensor:
    out = empty(len(x), len(bias), dtype=x.dtype)
    return torch.addmm(bias, x, w_in.t(), out=out)
