"""One LSTM or GRU layer on the CPU by steps of our own, with the same equations as torch's.

torch's own layers spend about half of a training step beside the matrix products. Here all inputs
are projected at once, inputs that need no gradient get none, and the steps are compiled
(`kernels`). Without gradients they run by torch's operations (`steps`) as well. Results differ from
those of torch's layers by round-off.

Everything is time first: x (W, B, F), states (W, B, H). Weights are those of a torch layer. Gates
are ordered as in torch: input, forget, cell, output for the LSTM, so G = 4H; reset, update, new for
the GRU, so G = 3H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.nets.cpu.compiled import compiled_steps, runs_compiled
from freqai_lstm_plugins.nets.cpu.steps import gru_states, lstm_states
from freqai_lstm_plugins.nets.cpu.threads import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from freqai_lstm_plugins.nets.cpu.memory import Memory


class Weights(NamedTuple):
    """The parameters of one layer.

    Attributes:
        ih: (G, F) of the inputs.
        hh: (G, H) of the state.
        bias_ih: (G,).
        bias_hh: (G,).
    """

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    @property
    def size(self) -> int:
        """H."""
        return self.hh.shape[1]


class LSTMTape(NamedTuple):
    """What an LSTM layer keeps for its gradients.

    Attributes:
        gates: (W, B, 4H) sigmoids of the gates.
        cells: (W, B, H).
        squashed: (W, B, H) tanh of the cells.
    """

    gates: Tensor
    cells: Tensor
    squashed: Tensor


class GRUTape(NamedTuple):
    """What a GRU layer keeps for its gradients.

    Attributes:
        gates: (W, B, 3H) sigmoids of the gates.
        recalled: (W, B, H) what the state gives to the new gate before the reset.
    """

    gates: Tensor
    recalled: Tensor


StepTape = LSTMTape | GRUTape


class SumGradients(NamedTuple):
    """Gradients (W, B, G) of the sums of inputs, and of those of states: the LSTM's are the same.

    A GRU resets what comes from the state alone, so its two differ.
    """

    by_input: Tensor
    by_state: Tensor


def _doubled(weight: Tensor, size: int) -> Tensor:
    """Double the rows of the gate with a tanh, the third of both cells, which is a sigmoid then."""
    doubled = weight.clone()
    doubled[2 * size : 3 * size] *= 2
    return doubled


def _call(kernel: Any, *arguments: object) -> None:
    arrays = [
        # Views, no copies, but for weights that are transposed: numba's products want C order.
        item.detach().contiguous().numpy() if isinstance(item, Tensor) else item
        for item in arguments
    ]
    with one_blas_thread():
        kernel(*arrays)


class RecurrentCell(ABC):
    """A cell's equations over a whole layer: what LSTM and GRU have in common."""

    name: ClassVar[str]
    # Windows of a batch from which compiled steps and their gradients take less time than torch's.
    learns_from: ClassVar[int]

    # Fills the states as the compiled function does, round-off apart.
    states_by_torch: ClassVar[Callable[..., None]]

    @classmethod
    def steps(cls, *, learn: bool) -> Any:
        """Return the compiled functions, which whoever calls knows to be there."""
        return compiled_steps(cls.name, learn=learn)

    @staticmethod
    @abstractmethod
    def input_bias(weights: Weights) -> Tensor:
        """Return the bias (G,) that belongs to the inputs' sums."""

    @staticmethod
    @abstractmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        """Return what a step needs to sum the state: weights (H, G), and a bias of their own."""

    @classmethod
    @abstractmethod
    def forward(cls, sums: Tensor, weights: Weights, memory: Memory) -> tuple[Tensor, StepTape]:
        """Return the states (W, B, H), and what `back` needs, of sums (W, B, G) to lose."""

    @classmethod
    @abstractmethod
    def back(
        cls, grad_states: Tensor, w_hh: Tensor, states: Tensor, tape: Any, memory: Memory
    ) -> SumGradients:
        """Propagate the gradients (W, B, H) of the states through all steps."""

    @classmethod
    def project(cls, x: Tensor, weights: Weights, memory: Memory) -> Tensor:
        """Return the sums (N, G) of the inputs (N, F)."""
        w_in = _doubled(weights.ih, weights.size)
        bias = _doubled(cls.input_bias(weights), weights.size)
        out = memory.empty(len(x), len(bias), dtype=x.dtype)
        return torch.addmm(bias, x, w_in.t(), out=out)

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
        states = memory.empty(n_steps, len(starts), weights.size, dtype=sums.dtype)
        by_state = cls.for_state(weights)
        if runs_compiled(cls.name):
            kernel = cls.steps(learn=False).states
            _call(kernel, sums, starts, stride, *by_state, states)
        else:
            cls.states_by_torch(sums, starts, stride, *by_state, states)
        return states

    @classmethod
    def add_rows(cls, source: Tensor, places: Tensor, target: Tensor) -> None:
        """Add the rows of source (N, G) to those of target (U, G) that `places` (N,) names."""
        _call(cls.steps(learn=True).add_rows, source, places, target)


