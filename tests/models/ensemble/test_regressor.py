"""Ensembles: their weights, what they do where a member cannot, and their files."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import numpy as np
import pytest

from freqai_lstm_plugins import SequenceRegressor, load_model
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    MismatchError,
    MissingExtraError,
    StoppedError,
    TrainingError,
)
from freqai_lstm_plugins.models.catalogue import NAIVE
from freqai_lstm_plugins.models.contract import Predictions
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor, KnownLabels
from freqai_lstm_plugins.models.ensemble.settings import with_defaults
from freqai_lstm_plugins.models.ensemble.weighing import chosen_bounds
from freqai_lstm_plugins.models.naive import NaiveZero
from freqai_lstm_plugins.models.registry import (
    depends_on_seed,
    new_model,
    save_model,
    takes_symbols,
    takes_threads,
)
from freqai_lstm_plugins.models.tabular import TabularRegressor
from freqai_lstm_plugins.nets import NETS
from tests.models.ensemble.windows import LSTM, MEMORY, PERIOD, TREES, W, everywhere, prepared

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

MEMBERS = {"lstm": LSTM, "ridge": {}, "lightgbm": TREES, "xgboost": {"n_estimators": 15}}
SURE = {
    "lightgbm": {**TREES, "loss": "quantile"},
    "xgboost": {"n_estimators": 30, "max_depth": 3, "loss": "quantile"},
}


def ensemble(members=None, **settings):
    members = {"ridge": {}, "lightgbm": TREES} if members is None else members
    return EnsembleRegressor(members, window=W, label_period=PERIOD, **settings)


def weights_of(model, target=0):
    fitted = model.require_fitted()
    names = [member.name for member in fitted.members]
    return dict(zip(names, fitted.weighed[target].weights, strict=True))


def predicted(model, data, **more):
    return model.predict_windows(*everywhere(data))


@pytest.fixture(scope="module")
def data():
    return prepared()


@pytest.fixture(scope="module")
def fitted(data):
    return ensemble(MEMBERS).fit_windows(data)


def test_a_forecast_is_the_members_weighted_mean_wherever_a_window_ends(fitted, data):
    found = predicted(fitted, data)
    weights = np.array(list(weights_of(fitted).values()))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    np.testing.assert_allclose(found.point[W:, 0], found.members[W:, 0] @ weights)
    assert np.isnan(found.point[: W - 1]).all()
    assert np.isfinite(found.disagreement[W:]).all()


def test_a_member_that_memorises_weighs_less_than_a_tenth():
    data = prepared(1500)
    model = ensemble({"memory": MEMORY, "ridge": {}}).fit_windows(data)
    assert weights_of(model)["memory"] < 0.1
    error = model.require_fitted().weighed[0].member_errors
    assert error[0] > 1.5 * error[1]


def test_each_label_has_weights_of_its_own():
    def second_is_bent(rows, targets):
        # No line, but a tree can tell it.
        targets[:, 1] = np.where(np.abs(rows[:, 1]) < 0.7, 3.0, 0.0)

    data = prepared(n_targets=2, noise=0.3, change=second_is_bent)
    trees = {**TREES, "n_estimators": 60}
    model = ensemble({"ridge": {}, "lightgbm": trees}).fit_windows(data)
    assert weights_of(model, 0)["ridge"] > 0.5
    assert weights_of(model, 1)["lightgbm"] > 0.9
    found = predicted(model, data)
    for k in (0, 1):
        weights = np.array(list(weights_of(model, k).values()))
        np.testing.assert_allclose(found.point[W:, k], found.members[W:, k] @ weights)


def test_the_best_member_is_chosen_out_of_fold_and_forecasts_alone():
    data = prepared(1500)
    model = ensemble({"memory": MEMORY, "ridge": {}}, combine="best").fit_windows(data)
    assert weights_of(model) == {"memory": 0.0, "ridge": 1.0}
    weighed = model.require_fitted().weighed[0]
    assert weighed.own_error == pytest.approx(weighed.member_errors[1])


def test_the_mean_takes_no_folds(data, monkeypatch):
    module = "freqai_lstm_plugins.models.ensemble.regressor.forecast_folds"
    monkeypatch.setattr(module, lambda *_: pytest.fail("folds were forecast"))
    model = ensemble({"memory": MEMORY, "ridge": {}}, combine="mean").fit_windows(data)
    assert weights_of(model) == {"memory": 0.5, "ridge": 0.5}


@pytest.mark.parametrize("combine", ["stack", "dynamic"])
def test_a_slice_too_short_weighs_all_alike_and_says_how_many_rows_would_do(caplog, combine):
    data = prepared(40, n_valid=6)
    model = ensemble({"memory": MEMORY, "ridge": {}}, combine=combine).fit_windows(data)
    assert weights_of(model) == {"memory": 0.5, "ridge": 0.5}
    assert "y0: too few rows to weigh members, so all count alike: 86 windows would do" in (
        caplog.text
    )
    assert np.isfinite(predicted(model, data).point[W:]).all()


def test_so_many_windows_as_the_log_says_would_do(caplog):
    model = ensemble({"memory": MEMORY, "ridge": {}})
    model.fit_windows(prepared(86 + W - 1 + PERIOD, n_valid=6))
    assert "too few rows to weigh" not in caplog.text
    assert weights_of(model)["memory"] < 0.4


def test_one_fold_cannot_weigh_and_the_log_says_so(data, caplog):
    model = ensemble({"memory": MEMORY, "ridge": {}}, folds=1).fit_windows(data)
    assert weights_of(model) == {"memory": 0.5, "ridge": 0.5}
    assert "y0: folds = 1 cannot tell how far to draw weights" in caplog.text
    caplog.clear()
    # One fold is enough to see which is better, and whether to follow.
    best = ensemble({"memory": MEMORY, "ridge": {}}, folds=1, combine="best").fit_windows(data)
    assert weights_of(best)["ridge"] == 1
    assert "folds = 1" not in caplog.text
    follower = ensemble({"memory": MEMORY, "ridge": {}}, folds=1, combine="dynamic")
    assert follower.fit_windows(data).require_fitted().weighed[0].follow is not None


def test_the_same_seed_gives_the_same_ensemble_and_another_one_another(data):
    members = {"lstm-1": LSTM, "lstm-2": LSTM, "ridge": {}}
    first, same, other = (ensemble(members, seed=seed).fit_windows(data) for seed in (1, 1, 2))
    np.testing.assert_array_equal(predicted(first, data).point, predicted(same, data).point)
    assert weights_of(first) == weights_of(same)
    assert not np.allclose(predicted(first, data).point[W:], predicted(other, data).point[W:])
    # Two of one kind draw from seeds of their own.
    members = predicted(first, data).members
    assert not np.allclose(members[W:, 0, 0], members[W:, 0, 1])


# members that fail


def test_a_member_that_cannot_be_trained_leaves_its_weight_to_the_others(data, caplog):
    members = {"bad": {"kind": "ridge", "lags": [W]}, "ridge": {}, "lightgbm": TREES}
    model = ensemble(members).fit_windows(data)
    assert "Member bad is left out" in caplog.text
    assert list(weights_of(model)) == ["ridge", "lightgbm"]
    assert sum(weights_of(model).values()) == pytest.approx(1)
    assert "lag 4 lies outside" in model.require_fitted().failures["bad"]


def test_without_any_member_the_training_fails_and_the_former_model_stays(data):
    model = ensemble({"ridge": {}}).fit_windows(data)
    former = model.fitted
    model.members = ensemble({"bad": {"kind": "ridge", "lags": [W]}}).members
    with pytest.raises(TrainingError, match=r"No member of the ensemble could be trained: .*lag 4"):
        model.fit_windows(data)
    assert model.fitted is former


class Silent(NaiveZero):
    """Trains, and then has nothing to say."""

    def predict_windows(self, rows, has_window):
        return Predictions(np.full((len(rows), 1), np.nan))


@pytest.mark.parametrize("combine", ["stack", "mean"])
def test_a_slice_without_a_label_trains_nothing_and_says_why(combine):
    def forget(rows, targets):
        targets[:] = np.nan

    with pytest.raises(TrainingError, match="could be trained: DataError: No training window"):
        ensemble(combine=combine).fit_windows(prepared(100, change=forget))


def test_a_member_that_never_has_a_forecast_is_left_out(data, monkeypatch, caplog):
    """Catches one row of nothing that takes the others' evidence with it."""
    monkeypatch.setitem(NAIVE, "naive_zero", Silent)
    model = ensemble({"memory": MEMORY, "ridge": {}, "naive_zero": {}}).fit_windows(data)
    assert list(weights_of(model)) == ["memory", "ridge"]
    assert weights_of(model)["memory"] < 0.4
    assert "Member naive_zero is left out, it fails in the fold from candle" in caplog.text
    assert "it has no forecast of any of" in model.require_fitted().failures["naive_zero"]


