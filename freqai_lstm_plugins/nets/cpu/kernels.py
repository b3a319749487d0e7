"""All steps of an LSTM or GRU layer as one compiled function. Needs numba.

torch runs a step as a product and ten operations on its gates, each of which reads and writes them
all, waits for all threads, and hands Python's lock over. Here a step is a product and one pass, on
one core and without the lock, so that parts of a batch run beside each other. The functions take
contiguous float32 arrays. Sums of gates come in, and sigmoids of them stay, as their slopes need
nothing else: tanh(a) is computed as 2 sigmoid(2a) - 1, so that one loop serves all gates, and
whoever calls doubles the weights and sums of the gate that has a tanh.

numba compiles them once, in seconds, and keeps the outcome on disk where it may. Products go to
SciPy's BLAS.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Neither NaN nor infinity may be assumed away: a training that diverges must show.
_MATH = {"contract", "arcp", "nsz"}

# tanh(x) / x as a ratio of polynomials in x^2, within 2e-8 on [0, 9]: a least-squares fit, with
# weights moved until the error was even. Beyond 9, tanh is 1 in float32.
_END = np.float32(9.0)
_P0, _P1, _P2, _P3, _P4 = (
    np.float32(value)
    for value in (
        9.999999795e-01,
        1.338102622e-01,
        3.495588807e-03,
        2.060909292e-05,
        1.335467470e-08,
    )
)
_Q1, _Q2, _Q3, _Q4 = (
    np.float32(value)
    for value in (4.671434181e-01, 2.587698481e-02, 3.285635908e-04, 7.776564037e-07)
)
_ONE, _TWO, _FOUR, _HALF = (np.float32(value) for value in (1, 2, 4, 0.5))


_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": _MATH, "error_model": "numpy"}


class Kernel:
    """A function that is compiled, or read from numba's folder, before it is first called.

    Attributes:
        signature: Types of the arguments. numba would else find them out, and stumble over what it
            kept, in the middle of a training.
    """

    def __init__(self, function: Callable[..., None], signature: str) -> None:
        self.signature = signature
        try:
            self._compiled = numba.njit(cache=True, **_OPTIONS)(function)
        except RuntimeError:  # There is no folder to keep the outcome in.
            self._compiled = numba.njit(**_OPTIONS)(function)

    def make_ready(self) -> None:
        """Compile, where that is not done yet.

        Raises:
            Exception: Whatever numba finds wrong with its folder or with itself.
        """
        self._compiled.compile(self.signature)

    def __call__(self, *arrays: Any) -> None:
        """Run over C-ordered arrays of the signature's types; results go into the last of them."""
        self._compiled(*arrays)


def _kernel(signature: str) -> Callable[[Callable[..., None]], Kernel]:
    short = {"1d": "f4[::1]", "2d": "f4[:, ::1]", "3d": "f4[:, :, ::1]", "places": "i8[::1]"}
    types = ", ".join(short.get(word, word) for word in signature.split())
    return lambda function: Kernel(function, f"void({types})")


def _inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    return numba.njit(inline="always", **_OPTIONS)(function)


@_inlined
def _tanh(x: np.float32) -> np.float32:
    # Written so that NaN passes both bounds.
    x = _END if x > _END else x
    x = -_END if x < -_END else x
    u = x * x
    top = (((_P4 * u + _P3) * u + _P2) * u + _P1) * u + _P0
    return x * top / ((((_Q4 * u + _Q3) * u + _Q2) * u + _Q1) * u + _ONE)


@_inlined
def _sigmoid(x: np.float32) -> np.float32:
    return _HALF * _tanh(_HALF * x) + _HALF


# Below, each loop over j touches few arrays: the compiler then proves that they do not overlap, and
# uses wide registers. A row of them all fits the fastest cache.


@_inlined
def _lstm_row(
    gate: Floats, product: Floats, old: Floats, cell: Floats, short: Floats, state: Floats
) -> None:
    size = len(cell)
    for j in range(4 * size):
        gate[j] = _sigmoid(gate[j] + product[j])
    into, forget = gate[:size], gate[size : 2 * size]
    new, out = gate[2 * size : 3 * size], gate[3 * size :]
    for j in range(size):
        cell[j] = forget[j] * old[j] + into[j] * (_TWO * new[j] - _ONE)
    for j in range(size):
        short[j] = _tanh(cell[j])
    for j in range(size):
        state[j] = out[j] * short[j]


