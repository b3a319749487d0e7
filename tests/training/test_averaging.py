"""Averaged weights: what is averaged, and what a training keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceRegressor, load_model
from freqai_lstm_plugins.config import TrainConfig
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.training.averaging import WeightAverage
from freqai_lstm_plugins.training.loop import fit
from tests.training.test_loop import loss_of, small_net, window_set

OPTIONS = {"max_epochs": 12, "learning_rate": 0.02, "batch_size": 32}


def test_the_average_fades_and_has_a_short_memory_in_the_beginning():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = WeightAverage(net, decay=0.5)
    seen, expected = [1.0, 5.0, -3.0] + [2.0] * 20, 0.0
    for number, value in enumerate(seen, 1):
        nn.init.constant_(net.weight, value)
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * value
        with average.applied():
            assert net.weight.item() == pytest.approx(expected, abs=1e-6)
        assert net.weight.item() == value


def test_averaging_leaves_the_steps_alone_and_keeps_the_average_of_the_best_epoch():
    train_set, valid_set = window_set(256), window_set(64, seed=1)
    found = {}
    for decay in (0.0, 0.9):
        net = small_net()
        config = TrainConfig(**OPTIONS, ema_decay=decay, patience=0, lr_schedule="none")
        found[decay] = net, fit(net, train_set, valid_set, config).history
    (plain, history), (averaged, other) = found.values()
    assert [e.train_loss for e in history.epochs] == [e.train_loss for e in other.epochs]
    losses = [epoch.valid_loss for epoch in other.epochs]
    assert loss_of(averaged, valid_set) == pytest.approx(min(losses), rel=1e-6)
    assert loss_of(averaged, valid_set) != loss_of(plain, valid_set)


def test_without_validation_the_average_is_kept():
    windows, weights = window_set(64), []
    net = small_net()
    first = next(net.parameters())
    before = first.detach().clone()
    config = TrainConfig(**{**OPTIONS, "max_epochs": 1, "batch_size": 64}, ema_decay=0.9)
    # Called before the average moves in for good.
    fit(net, windows, None, config, on_epoch=lambda epoch: weights.append(first.detach().clone()))
    # One step: a share of 2 / 11 of the beginning is left.
    torch.testing.assert_close(first.detach(), 2 / 11 * before + 9 / 11 * weights[0])


def test_a_model_of_averaged_weights_is_trained_alike_kept_and_trained_on(tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 3))
    settings = {"window": 4, "hidden_size": 6, "max_epochs": 3, "ema_decay": 0.9}
    model, twin = (SequenceRegressor(**settings).fit(rows, rows[:, 0]) for _ in range(2))
    np.testing.assert_array_equal(model.predict(rows), twin.predict(rows))
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    windows = window_set(64)
    data = Prepared(windows, None, Schema(list("abc"), ["y"]))
    model = SequenceRegressor(**settings).fit_windows(data)
    on = SequenceRegressor(**settings).fit_windows(data, start_from=model)
    assert on.history_.epochs[0].train_loss < model.history_.epochs[0].train_loss