def test_confident_without_a_member_left_to_choose_fails(data):
    members = {
        "lightgbm": {**SURE["lightgbm"], "lags": [W]},
        "xgboost": {**SURE["xgboost"], "lags": [W]},
        "ridge": {},
    }
    with pytest.raises(TrainingError, match=r"whose interval changes .* could be trained.*lag 4"):
        ensemble(members, combine="confident").fit_windows(data)
    members["xgboost"] = SURE["xgboost"]
    model = ensemble(members, combine="confident").fit_windows(data)
    found = predicted(model, data)
    np.testing.assert_array_equal(found.point[W:], found.members[W:, :, 0])


def test_a_stop_ends_the_training_and_is_no_failure_of_a_member(data):
    def stop(epoch):
        raise StoppedError("The bot is stopped.")

    model = ensemble({"ridge": {}, "lightgbm": TREES}, combine="mean")
    with pytest.raises(StoppedError):
        model.fit_windows(data, on_epoch=stop)
    assert model.fitted is None


def test_a_member_without_a_forecast_at_a_row_is_left_out_there(fitted, data):
    said = fitted.forecast_members(*everywhere(data))
    said[0, 100, 0, 1], said[0, 101] = np.nan, np.nan
    found = fitted.combined(said)
    weights = np.array(list(weights_of(fitted).values()))
    left = np.delete(weights, 1) / np.delete(weights, 1).sum()
    assert found.point[100, 0] == pytest.approx(np.delete(said[0, 100, 0], 1) @ left)
    assert np.isnan(found.point[101, 0])