@_kernel("3d 2d 3d 3d 3d")
def lstm_forward(
    gates: Floats, w_state: Floats, cells: Floats, squashed: Floats, states: Floats
) -> None:
    """Run an LSTM layer from a zero state.

    Args:
        gates: (W, B, 4H) sums of the inputs; becomes the sigmoids. The cell gate's are doubled.
        w_state: (H, 4H) weights of the state; the cell gate's are doubled.
        cells: (W, B, H), written.
        squashed: (W, B, H) tanh of the cells, written.
        states: (W, B, H), written.
    """
    batch, size = states.shape[1:]
    products = np.zeros((batch, 4 * size), np.float32)
    start = np.zeros(size, np.float32)
    for step in range(len(gates)):
        if step:
            np.dot(states[step - 1], w_state, products)
        for b in range(batch):
            old = cells[step - 1, b] if step else start
            _lstm_row(
                gates[step, b],
                products[b],
                old,
                cells[step, b],
                squashed[step, b],
                states[step, b],
            )


@_kernel("2d places i8 2d 3d")
def lstm_states(
    inputs: Floats, starts: Places, stride: int, w_state: Floats, states: Floats
) -> None:
    """Run an LSTM layer from a zero state, and keep nothing for gradients.

    Args:
        inputs: (N, 4H) sums of the inputs; the cell gate's are doubled.
        starts: (B,) rows of `inputs` at which the batch's first step is.
        stride: Rows from one step to the next.
        w_state: As in `lstm_forward`.
        states: (W, B, H), written.
    """
    batch, size = states.shape[1:]
    products = np.zeros((batch, 4 * size), np.float32)
    cells = np.zeros((batch, size), np.float32)
    gate, short = np.empty(4 * size, np.float32), np.empty(size, np.float32)
    for step in range(len(states)):
        if step:
            np.dot(states[step - 1], w_state, products)
        for b in range(batch):
            gate[:] = inputs[starts[b] + step * stride]
            _lstm_row(gate, products[b], cells[b], cells[b], short, states[step, b])


