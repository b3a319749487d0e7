"""The arithmetic limit: the matrix products that a recurrent net cannot do without, and no more."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from freqai_lstm_plugins.nets import RecurrentNet

Product = Callable[[], Tensor]


def products(net: RecurrentNet, batch: int, window: int, *, backward: bool) -> list[Product]:
    """Return the matrix products of one batch, each with its operands and its result in place.

    Forward: a layer's inputs are projected for all W steps at once, its states step by step.
    Backward: the gradient of the states step by step, that of both weight matrices and of the
    inputs for all steps at once; the first layer's inputs need none. The head counts too. There is
    no gate, no copy, no optimizer and no autograd.
    """
    found: list[Product] = []
    for layer in range(net.recurrent.num_layers):
        gates, inputs = getattr(net.recurrent, f"weight_ih_l{layer}").shape
        hidden = net.recurrent.hidden_size
        found.append(_product(batch * window, inputs, gates))
        # The first state is zero, so the first step has no product.
        found += [_product(batch, hidden, gates)] * (window - 1)
        if backward:
            found += [_product(batch, gates, hidden)] * (window - 1)
            found.append(_product(gates, batch * window, inputs, transposed=True))
            found.append(_product(gates, batch * (window - 1), hidden, transposed=True))
            if layer:
                found.append(_product(batch * window, gates, inputs))
    for linear in (part for part in net.head if isinstance(part, torch.nn.Linear)):
        outputs, inputs = linear.weight.shape
        found.append(_product(batch, inputs, outputs))
        if backward:
            found.append(_product(batch, outputs, inputs))
            found.append(_product(outputs, batch, inputs, transposed=True))
    return found


def _product(rows: int, inner: int, columns: int, *, transposed: bool = False) -> Product:
    # A gradient of weights is a product of a transposed matrix, as autograd asks for it.
    left = torch.randn(inner, rows).t() if transposed else torch.randn(rows, inner)
    right, result = torch.randn(inner, columns), torch.empty(rows, columns)
    return lambda: torch.mm(left, right, out=result)


def side(
    net: RecurrentNet, n_windows: int, batch: int, window: int, *, backward: bool
) -> Callable[[], None]:
    """Return a call that does the products of `n_windows` windows, `batch` at a time."""
    whole, rest = divmod(n_windows, batch)
    found = products(net, batch, window, backward=backward) * whole
    found += products(net, rest, window, backward=backward) if rest else []

    @torch.inference_mode()
    def run() -> None:
        for product in found:
            product()

    return run
