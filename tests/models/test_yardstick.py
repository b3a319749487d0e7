"""The forecast that knows nothing: as a start, as a floor and as a yardstick."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, load_model
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.yardstick import constant_outputs
from freqai_lstm_plugins.nets import NETS
from freqai_lstm_plugins.training.objectives import Classes, Numbers, Quantiles

W = 4
SMALL = {"window": W, "hidden_size": 8, "num_layers": 1, "max_epochs": 2, "progress": False}


def windows(targets, weights=None):
    targets = torch.tensor(targets, dtype=torch.float32).reshape(len(targets), -1)
    weights = torch.ones(len(targets)) if weights is None else torch.tensor(weights)
    return WindowSet(torch.zeros(9, 1), torch.arange(len(targets)), targets, weights, 1)


def make(n=200, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    return rows, np.roll(rows[:, 0], 1)


def test_the_best_constant_is_mean_median_quantiles_or_frequencies():
    targets = [0.0, 1, 2, 3, 10]
    assert constant_outputs(Numbers(1), windows(targets)).tolist() == [pytest.approx(3.2)]
    assert constant_outputs(Numbers(1, "mae"), windows(targets)).tolist() == [2.0]
    weighted = constant_outputs(Numbers(1), windows([0.0, 1], [1.0, 3.0]))
    assert weighted.tolist() == [0.75]
    many = windows([[float(i), -10.0 * i] for i in range(101)])
    answer = Quantiles(2, (0.1, 0.5, 0.9))
    values = answer.values(constant_outputs(answer, many).unsqueeze(0))[0]
    torch.testing.assert_close(values, torch.tensor([[10.0, 50, 90], [-900.0, -500, -100]]))
    classes = Classes(((1.0, 1.0), (1.0, 2.0)))
    told = classes.probabilities(
        constant_outputs(classes, windows([[0.0, 0], [0, 0], [1, 0], [0, 1]])).unsqueeze(0)
    )
    torch.testing.assert_close(told, torch.tensor([[0.75, 0.25, 0.6, 0.4]]))


@pytest.mark.parametrize(
    "answer", [Numbers(1), Numbers(1, "mae"), Quantiles(1), Classes(((1.0, 3.0),))], ids=str
)
def test_no_other_constant_has_a_smaller_loss(answer):
    targets = torch.randint(2, (99, 1), generator=torch.Generator().manual_seed(1)).float()
    if not isinstance(answer, Classes):
        targets = torch.randn(99, 1, generator=torch.Generator().manual_seed(1))
    train = windows(targets.tolist())
    best = constant_outputs(answer, train)

    def loss(outputs):
        return answer.loss(outputs.expand(99, -1), train.targets).mean().item()

    for place in range(len(best)):
        for step in (-0.3, 0.3):
            other = best.clone()
            other[place] += step
            assert loss(best) < loss(other)


@pytest.mark.parametrize("kind", [SequenceRegressor, SequenceClassifier])
def test_a_model_that_learned_nothing_says_so_and_one_that_learned_does_not(kind, caplog, tmp_path):
    rows, target = make(400)
    noise = np.random.default_rng(9).normal(size=400)
    options = {**SMALL, "max_epochs": 40, "learning_rate": 0.02, "patience": 0, "batch_size": 32}
    for y, is_learnable in ((target, True), (noise, False)):
        y = y > 0 if kind is SequenceClassifier else y
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model = kind(**options).fit(rows, y)
        history = model.history_
        said = "no better than a constant forecast on 60 validation windows" in caplog.text
        assert said == (history.best_loss >= history.constant_loss)
        assert (history.rank_correlation > 0.7) == is_learnable
        if is_learnable:
            assert history.best_loss < 0.7 * history.constant_loss
    model.save(tmp_path / "model.zip")
    assert load_model(tmp_path / "model.zip").history_ == history


def test_without_validation_there_is_no_yardstick():
    history = SequenceRegressor(**SMALL, valid_size=0).fit(*make()).history_
    assert (history.constant_loss, history.rank_correlation) == (None, None)


def test_too_few_windows_are_refused_and_the_floor_can_be_set():
    rows, target = make(9)
    fit = {"valid_size": 0}
    SequenceRegressor(**{**SMALL, "window": 5}, **fit).fit(rows, target)
    with pytest.raises(
        DataError, match=r"4 training windows of 6 rows are too few .* is 6. Give mo"
    ):
        SequenceRegressor(**{**SMALL, "window": 6}, **fit).fit(rows, target)
    SequenceRegressor(**{**SMALL, "window": 6}, **fit, min_windows=4).fit(rows, target)
    with pytest.raises(DataError, match="min_windows is 100"):
        SequenceRegressor(**SMALL, **fit, min_windows=100).fit(*make(50))


@pytest.mark.parametrize("loss", ["mse", "mae", "quantile"])
@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("symbols", [0, 2])
def test_targets_that_are_not_scaled_are_forecast_about_where_they_are(net, loss, symbols):
    """Catches a net that would have to walk from 0 to a price by small steps."""
    rows, _ = make(60)
    prices = np.c_[4382 + 10 * rows[:, 0], -250 + rows[:, 1]]
    options = {**SMALL, "max_epochs": 1, "loss": loss, "scale": False}
    options |= {"num_heads": 2} if net == "tft" else {}
    model = SequenceRegressor(net, **options, symbol_embedding=symbols)
    x, y = ({"A": rows, "B": rows}, {"A": prices, "B": prices}) if symbols else (rows, prices)
    predicted = model.fit(x, y).predict(x)
    predicted = predicted["A"] if symbols else predicted
    np.testing.assert_allclose(np.nanmean(predicted, axis=0), [4382, -250], atol=15)


def test_a_net_of_ones_own_is_left_alone_with_a_warning(caplog):
    def flat(n_features, n_outputs):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(W * n_features, n_outputs))

    rows, target = make()
    with caplog.at_level(logging.WARNING):
        SequenceRegressor(flat, W, max_epochs=1, progress=False, scale=False).fit(
            rows, target + 4382
        )
    assert "the targets are not scaled, their mean is as large as 4382" in caplog.text


def test_scaled_targets_start_from_the_weights_that_they_always_had(monkeypatch):
    rows, target = make()
    first = SequenceRegressor(**SMALL).fit(rows, target).predict(rows)
    monkeypatch.setattr("freqai_lstm_plugins.models.fitted.start_from_constant", lambda *args: None)
    np.testing.assert_array_equal(SequenceRegressor(**SMALL).fit(rows, target).predict(rows), first)
