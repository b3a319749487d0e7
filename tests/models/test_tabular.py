"""Trees, ridge and naive forecasts keep the contract that nets keep."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.windows import build_window_set
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.models.boosting import LightGBM, XGBoost
from freqai_lstm_plugins.models.linear import Ridge
from freqai_lstm_plugins.models.naive import LAST_KNOWN, NaiveLast, NaiveZero

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

N, F, W = 400, 3, 5
SMALL = {"n_estimators": 60, "early_stopping_rounds": 10, "learning_rate": 0.2}
LEARNERS = {
    "lightgbm": lambda **settings: LightGBM(**SMALL, **settings),
    "xgboost": lambda **settings: XGBoost(**SMALL, **settings),
    "ridge": lambda **settings: Ridge(**settings),
}
BOOSTERS = ["lightgbm", "xgboost"]
EVERY = {**LEARNERS, "naive_zero": NaiveZero, "naive_last": NaiveLast}


def prepared(n_targets=1, *, n_valid=100, seed=0, weights=None, symbols=(), scaling=None):
    """Rows whose target is the sum of the newest row and, a half of it, the row before."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, F)).astype(np.float32)
    signal = rows.sum(axis=1) + 0.5 * np.roll(rows.sum(axis=1), 1)
    targets = np.column_stack([signal * (k + 1) for k in range(n_targets)])
    names = [LAST_KNOWN.format("y0"), "b", "c"]
    if symbols:
        codes = np.repeat(np.arange(len(symbols)), N // len(symbols))
        rows = np.column_stack([rows, codes]).astype(np.float32)
        targets = targets * 0 + codes[:, None]
    has_window = np.arange(N) >= W - 1
    is_late = np.arange(N) >= N - n_valid
    tensor = torch.from_numpy(rows)
    weights = np.ones(N) if weights is None else weights
    train, valid = (
        build_window_set(tensor, targets, weights, has_window & part, W)
        for part in (~is_late, is_late)
    )
    labels = [f"y{k}" for k in range(n_targets)]
    return Prepared(train, valid, Schema(names, labels, [], list(symbols)), scaling)


def predicted(model, data):
    has_window = np.arange(N) >= W - 1
    return model.predict_windows(data.train.rows.numpy(), has_window)


@pytest.fixture(params=EVERY)
def kind(request):
    return request.param


@pytest.mark.parametrize("n_targets", [1, 2])
def test_every_row_with_a_window_has_a_forecast_and_no_other(kind, n_targets):
    if kind == "naive_last" and n_targets == 2:
        pytest.skip("rows hold the last known value of one label")
    data = prepared(n_targets)
    point = predicted(EVERY[kind]().fit_windows(data), data).point
    assert point.shape == (N, n_targets)
    assert np.isnan(point[: W - 1]).all()
    assert np.isfinite(point[W - 1 :]).all()


def test_a_model_built_from_its_state_predicts_the_same(kind):
    data = prepared()
    model = EVERY[kind]().fit_windows(data)
    # Through JSON, as a state holds plain data alone.
    other = type(model).from_state(json.loads(json.dumps(model.to_state())))
    np.testing.assert_array_equal(predicted(other, data).point, predicted(model, data).point)


def test_a_state_of_another_model_is_refused(kind):
    with pytest.raises(MismatchError, match=kind):
        type(EVERY[kind]()).from_state({"settings": {}})


def test_a_model_that_is_not_fitted_says_so(kind):
    with pytest.raises(ConfigError, match="not fitted"):
        predicted(EVERY[kind](), prepared())


def test_a_later_row_changes_no_earlier_forecast(kind):
    data = prepared()
    model = EVERY[kind]().fit_windows(data)
    before = predicted(model, data).point
    data.train.rows[300:] = 99.0
    np.testing.assert_array_equal(predicted(model, data).point[:300], before[:300])


def test_learners_beat_the_forecast_of_zero():
    data = prepared()
    targets = data.valid.targets.numpy()
    ends = data.valid.ends.numpy()
    naive = np.mean((predicted(NaiveZero().fit_windows(data), data).point[ends] - targets) ** 2)
    for make in LEARNERS.values():
        point = predicted(make().fit_windows(data), data).point[ends]
        assert np.mean((point - targets) ** 2) < 0.6 * naive


@pytest.mark.parametrize("name", LEARNERS)
def test_a_lag_lets_a_model_see_the_row_before(name):
    data = prepared()
    newest, both = (LEARNERS[name](lags=lags).fit_windows(data) for lags in ([0], [0, 1]))
    ends, targets = data.valid.ends.numpy(), data.valid.targets.numpy()
    errors = [np.mean((predicted(m, data).point[ends] - targets) ** 2) for m in (newest, both)]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_lag_outside_the_window_is_refused(name):
    with pytest.raises(ConfigError, match="lag 5 lies outside windows of 5 rows"):
        LEARNERS[name](lags=[0, 5]).fit_windows(prepared())


@pytest.mark.parametrize("lags", [[], [0, 0], [-1], [True], [0.5]])
def test_lags_that_mean_nothing_are_refused(lags):
    with pytest.raises(ConfigError, match="lags must be a list of different whole numbers"):
        LightGBM(lags=lags)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_seed_gives_the_same_forecasts(name):
    data = prepared()
    subsample = {} if name == "ridge" else {"subsample": 0.5, "colsample_bytree": 0.7}
    one, two = (LEARNERS[name](**subsample).fit_windows(data) for _ in range(2))
    np.testing.assert_array_equal(predicted(one, data).point, predicted(two, data).point)


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_of_hardly_any_weight_hardly_count(name):
    weights = np.where(np.arange(N) < 150, 1e-6, 1.0)
    plain = prepared(weights=weights)
    spoilt = prepared(weights=weights)
    early = spoilt.train.ends < 150
    spoilt.train.targets[early] = 1000.0
    forecasts = [predicted(LEARNERS[name]().fit_windows(d), d).point[W:] for d in (plain, spoilt)]
    assert np.abs(forecasts[0] - forecasts[1]).max() < 2.0


@pytest.mark.parametrize("name", LEARNERS)
def test_a_model_that_is_told_the_symbol_learns_its_level(name):
    data = prepared(symbols=("A", "B", "C", "D"), n_valid=0)
    weak = {"alpha": 1e-3} if name == "ridge" else {}
    point = predicted(LEARNERS[name](**weak).fit_windows(data), data).point[W:, 0]
    levels = data.train.rows[W:, -1].numpy()
    assert np.abs(point - levels).mean() < 0.25


@pytest.mark.parametrize("name", BOOSTERS)
def test_trees_stop_at_the_best_validation_loss(name):
    data = prepared()
    data.valid.targets.copy_(torch.randn(data.valid.targets.shape))
    seen = []
    model = LEARNERS[name]().fit_windows(data, on_epoch=seen.append)
    history = model.history_
    assert [epoch.number for epoch in seen] == list(range(1, len(history.epochs) + 1))
    losses = [epoch.valid_loss for epoch in history.epochs]
    assert history.best_epoch == int(np.argmin(losses)) + 1 < len(losses)
    # What is kept are so many trees, not those that came after.
    settings = {**SMALL, "n_estimators": history.best_epoch, "early_stopping_rounds": 0}
    bare = type(model)(**settings)
    bare.fit_windows(Prepared(data.train, None, data.schema))
    np.testing.assert_allclose(predicted(model, data).point, predicted(bare, data).point)


@pytest.mark.parametrize("name", BOOSTERS)
def test_quantiles_never_cross_and_hold_the_share_they_promise(name):
    data = prepared(n_valid=200)
    model = LEARNERS[name](loss="quantile", interval=0.8).fit_windows(data)
    found = predicted(model, data)
    rows = slice(W - 1, None)
    assert (found.lower[rows] <= found.point[rows]).all()
    assert (found.point[rows] <= found.upper[rows]).all()
    ends, targets = data.valid.ends.numpy(), data.valid.targets.numpy()
    held = (found.lower[ends] <= targets) & (targets <= found.upper[ends])
    assert held.mean() == pytest.approx(0.8, abs=0.01)
    assert np.unique(found.upper[rows] - found.lower[rows]).size > 50


def test_a_margin_is_the_same_for_every_row():
    data = prepared()
    found = predicted(Ridge(interval=0.8).fit_windows(data), data)
    widths = (found.upper - found.lower)[W:, 0]
    np.testing.assert_allclose(widths, widths[0])


def test_ridge_takes_the_penalty_of_the_least_validation_loss():
    model = Ridge().fit_windows(prepared())
    losses = [epoch.valid_loss for epoch in model.history_.epochs]
    assert model.history_.best_epoch == int(np.argmin(losses)) + 1
    assert model.require_fitted().learned[0][0]["alpha"] == 1e-4 or min(losses) < losses[0]


def test_zero_is_zero_in_the_labels_own_units():
    data = prepared(scaling=Scaling([0, 0, 0], [1, 1, 1], [2.0], [4.0]))
    point = predicted(NaiveZero().fit_windows(data), data).point[W:]
    np.testing.assert_array_equal(data.scaling.unscale_targets(point), 0)


def test_the_last_known_label_comes_back_in_its_own_units():
    data = prepared(scaling=Scaling([3.0, 0, 0], [2.0, 1, 1], [2.0], [4.0]))
    point = predicted(NaiveLast().fit_windows(data), data).point[W:]
    expected = data.train.rows[W:, :1].double().numpy() * 2 + 3
    np.testing.assert_allclose(data.scaling.unscale_targets(point), expected, rtol=1e-12)


def test_the_last_known_label_must_be_among_the_features():
    data = prepared()
    schema = Schema(["a", "b", "c"], ["y0"])
    model = NaiveLast().fit_windows(Prepared(data.train, data.valid, schema))
    with pytest.raises(DataError, match="needs the feature 'last known y0'"):
        predicted(model, data)


def test_classes_are_refused(kind):
    data = prepared()
    schema = Schema(data.schema.feature_names, ["y0"], [["down", "up"]])
    with pytest.raises(ConfigError, match="the targets are classes"):
        EVERY[kind]().fit_windows(Prepared(data.train, data.valid, schema))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_fit_that_fails_leaves_the_model_as_it_was(name, monkeypatch):
    data = prepared(n_targets=2)
    model = LEARNERS[name]().fit_windows(data)
    before = predicted(model, data).point
    calls = []

    def fail(*args):
        calls.append(args)
        raise RuntimeError("enough")

    monkeypatch.setattr(model, "learn", fail)
    with pytest.raises(RuntimeError, match="enough"):
        model.fit_windows(prepared(n_targets=2, seed=1))
    np.testing.assert_array_equal(predicted(model, data).point, before)


@pytest.mark.parametrize("name", BOOSTERS)
def test_a_text_is_parsed_once_and_its_booster_goes_with_it(name, monkeypatch):
    data, later = prepared(n_targets=2), prepared(n_targets=2, seed=1)
    model = LEARNERS[name]().fit_windows(data)
    parsed = []
    parse = model.parse

    def note(text):
        booster = parse(text)
        parsed.append(weakref.ref(booster))
        return booster

    monkeypatch.setattr(model, "parse", note)
    first, again = (predicted(model, data).point for _ in range(2))
    np.testing.assert_array_equal(first, again)
    # One text a target.
    assert len(parsed) == 2
    model.fit_windows(later)
    fresh = type(model).from_state(model.to_state())
    np.testing.assert_array_equal(predicted(model, later).point, predicted(fresh, later).point)
    assert len(parsed) == 4
    gc.collect()
    assert [ref() is None for ref in parsed] == [True, True, False, False]


@pytest.mark.parametrize("name", BOOSTERS)
def test_threads_and_copies_of_a_model_that_was_asked_say_the_same(name):
    data = prepared()
    model = LEARNERS[name](loss="quantile", interval=0.8).fit_windows(data)
    expected = predicted(model, data)
    fresh = type(model).from_state(model.to_state())
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: predicted(fresh, data), range(12)))
    said += [
        predicted(one, data) for one in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    ]
    for found in said:
        np.testing.assert_array_equal(found.lower, expected.lower)
        np.testing.assert_array_equal(found.upper, expected.upper)


@pytest.mark.parametrize("name", BOOSTERS)
def test_going_on_from_a_model_that_is_being_asked_leaves_it_as_it_was(name):
    data = prepared()
    former = LEARNERS[name]().fit_windows(data)
    before = predicted(former, data).point
    LEARNERS[name]().fit_windows(prepared(seed=1), start_from=former)
    np.testing.assert_array_equal(predicted(former, data).point, before)


def test_a_misspelt_setting_names_the_closest():
    with pytest.raises(ConfigError, match="Did you mean 'num_leaves'"):
        LightGBM(num_leafs=3)
