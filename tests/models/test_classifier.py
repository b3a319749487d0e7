from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, load_model
from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.data.targets import read_classes
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, TrainingError

W = 4
SMALL = {"window": W, "hidden_size": 8, "num_layers": 1, "max_epochs": 3, "progress": False}


def make(n=120, seed=0):
    """Return rows and whether the row before was above 0."""
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    return rows, np.roll(rows[:, 0], 1) > 0


def named(is_up):
    return np.where(is_up, "up", "down")


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.net_.parameters()])


@pytest.fixture(scope="module")
def fitted():
    rows, is_up = make()
    return SequenceClassifier(**SMALL).fit(rows, named(is_up))


def test_it_learns_what_the_row_before_tells():
    rows, is_up = make(600)
    model = SequenceClassifier(
        window=W, hidden_size=16, num_layers=1, max_epochs=40, batch_size=32, learning_rate=0.01
    )
    new_rows, new_is_up = make(300, seed=1)
    assert model.fit(rows, named(is_up)).score(new_rows, named(new_is_up)) > 0.9


STRINGS = {
    "strings": named,
    "objects": lambda up: named(up).astype(object),
    "a list": lambda up: named(up).tolist(),
    "a series": lambda up: pd.Series(named(up)),
    "a series of objects": lambda up: pd.Series(named(up), dtype=object),
    "a series of pandas' strings": lambda up: pd.Series(named(up), dtype="str"),
    "a series of nullable strings": lambda up: pd.Series(named(up), dtype="string"),
    "categories": lambda up: pd.Series(named(up), dtype="category"),
    "categories in another order": lambda up: pd.Series(
        pd.Categorical(named(up), categories=["up", "down", "sideways"])
    ),
    "a frame of one column": lambda up: pd.DataFrame({"way": named(up)}),
}


@pytest.mark.parametrize("kind", STRINGS)
def test_strings_of_every_kind_are_the_same_classes(fitted, kind):
    rows, is_up = make()
    model = SequenceClassifier(**SMALL).fit(rows, STRINGS[kind](is_up))
    assert model.classes_.tolist() == ["down", "up"]
    assert torch.equal(weights_of(model), weights_of(fitted))
    np.testing.assert_array_equal(model.predict_proba(rows), fitted.predict_proba(rows))
    assert model.score(rows, STRINGS[kind](is_up)) == fitted.score(rows, named(is_up))