def test_constant_and_collinear_members_and_a_constant_label_give_finite_weights():
    members = {"naive_zero": {}, "ridge-1": {}, "ridge-2": {}}
    data = prepared(noise=0.1)
    found = weights_of(ensemble(members).fit_windows(data))
    assert found["ridge-1"] == pytest.approx(found["ridge-2"], abs=0.01)
    assert found["naive_zero"] < found["ridge-1"]

    def still(rows, targets):
        targets[:] = 2.0

    data = prepared(still=still)
    model = ensemble(members).fit_windows(data)
    assert sum(weights_of(model).values()) == pytest.approx(1)
    assert np.isfinite(predicted(model, data).point[W:]).all()


def test_one_member_is_that_member_and_the_log_says_so(data, caplog, monkeypatch):
    module = "freqai_lstm_plugins.models.ensemble.regressor.forecast_folds"
    monkeypatch.setattr(module, lambda *_: pytest.fail("folds were forecast"))
    with caplog.at_level(logging.INFO):
        model = ensemble({"ridge": {}}).fit_windows(data)
    assert "has one member, so it is that member" in caplog.text
    found = predicted(model, data)
    np.testing.assert_allclose(found.point[W:], found.members[W:, :, 0])
    assert (found.disagreement[W:] == 0).all()


# learning on


