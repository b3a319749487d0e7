"""Folds inside the training slice: who sees which rows, and what each fold learns by itself."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import Prepared, Schema, prepare
from freqai_lstm_plugins.data.windows import build_window_set
from freqai_lstm_plugins.errors import DataError, MissingExtraError, StoppedError
from freqai_lstm_plugins.models.catalogue import new_model
from freqai_lstm_plugins.models.ensemble.combine import Evidence, learn_weights
from freqai_lstm_plugins.models.ensemble.out_of_fold import (
    LEAST_ROWS,
    all_windows,
    choose_folds,
    fold_data,
    forecast_folds,
    require_apart,
    wanted_rows,
)
from tests.models.ensemble.windows import MEMORY, PERIOD, TREES, W, everywhere, prepared

pytest.importorskip("lightgbm")


def make(name, given):
    settings = {key: value for key, value in given.items() if key != "kind"}
    return new_model(given.get("kind", name), settings, window=W, seed=1)


def makers(**members):
    return {name: partial(make, name, given) for name, given in members.items()}


def folds_of(data):
    windows = all_windows(data, PERIOD)
    return windows, choose_folds(windows.times, windows.known_at, PERIOD, 3)


def test_windows_of_both_parts_stand_in_the_order_of_time():
    data = prepared()
    windows = all_windows(data, PERIOD)
    assert len(windows) == len(data.train) + len(data.valid)
    assert (np.diff(windows.ends) > 0).all()
    np.testing.assert_array_equal(windows.targets[-1], data.valid.targets[-1].double())


def test_folds_cover_the_last_half_and_know_no_target_of_it():
    windows, folds = folds_of(prepared())
    tested = np.concatenate([fold.test for fold in folds])
    assert len(folds) == 3
    np.testing.assert_array_equal(tested, np.arange(tested[0], len(windows)))
    assert tested[0] == pytest.approx(len(windows) / 2, abs=1)
    for fold in folds:
        known = windows.times[fold.train] + PERIOD
        assert known.max() < windows.times[fold.test[0]]


def test_early_stopping_and_training_rows_of_a_fold_are_its_past_and_do_not_meet():
    data = prepared()
    windows, folds = folds_of(data)
    for fold in folds:
        part, _ = fold_data(data, windows, fold)
        train, valid = part.train.ends.numpy(), part.valid.ends.numpy()
        assert train.max() + PERIOD < valid.min()
        assert valid.max() + PERIOD < windows.ends[fold.test].min()
        assert 0.1 < len(valid) / (len(train) + len(valid)) < 0.2


def test_labels_that_span_a_halt_are_known_late_and_leave_more_rows_out():
    """Catches rows counted where candles of time should be."""
    data = prepared()
    n = len(data.train.rows)
    # The series does not trade for forty candles in the middle of the last half.
    times = np.arange(n) + 40 * (np.arange(n) >= 450)
    known_at = np.append(times[PERIOD:], np.full(PERIOD, 10_000))
    data = dataclasses.replace(data, times=times, known_at=known_at)
    windows, folds = folds_of(data)
    np.testing.assert_array_equal(windows.times, times[windows.ends])
    for fold in folds:
        first = windows.times[fold.test].min()
        assert windows.known_at[fold.train].max() < first
        part, _ = fold_data(data, windows, fold)
        train, valid = part.train.ends.numpy(), part.valid.ends.numpy()
        assert known_at[train].max() < times[valid].min()
        assert known_at[valid].max() < first
    # By rows alone a label of before the halt would pass for known.
    halted = windows.known_at - windows.times > PERIOD
    assert halted.sum() == PERIOD + (windows.known_at == 10_000).sum()


def test_rows_that_are_not_apart_are_refused():
    require_apart("x", np.array([3, 4]), np.array([5, 9]))
    require_apart("x", np.array([]), np.array([5]))
    with pytest.raises(DataError, match=r"begin at candle 5, .* known at candle 5: .* not apart"):
        require_apart("x", np.array([3, 5]), np.array([9, 5]))


def test_weights_of_both_parts_are_on_one_scale():
    """Catches evidence in which the validation rows count as if they were older."""
    n = 300
    tensor = torch.zeros(n, 2)
    weights = np.linspace(0.1, 4.0, n)
    is_late = np.arange(n) >= 200
    parts = [
        build_window_set(tensor, np.zeros((n, 1)), weights, part, 1) for part in (~is_late, is_late)
    ]
    assert all(part.weights.mean() == pytest.approx(1) for part in parts)
    data = Prepared(*parts, Schema(["a", "b"], ["y"]))
    np.testing.assert_allclose(all_windows(data, PERIOD).weights, weights, rtol=1e-6)


def test_a_panel_has_a_series_a_symbol():
    rows = np.random.default_rng(0).normal(size=(80, 2))
    index = pd.date_range("2024-01-01", periods=80, freq="h")
    frames = {name: pd.DataFrame(rows, index, columns=["a", "b"]) for name in "AB"}
    # B is halted in the middle.
    frames["B"] = frames["B"].drop(index[30:50])
    targets = {name: frame["a"] for name, frame in frames.items()}
    config = DataConfig(window=W, label_period=PERIOD)
    windows = all_windows(prepare(frames, targets, config), PERIOD)
    assert set(windows.series) == {0, 1}
    of_b = windows.series == 1
    assert (windows.known_at - windows.times)[~of_b & (windows.times < 77)].max() == PERIOD
    spans = (windows.known_at - windows.times)[of_b & (windows.times < 30)]
    assert sorted(set(spans)) == [PERIOD, PERIOD + 20]


def test_the_scaling_of_a_fold_does_not_move_when_later_rows_change():
    def change(rows, targets):
        rows[330:] = rows[330:] * 50 + 7
        targets[330:] = targets[330:] * 9 - 4

    found = []
    for data in (prepared(), prepared(change=change)):
        windows, folds = folds_of(data)
        found.append([fold_data(data, windows, fold)[1] for fold in folds])
    assert found[0][0] == found[1][0]
    assert found[0][2] != found[1][2]


def test_an_affine_scaling_of_the_whole_slice_drops_out():
    """A host's pipeline has seen the whole slice."""

    def scale(rows, targets):
        rows[:] = (rows - rows.mean(axis=0)) / (2 * rows.std(axis=0))
        targets[:] = targets / 5 + 1

    members = makers(ridge={})
    given, _ = forecast_folds(prepared(), members, PERIOD, 3)
    scaled, _ = forecast_folds(prepared(scale=scale), members, PERIOD, 3)
    forecasts = (scaled[0].evidence.forecasts - 1) * 5
    np.testing.assert_allclose(forecasts, given[0].evidence.forecasts, atol=1e-4)


