from __future__ import annotations

import copy
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import NetConfig, TrainConfig
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import ConfigError, DataError, TrainingError
from freqai_lstm_plugins.nets import build_net
from freqai_lstm_plugins.training.devices import choose_device, free_threads, seeded, torch_threads
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.loop import count_epochs, fit, mean_loss
from freqai_lstm_plugins.training.objectives import Numbers
from freqai_lstm_plugins.training.prediction import predict_windows
from freqai_lstm_plugins.training.ranks import rank_correlation

W, F = 4, 3


def window_set(n, seed=0, weights=None, targets=None):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n + W - 1, F, generator=generator)
    ends = torch.arange(W - 1, n + W - 1)
    if targets is None:
        targets = rows[ends - 1, :1] - 0.5 * rows[ends, 1:2]
    weights = torch.ones(n) if weights is None else weights
    return WindowSet(rows, ends, targets, weights, W)


def small_net(seed=0, **settings):
    with seeded(seed):
        return build_net("gru", F, 1, NetConfig(hidden_size=8, num_layers=1, dropout=0, **settings))


def loss_of(net, windows):
    """Return the mean loss of a trained net."""
    outputs = predict_windows(net, windows.rows, windows.ends, W)
    return mean_loss(Numbers(1), outputs, windows)


def train(train_set, valid_set=None, net=None, **settings):
    net = net or small_net()
    config = TrainConfig(**{"max_epochs": 20, "learning_rate": 0.02, "batch_size": 32, **settings})
    with seeded(config.seed):
        return net, fit(net, train_set, valid_set, config)


def test_training_learns():
    _, trained = train(window_set(256), window_set(64, seed=1), max_epochs=40)
    assert trained.history.best_loss < 0.1


def test_the_best_weights_are_restored():
    # So few and noisy windows that the validation loss goes up again.
    noise = torch.randn(16, 1, generator=torch.Generator().manual_seed(9))
    train_set, valid_set = window_set(16, targets=noise), window_set(64, seed=1)
    net, trained = train(train_set, valid_set, max_epochs=60, patience=0)
    losses = [epoch.valid_loss for epoch in trained.history.epochs]
    assert trained.history.best_epoch == int(np.argmin(losses)) + 1 < len(losses)
    assert loss_of(net, valid_set) == pytest.approx(min(losses), rel=1e-6)


def test_the_best_epoch_may_be_that_of_the_highest_rank_correlation():
    noise = torch.randn(16, 1, generator=torch.Generator().manual_seed(9))
    train_set, valid_set = window_set(16, targets=noise), window_set(64, seed=1)
    net, told = small_net(), []

    def look(epoch):
        outputs = predict_windows(net, valid_set.rows, valid_set.ends, W)
        told.append(rank_correlation(Numbers(1), outputs, valid_set.targets))

    config = TrainConfig(max_epochs=60, patience=0, monitor="rank_correlation", batch_size=32)
    history = fit(net, train_set, valid_set, config, on_epoch=look).history
    losses = [epoch.valid_loss for epoch in history.epochs]
    assert history.best_epoch == int(np.argmax(told)) + 1 != int(np.argmin(losses)) + 1
    look(None)
    assert told[-1] == max(told)


@pytest.mark.parametrize("name", ["gru", "tft"])
def test_auto_supervision_is_dense_for_nets_that_can_serve_it(name):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    settings = {"max_epochs": 2, "batch_size": 8, "hidden_size": 4}
    known = {"gru": "dense", "tft": "exact"}[name]
    models = [
        SequenceRegressor(name, 4, **settings, supervision=supervision).fit(rows, rows[:, 0])
        for supervision in ("auto", known)
    ]
    auto, named = (nn.utils.parameters_to_vector(model.net_.parameters()) for model in models)
    assert torch.equal(auto, named)


def test_training_stops_after_patience_epochs_without_progress():
    noise = torch.randn(16, 1, generator=torch.Generator().manual_seed(9))
    _, trained = train(
        window_set(16, targets=noise), window_set(64, seed=1), max_epochs=300, patience=4
    )
    history = trained.history
    assert len(history.epochs) == history.best_epoch + 4 < 300


