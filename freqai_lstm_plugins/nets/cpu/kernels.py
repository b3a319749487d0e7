"""All steps of an LSTM or GRU layer as one compiled function. Needs numba.

torch runs a step as a product and ten operations on its gates, each of which reads and writes them
all, waits for all threads, and hands Python's lock over. Here a step is a product and one pass, on
one core and without the lock, so that parts of a batch run beside each other. The functions do what
those of the same names in `steps` do by torch, on contiguous float32 arrays, but for round-off.

numba compiles them once, in seconds, and keeps the outcome on disk where it may. Products go to
SciPy's BLAS.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

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


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # There is no folder to keep the outcome in.
        return numba.njit(**_OPTIONS)(function)


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


@_compiled
def lstm_forward(
    gates: Floats, w_state: Floats, cells: Floats, squashed: Floats, states: Floats
) -> None:
    """As `steps.lstm_forward`."""
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


@_compiled
def lstm_states(
    inputs: Floats, starts: Places, stride: int, w_state: Floats, states: Floats
) -> None:
    """As `steps.lstm_states`."""
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


@_compiled
def lstm_back(
    gates: Floats,
    w_hh: Floats,
    cells: Floats,
    squashed: Floats,
    grad_states: Floats,
    grads: Floats,
) -> None:
    """As `steps.lstm_back`."""
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
                grad_cell[j] = kept[j] + grad_state[j] * out[j] * (_ONE - short[j] * short[j])
            # The slope of every sigmoid, then what stands behind each gate.
            for j in range(4 * size):
                grad[j] = gate[j] * (_ONE - gate[j])
            for j in range(size):
                grad_in[j] *= grad_cell[j] * (_TWO * new[j] - _ONE)
            for j in range(size):
                grad_forget[j] *= grad_cell[j] * old[j]
            for j in range(size):
                grad_new[j] *= _FOUR * grad_cell[j] * into[j]
            for j in range(size):
                grad_out[j] *= grad_state[j] * short[j]
            for j in range(size):
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
        recalled[j] = by_new[j] + bias[j]
    reset, update, new = gate[:size], gate[size : 2 * size], gate[2 * size :]
    for j in range(size):
        new[j] = _sigmoid(new[j] + _TWO * reset[j] * recalled[j])
    for j in range(size):
        tanh = _TWO * new[j] - _ONE
        state[j] = tanh + update[j] * (old[j] - tanh)


@_compiled
def gru_forward(
    gates: Floats, w_state: Floats, b_hh: Floats, recalled: Floats, states: Floats
) -> None:
    """As `steps.gru_forward`."""
    batch, size = states.shape[1:]
    products = np.zeros((batch, 3 * size), np.float32)
    start = np.zeros(size, np.float32)
    for step in range(len(gates)):
        if step:
            np.dot(states[step - 1], w_state, products)
        for b in range(batch):
            old = states[step - 1, b] if step else start
            _gru_row(gates[step, b], products[b], b_hh, old, recalled[step, b], states[step, b])


@_compiled
def gru_states(
    inputs: Floats, starts: Places, stride: int, w_state: Floats, b_hh: Floats, states: Floats
) -> None:
    """As `steps.gru_states`."""
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


@_compiled
def gru_back(
    gates: Floats,
    w_hh: Floats,
    recalled: Floats,
    states: Floats,
    grad_states: Floats,
    by_input: Floats,
    by_state: Floats,
) -> None:
    """As `steps.gru_back`."""
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
                grad_update[j] *= grad_state[j] * (old[j] - _TWO * new[j] + _ONE)
            for j in range(size):
                grad_new[j] *= _FOUR * grad_state[j] * (_ONE - update[j])
            for j in range(size):
                grad_reset[j] *= grad_new[j] * recall[j]
            for j in range(2 * size):
                product[j] = grad[j]
            for j in range(size):
                product_new[j] = grad_new[j] * reset[j]
            for j in range(size):
                past[j] = grad_state[j] * update[j]
        if step:
            np.dot(by_state[step], w_hh, by_later)


@_compiled
def add_rows(source: Floats, places: Places, target: Floats) -> None:
    """As `steps.add_rows`."""
    for n in range(len(source)):
        row, total = source[n], target[places[n]]
        for j in range(len(row)):
            total[j] += row[j]