@_kernel("3d 2d 3d 3d 3d 3d")
def lstm_back(
    gates: Floats,
    w_hh: Floats,
    cells: Floats,
    squashed: Floats,
    grad_states: Floats,
    grads: Floats,
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
    batch, size = cells.shape[1:]
    by_later = np.zeros((batch, size), np.float32)
    grad_cells = np.zeros((batch, size), np.float32)
    start = np.zeros(size, np.float32)
    grad_state, grad_cell = np.empty(size, np.float32), np.empty(size, np.float32)
    gate = np.empty(4 * size, np.float32)
    for step in range(len(gates) - 1, -1, -1):
        for b in range(batch):
            # A copy, as the gradients may take the gates' place.
            gate[:] = gates[step, b]
            grad, short = grads[step, b], squashed[step, b]
            into, forget = gate[:size], gate[size : 2 * size]
            new, out = gate[2 * size : 3 * size], gate[3 * size :]
            grad_in, grad_forget = grad[:size], grad[size : 2 * size]
            grad_new, grad_out = grad[2 * size : 3 * size], grad[3 * size :]
            old = cells[step - 1, b] if step else start
            above, later, kept = grad_states[step, b], by_later[b], grad_cells[b]
            for j in range(size):
                grad_state[j] = above[j] + later[j]
            for j in range(size):
                # By the cells of later steps, and by this state: out tanh(cell).
                grad_cell[j] = kept[j] + grad_state[j] * out[j] * (_ONE - short[j] * short[j])
            # The slope of every sigmoid, then what stands behind each gate.
            for j in range(4 * size):
                grad[j] = gate[j] * (_ONE - gate[j])
            for j in range(size):
                grad_in[j] *= grad_cell[j] * (_TWO * new[j] - _ONE)
            for j in range(size):
                grad_forget[j] *= grad_cell[j] * old[j]
            for j in range(size):
                # 2 s(2a) - 1 has the slope 4 s (1 - s), and s (1 - s) stands there already.
                grad_new[j] *= _FOUR * grad_cell[j] * into[j]
            for j in range(size):
                grad_out[j] *= grad_state[j] * short[j]
            for j in range(size):
                # What the cell of the step before gets, beside what comes by the states.
                kept[j] = grad_cell[j] * forget[j]
        if step:
            np.dot(grads[step], w_hh, by_later)


@_inlined
def _gru_row(
    gate: Floats, product: Floats, b_hh: Floats, old: Floats, recalled: Floats, state: Floats
) -> None:
    size = len(state)
    for j in range(2 * size):
        gate[j] = _sigmoid(gate[j] + product[j] + b_hh[j])
    by_new, bias = product[2 * size :], b_hh[2 * size :]
    for j in range(size):
        # Kept: the gradient of the reset needs it as it was before the reset.
        recalled[j] = by_new[j] + bias[j]
    reset, update, new = gate[:size], gate[size : 2 * size], gate[2 * size :]
    for j in range(size):
        new[j] = _sigmoid(new[j] + _TWO * reset[j] * recalled[j])
    for j in range(size):
        tanh = _TWO * new[j] - _ONE
        # (1 - update) tanh + update old, with one product less.
        state[j] = tanh + update[j] * (old[j] - tanh)


@_kernel("3d 2d 1d 3d 3d")
def gru_forward(
    gates: Floats, w_state: Floats, b_hh: Floats, recalled: Floats, states: Floats
) -> None:
    """Run a GRU layer from a zero state.

    Args:
        gates: (W, B, 3H) sums of the inputs; becomes the sigmoids. The new gate's are doubled.
        w_state: (H, 3H) weights of the state, none doubled.
        b_hh: (3H,) their bias.
        recalled: (W, B, H) product of the state with the new gate's weights, and bias, written.
        states: (W, B, H), written.
    """
    batch, size = states.shape[1:]
    products = np.zeros((batch, 3 * size), np.float32)
    start = np.zeros(size, np.float32)
    for step in range(len(gates)):
        if step:
            np.dot(states[step - 1], w_state, products)
        for b in range(batch):
            old = states[step - 1, b] if step else start
            _gru_row(gates[step, b], products[b], b_hh, old, recalled[step, b], states[step, b])


@_kernel("2d places i8 2d 1d 3d")
def gru_states(
    inputs: Floats, starts: Places, stride: int, w_state: Floats, b_hh: Floats, states: Floats
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
    batch, size = states.shape[1:]
    products = np.zeros((batch, 3 * size), np.float32)
    start = np.zeros(size, np.float32)
    gate, recalled = np.empty(3 * size, np.float32), np.empty(size, np.float32)
    for step in range(len(states)):
        if step:
            np.dot(states[step - 1], w_state, products)
        for b in range(batch):
            gate[:] = inputs[starts[b] + step * stride]
            old = states[step - 1, b] if step else start
            _gru_row(gate, products[b], b_hh, old, recalled, states[step, b])


@_kernel("3d 2d 3d 3d 3d 3d 3d")
def gru_back(
    gates: Floats,
    w_hh: Floats,
    recalled: Floats,
    states: Floats,
    grad_states: Floats,
    by_input: Floats,
    by_state: Floats,
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
    batch, size = states.shape[1:]
    by_later = np.zeros((batch, size), np.float32)
    passed_by = np.zeros((batch, size), np.float32)
    start = np.zeros(size, np.float32)
    grad_state, gate = np.empty(size, np.float32), np.empty(3 * size, np.float32)
    for step in range(len(gates) - 1, -1, -1):
        for b in range(batch):
            # A copy, as the gradients may take the gates' place.
            gate[:] = gates[step, b]
            recall = recalled[step, b]
            reset, update, new = gate[:size], gate[size : 2 * size], gate[2 * size :]
            grad, product = by_input[step, b], by_state[step, b]
            grad_reset, grad_update = grad[:size], grad[size : 2 * size]
            grad_new, product_new = grad[2 * size :], product[2 * size :]
            old = states[step - 1, b] if step else start
            above, later, past = grad_states[step, b], by_later[b], passed_by[b]
            for j in range(size):
                grad_state[j] = above[j] + later[j] + past[j]
            # The slope of every sigmoid, then what stands behind each gate.
            for j in range(3 * size):
                grad[j] = gate[j] * (_ONE - gate[j])
            for j in range(size):
                # The state moves with the update by old - tanh, where tanh = 2 new - 1.
                grad_update[j] *= grad_state[j] * (old[j] - _TWO * new[j] + _ONE)
            for j in range(size):
                grad_new[j] *= _FOUR * grad_state[j] * (_ONE - update[j])
            for j in range(size):
                grad_reset[j] *= grad_new[j] * recall[j]
            for j in range(2 * size):
                # Both sums of reset and update are added, so they share a gradient ...
                product[j] = grad[j]
            for j in range(size):
                # ... and the reset stands before the state's part of the new gate alone.
                product_new[j] = grad_new[j] * reset[j]
            for j in range(size):
                past[j] = grad_state[j] * update[j]
        if step:
            np.dot(by_state[step], w_hh, by_later)


@_kernel("2d places 2d")
def add_rows(source: Floats, places: Places, target: Floats) -> None:
    """Add the rows of source (N, G) to those of target (U, G) that `places` (N,) names."""
    # One row after the other: several windows may add to the same row.
    for n in range(len(source)):
        row, total = source[n], target[places[n]]
        for j in range(len(row)):
            total[j] += row[j]


class Steps(NamedTuple):
    """The kernels of one cell."""

    states: Kernel
    forward: Kernel
    back: Kernel
    add_rows: Kernel


STEPS = {
    "lstm": Steps(lstm_states, lstm_forward, lstm_back, add_rows),
    "gru": Steps(gru_states, gru_forward, gru_back, add_rows),
}