def test_members_go_on_learning_and_those_of_folds_start_afresh(data, monkeypatch):
    begun = []

    def noting(owner):
        fit = owner.fit_windows

        def fit_windows(self, data, *, start_from=None, on_epoch=None):
            begun.append((self.kind, start_from))
            return fit(self, data, start_from=start_from, on_epoch=on_epoch)

        monkeypatch.setattr(owner, "fit_windows", fit_windows)

    members = {"lstm": LSTM, "lightgbm": TREES, "ridge": {}}
    first = ensemble(members).fit_windows(data)
    noting(SequenceRegressor)
    noting(TabularRegressor)
    second = ensemble(members).fit_windows(data, start_from=first)
    former = dict(zip(["lstm", "lightgbm", "ridge"], first.require_fitted().models, strict=True))
    assert [model for _, model in begun[:9]] == [None] * 9
    assert [model for _, model in begun[9:]] == list(former.values())
    trees = [
        model.require_fitted().models[1].learned(0)[0].count("Tree=") for model in (first, second)
    ]
    assert trees[1] > trees[0]
    one, other = (model.require_fitted().models[0] for model in (first, second))
    alone = new_model("lstm", LSTM, window=W, seed=42).fit_windows(data, start_from=one)
    rows, has_window = everywhere(data)
    np.testing.assert_array_equal(
        other.predict_windows(rows, has_window).point, alone.predict_windows(rows, has_window).point
    )


def test_a_member_of_other_settings_or_columns_starts_afresh(data):
    first = ensemble({"lightgbm": TREES}).fit_windows(data)
    fitted = first.require_fitted()
    (member,) = fitted.members
    assert fitted.learned_by(member, data.schema) is fitted.models[0]
    changed = ensemble({"lightgbm": {**TREES, "num_leaves": 5}}).members[0]
    assert fitted.learned_by(changed, data.schema) is None
    other = replace(data.schema, feature_names=["a", "b", "c", "d"])
    assert fitted.learned_by(member, other) is None


def test_optimizer_states_are_dropped_where_nothing_goes_on(data):
    model = ensemble({"lstm": LSTM, "ridge": {}}, combine="mean").fit_windows(data)
    assert model.to_state()["trained"][0]["state"]["optimizer_state"] is not None
    model.forget_optimizer()
    assert model.to_state()["trained"][0]["state"]["optimizer_state"] is None


# intervals


@pytest.mark.parametrize("combine", ["mean", "stack", "dynamic"])
def test_the_interval_holds_its_share_of_rows_that_nothing_was_fitted_on(combine):
    covered = []
    for seed in range(6):
        data = prepared(4000, seed=seed, times=True)
        model = ensemble({"ridge": {}, "naive_zero": {}}, combine=combine, interval=0.8)
        model.fit_windows(data)
        fresh = prepared(3000, seed=100 + seed)
        # Weights that follow labels are given those that are known by then, as they were before.
        said = model.forecast_members(*everywhere(fresh))
        found = model.combined(said, known(fresh, start=0))
        ends = fresh.train.ends.numpy()
        targets = fresh.train.targets[:, 0].numpy()
        inside = (found.lower[ends, 0] <= targets) & (targets <= found.upper[ends, 0])
        covered.append(inside.mean())
    assert np.mean(covered) == pytest.approx(0.8, abs=0.02)


def test_rows_of_weights_and_rows_of_the_interval_do_not_meet(data, monkeypatch):
    from freqai_lstm_plugins.models.ensemble import weighing

    seen = {}

    def learn(evidence):
        seen["weights"] = evidence.positions
        return np.full(2, 0.5), 0.0

    def margin(interval, errors):
        seen["n_interval"] = len(errors)
        return 1.0

    monkeypatch.setattr(weighing, "learn_weights", learn)
    monkeypatch.setattr(weighing, "margin_of", margin)
    monkeypatch.setattr(weighing, "_errors", lambda *_: ([], None, None))
    ensemble(interval=0.8).fit_windows(data)
    last_rows = np.arange(len(data.train.rows))[-seen["n_interval"] :]
    assert seen["weights"].max() + PERIOD < last_rows.min()
    assert seen["n_interval"] == pytest.approx(0.3 * 300, abs=3)


