"""The package's own layers against torch's, by the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.nets import build_net
from freqai_lstm_plugins.nets.cells import GRULayer, LSTMLayer
from freqai_lstm_plugins.nets.recurrent import SMALLEST_OWN_BATCH, _dropout
from freqai_lstm_plugins.training import predict_windows, seeded
from freqai_lstm_plugins.windows import gather_windows

CELLS = {"lstm": (nn.LSTM, LSTMLayer), "gru": (nn.GRU, GRULayer)}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("steps", "batch", "size"), [(1, 1, 1), (1, 5, 3), (9, 1, 4), (7, 6, 5)])
def test_states_and_all_gradients_are_torchs(name, steps, batch, size):
    """Catches a gate, a step or a gradient that differs from the equations."""
    torch_cell, layer = CELLS[name]
    with seeded(0):
        reference = torch_cell(3, size).double()
        x = torch.randn(steps, batch, 3, dtype=torch.double, requires_grad=True)
        # A gradient at every step, as dense supervision gives it.
        pull = torch.randn(steps, batch, size, dtype=torch.double)
    weights = [getattr(reference, weight) for weight in NAMES]
    expected = reference(x)[0]
    found = layer.apply(x, *weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad((expected * pull).sum(), [x, *weights])
    for mine, theirs in zip(
        torch.autograd.grad((found * pull).sum(), [x, *weights]), wanted, strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_inputs_that_need_no_gradient_get_none_and_weights_the_same(name):
    torch_cell, layer = CELLS[name]
    reference = torch_cell(3, 4).double()
    weights = [getattr(reference, weight) for weight in NAMES]
    x = torch.randn(5, 6, 3, dtype=torch.double)
    layer.apply(x, *weights).sum().backward()
    found = [weight.grad.clone() for weight in weights]
    reference.zero_grad()
    reference(x)[0].sum().backward()
    assert x.grad is None
    for mine, weight in zip(found, weights, strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_net_gives_the_same_for_a_window_alone_in_a_crowd_and_over_shared_rows(name, num_layers):
    """Catches the three ways to compute a window drifting apart."""
    window = 6
    with seeded(1):
        config = NetConfig(hidden_size=8, num_layers=num_layers)
        net = build_net(name, 5, 2, config).eval()
        rows = torch.randn(400, 5)
    ends = torch.arange(window - 1, 400)[torch.arange(395) % 7 != 3]
    x = gather_windows(rows, ends, window)
    assert len(x) >= SMALLEST_OWN_BATCH
    with torch.inference_mode():
        crowd = net(x)
        alone = torch.cat([net(x[i : i + 1]) for i in range(len(x))])
    shared = predict_windows(net, rows, ends, window)
    torch.testing.assert_close(crowd, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(shared, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", CELLS)
def test_large_values_saturate_as_in_torch(name):
    torch_cell, layer = CELLS[name]
    reference = torch_cell(2, 3)
    x = torch.full((4, 2, 2), 1e4)
    x[1] = -1e30
    found = layer.apply(x, *(getattr(reference, weight) for weight in NAMES))
    torch.testing.assert_close(found, reference(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_dropout_between_layers_is_drawn_in_training_alone(name):
    net = build_net(name, 3, 1, NetConfig(hidden_size=8, num_layers=2, dropout=0.5))
    x = torch.randn(SMALLEST_OWN_BATCH, 4, 3)
    net.train()
    net.head.eval()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5])
def test_dropout_drops_its_fraction_and_keeps_the_mean(fraction):
    x = torch.ones(9, 1001, 7)
    with seeded(3):
        dropped = _dropout(x, fraction)
    # Five deviations of a share of 63,063 draws.
    assert abs(float((dropped == 0).double().mean()) - fraction) < 0.01
    assert abs(float(dropped.double().mean()) - 1) < 0.02
    assert len(dropped.unique()) <= 2
    with seeded(3):
        torch.testing.assert_close(_dropout(x, fraction), dropped, rtol=0, atol=0)
