from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError

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
    both = pd.DataFrame({"up": targets, "down": -targets}, index=frame.index)
    assert list(SequenceRegressor(**SMALL).fit(frame, both).predict(frame)) == ["up", "down"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_window_holds_a_row_that_is_not_finite(bad):
    rows, targets = make()
    model = SequenceRegressor(**SMALL).fit(rows, targets)
    before = model.predict(rows)
    rows[50, 1] = bad
    predicted = model.predict(rows)
    assert np.flatnonzero(np.isnan(predicted)).tolist() == [0, 1, 2, 50, 51, 52, 53]
    known = ~np.isnan(predicted)
    np.testing.assert_allclose(predicted[known], before[known], rtol=1e-5)


def test_a_row_without_a_target_is_context_all_the_same():
    rows, targets = make()
    targets[60] = np.nan
    model = SequenceRegressor(**SMALL, valid_size=0).fit(rows, targets)
    # 120 rows, 3 without a past, 1 without a target.
    assert model.history_.n_train_windows == 116
    assert not np.isnan(model.predict(rows)[60])


def test_windows_break_where_time_jumps_if_the_step_is_known():
    rows, targets = make()
    index = pd.date_range("2025-01-01", periods=121, freq="5min").delete(40)
    frame = pd.DataFrame(rows, index=index)
    blind = SequenceRegressor(**SMALL).fit(frame, targets)
    assert np.flatnonzero(blind.predict(frame).isna()).tolist() == [0, 1, 2]
    aware = SequenceRegressor(**SMALL, step="5min").fit(frame, targets)
    assert np.flatnonzero(aware.predict(frame).isna()).tolist() == [0, 1, 2, 40, 41, 42]
    with pytest.raises(DataError, match="step = '5min' needs a DataFrame with a DatetimeIndex"):
        SequenceRegressor(**SMALL, step="5min").fit(rows, targets)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
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


def test_an_eval_set_takes_the_place_of_the_split():
    rows, targets = make()
    model = SequenceRegressor(**SMALL).fit(rows, targets, eval_set=make(50, seed=1))
    assert (model.history_.n_train_windows, model.history_.n_valid_windows) == (117, 47)


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


def test_a_grid_search_finds_its_way():
    rows, targets = make()
    search = GridSearchCV(
        SequenceRegressor(**SMALL), {"hidden_size": [2, 4]}, cv=TimeSeriesSplit(2), refit=True
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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: SequenceRegressor("lstm", 4).predict(x), ConfigError, "not fitted yet"),
        (lambda x, y: SequenceRegressor("lstn"), ConfigError, "unknown net 'lstn'"),
        (lambda x, y: SequenceRegressor(window=0), ConfigError, "window must be an integer"),
        (lambda x, y: SequenceRegressor(valid_size=1), ConfigError, "valid_size must be from 0"),
        (lambda x, y: SequenceRegressor(label_period=-1), ConfigError, "label_period must be"),
        (lambda x, y: SequenceRegressor(hiddensize=3), ConfigError, "'hiddensize'.*'hidden_size'"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x[0], y), DataError, "X must have shape"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x[:, :0], y), DataError, "X must have shape"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x, y[:-1]), DataError, "one row a row of X"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x[:3], y[:3]), DataError, "No training wind"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x * np.nan, y), DataError, "0 have finite"),
        (lambda x, y: SequenceRegressor(**SMALL).fit(x, y * np.inf), DataError, "0 have targets"),
        (
            lambda x, y: SequenceRegressor(**SMALL).fit(x, y, sample_weight=np.ones(3)),
            DataError,
            r"sample_weight must have shape \(120,\), not \(3,\)",
        ),
        (
            lambda x, y: SequenceRegressor(**SMALL, label_period=200).fit(x, y),
            DataError,
            "smaller valid_size or label_period",
        ),
        (
            lambda x, y: SequenceRegressor(**SMALL).fit(x, y).predict(x[:, :2]),
            MismatchError,
            "trained on 3 features, 2 are given",
        ),
        (
            lambda x, y: (
                SequenceRegressor(**SMALL)
                .fit(pd.DataFrame(x, columns=list("abc")), y)
                .predict(pd.DataFrame(x, columns=list("abd")))
            ),
            MismatchError,
            "missing c; not known to the model d",
        ),
        (
            lambda x, y: (
                SequenceRegressor(**SMALL)
                .fit(pd.DataFrame(x, columns=list("abc")), y)
                .predict(pd.DataFrame(x, columns=list("acb")))
            ),
            MismatchError,
            "another order, first 'c' where the model has 'b'",
        ),
    ],
)
def test_what_cannot_work_says_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(*make())