def test_too_few_rows_for_the_interval_say_how_many_are_needed():
    with pytest.raises(DataError, match=r"y0: interval = 0.99 needs at least 99 out-of-fold rows"):
        ensemble(interval=0.99).fit_windows(prepared(200))
    with pytest.raises(DataError, match="out-of-fold rows to be calibrated on, and there are 0"):
        ensemble(interval=0.8).fit_windows(prepared(40, n_valid=6))


# confident


def loud_where_the_second_feature_is_high(rows, targets):
    noise = targets[:, 0] - rows[:, 0]
    targets[:, 0] = rows[:, 0] + noise * np.where(rows[:, 1] > 0, 2.0, 0.2)


def test_confident_takes_the_narrowest_interval_at_each_row():
    data = prepared(1500, change=loud_where_the_second_feature_is_high)
    model = ensemble({**SURE, "ridge": {}}, combine="confident", interval=0.8).fit_windows(data)
    found = predicted(model, data)
    weights = found.weights[W:, 0]
    assert (weights.sum(axis=1) == 1).all()
    assert set(np.unique(weights)) == {0.0, 1.0}
    # Both are chosen somewhere; the one without an interval that changes never is.
    assert (weights[:, :2].mean(axis=0) > 0.02).all()
    assert (weights[:, 2] == 0).all()
    width = (found.upper - found.lower)[W:, 0]
    loud = data.train.rows[W:, 1].numpy() > 0
    assert width[loud].mean() > 1.5 * width[~loud].mean()


def test_members_intervals_are_moved_to_one_level_by_out_of_fold_rows():
    data = prepared(1500, change=loud_where_the_second_feature_is_high)
    narrow = {**SURE["lightgbm"], "interval": 0.3}
    members = {"lightgbm": narrow, "xgboost": SURE["xgboost"]}
    model = ensemble(members, combine="confident", interval=0.8).fit_windows(data)
    widenings = model.require_fitted().weighed[0].widenings
    # What asks for 0.3 is widened until it holds 0.8.
    assert widenings[0] > widenings[1] + 0.2
    fresh = prepared(3000, seed=9, change=loud_where_the_second_feature_is_high)
    found, ends = predicted(model, fresh), fresh.train.ends.numpy()
    targets = fresh.train.targets[:, 0].numpy()
    inside = (found.lower[ends, 0] <= targets) & (targets <= found.upper[ends, 0])
    assert inside.mean() == pytest.approx(0.8, abs=0.06)


def test_ends_are_moved_to_one_level_and_never_cross():
    lower, upper = np.array([[0.0, 0.0]]), np.array([[2.0, 2.0]])
    found = chosen_bounds(lower, upper, np.array([0.5, -3.0]))
    np.testing.assert_array_equal(found, [[[-0.5, 1.0]], [[2.5, 1.0]]])


def test_confident_makes_no_forecast_where_all_intervals_are_too_wide():
    data = prepared(1500, change=loud_where_the_second_feature_is_high)
    model = ensemble(SURE, combine="confident", max_width=2.0).fit_windows(data)
    point = predicted(model, data).point[W:, 0]
    loud = data.train.rows[W:, 1].numpy() > 0
    assert np.isnan(point[loud]).mean() > 0.8
    assert np.isfinite(point[~loud]).mean() > 0.8


def test_confident_without_two_intervals_that_change_is_refused_with_the_reason():
    members = {"lightgbm": SURE["lightgbm"], "ridge": {"interval": 0.8}}
    with pytest.raises(ConfigError, match=r"row to row; .* these have such: lightgbm\."):
        ensemble(members, combine="confident")


# dynamic


def known_labels(data):
    rows = len(data.train.rows)
    targets = np.full((rows, 1), np.nan)
    for part in (data.train, data.valid):
        targets[part.ends.numpy()] = part.targets.numpy()
    return targets


