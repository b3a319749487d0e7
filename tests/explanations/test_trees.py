"""What trees look at, held against the libraries' own contributions."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor

from freqai_lstm_plugins import explain_trees
from freqai_lstm_plugins.errors import ConfigError, DataError

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

FEATURES = ["a", "b", "c", "d"]
SETTINGS = {"n_estimators": 15, "n_jobs": 1}
REGRESSORS = {
    "lightgbm": lambda: lightgbm.LGBMRegressor(**SETTINGS, verbosity=-1),
    "xgboost": lambda: xgboost.XGBRegressor(**SETTINGS),
}
CLASSIFIERS = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(**SETTINGS, verbosity=-1),
    "xgboost": lambda: xgboost.XGBClassifier(**SETTINGS),
}


@pytest.fixture
def rows():
    return pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=FEATURES)


@pytest.fixture(params=REGRESSORS)
def library(request):
    return request.param


def own_contributions(model, rows):
    """Ask the library itself: (N, F)."""
    if isinstance(model, lightgbm.LGBMModel):
        return np.asarray(model.predict(rows.to_numpy(), pred_contrib=True))[:, :-1]
    matrix = xgboost.DMatrix(rows.to_numpy())
    return model.get_booster().predict(matrix, pred_contribs=True)[:, :-1]


def test_importances_are_the_means_of_the_librarys_own_contributions(rows, library):
    # On arrays, as FreqAI trains.
    model = REGRESSORS[library]().fit(rows.to_numpy(), 2 * rows["b"] - rows["d"])
    found = explain_trees(model, rows, max_windows=100)
    expected = own_contributions(model, rows.iloc[-100:])
    np.testing.assert_allclose(found.importance[0], np.abs(expected).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.direction[0], expected.mean(axis=0), atol=1e-6)
    assert list(found.features().index[:2]) == ["b", "d"]
    assert list(found.importance.columns) == [0]
    assert list(found.rows) == list(range(200, 300))
    assert found.gap < 1e-5
    assert found.is_exact()


def test_a_model_of_several_targets_is_explained_target_by_target(rows, library):
    targets = np.column_stack([rows["a"], rows["c"]])
    model = MultiOutputRegressor(REGRESSORS[library]()).fit(rows.to_numpy(), targets)
    names = ["&-one", "&-two"]
    assert explain_trees(model, rows, label_names=names).features().index[0] == "a"
    two = explain_trees(model, rows, target="&-two", label_names=names)
    assert two.features().index[0] == "c"
    assert two.target == "&-two"


def test_of_two_classes_one_is_the_others_opposite(rows, library):
    model = CLASSIFIERS[library]().fit(rows.to_numpy(), (rows["b"] > 0).astype(int))
    up = explain_trees(model, rows, class_names=["down", "up"])
    down = explain_trees(model, rows, class_names=["down", "up"], label_class="down")
    assert (up.target, down.target, up.unit) == ("y0 = up", "y0 = down", "log odds")
    np.testing.assert_allclose(up.direction, -down.direction)
    assert up.features().index[0] == "b"
    assert up.gap < 1e-4


def test_each_of_three_classes_has_its_own_driver(rows, library):
    numbers = np.where(rows["a"] > 0.5, 2, np.where(rows["c"] > 0.5, 1, 0))
    model = CLASSIFIERS[library]().fit(rows.to_numpy(), numbers)
    assert explain_trees(model, rows).features().index[0] == "a"
    found = explain_trees(model, rows, label_class=1)
    assert found.features().index[0] in {"a", "c"}
    assert (found.target, found.unit) == ("y0 = 1", "logit")
    assert found.gap < 1e-4


def test_classes_that_the_trees_know_by_name_keep_it(rows):
    names = np.where(rows["b"] > 0, "up", "down")
    model = CLASSIFIERS["lightgbm"]().fit(rows.to_numpy(), names)
    assert explain_trees(model, rows, class_names=["x", "y"]).target == "y0 = up"


def test_trees_after_an_early_stop_are_not_counted(rows, library):
    targets = rows["b"] + np.random.default_rng(1).normal(size=300)
    stop = {"n_estimators": 200, "early_stopping_rounds": 3, "n_jobs": 1}
    if library == "lightgbm":
        model = lightgbm.LGBMRegressor(**stop, verbosity=-1)
        options = {}
    else:
        model, options = xgboost.XGBRegressor(**stop), {"verbose": False}
    x, y = rows.to_numpy(), targets.to_numpy()
    with warnings.catch_warnings():
        # LightGBM has another name for it now, as for XGBoost it has not.
        warnings.simplefilter("ignore")
        model.fit(x[:200], y[:200], eval_set=[(x[200:], y[200:])], **options)
    one, two = (explain_trees(model, rows.iloc[[i]]).direction[0].sum() for i in (3, 7))
    predicted = model.predict(x)
    assert one - two == pytest.approx(predicted[3] - predicted[7], abs=1e-5)


def test_what_cannot_be_explained_is_told(rows):
    model = REGRESSORS["lightgbm"]().fit(rows.to_numpy(), rows["a"])
    with pytest.raises(DataError, match="trained on 4 features, 3 are given"):
        explain_trees(model, rows[["a", "b", "c"]])
    with pytest.raises(DataError, match="X holds no row"):
        explain_trees(model, rows.iloc[:0])
    with pytest.raises(ConfigError, match="target '&-x' is none of the model's: y0"):
        explain_trees(model, rows, target="&-x")
    with pytest.raises(ConfigError, match="label_class is 'up', but 'y0' is a number"):
        explain_trees(model, rows, label_class="up")
    with pytest.raises(ConfigError, match=r"sklearn\.Ridge is no model that can be explained"):
        explain_trees(Ridge().fit(rows, rows["a"]), rows)
