"""An ensemble is explained by its members' attributions and its weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from freqai_lstm_plugins.data.preparation import Prepared
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.explanations.ensemble import explain_ensemble, explain_fitted
from freqai_lstm_plugins.explanations.explanation import explain, explain_windows
from freqai_lstm_plugins.models.catalogue import new_model
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from tests.models.ensemble.windows import LSTM, PERIOD, TREES, W, prepared

pytest.importorskip("captum")
pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

LAGGED = {"n_estimators": 15, "lags": [0, 2]}
MEMBERS = {"lstm": LSTM, "ridge": {"lags": [0, 1]}, "lightgbm": TREES, "xgboost": LAGGED}
ENDS = torch.arange(100, 140)


@pytest.fixture(scope="module")
def data() -> Prepared:
    def second_lag_counts(rows, targets):
        targets[2:, 0] += rows[:-2, 1]

    return prepared(n_targets=2, change=second_lag_counts)


def fitted(data, members, weights=None):
    model = EnsembleRegressor(members, window=W, label_period=PERIOD, combine="mean")
    model.fit_windows(data)
    if weights is not None:
        weighed = [replace(one, weights=weights) for one in model.fitted.weighed]
        model.fitted = replace(model.fitted, weighed=weighed)
    return model


def test_attributions_add_up_to_what_the_forecast_moved(data):
    model = fitted(data, MEMBERS, [0.4, 0.3, 0.2, 0.1])
    found = explain_ensemble(model, data.train.rows, ENDS, target="y0")
    assert found.is_exact()
    assert found.moved > 0.1
    assert found.importance.shape == (4, W)
    assert found.features().index[0] == "x0"
    # A tree that looks two rows back finds what stands there.
    assert found.importance.loc["x1"].idxmax() == 2
    np.testing.assert_array_equal(found.rows, ENDS)


def test_one_member_is_explained_as_it_would_be_alone(data):
    model = fitted(data, {"lstm": LSTM})
    alone = new_model("lstm", LSTM, window=W, seed=42).fit_windows(data)
    one = explain_ensemble(model, data.train.rows, ENDS, target="y1")
    other = explain_windows(alone, data.train.rows, ENDS, target="y1")
    np.testing.assert_allclose(one.importance, other.importance, atol=1e-6)
    np.testing.assert_allclose(one.direction, other.direction, atol=1e-6)


@pytest.mark.parametrize("name", ["ridge", "lightgbm", "xgboost"])
def test_what_a_member_adds_up_to_is_its_own_forecast(data, name):
    model = new_model(name, MEMBERS[name], window=W, seed=1).fit_windows(data)
    rows, ends = data.train.rows.numpy(), ENDS.numpy()
    has_window = np.zeros(len(rows), dtype=bool)
    has_window[ends] = True
    point = model.predict_windows(rows, has_window).point[ends, 0]
    found, moved = model.attributions(rows, ends, 0)
    # What is left is the base, the same for every window.
    base = point - found.sum(axis=(1, 2))
    np.testing.assert_allclose(base, base[0], atol=1e-4)
    np.testing.assert_allclose(moved, found.sum(axis=(1, 2)))
    lags = model.config.lags
    unseen = [W - 1 - lag for lag in range(W) if lag not in lags]
    assert not found[:, unseen].any()


def test_attributions_are_weighed_as_the_forecasts_are(data):
    members = {"ridge": {}, "naive_zero": {}}
    whole = explain_ensemble(fitted(data, {"ridge": {}}), data.train.rows, ENDS)
    half = explain_ensemble(fitted(data, members, [0.5, 0.5]), data.train.rows, ENDS)
    np.testing.assert_allclose(half.importance, whole.importance / 2, atol=1e-9)


def test_the_member_that_is_chosen_at_a_row_is_explained_there(data):
    sure = {name: {**MEMBERS[name], "loss": "quantile"} for name in ("lightgbm", "xgboost")}
    model = EnsembleRegressor(sure, window=W, label_period=PERIOD, combine="confident")
    model.fit_windows(data)
    found = explain_fitted(model, data.train.rows, ENDS)
    assert found.is_exact()


def test_a_class_and_an_unknown_target_are_refused(data):
    model = fitted(data, {"ridge": {}})
    with pytest.raises(ConfigError, match="target 'y9' is none of the model's: y0, y1"):
        explain_ensemble(model, data.train.rows, ENDS, target="y9")
    with pytest.raises(ConfigError, match="'y0' is a number: it has no classes"):
        explain_fitted(model, data.train.rows, ENDS, label_class="up")
    with pytest.raises(ConfigError, match="this ensemble was trained on rows that a host scales"):
        explain(model, np.zeros((9, 4)))