@pytest.fixture(scope="module")
def follower():
    """Trained while the first half of its members is right, to see the other half be."""

    def change(rows, targets):
        # Which of two features tells the label turns every 60 rows.
        first = np.arange(len(rows)) // 60 % 2 == 0
        noise = 0.3 * np.random.default_rng(5).normal(size=len(rows))
        targets[:, 0] = np.where(first, rows[:, 0], -rows[:, 0]) + noise

    data = prepared(1200, change=change, times=True)
    members = {"ridge": {}, "naive_zero": {}}
    # Members of opposite sign, by hand.
    model = ensemble(members, combine="dynamic", half_lives=[10.0]).fit_windows(data)
    said = model.forecast_members(*everywhere(data))
    rows = data.train.rows.numpy()
    said[0, :, 0, 0], said[0, :, 0, 1] = rows[:, 0], -rows[:, 0]
    return model, data, said


def known(data, targets=None, start=600):
    n = len(data.train.rows)
    targets = known_labels(data) if targets is None else targets
    return KnownLabels(targets, 1000 + np.arange(n), np.arange(n) >= start)


def following(model, **changes):
    """The same model with a set way to follow."""
    from dataclasses import replace

    from freqai_lstm_plugins.models.ensemble.combine import Follow

    weighed = replace(
        model.fitted.weighed[0],
        weights=[0.5, 0.5],
        follow=Follow(rate=1.0, half_life=10.0, share=0.05, label_period=PERIOD, scale=1.0),
    )
    made = EnsembleRegressor({"ridge": {}, "naive_zero": {}}, window=W, combine="dynamic")
    made.fitted = replace(model.fitted, weighed=[weighed])
    return made


def test_a_change_of_regime_gives_the_new_best_half_the_weight_within_two_half_lives(follower):
    model, data, said = follower
    made = following(model)
    found = made.combined(said, known(data))
    # From row 660 on the second member is right.
    at = 660 + 2 * 10 + PERIOD
    assert found.weights[659, 0, 0] > 0.9
    assert found.weights[at, 0, 1] > 0.5


def test_labels_after_a_row_change_no_weight_and_no_forecast_of_it(follower):
    model, data, said = follower
    made = following(model)
    before = made.combined(said, known(data))
    targets = known_labels(data)
    # The label of row r is known at r + PERIOD.
    targets[701 - PERIOD :] = 99.0
    after = made.combined(said, known(data, targets))
    np.testing.assert_array_equal(before.weights[:701], after.weights[:701])
    np.testing.assert_array_equal(before.point[:701], after.point[:701])
    assert not np.allclose(before.weights[701:720], after.weights[701:720])


def test_weights_are_a_function_of_the_rows_alone_so_a_restart_changes_nothing(follower):
    model, data, said = follower
    made = following(model)
    whole = made.combined(said, known(data))
    labels = known(data)
    for end in (650, 777, 1100):
        part = KnownLabels(labels.targets[:end], labels.positions[:end], labels.is_later[:end])
        found = made.combined(said[:, :end], part)
        np.testing.assert_allclose(found.weights[-1], whole.weights[end - 1], atol=1e-12)


def test_rows_of_the_training_keep_the_weights_to_start_from(follower):
    model, data, said = follower
    found = following(model).combined(said, known(data))
    assert (found.weights[:600] == 0.5).all()


def test_a_label_known_later_than_usual_counts_from_then(follower):
    model, data, said = follower
    made = following(model)
    labels = known(data)
    usual = labels.positions + PERIOD
    same = KnownLabels(labels.targets, labels.positions, labels.is_later, usual)
    late = KnownLabels(labels.targets, labels.positions, labels.is_later, usual + 30)
    expected = made.combined(said, labels).weights
    np.testing.assert_array_equal(made.combined(said, same).weights, expected)
    found = made.combined(said, late).weights
    assert (found[: 600 + PERIOD + 30] == 0.5).all()
    np.testing.assert_allclose(found[700], expected[670], atol=1e-9)