def test_later_rows_change_no_earlier_forecast():
    def change(rows, targets):
        rows[500:], targets[500:] = 3.0, -8.0

    members = makers(ridge={}, lightgbm=TREES)
    before, _ = forecast_folds(prepared(), members, PERIOD, 3)
    after, _ = forecast_folds(prepared(change=change), members, PERIOD, 3)
    early = before[0].evidence.positions < 500
    # The last fold is trained on changed rows; the two before it are not.
    early &= before[0].evidence.folds < 2
    assert early.sum() > 150
    np.testing.assert_array_equal(
        before[0].evidence.forecasts[early], after[0].evidence.forecasts[early]
    )


def test_a_member_that_memorises_weighs_nothing_out_of_fold_and_everything_in_sample():
    data = prepared(1500)
    members = makers(memory=MEMORY, ridge={})
    (found,), failures = forecast_folds(data, members, PERIOD, 3)
    assert failures == {}
    weights, _ = learn_weights(found.evidence)
    assert weights[0] < 0.1
    rows, has_window = everywhere(data)
    ends = data.train.ends.numpy()
    said = [
        made().fit_windows(data).predict_windows(rows, has_window).point[ends, 0]
        for made in members.values()
    ]
    third = np.arange(len(ends)) * 3 // len(ends)
    targets = data.train.targets[:, 0].double().numpy()
    known_at, series = ends + PERIOD, np.zeros(len(ends))
    said = np.column_stack(said)
    trained_on = Evidence(said, targets, np.ones(len(ends)), third, ends, known_at, series)
    assert learn_weights(trained_on)[0][0] > 0.9


def test_fewer_rows_make_fewer_folds_and_the_log_says_how_many_rows_would_do(caplog):
    n = wanted_rows(3, PERIOD)
    times = np.arange(n)
    assert len(choose_folds(times, times + PERIOD, PERIOD, 3)) == 3
    with caplog.at_level(logging.WARNING):
        found = choose_folds(times[: n - 30], times[: n - 30] + PERIOD, PERIOD, 3)
    assert len(found) == 2
    assert min(len(fold.test) for fold in found) >= LEAST_ROWS
    assert f"{n - 30} windows are too few for 3 folds, so there are 2: {n} would do" in caplog.text
    assert choose_folds(times[:30], times[:30] + PERIOD, PERIOD, 3) == []


def test_rows_of_one_time_stand_in_one_fold():
    """Symbols of a panel share times."""
    times = np.repeat(np.arange(200), 3)
    for fold in choose_folds(times, times + PERIOD, PERIOD, 3):
        assert times[fold.train].max() + PERIOD < times[fold.test].min()


def test_a_failing_member_is_named_with_its_reason_and_the_others_go_on(caplog):
    members = makers(bad={"kind": "ridge", "lags": [W]}, ridge={})
    (found,), failures = forecast_folds(prepared(), members, PERIOD, 3)
    assert list(failures) == ["bad"]
    assert "lag 4 lies outside windows of 4 rows" in failures["bad"]
    assert "Member bad is left out, it fails in the fold from candle" in caplog.text
    assert np.isnan(found.evidence.forecasts[:, 0]).all()
    assert np.isfinite(found.evidence.forecasts[:, 1]).all()


@pytest.mark.parametrize("error", [StoppedError("stop"), MissingExtraError("x", "trees", "y")])
def test_a_stop_and_a_missing_library_end_everything(error):
    def stop(epoch):
        raise error

    with pytest.raises(type(error)):
        forecast_folds(prepared(), makers(lightgbm=TREES), PERIOD, 3, stop)


def test_forecasts_are_in_the_units_of_the_targets():
    def large(rows, targets):
        targets[:] = targets * 100 + 5000

    (found,), _ = forecast_folds(prepared(large=large), makers(ridge={}), PERIOD, 3)
    errors = found.evidence.forecasts[:, 0] - found.evidence.targets
    assert errors.std() == pytest.approx(100, rel=0.15)
    assert abs(errors.mean()) < 20