def test_without_validation_all_epochs_are_trained_and_the_last_weights_kept():
    _, trained = train(window_set(40), None, patience=1)
    assert (len(trained.history.epochs), trained.history.best_epoch) == (20, 20)
    assert trained.history.n_valid_windows == 0


def test_fewer_windows_than_a_batch_are_trained_all_the_same():
    net, before = small_net(), small_net()
    train(window_set(3), None, net=net, batch_size=256, max_epochs=1)
    assert not torch.equal(next(net.parameters()), next(before.parameters()))


def test_the_last_partial_batch_is_trained_on():
    seen = []
    net = small_net()
    net.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train(window_set(70), None, net=net, max_epochs=1)
    # The first is the look at the output's shape.
    assert seen == [1, 32, 32, 6]


@pytest.mark.parametrize("supervision", ["exact", "dense"])
@pytest.mark.parametrize("n_steps", [1, 5, 23])
def test_training_stops_after_exactly_n_steps_in_the_middle_of_an_epoch_too(supervision, n_steps):
    windows = window_set(90)
    config = {"max_epochs": None, "n_steps": n_steps, "batch_size": 8, "supervision": supervision}
    _, trained = train(windows, window_set(20, seed=1), patience=0, lr_schedule="cosine", **config)
    steps = {float(entry["step"]) for entry in trained.optimizer_state["state"].values()}
    assert steps == {float(n_steps)}
    # 12 batches of 8 windows, or some 12 of 2 sequences of 4 targets.
    assert len(trained.history.epochs) == (1 if n_steps < 12 else 2)


def test_the_loss_of_an_epoch_cut_short_is_that_of_the_windows_it_saw():
    windows = window_set(64, targets=torch.full((64, 1), 3.0))
    options = {"learning_rate": 1e-9, "batch_size": 8}
    _, whole = train(windows, max_epochs=1, **options)
    _, cut = train(windows, max_epochs=None, n_steps=2, **options)
    assert cut.history.best_loss == pytest.approx(whole.history.best_loss, rel=0.2)


def test_epochs_at_most_are_those_that_the_steps_begin():
    config = TrainConfig(max_epochs=None, n_steps=100, batch_size=32)
    assert count_epochs(config, window_set(64)) == 50
    assert count_epochs(config, window_set(65)) == 34
    assert count_epochs(config, window_set(3201)) == 1
    assert count_epochs(TrainConfig(max_epochs=7), window_set(3)) == 7
    # 64 windows in a row are 17 sequences, begun in the middle of a tile, of 8 sequences a batch.
    dense = TrainConfig(max_epochs=None, n_steps=100, batch_size=32, supervision="dense")
    assert count_epochs(dense, window_set(64)) == 34


def test_a_callback_that_answers_true_ends_the_training_with_the_best_weights():
    noise = torch.randn(16, 1, generator=torch.Generator().manual_seed(9))
    valid, net = window_set(64, seed=1), small_net()
    trained = fit(
        net,
        window_set(16, targets=noise),
        valid,
        TrainConfig(max_epochs=60, patience=0, learning_rate=0.02),
        on_epoch=lambda epoch: epoch.number == 30,
    )
    losses = [epoch.valid_loss for epoch in trained.history.epochs]
    assert len(losses) == 30
    assert trained.history.best_epoch == int(np.argmin(losses)) + 1 < 30
    assert loss_of(net, valid) == pytest.approx(min(losses), rel=1e-6)


def test_a_callback_that_raises_ends_the_training_and_the_model_stays_as_it_was():
    def fail(epoch):
        raise KeyError(epoch.number)

    before = torch.get_num_threads()
    model = SequenceRegressor("lstm", W, hidden_size=4, max_epochs=3, num_threads=2)
    data = Prepared(window_set(40), None, Schema(list("abc"), ["y"]))
    with pytest.raises(KeyError):
        model.fit_windows(data, on_epoch=fail)
    assert not model.is_fitted
    assert torch.get_num_threads() == before


def test_a_weight_of_zero_takes_a_window_out_of_the_loss():
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0])
    targets = torch.tensor([[0.0], [1e6], [1.0], [2.0]])
    windows = window_set(4, weights=weights, targets=targets)
    net = small_net().eval()
    errors = (predict_windows(net, windows.rows, windows.ends, W) - targets).square().flatten()
    expected = (errors * weights).sum() / weights.sum()
    assert loss_of(net, windows) == pytest.approx(float(expected), rel=1e-5)


