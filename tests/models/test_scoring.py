"""What scikit-learn scores, and what classes come back as."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.scoring import WindowScorer

W = 4
SMALL = {"window": W, "hidden_size": 4, "num_layers": 1, "max_epochs": 2, "progress": False}


def make(n=90):
    rows = np.random.default_rng(0).normal(size=(n, 3))
    return rows, np.roll(rows[:, 0], 1)


def test_every_fold_is_scored_on_the_rows_that_have_a_prediction():
    rows, y = make()
    scorer = WindowScorer("neg_mean_squared_error")
    scores = cross_val_score(
        SequenceRegressor(**SMALL), rows, y, scoring=scorer, cv=TimeSeriesSplit(3)
    )
    assert np.isfinite(scores).all()
    model = SequenceRegressor(**SMALL).fit(rows, y)
    expected = -mean_squared_error(y[W - 1 :], model.predict(rows)[W - 1 :])
    assert scorer(model, rows, y) == pytest.approx(expected)
    y[10] = np.nan
    known = np.isfinite(y) & (np.arange(90) >= W - 1)
    expected = -mean_squared_error(y[known], model.predict(rows)[known])
    assert scorer(model, rows, y) == pytest.approx(expected)
    with pytest.raises(DataError, match="No row has both"):
        scorer(model, rows[: W - 1], y[: W - 1])


@pytest.mark.parametrize("metric", ["accuracy", "neg_log_loss", "roc_auc", "f1"])
def test_classifiers_are_scored_by_labels_and_by_probabilities(metric):
    rows, y = make()
    model = SequenceClassifier(**SMALL).fit(rows, (y > 0).astype(int))
    told = model.predict_proba(rows)[W - 1 :]
    score = WindowScorer(metric)(model, rows, (y > 0).astype(int))
    assert np.isfinite(score)
    if metric == "neg_log_loss":
        assert score == pytest.approx(-log_loss((y > 0)[W - 1 :], told))
    if metric == "accuracy":
        expected = accuracy_score((y > 0)[W - 1 :].astype(int), told.argmax(axis=1))
        assert score == pytest.approx(expected)


def test_a_search_chooses_by_the_score():
    rows, y = make()
    search = GridSearchCV(
        SequenceRegressor(**SMALL),
        {"learning_rate": [1e-9, 0.05]},
        scoring=WindowScorer("neg_mean_squared_error"),
        cv=TimeSeriesSplit(2),
        n_jobs=1,
    )
    search.fit(rows, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_the_readmes_search_runs_as_it_stands():
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (block,) = (block for block in blocks if "WindowScorer(" in block)
    rows, y = make(400)
    names = {"X": rows, "y": y}
    exec(block, names)
    assert np.isfinite(names["search"].cv_results_["mean_test_score"]).all()


def test_scores_take_weights():
    rows, y = make()
    weights = np.random.default_rng(1).uniform(0, 3, 90)
    model = SequenceRegressor(**SMALL).fit(rows, y)
    known = slice(W - 1, None)
    expected = r2_score(y[known], model.predict(rows)[known], sample_weight=weights[known])
    assert model.score(rows, y, sample_weight=weights) == pytest.approx(expected)
    scorer = WindowScorer("r2")
    assert scorer(model, rows, y, sample_weight=weights) == pytest.approx(expected)
    classifier = SequenceClassifier(**SMALL).fit(rows, y > 0)
    right = classifier.predict(rows)[known] == (y > 0)[known]
    expected = np.average(right.astype(float), weights=weights[known])
    assert classifier.score(rows, y > 0, weights) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "kind"), [([0, 1], int), ([False, True], bool)])
def test_classes_keep_their_type(values, kind):
    rows, y = make()
    which = np.where(y > 0, *values[::-1])
    whole = SequenceClassifier(**{**SMALL, "window": 1}).fit(rows, which).predict(rows)
    assert whole.dtype == np.dtype(kind)
    frame = pd.DataFrame(rows)
    model = SequenceClassifier(**SMALL).fit(frame, pd.Series(which, name="up"))
    told = model.predict(frame)
    assert str(told.dtype) == {int: "Int64", bool: "boolean"}[kind]
    assert told.isna().sum() == W - 1
    assert (told.dropna() == values[1]).any()
    # An array has no missing whole number.
    assert model.predict(rows)[: W - 1].tolist() == [None] * (W - 1)
