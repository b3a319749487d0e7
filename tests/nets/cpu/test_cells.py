"""The package's own layers against torch's, by the same weights."""

from __future__ import annotations

import functools
import logging
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.data.windows import RowWindows, WindowSet, gather_windows
from freqai_lstm_plugins.nets import build_net, cpu, recurrent, shares_rows
from freqai_lstm_plugins.nets.cpu import cells, compiled, engine
from freqai_lstm_plugins.nets.cpu import layers as layers_module
from freqai_lstm_plugins.nets.cpu import threads as parallel
from freqai_lstm_plugins.nets.cpu.cells import cell_of
from freqai_lstm_plugins.nets.cpu.cells import weights_of as weights_by_layer
from freqai_lstm_plugins.nets.cpu.compiled import compiled_steps
from freqai_lstm_plugins.nets.cpu.layers import RecurrentLayers
from freqai_lstm_plugins.nets.cpu.memory import Memory, current_memory, keep_memory
from freqai_lstm_plugins.nets.cpu.threads import n_workers, one_blas_thread, team
from freqai_lstm_plugins.nets.recurrent import run_layers
from freqai_lstm_plugins.nets.seeds import dropout_mask
from freqai_lstm_plugins.training.batches import exact_batches
from freqai_lstm_plugins.training.devices import seeded, torch_threads
from freqai_lstm_plugins.training.prediction import predict_windows

TORCH_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
ATOL = 2e-5


def weights_of(layers):
    return [weight for layer in weights_by_layer(layers) for weight in layer]


def run_own(layers, x, masks=None):
    return RecurrentLayers.apply(cell_of(layers), x, masks, *weights_of(layers))


@pytest.fixture
def one_thread():
    """What the compiled steps ask for."""
    with torch_threads(1):
        assert cpu.knows_layers(nn.LSTM(1, 1, batch_first=True), learn=True), "it needs numba"
        yield