def test_weights_change_the_training_and_their_scale_does_not():
    rising = torch.linspace(0.01, 1, 128)
    weights = {"even": None, "rising": rising, "tenfold": rising * 10}
    first = {}
    for name, weight in weights.items():
        net, _ = train(window_set(128, weights=weight), None, max_epochs=2)
        first[name] = next(net.parameters()).detach()
    assert not torch.allclose(first["even"], first["rising"], atol=1e-4)
    torch.testing.assert_close(first["rising"], first["tenfold"])


def test_a_window_of_twice_the_weight_counts_as_two():
    pair = window_set(2)
    doubled = WindowSet(pair.rows, pair.ends, pair.targets, torch.tensor([1.0, 2.0]), W)
    order = torch.tensor([0, 1, 1])
    repeated = WindowSet(pair.rows, pair.ends[order], pair.targets[order], torch.ones(3), W)
    nets = [train(windows, None, max_epochs=3)[0] for windows in (doubled, repeated, pair)]
    first, second, plain = (torch.nn.utils.parameters_to_vector(net.parameters()) for net in nets)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, plain, atol=1e-4)


def test_the_losses_that_are_reported_are_weighted():
    targets = torch.tensor([[0.0], [3.0]])
    weights = torch.tensor([3.0, 1.0])
    windows = window_set(2, weights=weights, targets=targets)
    net = small_net().eval()
    errors = (predict_windows(net, windows.rows, windows.ends, W) - targets).square().flatten()
    expected = float((errors * weights).sum() / weights.sum())
    _, trained = train(windows, windows, net=net, max_epochs=1, learning_rate=1e-9)
    epoch = trained.history.epochs[0]
    assert epoch.train_loss == pytest.approx(expected, rel=1e-4)
    assert epoch.valid_loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "none"])
def test_every_schedule_trains_and_shows_in_the_history(schedule):
    noise = torch.randn(16, 1, generator=torch.Generator().manual_seed(9))
    _, trained = train(
        window_set(16, targets=noise),
        window_set(64, seed=1),
        lr_schedule=schedule,
        max_epochs=40,
        patience=30,
    )
    rates = [epoch.learning_rate for epoch in trained.history.epochs]
    assert rates[0] == 0.02
    assert (rates[-1] < 0.02) == (schedule != "none")


def test_a_loss_that_is_not_finite_stops_with_epoch_and_remedy():
    match = r"stopped in epoch 1: training loss .*Try a lower learning_rate \(now 1e\+30\) and a"
    with pytest.raises(TrainingError, match=match):
        train(window_set(64), None, learning_rate=1e30, gradient_clip=0.0)


class BreaksInStep(nn.Module):
    """Gives NaN from one training step on."""

    def __init__(self, step):
        super().__init__()
        self.out = nn.Linear(F, 1)
        self.steps_left = step

    def forward(self, x):
        self.steps_left -= self.training
        return self.out(x[:, -1]) * (1.0 if self.steps_left > 0 else float("nan"))


def test_the_epoch_in_which_the_loss_breaks_is_named():
    # Two batches an epoch, so the fifth step is in the third epoch.
    with pytest.raises(TrainingError, match="stopped in epoch 3: training loss nan"):
        train(window_set(40), None, net=BreaksInStep(5))
    with pytest.raises(TrainingError, match=r"stopped in epoch 2: .* validation loss nan"):
        train(window_set(40), window_set(8, seed=1), net=BreaksInStep(3))


def test_weights_that_break_in_the_very_last_step_are_no_model():
    net = small_net()
    next(net.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="stopped in epoch 1"):
        train(window_set(8), None, net=net, max_epochs=1, gradient_clip=0.0)


def test_no_window_at_all_says_so():
    with pytest.raises(DataError, match=r"No training window: 3 rows hold no 4 consecutive"):
        train(window_set(0))


@pytest.mark.parametrize("width", [2, 3])
def test_a_net_with_another_number_of_outputs_than_targets_is_refused(width):
    net = nn.Sequential(nn.Flatten(), nn.Linear(W * F, width))
    with pytest.raises(DataError, match=rf"to \(1, {width}\), but the targets need \(1, 1\)"):
        train(window_set(8), net=net)


