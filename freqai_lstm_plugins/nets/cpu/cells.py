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
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from freqai_lstm_plugins.nets.cpu import steps
from freqai_lstm_plugins.nets.cpu.memory import Memory
from freqai_lstm_plugins.nets.cpu.threads import one_blas_thread

logger = logging.getLogger(__name__)

Weights = Sequence[Tensor]


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
        from freqai_lstm_plugins.nets.cpu import kernels
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


def _doubled(weight: Tensor, size: int) -> Tensor:
    """Double the rows of the gate with a tanh, the third of both cells, which is a sigmoid then."""
    doubled = weight.clone()
    doubled[2 * size : 3 * size] *= 2
    return doubled


class RecurrentCell(ABC):
    """A cell's equations over a whole layer: what LSTM and GRU have in common."""

    name: ClassVar[str]
    n_scratch: ClassVar[int]
    """Tensors (W, B, H) that `back` needs beside gates and states."""

    @staticmethod
    @abstractmethod
    def input_bias(weights: Weights) -> Tensor:
        """Return the bias (G,) that belongs to the inputs' sums."""

    @staticmethod
    @abstractmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        """Return what a step needs to sum the state: weights (H, G), and a bias of their own."""

    @staticmethod
    @abstractmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients (W, B, G) of the sums of the inputs, and of those of the states."""

    @classmethod
    def project(cls, x: Tensor, weights: Weights, memory: Memory) -> Tensor:
        """Return the sums (N, G) of the inputs (N, F)."""
        size = weights[1].shape[1]
        w_in, bias = _doubled(weights[0], size), _doubled(cls.input_bias(weights), size)
        out = memory.empty(len(x), len(bias), dtype=x.dtype)
        return torch.addmm(bias, x, w_in.t(), out=out)

    @classmethod
    def forward(
        cls, sums: Tensor, weights: Weights, memory: Memory
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the states (W, B, H), and what `back` needs, of sums (W, B, G) to lose."""
        shape = (*sums.shape[:2], weights[1].shape[1])
        *scratch, states = (
            memory.empty(*shape, dtype=sums.dtype) for _ in range(cls.n_scratch + 1)
        )
        run_steps(f"{cls.name}_forward", sums, *cls.for_state(weights), *scratch, states)
        return states, (sums, *scratch)

    @classmethod
    def states(
        cls,
        sums: Tensor,
        starts: Tensor,
        stride: int,
        weights: Weights,
        n_steps: int,
        memory: Memory,
    ) -> Tensor:
        """Return the states (W, B, H) of inputs at `starts` (B,) and `stride` rows on each step."""
        states = memory.empty(n_steps, len(starts), weights[1].shape[1], dtype=sums.dtype)
        run_steps(f"{cls.name}_states", sums, starts, stride, *cls.for_state(weights), states)
        return states


class LSTM(RecurrentCell):
    """Gates of input, forget, cell and output; both sums share a bias."""

    name = "lstm"
    n_scratch = 2

    @staticmethod
    def input_bias(weights: Weights) -> Tensor:
        return weights[2] + weights[3]

    @staticmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        return (_doubled(weights[1], weights[1].shape[1]).t(),)

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], memory: Memory
    ) -> tuple[Tensor, Tensor]:
        gates, cells, squashed = kept
        grads = memory.over(gates)
        run_steps("lstm_back", gates, w_hh, cells, squashed, grad_states, grads)
        return grads, grads


class GRU(RecurrentCell):
    """Gates of reset, update and new; the reset comes between the new gate's two sums."""

    name = "gru"
    n_scratch = 1

    @staticmethod
    def input_bias(weights: Weights) -> Tensor:
        return weights[2]

    @staticmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        return weights[1].t(), weights[3]

    @staticmethod
    def back(
        grad_states: Tensor, w_hh: Tensor, states: Tensor, kept: Sequence[Tensor], memory: Memory
    ) -> tuple[Tensor, Tensor]:
        gates, recalled = kept
        by_input, by_state = memory.over(gates), memory.empty(*gates.shape, dtype=gates.dtype)
        run_steps("gru_back", gates, w_hh, recalled, states, grad_states, by_input, by_state)
        return by_input, by_state


Cell = type[RecurrentCell]
