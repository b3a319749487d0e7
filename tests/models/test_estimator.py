from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, TrainingError

W = 4
SMALL = {"window": W, "hidden_size": 8, "num_layers": 1, "max_epochs": 3, "progress": False}


def make(n=120, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)) * [1, 10, 0.1] + [0, 5, -3]
    targets = np.roll(rows[:, 0], 1) * 3 + 7
    return rows, targets


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.net_.parameters()])


def test_it_learns_what_the_row_before_tells():
    rows, targets = make(600)
    model = SequenceRegressor(
        window=W, hidden_size=16, num_layers=1, max_epochs=60, batch_size=32, learning_rate=0.01
    )
    assert model.fit(rows, targets).score(*make(300, seed=1)) > 0.8


def test_only_the_first_rows_have_no_prediction():
    rows, targets = make()
    predicted = SequenceRegressor(**SMALL).fit(rows, targets).predict(rows)
    assert predicted.shape == (120,)
    assert np.flatnonzero(np.isnan(predicted)).tolist() == [0, 1, 2]


def test_targets_in_columns_come_back_in_columns():
    rows, targets = make()
    predicted = SequenceRegressor(**SMALL).fit(rows, np.c_[targets, -targets]).predict(rows)
    assert predicted.shape == (120, 2)


def test_pandas_in_pandas_out_with_names_and_index():
    rows, targets = make()
    frame = pd.DataFrame(rows, columns=["a", "b", "c"], index=pd.RangeIndex(1000, 1120))
    model = SequenceRegressor(**SMALL).fit(frame, pd.Series(targets, name="up", index=frame.index))
    predicted = model.predict(frame)
    assert isinstance(predicted, pd.Series)
    assert predicted.name == "up"
    assert predicted.index.equals(frame.index)
    assert model.feature_names_in_ == ["a", "b", "c"]
    # A frame of one column comes back as one.
    one = pd.DataFrame({"up": targets}, index=frame.index)
    assert list(SequenceRegressor(**SMALL).fit(frame, one).predict(frame)) == ["up"]
    both = pd.DataFrame({"up": targets, "down": -targets}, index=frame.index)
    assert list(SequenceRegressor(**SMALL).fit(frame, both).predict(frame)) == ["up", "down"]


# The last two are numbers, but none in the float32 of nets.
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39, -1e300])
def test_no_window_holds_a_row_that_is_not_finite(bad):
    rows, targets = make()
    model = SequenceRegressor(**SMALL).fit(rows, targets)
    before = model.predict(rows)
    rows[50, 1] = bad
    predicted = model.predict(rows)
    assert np.flatnonzero(np.isnan(predicted)).tolist() == [0, 1, 2, 50, 51, 52, 53]
    known = ~np.isnan(predicted)
    np.testing.assert_allclose(predicted[known], before[known], rtol=1e-5)


def test_a_row_that_scaling_makes_too_large_counts_as_missing():
    rows, targets = make()
    # Alone in the validation part, and a number of float32 before it is scaled.
    rows[110, 2] = 1e38
    model = SequenceRegressor(**SMALL).fit(rows, targets)
    assert model.history_.n_valid_windows == 18 - W
    predicted = model.predict(rows)
    assert np.flatnonzero(np.isnan(predicted)).tolist() == [0, 1, 2, 110, 111, 112, 113]


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(bad_rows=st.sets(st.integers(0, 29), max_size=6))
def test_a_row_has_a_prediction_exactly_if_its_window_is_whole(fitted, bad_rows):
    rows, _ = make(30)
    rows[sorted(bad_rows), 2] = np.nan
    expected = [end >= W - 1 and not bad_rows & {*range(end - W + 1, end + 1)} for end in range(30)]
    assert (~np.isnan(fitted.predict(rows))).tolist() == expected


def test_the_newest_rows_alone_give_the_same_prediction(fitted):
    rows, _ = make()
    newest = fitted.predict(rows[-W:])
    np.testing.assert_allclose(newest[-1], fitted.predict(rows)[-1], rtol=1e-5)
    assert np.isnan(newest[:-1]).all()