def test_the_file_holds_the_last_candle_of_the_training(data):
    model = ensemble().fit_windows(data, last_time=1234)
    assert EnsembleRegressor.from_state(model.to_state()).require_fitted().last_time == 1234


def test_labels_that_are_all_missing_leave_the_weights(follower):
    model, data, said = follower
    nothing = np.full((len(data.train.rows), 1), np.nan)
    found = following(model).combined(said, known(data, nothing))
    assert (found.weights == 0.5).all()


# files


@pytest.mark.parametrize("combine", ["stack", "dynamic", "confident", "mean"])
def test_a_file_gives_back_the_same_ensemble(tmp_path, data, combine):
    members = SURE if combine == "confident" else {"lstm": LSTM, "ridge": {}, "lightgbm": TREES}
    model = ensemble(members, combine=combine, interval=0.5).fit_windows(data)
    path = tmp_path / "model.zip"
    save_model(model, path)
    loaded = load_model(path)
    one, other = predicted(model, data), predicted(loaded, data)
    for name in ("point", "lower", "upper", "members", "weights", "disagreement"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert loaded.config == model.config
    assert loaded.members == model.members
    model.save(tmp_path / "same.zip")
    assert weights_of(load_model(tmp_path / "same.zip")) == weights_of(model)


def test_every_kind_of_model_can_be_a_member(tmp_path):
    data = prepared(120)
    small = {"hidden_size": 4, "max_epochs": 1, "num_threads": 1}
    nets = {name: {**small, "num_heads": 1} if name == "tft" else small for name in NETS}
    members = {**nets, "ridge": {}, "lightgbm": TREES, "xgboost": {"n_estimators": 3}}
    model = ensemble(members, combine="mean").fit_windows(data)
    assert weights_of(model) == pytest.approx(dict.fromkeys(members, 1 / len(members)))
    before = predicted(model, data)
    assert np.isfinite(before.members[W:]).all()
    save_model(model, tmp_path / "model.zip")
    after = predicted(load_model(tmp_path / "model.zip"), data)
    np.testing.assert_array_equal(after.members, before.members)


def test_a_member_that_was_left_out_stays_so_in_the_file(tmp_path, data):
    members = {"bad": {"kind": "ridge", "lags": [W]}, "ridge": {}}
    model = ensemble(members).fit_windows(data)
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert weights_of(loaded) == {"ridge": 1.0}
    assert list(loaded.require_fitted().failures) == ["bad"]


def damage(state, what):
    weighed = state["weighed"][0]
    members = state["trained"]
    changes = {
        "no members": lambda: state["trained"].clear(),
        "unknown kind": lambda: state["members"][0].update(kind="random_forest"),
        "weights": lambda: weighed["weights"].append(0.5),
        "labels": lambda: state["weighed"].clear(),
        "settings": lambda: state["settings"].update(combine="vote"),
        "missing": lambda: state.pop("schema"),
        "a member": lambda: members[0]["state"].pop("settings"),
        "other features": lambda: members[0]["state"]["schema"].update(feature_names=list("abcd")),
        "another window": lambda: members[0]["state"].update(window=W + 1),
        "negative weights": lambda: weighed.update(weights=[1.5, -0.5]),
        "a sum above 1": lambda: weighed.update(weights=[0.9, 0.9]),
        "texts for numbers": lambda: weighed.update(weights=["a", "b"]),
        "a margin": lambda: weighed.update(margin="wide"),
        "a way to follow": lambda: weighed.update(
            follow={"rate": 1.0, "half_life": 0.0, "share": 0.1, "label_period": 3, "scale": 1.0}
        ),
        "a huge window": lambda: state.update(window=10**12),
        "a time": lambda: state.update(last_time="today"),
    }
    changes[what]()
    return state


DAMAGE = ["no members", "unknown kind", "weights", "labels", "settings", "missing", "a member"]
DAMAGE += ["other features", "another window", "negative weights", "a sum above 1"]
DAMAGE += ["texts for numbers", "a margin", "a way to follow", "a huge window", "a time"]


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_state_is_refused(data, what):
    state = ensemble(combine="mean").fit_windows(data).to_state()
    with pytest.raises(MismatchError, match="train it again"):
        EnsembleRegressor.from_state(damage(state, what))


# settings


@pytest.mark.parametrize(
    ("members", "settings", "message"),
    [
        ({}, {}, "members is empty"),
        ([1], {}, "members must be a section of models"),
        ({"lightgbm": 3}, {}, "member 'lightgbm' must be a section"),
        ({"ligthgbm": {}}, {}, "unknown kind 'ligthgbm'.*Did you mean 'lightgbm'"),
        ({"lstm 1": {}}, {}, "'lstm 1' cannot name a member"),
        ({"ensemble": {}}, {}, "unknown kind 'ensemble'"),
        ({"mean": {"kind": "ridge"}}, {}, "'mean' cannot name a member: its column would bear"),
        ({"ridge": {}, "w_ridge": {"kind": "ridge"}}, {}, "'w_ridge' cannot name a member"),
        ({"lightgbm": {"num_leafs": 3}}, {}, "member 'lightgbm': .*num_leafs.*num_leaves"),
        ({"lstm": {"loss": "cross_entropy"}}, {}, "member 'lstm': .*is for classes"),
        ({"lstm": {"n_epochs": 3, "max_epochs": 4}}, {}, "member 'lstm': .*the same setting"),
        ({"ridge": {}}, {"combine": "stak"}, "combine must be one of stack, mean"),
        ({"ridge": {}}, {"half_lives": [0]}, "half_lives must be a list of numbers above 0"),
        ({"ridge": {}}, {"half_lives": []}, "half_lives must be a list of numbers above 0"),
        ({"ridge": {}}, {"rates": [-1]}, "rates must be a list of numbers of at least 0"),
        ({"ridge": {}}, {"fold": 3}, "unknown setting 'fold'. Did you mean 'folds'"),
        ({"ridge": {}}, {"interval": 1.5}, "interval must be a number between 0 and 1"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(members, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        EnsembleRegressor(members, window=W, **settings)
    assert "\n" not in str(caught.value)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.setattr("freqai_lstm_plugins.models.catalogue.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"lightgbm.*freqai_lstm_plugins\[trees\]"):
        ensemble({"ridge-1": {"kind": "lightgbm"}})


def test_classes_are_refused(data):
    from dataclasses import replace

    schema = replace(data.schema, classes=[["a", "b"]])
    with pytest.raises(ConfigError, match="the targets are classes"):
        ensemble().fit_windows(replace(data, schema=schema))


def test_nets_of_an_ensemble_train_by_defaults_that_their_own_settings_override():
    given = {"lstm": {"n_epochs": 3}, "gru-small": {}, "ridge": {}}
    defaults = {"max_epochs": 9, "batch_size": 32, "seed": 1, "interval": 0.8}
    assert with_defaults(given, defaults) == {
        "lstm": {"kind": "lstm", "max_epochs": 3, "batch_size": 32},
        "gru-small": {"kind": "gru", "max_epochs": 9, "batch_size": 32},
        "ridge": {"kind": "ridge"},
    }


def test_the_registry_makes_an_ensemble_of_settings():
    settings = {"members": {"lstm": LSTM, "ridge": {}}, "combine": "mean"}
    model = new_model("ensemble", settings, window=7, seed=3, symbol_embedding=2, label_period=5)
    assert isinstance(model, EnsembleRegressor)
    assert (model.window, model.config.seed, model.config.label_period) == (7, 3, 5)
    assert model.config.symbol_embedding == 2
    assert depends_on_seed("ensemble", settings)
    assert not depends_on_seed("ensemble", {"members": {"ridge": {}}})
    assert takes_symbols("ensemble")
    assert takes_threads("ensemble")
    with pytest.raises(ConfigError, match=r"unknown model 'ensembl'.*Did you mean 'ensemble'"):
        new_model("ensembl", {}, window=7, seed=3)