def test_predicting_nothing_gives_nothing():
    net = small_net().eval()
    assert predict_windows(net, torch.zeros(9, F), torch.zeros(0, dtype=torch.long), W).shape == (
        0,
        1,
    )


def test_an_unknown_device_is_refused_with_its_name():
    with pytest.raises(ConfigError, match="device 'tpu9' cannot be used here"):
        choose_device("tpu9")


def test_threads_are_bounded_inside_and_restored_after():
    before = torch.get_num_threads()
    with torch_threads(3):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == before


WEIGHTS = """
import numpy as np, hashlib
from freqai_lstm_plugins import SequenceRegressor
rng = np.random.default_rng(0)
rows = rng.normal(size=(200, 3))
model = SequenceRegressor(window=4, hidden_size=8, max_epochs=3).fit(rows, rows[:, 0])
digest = hashlib.sha256()
for tensor in model.net_.state_dict().values():
    digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_train_the_same_weights_bit_by_bit():
    command = [sys.executable, "-c", WEIGHTS]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second != ""


def test_training_leaves_torchs_random_state_alone():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    before = torch.get_rng_state()
    SequenceRegressor(window=4, hidden_size=4, max_epochs=2).fit(rows, rows[:, 0])
    assert torch.equal(torch.get_rng_state(), before)


def test_training_leaves_the_random_states_of_numpy_and_python_alone():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    before = (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    SequenceRegressor(window=4, hidden_size=4, max_epochs=2).fit(rows, rows[:, 0])
    after = (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    assert after == before


def test_what_dropout_drops_comes_from_the_seed_of_the_fit():
    """Whatever was drawn before, and without anybody who seeds around it."""
    found = []
    for _ in range(2):
        torch.rand(1)
        with seeded(0):
            net = build_net("lstm", F, 1, NetConfig(hidden_size=4, num_layers=2, dropout=0.5))
        fit(net, window_set(40), None, TrainConfig(max_epochs=2))
        found.append(nn.utils.parameters_to_vector(net.parameters()).detach())
    assert torch.equal(*found)


def test_the_seed_alone_decides_the_weights():
    rows = np.random.default_rng(0).normal(size=(60, 2))

    def weights(seed):
        torch.rand(1)  # What was drawn before does not matter.
        model = SequenceRegressor(window=4, hidden_size=4, max_epochs=2, seed=seed)
        return next(model.fit(rows, rows[:, 0]).net_.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_threads_are_restored_after_a_training_that_fails():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    before = torch.get_num_threads()
    with pytest.raises(TrainingError):
        SequenceRegressor(
            lambda f, k: BreaksInStep(1), 4, num_threads=before + 1, max_epochs=2
        ).fit(np.c_[rows, rows[:, :1]], rows[:, 0])
    assert torch.get_num_threads() == before


def test_a_thread_beside_the_main_one_leaves_it_a_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    found = [free_threads()]
    thread = threading.Thread(target=lambda: found.append(free_threads()))
    thread.start()
    thread.join()
    assert found == [4, 3]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert free_threads() == 2


def test_going_on_takes_the_former_steps_and_the_new_settings():
    windows = window_set(40)
    net, former = train(windows, None, max_epochs=1)
    state = copy.deepcopy(former.optimizer_state)
    config = TrainConfig(max_epochs=1, learning_rate=0.5, weight_decay=0.25, lr_schedule="none")
    on = fit(net, windows, None, config, optimizer_state=state)
    group = on.optimizer_state["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    # Two batches of 32 before, one of 256 after.
    assert {float(entry["step"]) for entry in on.optimizer_state["state"].values()} == {3.0}
    # The former state is only read.
    assert state["param_groups"] == former.optimizer_state["param_groups"]
    assert {float(entry["step"]) for entry in state["state"].values()} == {2.0}


def test_a_net_is_left_in_evaluation_mode():
    net, _ = train(window_set(8), window_set(8, seed=1), max_epochs=1)
    assert not net.training


def test_a_history_comes_back_from_plain_data():
    history = History([Epoch(1, 0.5, None, 0.01, 0.1), Epoch(2, 0.4, None, 0.01, 0.1)], 2, 10, 0)
    assert History.from_dict(history.to_dict()) == history
    assert history.best_loss == 0.4