NUMBERS = {
    "ints": (lambda up: up.astype(int), [0, 1]),
    "small ints": (lambda up: up.astype(np.int8), [0, 1]),
    "ints below 0": (lambda up: 2 * up.astype(int) - 1, [-1, 1]),
    "whole floats": (lambda up: up.astype(np.float32), [0.0, 1.0]),
    "bools": (lambda up: up, [False, True]),
    "nullable ints": (lambda up: pd.Series(up.astype(int), dtype="Int64"), [0, 1]),
    "nullable bools": (lambda up: pd.Series(up, dtype="boolean"), [False, True]),
    "objects": (lambda up: up.astype(object), [False, True]),
    "categories": (lambda up: pd.Series(up.astype(int), dtype="category"), [0, 1]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_classes_that_come_back_as_they_were(fitted, kind, tmp_path):
    rows, is_up = make()
    convert, classes = NUMBERS[kind]
    model = SequenceClassifier(**SMALL).fit(rows, convert(is_up))
    assert model.classes_.tolist() == classes
    predicted = model.predict(rows)
    assert {type(value) for value in predicted[W:]} == {type(classes[0])}
    assert (predicted[W:] == classes[1]).tolist() == (fitted.predict(rows)[W:] == "up").tolist()
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert loaded.class_names == [classes]
    np.testing.assert_array_equal(loaded.predict(rows), predicted)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_a_row_without_a_class_is_context_all_the_same(missing):
    rows, is_up = make()
    targets = named(is_up).astype(object)
    targets[[60, 61]] = missing
    model = SequenceClassifier(**SMALL, valid_size=0).fit(rows, targets)
    assert model.history_.n_train_windows == 115
    assert model.classes_.tolist() == ["down", "up"]
    assert model.predict(rows)[60] in ("down", "up")
    right = (model.predict(rows) == named(is_up))[W - 1 :]
    right = np.delete(right, [60 - W + 1, 61 - W + 1])
    assert model.score(rows, targets) == pytest.approx(right.mean())


def test_classes_stand_in_their_order_and_probabilities_in_that_of_the_classes():
    rows, _ = make()
    which = np.random.default_rng(1).choice(["c", "b", "a"], len(rows))
    model = SequenceClassifier(**SMALL).fit(rows, which)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.model_meta_data == {"class_names": ["a", "b", "c"]}
    probabilities = model.predict_proba(rows)
    assert probabilities.shape == (120, 3)
    assert np.isnan(probabilities[: W - 1]).all()
    np.testing.assert_allclose(probabilities[W - 1 :].sum(axis=1), 1, rtol=1e-12)
    predicted = model.predict(rows)
    assert predicted[: W - 1].tolist() == [None] * 3
    best = model.classes_[probabilities[W - 1 :].argmax(axis=1)]
    assert predicted[W - 1 :].tolist() == best.tolist()
    # What is known without a window: how often each class was.
    train = which[W - 1 : 102]
    np.testing.assert_allclose(
        model.target_mean, [np.mean(train == name) for name in "abc"], rtol=1e-6
    )


def test_pandas_in_pandas_out():
    rows, is_up = make()
    frame = pd.DataFrame(rows, columns=list("abc"), index=pd.RangeIndex(1000, 1120))
    model = SequenceClassifier(**SMALL)
    model.fit(frame, pd.Series(named(is_up), name="way", index=frame.index))
    predicted, probabilities = model.predict(frame), model.predict_proba(frame)
    assert isinstance(predicted, pd.Series)
    assert predicted.name == "way"
    assert predicted.index.equals(frame.index)
    assert np.flatnonzero(predicted.isna()).tolist() == [0, 1, 2]
    assert list(probabilities) == ["down", "up"]
    assert probabilities.index.equals(frame.index)


def several(rows, is_up):
    levels = np.digitize(rows[:, 1], [-0.5, 0.5])
    return pd.DataFrame({"way": named(is_up), "level": levels})


def test_several_targets_have_their_own_classes(tmp_path):
    rows, is_up = make()
    frame = pd.DataFrame(rows)
    targets = several(rows, is_up)
    model = SequenceClassifier(**SMALL).fit(frame, targets)
    assert [classes.tolist() for classes in model.classes_] == [["down", "up"], [0, 1, 2]]
    probabilities = model.predict_proba(frame)
    assert list(probabilities) == ["way=down", "way=up", "level=0", "level=1", "level=2"]
    np.testing.assert_allclose(probabilities.iloc[W:, :2].sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(probabilities.iloc[W:, 2:].sum(axis=1), 1, rtol=1e-12)
    predicted = model.predict(frame)
    assert list(predicted) == ["way", "level"]
    right = (predicted == targets).iloc[W - 1 :]
    assert model.score(frame, targets) == pytest.approx(right.to_numpy(dtype=bool).mean())
    model.save(tmp_path / "model.zip")
    pd.testing.assert_frame_equal(load_model(tmp_path / "model.zip").predict(frame), predicted)


def test_several_targets_in_an_array_come_back_in_one():
    rows, is_up = make()
    both = np.c_[named(is_up), named(rows[:, 1] > 0)]
    model = SequenceClassifier(**SMALL).fit(rows, both)
    assert model.predict(rows).shape == (120, 2)
    assert model.predict_proba(rows).shape == (120, 4)


def test_a_row_that_lacks_one_of_several_targets_is_context():
    rows, is_up = make()
    targets = several(rows, is_up).astype(object)
    targets.iloc[60, 1] = None
    model = SequenceClassifier(**SMALL, valid_size=0).fit(rows, targets)
    assert model.history_.n_train_windows == 116


def test_balanced_classes_count_the_same():
    rows, _ = make(400)
    rare = np.where(np.random.default_rng(1).random(400) < 0.1, "rare", "common")
    options = {**SMALL, "max_epochs": 20, "learning_rate": 0.01, "valid_size": 0}
    plain = SequenceClassifier(**options).fit(rows, rare)
    balanced = SequenceClassifier(**options, class_weight="balanced").fit(rows, rare)
    assert np.nanmean(plain.predict_proba(rows)[:, 1]) == pytest.approx(0.1, abs=0.05)
    assert np.nanmean(balanced.predict_proba(rows)[:, 1]) == pytest.approx(0.5, abs=0.15)
    counts = {name: (rare[W - 1 :] == name).sum() for name in ("common", "rare")}
    by_hand = {name: 397 / (2 * count) for name, count in counts.items()}
    same = SequenceClassifier(**options, class_weight=by_hand).fit(rows, rare)
    torch.testing.assert_close(weights_of(same), weights_of(balanced), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("targets", "weights"),
    [
        (named, {"up": 3, "down": 1}),
        (named, {"up": np.float32(3), "down": np.int64(1)}),
        (lambda up: up.astype(int), {1: 3, 0: 1}),
        (lambda up: up.astype(int), {np.int64(1): 3.0, np.int64(0): 1.0}),
        (lambda up: up.astype(float), {1: 3, 0: 1}),
        (lambda up: up, {True: 3, False: 1}),
        # JSON has no keys but strings.
        (lambda up: up.astype(int), {"1": 3, "0": 1}),
    ],
)
def test_weights_of_classes_are_found_by_their_names(targets, weights, tmp_path):
    rows, is_up = make()
    by_row = np.where(is_up, 3.0, 1.0)
    options = {**SMALL, "valid_size": 0}
    model = SequenceClassifier(**options, class_weight=weights).fit(rows, targets(is_up))
    # Weights of rows are brought to mean 1, those of classes are not.
    expected = SequenceClassifier(**options).fit(rows, targets(is_up), sample_weight=by_row)
    scale = by_row[W - 1 :].mean()
    assert model.history_.epochs[0].train_loss == pytest.approx(
        scale * expected.history_.epochs[0].train_loss, rel=1e-3
    )
    assert clone(model).get_params() == model.get_params()
    model.save(tmp_path / "model.zip")
    assert load_model(tmp_path / "model.zip").get_params()["class_weight"] == weights


@pytest.mark.parametrize(
    ("weights", "wrong"),
    [
        ({"up": 2.0}, "'down'"),
        ({"up": 2.0, "down": 1.0, "sideways": 1.0}, "'sideways'"),
        ({"Up": 2.0, "down": 1.0}, "'up', 'Up'"),
        ({0: 1.0, 1: 1.0}, "'down', 'up', 0, 1"),
    ],
)
def test_weights_of_other_classes_are_refused(weights, wrong):
    rows, is_up = make()
    model = SequenceClassifier(**SMALL, class_weight=weights)
    message = f"the classes are 'down', 'up', and it differs in {wrong}"
    for _ in range(2):
        with pytest.raises(ConfigError, match=message):
            model.fit(rows, named(is_up))


def test_weights_of_several_targets_name_the_classes_of_all():
    rows, is_up = make()
    targets = several(rows, is_up)
    weights = {"up": 1.0, "down": 2.0, "0": 1.0, "1": 1.0, "2": 4.0}
    model = SequenceClassifier(**SMALL, class_weight=weights)
    assert weights_of(model.fit(rows, targets)).isfinite().all()
    # Nor does it matter what the model was trained on before.
    model.set_params(class_weight={"up": 1.0, "down": 2.0})
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"classes are .*'up', 0, 1, 2, .* in 0, 1, 2\."):
            model.fit(rows, targets)
        model.fit(rows, targets["way"])


def test_a_class_that_only_validation_knows_is_told(caplog):
    rows, is_up = make()
    which = named(is_up).astype(object)
    which[110:] = "new"
    with caplog.at_level(logging.WARNING):
        model = SequenceClassifier(**SMALL, class_weight="balanced").fit(rows, which)
    assert "No training row is of the class 'new'" in caplog.text
    assert model.classes_.tolist() == ["down", "new", "up"]
    assert model.target_mean[1] == 0


def test_one_class_is_nothing_to_tell_apart():
    rows, _ = make()
    with pytest.raises(
        DataError, match="All 99 training rows are of the class 'up', so there is n"
    ):
        SequenceClassifier(**SMALL).fit(rows, ["up"] * 120)
    late = np.where(np.arange(120) < 110, "up", "down")
    with pytest.raises(DataError, match="All 99 training rows are of the class 'up'"):
        SequenceClassifier(**SMALL).fit(rows, late)


def test_no_class_at_all_is_no_training_window():
    rows, _ = make()
    with pytest.raises(DataError, match="120 have finite features, 0 have targets"):
        SequenceClassifier(**SMALL).fit(rows, [None] * 120)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (lambda n: np.linspace(0, 1, n) + 0.1, "whole numbers or booleans, not 0.1. For other num"),
        (lambda n: [np.inf, 1.0] * (n // 2), "whole numbers or booleans, not inf"),
        (lambda n: pd.date_range("2025", periods=n), "whole numbers or booleans, not Timestamp"),
        (lambda n: pd.Series([("a",), ("b",)] * (n // 2)), r"or booleans, not \('a',\)"),
        (lambda n: ["a", 1] * (n // 2), "must be all strings, or all numbers"),
        (lambda n: ["a", "b"] * (n // 2 - 1), r"one row a row of X \(120\), its shape is \(118,\)"),
    ],
    ids=["floats", "infinity", "dates", "tuples", "a mixture", "too few"],
)
def test_what_is_no_class_is_refused(targets, message):
    rows, _ = make()
    with pytest.raises(DataError, match=message):
        SequenceClassifier(**SMALL).fit(rows, targets(120))


def test_an_eval_set_has_the_classes_of_the_training():
    rows, is_up = make()
    new_rows, new_is_up = make(50, seed=1)
    model = SequenceClassifier(**SMALL)
    model.fit(rows, named(is_up), eval_set=(new_rows, named(new_is_up)))
    assert (model.history_.n_train_windows, model.history_.n_valid_windows) == (117, 47)
    # Numbers are those of the training's classes, whatever the eval_set lacks.
    model.fit(rows, named(is_up), eval_set=(new_rows, ["up"] * 50))
    assert model.classes_.tolist() == ["down", "up"]
    other = named(new_is_up).astype(object)
    other[7] = "sideways"
    with pytest.raises(DataError, match="holds the class 'sideways'; the classes are 'down', 'up'"):
        model.fit(rows, named(is_up), eval_set=(new_rows, other))
    with pytest.raises(DataError, match="eval_set has 2 targets, y has 1"):
        model.fit(rows, named(is_up), eval_set=(new_rows, several(new_rows, new_is_up)))
    with pytest.raises(DataError, match="eval_set has 1 targets, y has 2"):
        model.fit(rows, several(rows, is_up), eval_set=(new_rows, named(new_is_up)))


def test_sample_weights_count():
    rows, is_up = make()
    weights = np.ones(120)
    weights[:60] = 0
    model = SequenceClassifier(**SMALL, valid_size=0)
    model.fit(rows, named(is_up), sample_weight=weights)
    assert model.history_.n_train_windows == 60
    one = {**SMALL, "max_epochs": 1}
    even = SequenceClassifier(**one).fit(rows, named(is_up))
    uneven = SequenceClassifier(**one).fit(rows, named(is_up), np.where(is_up, 5, 1))
    assert not torch.allclose(weights_of(even), weights_of(uneven), atol=1e-6)


def test_the_score_is_the_share_of_right_classes_over_rows_that_have_both(fitted):
    rows, is_up = make()
    targets = named(is_up).astype(object)
    targets[50] = None
    predicted = fitted.predict(rows)
    known = np.array(
        [p is not None and t is not None for p, t in zip(predicted, targets, strict=True)]
    )
    expected = accuracy_score(targets[known].tolist(), predicted[known].tolist())
    assert fitted.score(rows, targets) == pytest.approx(expected)
    with pytest.raises(DataError, match="No row has both a prediction and a target"):
        fitted.score(rows, [None] * 120)


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_a_score_wants_as_many_targets_as_there_are(kind):
    rows, is_up = make()
    model = kind(**SMALL).fit(rows, is_up.astype(int))
    with pytest.raises(DataError, match="y has 2 targets, and the model was trained on 1"):
        model.score(rows, np.c_[is_up, is_up].astype(int))


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_scikit_learn_takes_it_for_what_it_is(kind):
    assert is_classifier(kind()) == (kind is SequenceClassifier)
    assert is_regressor(kind()) == (kind is SequenceRegressor)


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_scikit_learn_validates_and_searches(kind):
    rows, is_up = make()
    targets = named(is_up) if kind is SequenceClassifier else rows[:, 0]
    scores = cross_val_score(kind(**SMALL), rows, targets, cv=TimeSeriesSplit(3))
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    losses = ["cross_entropy"] if kind is SequenceClassifier else ["mse", "mae"]
    search = GridSearchCV(
        kind(**SMALL),
        {
            "hidden_size": np.array([2, 4]),
            "dropout": np.array([0.0, 0.1]),
            "loss": np.array(losses),
        },
        cv=TimeSeriesSplit(2),
    )
    best = search.fit(rows, targets).best_estimator_
    assert best.is_fitted
    assert best.get_params()["hidden_size"] in (2, 4)


def test_a_searched_model_can_be_read_again(tmp_path):
    """Catches numbers and strings of NumPy's in a file of plain data."""
    rows, _ = make()
    model = SequenceRegressor(**{**SMALL, "progress": None}).set_params(
        hidden_size=np.int64(4),
        dropout=np.float64(0.1),
        loss=np.str_("mae"),
        device=np.str_("cpu"),
        valid_size=np.float64(0.2),
        label_period=np.int64(1),
        interval=np.float32(0.5),
    )
    model.fit(rows, rows[:, 0]).save(tmp_path / "model.zip")
    assert load_model(tmp_path / "model.zip").get_params() == model.get_params()


def test_a_training_that_fails_leaves_a_fitted_model_as_it_was(fitted, monkeypatch):
    rows, is_up = make()
    model = SequenceClassifier(**SMALL).fit(rows, named(is_up))
    before = {**vars(model)}
    probabilities = model.predict_proba(rows)

    def fail(*args, **options):
        raise TrainingError("stopped")

    monkeypatch.setattr("freqai_lstm_plugins.models.fitted.fit", fail)
    with pytest.raises(TrainingError):
        model.fit(rows[:, :2] * 100, rows[:, 0] > 0)
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict_proba(rows), probabilities)


def test_a_calibration_that_fails_leaves_a_fitted_model_as_it_was(monkeypatch):
    """Catches a net of the new training beside classes, scaling or margins of the old one."""
    rows, _ = make()
    model = SequenceRegressor(**SMALL, interval=0.8).fit(rows, rows[:, 0])
    before = {**vars(model)}

    def fail(*args, **options):
        raise MemoryError

    monkeypatch.setattr("freqai_lstm_plugins.models.regressor.predict_windows", fail)
    with pytest.raises(MemoryError):
        model.fit(rows[:, :2] * 100, rows[:, 0])
    assert vars(model) == before


def test_a_model_that_learns_on_knows_the_same_classes():
    rows, is_up = make()
    data = prepare(rows, named(is_up), DataConfig(window=W), read_targets=read_classes)
    model = SequenceClassifier(**SMALL).fit_windows(data)
    further = SequenceClassifier(**SMALL).fit_windows(data, start_from=model)
    assert not torch.equal(weights_of(further), weights_of(model))
    for classes in (["up", "down"], ["down", "sideways"]):
        other = replace(data, schema=replace(data.schema, classes=[classes]))
        with pytest.raises(MismatchError, match="trained on 2 classes, 2 are given"):
            SequenceClassifier(**SMALL).fit_windows(other, start_from=model)


@pytest.mark.parametrize("kind", [SequenceClassifier, SequenceRegressor])
def test_a_file_is_read_as_what_it_is(kind, tmp_path):
    rows, is_up = make()
    path = tmp_path / "model.zip"
    kind(**SMALL).fit(rows, is_up.astype(int)).save(path)
    assert type(load_model(path)) is kind
    assert type(kind.load(path)) is kind
    other = {SequenceClassifier, SequenceRegressor} - {kind}
    with pytest.raises(MismatchError, match=r"holds a .*read it with freqai_lstm_plugins\.load_mo"):
        other.pop().load(path)


def test_a_net_of_ones_own_has_one_output_a_class(tmp_path):
    class Flat(torch.nn.Module):
        def __init__(self, n_features, n_outputs):
            super().__init__()
            self.out = torch.nn.Linear(W * n_features, n_outputs)

        def forward(self, x):
            return self.out(x.flatten(1))

    rows, _ = make()
    which = np.random.default_rng(1).choice(["a", "b", "c"], 120)
    model = SequenceClassifier(Flat, W, max_epochs=2, progress=False).fit(rows, which)
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip", net=Flat)
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    with pytest.raises(DataError, match=r"to \(1, 2\), but the targets need \(1, 3\).* a class"):
        SequenceClassifier(lambda f, o: Flat(f, 2), W, progress=False).fit(rows, which)