class LSTM(RecurrentCell):
    """Gates of input, forget, cell and output; both sums share a bias."""

    name = "lstm"
    learns_from = 8
    states_by_torch = staticmethod(lstm_states)

    @staticmethod
    def input_bias(weights: Weights) -> Tensor:
        """Return the sum of both biases, since both sums are added before any gate."""
        return weights.bias_ih + weights.bias_hh

    @staticmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        """Return the weights (H, 4H), those of the cell's gate doubled."""
        return (_doubled(weights.hh, weights.size).t(),)

    @classmethod
    def forward(cls, sums: Tensor, weights: Weights, memory: Memory) -> tuple[Tensor, LSTMTape]:
        """Return the states (W, B, H), and what `back` needs; sums (W, B, 4H) become gates."""
        shape = (*sums.shape[:2], weights.size)
        cells, squashed, states = (memory.empty(*shape, dtype=sums.dtype) for _ in range(3))
        kernel = cls.steps(learn=True).forward
        _call(kernel, sums, *cls.for_state(weights), cells, squashed, states)
        return states, LSTMTape(sums, cells, squashed)

    @classmethod
    def back(
        cls, grad_states: Tensor, w_hh: Tensor, _states: Tensor, tape: LSTMTape, memory: Memory
    ) -> SumGradients:
        """Return the sums' gradients; the cells on the tape say all that the states would."""
        grads = memory.over(tape.gates)
        kernel = cls.steps(learn=True).back
        _call(kernel, tape.gates, w_hh, tape.cells, tape.squashed, grad_states, grads)
        return SumGradients(grads, grads)


class GRU(RecurrentCell):
    """Gates of reset, update and new; the reset comes between the new gate's two sums."""

    name = "gru"
    # torch's GRU is a few operations a step: with gradients, a single window takes six times ours.
    learns_from = 1
    states_by_torch = staticmethod(gru_states)

    @staticmethod
    def input_bias(weights: Weights) -> Tensor:
        """Return the bias of the inputs alone; the reset scales the state's."""
        return weights.bias_ih

    @staticmethod
    def for_state(weights: Weights) -> tuple[Tensor, ...]:
        """Return the weights (H, 3H), and the bias (3H,) that the reset scales with them."""
        return weights.hh.t(), weights.bias_hh

    @classmethod
    def forward(cls, sums: Tensor, weights: Weights, memory: Memory) -> tuple[Tensor, GRUTape]:
        """Return the states (W, B, H), and what `back` needs; sums (W, B, 3H) become gates."""
        shape = (*sums.shape[:2], weights.size)
        recalled, states = (memory.empty(*shape, dtype=sums.dtype) for _ in range(2))
        kernel = cls.steps(learn=True).forward
        _call(kernel, sums, *cls.for_state(weights), recalled, states)
        return states, GRUTape(sums, recalled)

    @classmethod
    def back(
        cls, grad_states: Tensor, w_hh: Tensor, states: Tensor, tape: GRUTape, memory: Memory
    ) -> SumGradients:
        """Return the sums' gradients, which read the states (W, B, H) before each step."""
        by_input = memory.over(tape.gates)
        by_state = memory.empty(*tape.gates.shape, dtype=tape.gates.dtype)
        kernel = cls.steps(learn=True).back
        _call(kernel, tape.gates, w_hh, tape.recalled, states, grad_states, by_input, by_state)
        return SumGradients(by_input, by_state)


Cell = type[RecurrentCell]
# By exact class: what a subclass of torch's layers does is unknown here.
_CELLS: dict[type[nn.Module], Cell] = {nn.LSTM: LSTM, nn.GRU: GRU}


def cell_of(recurrent: nn.RNNBase) -> Cell | None:
    """Return the cell whose equations are those of torch's layers, or None where none is."""
    is_plain = recurrent.bias and not (recurrent.proj_size or recurrent.bidirectional)
    return _CELLS.get(type(recurrent)) if is_plain and recurrent.batch_first else None


def weights_of(recurrent: nn.RNNBase) -> list[Weights]:
    """Return the parameters of each layer."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [
        Weights(*(getattr(recurrent, f"{name}_l{layer}") for name in names))
        for layer in range(recurrent.num_layers)
    ]