def test_fewer_rows_than_a_window_have_no_prediction(fitted):
    assert np.isnan(fitted.predict(make()[0][: W - 1])).all()
    assert fitted.predict(make()[0][:0]).shape == (0,)


def test_a_row_without_a_target_is_context_all_the_same():
    rows, targets = make()
    targets[60] = np.nan
    model = SequenceRegressor(**SMALL, valid_size=0).fit(rows, targets)
    # 120 rows, 3 without a past, 1 without a target.
    assert model.history_.n_train_windows == 116
    assert not np.isnan(model.predict(rows)[60])


def test_a_row_without_weight_is_a_row_without_target():
    rows, targets = make()
    weights = np.ones(120)
    weights[[20, 60, 115]] = 0
    without = targets.copy()
    without[[20, 60, 115]] = np.nan
    first = SequenceRegressor(**SMALL).fit(rows, targets, sample_weight=weights)
    second = SequenceRegressor(**SMALL).fit(rows, without)
    assert torch.equal(weights_of(first), weights_of(second))
    assert first.history_.best_loss == second.history_.best_loss


def test_sample_weights_count_in_training_and_in_validation():
    rows, targets = make()
    one = {**SMALL, "max_epochs": 1}
    even = SequenceRegressor(**one).fit(rows, targets)
    # Rows 102 to 119 validate.
    late, early = np.ones(120), np.ones(120)
    late[110:], early[:50] = 5, 5
    for_valid = SequenceRegressor(**one).fit(rows, targets, sample_weight=late)
    assert torch.equal(weights_of(for_valid), weights_of(even))
    assert for_valid.history_.best_loss != even.history_.best_loss
    for_train = SequenceRegressor(**one).fit(rows, targets, sample_weight=early)
    assert not torch.allclose(weights_of(for_train), weights_of(even), atol=1e-6)


def test_windows_break_where_time_jumps_if_the_step_is_known():
    rows, targets = make()
    index = pd.date_range("2025-01-01", periods=121, freq="5min").delete(40)
    frame = pd.DataFrame(rows, index=index)
    blind = SequenceRegressor(**SMALL).fit(frame, targets)
    assert np.flatnonzero(blind.predict(frame).isna()).tolist() == [0, 1, 2]
    aware = SequenceRegressor(**SMALL, step="5min").fit(frame, targets)
    assert np.flatnonzero(aware.predict(frame).isna()).tolist() == [0, 1, 2, 40, 41, 42]
    # Whatever the time zone.
    zoned = frame.tz_localize("UTC")
    assert aware.predict(zoned).isna().tolist() == aware.predict(frame).isna().tolist()
    # So many windows are trained on and validated as there are.
    assert aware.history_.n_train_windows + aware.history_.n_valid_windows == 114
    with pytest.raises(DataError, match="step = '5min' needs a DataFrame with a DatetimeIndex"):
        SequenceRegressor(**SMALL, step="5min").fit(rows, targets)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(row=st.integers(0, 59), value=st.floats(-1e3, 1e3))
def test_changing_a_row_changes_no_earlier_prediction(fitted, row, value):
    rows, _ = make(60)
    before = fitted.predict(rows)
    rows[row] = value
    after = fitted.predict(rows)
    np.testing.assert_array_equal(after[:row], before[:row])
    # Nor one whose window has passed the row.
    np.testing.assert_allclose(after[row + W :], before[row + W :], rtol=1e-5)


@pytest.fixture(scope="module")
def fitted():
    return SequenceRegressor(**SMALL).fit(*make())