@pytest.mark.parametrize("name", TORCH_CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize(
    ("n_steps", "batch", "size"), [(1, 1, 1), (1, 5, 3), (9, 1, 4), (7, 6, 5), (5, 70, 17)]
)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_states_and_all_gradients_are_torchs(
    name, num_layers, n_steps, batch, size, workers, one_thread, monkeypatch
):
    """Catches a gate, a step, a layer, a part or a gradient that differs from the equations."""
    monkeypatch.setattr(layers_module, "SMALLEST_PART", 2)
    with seeded(0):
        layers = TORCH_CELLS[name](3, size, num_layers, batch_first=True)
        x = torch.randn(batch, n_steps, 3, requires_grad=True)
        # A gradient at every step, as dense supervision gives it.
        pull = torch.randn(n_steps, batch, size) / batch
    expected = layers(x)[0].transpose(0, 1)
    wanted = torch.autograd.grad((expected * pull).sum(), [x, *weights_of(layers)])
    with team(workers):
        found = run_own(layers, x)
        gradients = torch.autograd.grad((found * pull).sum(), [x, *weights_of(layers)])
    torch.testing.assert_close(found, expected, rtol=0, atol=ATOL)
    for mine, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_inputs_that_need_no_gradient_get_none_and_weights_the_same(name, one_thread):
    layers = TORCH_CELLS[name](3, 4, 2, batch_first=True)
    x = torch.randn(6, 5, 3)
    run_own(layers, x).mean().backward()
    found = [weight.grad.clone() for weight in weights_of(layers)]
    layers.zero_grad()
    layers(x)[0].mean().backward()
    assert x.grad is None
    for mine, weight in zip(found, weights_of(layers), strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", TORCH_CELLS)
@pytest.mark.parametrize("workers", [1, 3])
def test_windows_that_share_rows_give_the_same_states_and_gradients(
    name, workers, one_thread, monkeypatch
):
    """Over windows that overlap, touch, lie apart, and appear twice."""
    monkeypatch.setattr(layers_module, "SMALLEST_PART", 2)
    window = 4
    rows = torch.randn(60, 3)
    ends = torch.tensor([3, 4, 6, 10, 14, 14, 20, 40, 41, 42, 43, 59])
    layers = TORCH_CELLS[name](3, 5, 2, batch_first=True)
    masks = torch.randint(0, 2, (1, window, len(ends), 5)).float()
    pull = torch.randn(window, len(ends), 5) / len(ends)
    results = []
    for x in (gather_windows(rows, ends, window), RowWindows(rows, ends, window)):
        with team(workers):
            states = run_own(layers, x, masks)
            results.append(
                [states, *torch.autograd.grad((states * pull).sum(), weights_of(layers))]
            )
    for apart, shared in zip(*results, strict=True):
        torch.testing.assert_close(shared, apart, rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_dropout_between_layers_multiplies_states_and_gradients(name, one_thread):
    """Against autograd through torch's layers one by one."""
    layers = TORCH_CELLS[name](3, 4, 3, batch_first=True)
    x = torch.randn(6, 5, 3, requires_grad=True)
    masks = torch.randint(0, 2, (2, 5, 6, 4)) * 1.5
    states = x
    for layer, own in enumerate(weights_by_layer(layers)):
        single = TORCH_CELLS[name](own[0].shape[1], 4, batch_first=True)
        for at, weight in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), own, strict=True):
            delattr(single, f"{at}_l0")
            setattr(single, f"{at}_l0", weight)
        single._init_flat_weights()
        states = single(states)[0]
        if layer < 2:
            states = states * masks[layer].transpose(0, 1)
    expected = torch.autograd.grad(states.square().mean(), [x, *weights_of(layers)])
    found = run_own(layers, x, masks)
    torch.testing.assert_close(found.transpose(0, 1), states, rtol=0, atol=ATOL)
    gradients = torch.autograd.grad(found.square().mean(), [x, *weights_of(layers)])
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=ATOL)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", TORCH_CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_net_gives_the_same_for_a_window_alone_in_a_crowd_and_over_shared_rows(
    name, num_layers, threads
):
    """Catches the ways to compute a window drifting apart."""
    window = 6
    with seeded(1):
        config = NetConfig(hidden_size=8, num_layers=num_layers)
        net = build_net(name, 7, 2, config).eval()
        rows = torch.randn(400, 7)
    ends = torch.arange(window - 1, 400)[torch.arange(395) % 7 != 3]
    x = gather_windows(rows, ends, window)
    with torch_threads(threads):
        with torch.inference_mode():
            crowd = net(x)
            alone = torch.cat([net(x[i : i + 1]) for i in range(len(x))])
        with torch.enable_grad():
            learning = net(x).detach()
        shared = predict_windows(net, rows, ends, window)
    torch.testing.assert_close(crowd, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(learning, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(shared, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_large_values_saturate_as_in_torch(name, one_thread):
    layers = TORCH_CELLS[name](2, 3, batch_first=True)
    x = torch.full((2, 4, 2), 1e4)
    x[:, 1] = -1e30
    found = run_own(layers, x)
    torch.testing.assert_close(found.transpose(0, 1), layers(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TORCH_CELLS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_does_not_vanish_in_compiled_steps(name, bad):
    """A training that diverges must show. Infinity saturates, and NaN stays, as in torch."""
    layers = TORCH_CELLS[name](2, 20, batch_first=True)
    x = torch.randn(3, 4, 2)
    x[1, 2, 0] = bad
    with torch_threads(1):
        found = run_own(layers, x).transpose(0, 1)
    expected = layers(x)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, equal_nan=True)
    assert bool(found[[0, 2]].isfinite().all())
    if np.isnan(bad):
        assert bool(found[1, 2:].isnan().all())


def test_the_compiled_tanh_is_as_exact_as_floats_allow():
    steps = compiled_steps("lstm", learn=True)
    x = torch.linspace(-12, 12, 4096).repeat(4)[None]
    # One step of one cell: with gates for in and forget shut open, the cell is tanh.
    gates = torch.full((1, 1, 4 * x.shape[1]), 100.0)
    gates[0, 0, 2 * x.shape[1] : 3 * x.shape[1]] = 2 * x[0]
    cell, squashed, state = (torch.empty(1, 1, x.shape[1]) for _ in range(3))
    no_weights = torch.empty(x.shape[1], 4 * x.shape[1]).numpy()
    arrays = (gates.numpy(), no_weights, cell.numpy(), squashed.numpy(), state.numpy())
    steps.forward(*arrays)
    exact = torch.tanh(x.double())
    # Four steps between neighbouring floats below 1.
    assert float((cell[0].double() - exact).abs().max()) < 5e-7
    assert float((squashed[0].double() - torch.tanh(cell[0].double())).abs().max()) < 5e-7


# Without dropout the states of one layer are the inputs of the next, in the same memory.
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_memory_that_is_used_again_changes_no_number(name, dropout):
    """Catches a step that reads what a later one has overwritten, over batches of two sizes."""
    histories = []
    x = np.random.default_rng(0).standard_normal((330, 4)).astype(np.float32)
    for context in (nullcontext, keep_memory):
        with seeded(5), team(2), context():
            net = build_net(name, 4, 1, NetConfig(hidden_size=8, num_layers=2, dropout=dropout))
            optimizer = torch.optim.AdamW(net.parameters())
            for epoch in range(3):
                for first in range(0, 300, 128):
                    ends = torch.arange(first + 5, min(first + 133, 320))
                    optimizer.zero_grad()
                    rows = torch.from_numpy(x)
                    windows = gather_windows(rows, ends, 5 + epoch % 2)
                    if first:
                        found = net.forward_rows(rows, ends, windows.shape[1])
                    else:
                        found = net(windows)
                    (found - windows[:, -1, :1]).square().mean().backward()
                    optimizer.step()
        histories.append([weight.detach().clone() for weight in net.parameters()])
    for fresh, again in zip(*histories, strict=True):
        torch.testing.assert_close(again, fresh, rtol=0, atol=0)


def test_gradients_are_computed_twice_or_refused(one_thread):
    """Kept memory holds gradients where the gates were; the allocator's still holds the gates."""
    layers = nn.LSTM(2, 3, batch_first=True)
    x = torch.randn(4, 5, 2)
    loss = run_own(layers, x).sum()
    first, second = (
        torch.autograd.grad(loss, weights_of(layers), retain_graph=True) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    with keep_memory():
        loss = run_own(layers, x).sum()
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match=r"once inside keep_memory|modified by an inplace"):
            loss.backward()


def test_a_subclass_with_a_forward_of_its_own_is_not_passed_by():
    """Training, a whole slice and one row all go through it."""

    class Shifted(recurrent.RecurrentNet):
        cell = nn.LSTM

        def forward(self, x):
            return super().forward(x + 5)

    with seeded(0):
        net = Shifted(80, 1, hidden_size=4, num_layers=1, dropout=0.0).eval()
        rows = torch.randn(300, 80)
    ends = torch.arange(9, 300)
    with torch.no_grad():
        expected = net(gather_windows(rows, ends, 10))
    torch.testing.assert_close(predict_windows(net, rows, ends, 10), expected, rtol=0, atol=1e-6)
    assert shares_rows(build_net("lstm", 80, 1, NetConfig()))
    assert not shares_rows(net)
    targets = torch.zeros(len(ends), 1)
    windows = WindowSet(rows, ends, targets, torch.ones(len(ends)), 10)
    with torch_threads(1):
        batches = list(exact_batches(net, windows, 256, torch.Generator()))
        built_in = list(
            exact_batches(build_net("lstm", 80, 1, NetConfig()), windows, 256, torch.Generator())
        )
    assert [type(batch.x) for batch in batches] == [torch.Tensor, torch.Tensor]
    # Else the first assertion says nothing.
    assert isinstance(built_in[0].x, RowWindows)


@pytest.mark.parametrize("worth", [0, 10**9])
@pytest.mark.parametrize("name", TORCH_CELLS)
def test_a_training_by_compiled_steps_learns_what_one_by_torch_does(name, worth, monkeypatch):
    """The same seed gives the same weights but for round-off, whether windows share rows or not."""
    monkeypatch.setattr("freqai_lstm_plugins.training.batches.FEATURES_WORTH_SHARING", worth)
    seen = []
    inputs = layers_module._inputs

    def note(x, *rest):
        if isinstance(x, RowWindows):
            seen.append(1)
        return inputs(x, *rest)

    monkeypatch.setattr(layers_module, "_inputs", note)
    generator = np.random.default_rng(3)
    x = generator.standard_normal((400, 3)).astype(np.float32)
    y = x[:, 0] + 0.5 * np.roll(x[:, 1], 2)
    settings = {"window": 5, "hidden_size": 8, "batch_size": 64, "max_epochs": 4, "seed": 1}
    by_steps = SequenceRegressor(name, num_threads=2, **settings).fit(x, y)
    assert bool(seen) == (worth == 0)
    monkeypatch.setattr(compiled, "_has_failed", True)
    by_torch = SequenceRegressor(name, num_threads=2, **settings).fit(x, y)
    np.testing.assert_allclose(by_steps.predict(x)[5:], by_torch.predict(x)[5:], atol=2e-4)


def test_a_training_forms_a_team_and_leaves_it(monkeypatch):
    seen = []

    def note(self, x):
        seen.append((n_workers(), torch.get_num_threads()))
        return forward(self, x)

    forward = recurrent.RecurrentNet.forward
    monkeypatch.setattr(recurrent.RecurrentNet, "forward", note)
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    before = torch.get_num_threads()
    SequenceRegressor("lstm", window=4, hidden_size=4, num_threads=2, max_epochs=1).fit(x, x[:, 0])
    assert (2, 1) in seen
    assert (n_workers(), torch.get_num_threads()) == (1, before)
    assert type(current_memory()) is Memory


def test_without_numba_layers_run_by_torch(monkeypatch):
    def no_numba(name, *rest):
        if name == "numba":
            raise ImportError("no numba here")
        return real(name, *rest)

    real = __import__
    monkeypatch.setattr(compiled, "_kernels", functools.cache(compiled._kernels.__wrapped__))
    monkeypatch.setattr(compiled, "_made_ready", compiled._made_ready.__wrapped__)
    monkeypatch.setattr("builtins.__import__", no_numba)
    with torch_threads(1):
        layers = nn.LSTM(2, 3, batch_first=True)
        assert not cpu.knows_layers(layers)
        x = torch.randn(70, 4, 2)
        torch.testing.assert_close(
            run_layers(layers, x).transpose(0, 1), layers(x)[0], rtol=0, atol=1e-6
        )


def test_numba_keeps_its_debug_messages_to_itself(caplog):
    with caplog.at_level(logging.DEBUG):
        compiled_steps("lstm")
        assert not logging.getLogger("numba.core.byteflow").isEnabledFor(logging.DEBUG)


def test_the_bound_of_blas_is_lifted_by_the_last_who_leaves(monkeypatch):
    class Library:
        num_threads = 7

        def set_num_threads(self, count):
            self.num_threads = count

    library = Library()
    monkeypatch.setattr(parallel, "_blas", lambda: [library])
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with one_blas_thread():
            inside.set()
            leave.wait(300)

    thread = threading.Thread(target=stay)
    with one_blas_thread():
        thread.start()
        assert inside.wait(120)
        assert library.num_threads == 1
    assert library.num_threads == 1
    leave.set()
    thread.join(120)
    assert library.num_threads == 7


def test_the_library_that_numba_uses_is_among_those_bound():
    with one_blas_thread():
        found = {library.filepath for library in parallel._blas()}
        assert any("scipy" in path for path in found)
        assert {library.num_threads for library in parallel._blas()} == {1}


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_dropout_between_layers_is_drawn_in_training_alone(name):
    net = build_net(name, 3, 1, NetConfig(hidden_size=8, num_layers=2, dropout=0.5))
    x = torch.randn(64, 4, 3)
    net.train()
    net.head.eval()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_dropout_drops_its_fraction_and_keeps_the_mean(fraction):
    shape = (9, 1001, 7)
    with seeded(3):
        mask = dropout_mask(shape, fraction)
    assert mask.shape == shape
    # Five deviations of a share of 63,063 draws.
    assert abs(float((mask == 0).double().mean()) - fraction) < 0.01
    assert abs(float(mask.double().mean()) - 1) < 0.02
    assert len(mask.unique()) == 2
    with seeded(3):
        torch.testing.assert_close(dropout_mask(shape, fraction), mask, rtol=0, atol=0)


def ways_taken(monkeypatch, name, count, step, threads):
    """Tell what runs the two layers of a net that predicts the windows of every `step`th row."""
    net = build_net(name, 3, 1, NetConfig(hidden_size=4, num_layers=2)).eval()
    kind, taken = TORCH_CELLS[name], []

    def noted(way, function):
        def call(*arguments):
            taken.append(way)
            return function(*arguments)

        return call

    cell = cell_of(net.recurrent)
    operations = noted("operations", cell.states_by_torch)
    with monkeypatch.context() as patch:
        patch.setattr(cells, "_call", noted("compiled", cells._call))
        patch.setattr(cell, "states_by_torch", staticmethod(operations))
        patch.setattr(kind, "forward", noted("torch", kind.forward))
        patch.setattr(engine, "torch_layer", noted("torch, one layer", engine.torch_layer))
        with torch_threads(threads):
            ends = torch.arange(3, 3 + step * count, step)
            predict_windows(net, torch.randn(int(ends[-1]) + 1, 3), ends, 4)
    return taken


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_predictions_take_the_ways_that_saved_models_have_always_taken(name, monkeypatch):
    """Another way gives other last bits. No way gives the same bits on every kind of processor, so
    what a test can hold are the ways."""
    for count, step, threads, expected in [
        (1, 3, 1, ["torch"]),
        (63, 3, 1, ["torch"]),
        (64, 3, 1, ["compiled"] * 2),
        (64, 1, 1, ["compiled"] * 2),
        (10, 1, 1, ["compiled"] * 2),
        (1, 3, 2, ["torch"]),
        (63, 3, 2, ["torch"]),
        (64, 3, 2, ["operations"] * 2),
        (10, 1, 2, ["operations", "torch, one layer"]),
    ]:
        taken = ways_taken(monkeypatch, name, count, step, threads)
        assert taken == expected, (count, step, threads)


@pytest.mark.parametrize("name", TORCH_CELLS)
def test_training_takes_compiled_steps_from_where_they_were_measured_to_be_faster(name):
    layers = TORCH_CELLS[name](3, 4, batch_first=True)
    with torch_threads(1):
        assert cpu.serves_windows(layers, 1) == (name == "gru")
        assert cpu.serves_windows(layers, 10)
        assert cpu.serves_rows(layers)
    with torch_threads(2):
        assert not cpu.serves_windows(layers, 500)
        assert not cpu.serves_rows(layers)