def test_weights_know_nothing_of_validation_but_which_epoch_was_best():
    rows, targets = make()
    other_rows, other_targets = rows.copy(), targets.copy()
    # 117 targets, the last 18 of them validate: rows 102 to 119.
    other_rows[102:] = 1e3
    other_targets[102:] = -1e3
    # With one epoch there is nothing to choose.
    one = {**SMALL, "max_epochs": 1}
    first = SequenceRegressor(**one).fit(rows, targets)
    second = SequenceRegressor(**one).fit(other_rows, other_targets)
    assert first.history_.n_valid_windows == 18
    assert torch.equal(weights_of(first), weights_of(second))


def test_the_purge_leaves_out_the_targets_before_validation():
    rows, targets = make()
    one = {**SMALL, "max_epochs": 1, "label_period": 5}
    first = SequenceRegressor(**one).fit(rows, targets)
    purged = targets.copy()
    purged[97:102] = 1e3
    assert torch.equal(weights_of(first), weights_of(SequenceRegressor(**one).fit(rows, purged)))
    purged[96] = 1e3
    assert not torch.equal(
        weights_of(first), weights_of(SequenceRegressor(**one).fit(rows, purged))
    )


def test_scaling_is_fitted_on_training_rows_only():
    rows, targets = make()
    model = SequenceRegressor(**SMALL, label_period=5).fit(rows, targets)
    # 117 targets, rows 3 to 119; 102 to 119 validate, and 97 to 101 are purged.
    scaling = model.to_state()["scaling"]
    np.testing.assert_allclose(scaling["feature_mean"], rows[:97].mean(axis=0))
    np.testing.assert_allclose(scaling["feature_std"], rows[:97].std(axis=0))
    np.testing.assert_allclose(scaling["target_mean"], [targets[3:97].mean()])
    np.testing.assert_allclose(scaling["target_std"], [targets[3:97].std()])


def test_the_units_of_features_and_targets_do_not_matter():
    rows, targets = make()
    first = SequenceRegressor(**SMALL).fit(rows, targets).predict(rows)
    second = (
        SequenceRegressor(**SMALL).fit(rows * 1000 - 5, targets * 1e-4 + 2).predict(rows * 1000 - 5)
    )
    np.testing.assert_allclose((second - 2) * 1e4, first, rtol=1e-3, atol=1e-3)


def test_what_is_given_stays_as_it_was():
    rows, targets = make()
    weights = np.ones(120)
    before = rows.copy(), targets.copy()
    SequenceRegressor(**SMALL, scale=False).fit(rows, targets, sample_weight=weights).predict(rows)
    np.testing.assert_array_equal(rows, before[0])
    np.testing.assert_array_equal(targets, before[1])
    assert weights.tolist() == [1.0] * 120


def test_a_training_that_fails_leaves_a_fitted_model_as_it_was():
    rows, targets = make()
    model = SequenceRegressor(**SMALL).fit(rows, targets)
    before = model.predict(rows)
    two = np.c_[targets, targets] * 1000
    with pytest.raises(TrainingError):
        model.fit(rows * 50, two, eval_set=(rows * 50, two * 1e30))
    np.testing.assert_array_equal(model.predict(rows), before)


def test_an_eval_set_takes_the_place_of_the_split():
    rows, targets = make()
    model = SequenceRegressor(**SMALL).fit(rows, targets, eval_set=make(50, seed=1))
    assert (model.history_.n_train_windows, model.history_.n_valid_windows) == (117, 47)
    # An array has no names that could differ from those of a frame.
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    model = SequenceRegressor(**SMALL).fit(frame, targets, eval_set=make(50, seed=1))
    assert model.history_.n_valid_windows == 47


def test_sample_weights_count():
    rows, targets = make()
    weights = np.ones(120)
    weights[:60] = 0
    model = SequenceRegressor(**SMALL, valid_size=0).fit(rows, targets, sample_weight=weights)
    assert model.history_.n_train_windows == 60


def test_a_constant_column_harms_nothing():
    rows, targets = make()
    rows[:, 1] = 0.1
    predicted = SequenceRegressor(**SMALL).fit(rows, targets).predict(rows)
    assert np.isfinite(predicted[W:]).all()


def test_scikit_learns_habits():
    model = SequenceRegressor(net="gru", hidden_dim=5, window=7, label_period=2)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["hidden_size"] == 5
    assert model.set_params(window=9, n_layer=1).get_params()["num_layers"] == 1
    assert model.window == 9
    # Steps alone decide how long to train, as in the constructor.
    assert model.set_params(n_steps=50).get_params()["max_epochs"] is None
    assert model.set_params(n_steps=50, n_epochs=3).get_params()["max_epochs"] == 3
    # A net of one's own has its settings in its maker.
    assert model.set_params(net=OwnNet).net is OwnNet
    assert "hidden_size" not in model.get_params()
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(net="lstm", hidden_size=3).net_config.hidden_size == 3


def test_a_wrong_parameter_changes_nothing(fitted):
    before = fitted.get_params()
    with pytest.raises(ConfigError, match="window must be"):
        fitted.set_params(net="gru", window=0)
    assert fitted.get_params() == before
    assert fitted.is_fitted


def test_changed_parameters_ask_for_a_new_training():
    model = SequenceRegressor(**SMALL).fit(*make())
    assert not model.set_params(window=5).is_fitted


def test_a_pickled_model_predicts_the_same(fitted):
    rows, _ = make()
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict(rows), fitted.predict(rows))


def test_cross_validation_scores_every_fold():
    scores = cross_val_score(SequenceRegressor(**SMALL), *make(), cv=TimeSeriesSplit(2))
    assert np.isfinite(scores).all()


def test_the_score_is_r2_over_rows_that_have_both(fitted):
    rows, targets = make()
    predicted = fitted.predict(rows)
    targets[50] = np.nan
    known = np.isfinite(predicted) & np.isfinite(targets)
    expected = r2_score(targets[known], predicted[known])
    assert fitted.score(rows, targets) == pytest.approx(expected)
    with pytest.raises(DataError, match="No row has both a prediction and a target"):
        fitted.score(rows, targets * np.nan)


def test_a_grid_search_finds_its_way():
    rows, targets = make()
    search = GridSearchCV(
        SequenceRegressor(**SMALL),
        {"hidden_size": np.array([2, 4])},
        cv=TimeSeriesSplit(2),
        refit=True,
    )
    search.fit(rows, targets)
    assert search.best_params_["hidden_size"] in (2, 4)
    assert search.best_estimator_.is_fitted


class OwnNet(nn.Module):
    def __init__(self, n_features, n_targets):
        super().__init__()
        self.out = nn.Linear(W * n_features, n_targets)

    def forward(self, x):
        return self.out(x.flatten(1))


def test_a_net_of_ones_own_is_saved_and_loaded_with_its_maker(tmp_path):
    rows, targets = make()
    model = SequenceRegressor(OwnNet, W, max_epochs=2).fit(rows, targets)
    model.save(tmp_path / "own.zip")
    loaded = SequenceRegressor.load(tmp_path / "own.zip", net=OwnNet)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    with pytest.raises(MismatchError, match=r"weights of 'OwnNet'.*net=make_net"):
        SequenceRegressor.load(tmp_path / "own.zip")
    with pytest.raises(MismatchError, match="do not fit the net 'OwnNet'"):
        SequenceRegressor.load(tmp_path / "own.zip", net=lambda f, k: nn.Linear(f, k))
    with pytest.raises(ConfigError, match=r"gave a int, not a torch nn\.Module"):
        SequenceRegressor(lambda f, k: 3, W).fit(rows, targets)


def test_the_history_can_be_drawn(fitted, tmp_path):
    fitted.plot_history(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_name_under_which_freqai_finds_the_net(fitted):
    assert fitted.model is fitted.net_
    assert repr(fitted) == "SequenceRegressor(net='lstm', window=4, fitted)"
    assert (
        repr(SequenceRegressor(OwnNet)) == "SequenceRegressor(net='OwnNet', window=24, not fitted)"
    )
