"""Texts of trees are read by strict rules before LightGBM's and XGBoost's parsers see them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.errors import MismatchError, TrainingError
from freqai_lstm_plugins.models.catalogue import TABULAR, new_model
from freqai_lstm_plugins.models.tree_texts import sound_lightgbm, sound_xgboost
from tests.models.ensemble.windows import W, prepared

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

SOUND = {"lightgbm": sound_lightgbm, "xgboost": sound_xgboost}
SETTINGS = [
    {"n_estimators": 30},
    {"n_estimators": 4, "loss": "quantile"},
    {"n_estimators": 4, "loss": "mae", "lags": [0, 2]},
    {"n_estimators": 4, "subsample": 0.5, "colsample_bytree": 0.5},
]
# Leaves too large for any split, and splits that are taken back.
STUMPS = {"lightgbm": {"min_child_samples": 10_000}, "xgboost": {"gamma": 30.0}}


def panel():
    """Eight symbols, whose number is a category to trees."""
    rng = np.random.default_rng(0)
    names = "ABCDEFGH"
    rows = {name: rng.normal(size=(120, 3)) for name in names}
    targets = {
        name: rows[name][:, 0] + names.index(name) % 3 + 0.1 * rng.normal(size=120)
        for name in names
    }
    return prepare(rows, targets, DataConfig(window=W, symbol_embedding=2, valid_size=0.2))


def trained(kind, data, **settings):
    model = new_model(kind, settings, window=W, seed=1).fit_windows(data)
    schema = data.schema
    n_columns = len(schema.feature_names) * len(model.config.lags) + bool(schema.symbols)
    return model, n_columns


@pytest.fixture(scope="module", params=SOUND)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def text(kind):
    model, n_columns = trained(kind, prepared(300), n_estimators=3)
    return model.learned(0)[0], n_columns


@pytest.mark.parametrize("make", [lambda: prepared(300), panel], ids=["numbers", "categories"])
def test_what_the_libraries_write_passes_and_predicts_the_same(kind, make):
    data = make()
    rng = np.random.default_rng(1)
    for settings in (*SETTINGS, STUMPS[kind]):
        model, n_columns = trained(kind, data, **settings)
        x = rng.normal(size=(50, n_columns)).astype(np.float32)
        x[:, -1] = rng.integers(0, 8, 50)
        for state in model.learned(0):
            again = SOUND[kind](state, n_columns)
            assert again == state
            assert SOUND[kind](again, n_columns) == again
            np.testing.assert_array_equal(model.recall(state, x), model.recall(again, x))


def test_a_text_of_another_number_of_columns_is_refused(kind, text):
    state, n_columns = text
    with pytest.raises(MismatchError, match=r"cannot have written .*: train it again"):
        SOUND[kind](state, n_columns + 1)


@pytest.mark.parametrize("state", [None, 3, "", "tree", "{}", "[" * 100_000, "é", b"tree"])
def test_what_is_no_text_of_trees_is_refused(kind, state):
    with pytest.raises(MismatchError):
        SOUND[kind](state, 4)


def test_a_text_of_another_format_of_lightgbm_says_which():
    model, n_columns = trained("lightgbm", prepared(300), n_estimators=3)
    text = model.learned(0)[0].replace("version=v4", "version=v3")
    with pytest.raises(MismatchError, match=r"format v3, and this version .* reads v4: use the"):
        sound_lightgbm(text, n_columns)


@pytest.mark.parametrize("name", SOUND)
def test_a_library_that_writes_otherwise_is_named_with_its_version(name, monkeypatch):
    """Catches a new release of a library that blames the model file."""
    from freqai_lstm_plugins.models import boosting

    def newer(text, n_columns):
        text = text.replace("version=v4", "version=v5").replace('"cats":', '"new":1,"cats":')
        return SOUND[name](text, n_columns)

    monkeypatch.setattr(boosting, f"sound_{name}", newer)
    with pytest.raises(TrainingError, match=r"^(LightGBM|XGBoost) \d.* writes its trees .*install"):
        trained(name, prepared(300), n_estimators=3)


def test_trees_of_an_xgboost_that_says_nothing_of_categories_are_read():
    """Versions before 3.1."""
    model, n_columns = trained("xgboost", prepared(300), n_estimators=3)
    content = json.loads(model.learned(0)[0])
    del model_of(content)["cats"]
    content["learner"]["learner_model_param"]["base_score"] = "1E-1"
    assert sound_xgboost(json.dumps(content), n_columns)
    model_of(content)["cats"] = {"enc": [1], "feature_segments": [], "sorted_idx": []}
    with pytest.raises(MismatchError, match="it names categories"):
        sound_xgboost(json.dumps(content), n_columns)


def test_a_categorical_split_needs_no_number_to_split_at():
    """Versions of XGBoost before 2.1 write NaN there."""
    model, n_columns = trained("xgboost", panel(), n_estimators=3)
    content = json.loads(model.learned(0)[0])
    first = model_of(content)["trees"][0]
    place = first["split_type"].index(1)
    first["split_conditions"][place] = float("nan")
    x = np.random.default_rng(1).integers(0, 8, (50, n_columns)).astype(np.float32)
    again = sound_xgboost(json.dumps(content), n_columns)
    np.testing.assert_array_equal(model.recall(again, x), model.recall(model.learned(0)[0], x))
    first["split_conditions"][first["split_type"].index(0)] = float("nan")
    with pytest.raises(MismatchError, match="nan is no finite number"):
        sound_xgboost(json.dumps(content), n_columns)


def line(name, value):
    """Replace a line of the first tree of LightGBM's text that has it."""

    def change(text):
        start = text.index(f"\n{name}=") + len(name) + 2
        return text[:start] + value(text[start:].split("\n")[0]) + text[text.index("\n", start) :]

    return change


LIGHTGBM = {
    "a feature that is not": line("split_feature", lambda v: "4" + v[1:]),
    "a feature below 0": line("split_feature", lambda v: "-1" + v[1:]),
    "a child that leads back": line("left_child", lambda v: "0" + v[1:]),
    "a child out of range": line("left_child", lambda v: "999" + v[1:]),
    "a leaf out of range": line("right_child", lambda v: v[: v.rindex(" ")] + " -999"),
    "a leaf twice": line("left_child", lambda v: v[: v.rindex(" ")] + " -1"),
    "more leaves": line("num_leaves", lambda v: str(int(v) + 1)),
    "a huge count": line("num_leaves", lambda v: "2147483647"),
    "no leaf": line("num_leaves", lambda v: "0"),
    "categories from nowhere": line("num_cat", lambda v: "1"),
    "a categorical split": line("decision_type", lambda v: "1" + v[1:]),
    "linear leaves": line("is_linear", lambda v: "1"),
    "no number": line("threshold", lambda v: "nan" + v[v.index(" ") :]),
    "a value too few": line("leaf_value", lambda v: v[v.index(" ") + 1 :]),
    "a size": line("tree_sizes", lambda v: "1" + v),
    "a negative size": line("tree_sizes", lambda v: "-" + v),
    "classes": line("num_class", lambda v: "2"),
    "an objective": line("objective", lambda v: "cross_entropy"),
    "a line twice": lambda text: text.replace("num_cat=0", "num_cat=0\nnum_cat=0", 1),
    "a line of its own": lambda text: text.replace("num_cat=0", "num_cat=0\nleaf_const=1", 1),
    "a cut": lambda text: text[: len(text) // 2],
}


@pytest.mark.parametrize("what", LIGHTGBM)
def test_a_forged_text_of_lightgbm_is_refused(what):
    model, n_columns = trained("lightgbm", prepared(300), n_estimators=3)
    text = model.learned(0)[0]
    forged = LIGHTGBM[what](text)
    assert forged != text
    # Sizes of trees follow what they hold, as a forger would see to.
    if "size" not in what and "cut" not in what:
        body = forged.partition("\n\n")[2]
        parts = body.split("Tree=")[1:]
        sizes = [len("Tree=" + part) for part in parts[:-1]]
        sizes.append(len("Tree=" + parts[-1].partition("end of trees")[0]))
        forged = line("tree_sizes", lambda _: " ".join(map(str, sizes)))(forged)
    with pytest.raises(MismatchError, match="LightGBM cannot have written"):
        sound_lightgbm(forged, n_columns)


def test_nodes_of_lightgbm_that_go_in_a_ring_are_refused():
    """Each node is met once, and no way leads from the root to two of them."""
    model, n_columns = trained("lightgbm", prepared(300), n_estimators=1, num_leaves=4)
    text = model.learned(0)[0]
    ring = line("left_child", lambda _: "-1 2 1")(text)
    ring = line("right_child", lambda _: "-2 -3 -4")(ring)
    body = ring.partition("\n\n")[2]
    ring = line("tree_sizes", lambda _: str(body.index("end of trees")))(ring)
    with pytest.raises(MismatchError, match="stands before its parent"):
        sound_lightgbm(ring, n_columns)


def test_nodes_of_xgboost_whose_children_stand_before_them_are_refused():
    model, n_columns = trained("xgboost", prepared(300), n_estimators=1, max_depth=3)
    content = json.loads(model.learned(0)[0])
    (only,) = model_of(content)["trees"]
    n_nodes = len(only["parents"])
    # The same tree with all nodes but the root in turned order.
    order = [0, *range(n_nodes - 1, 0, -1)]
    for name, values in only.items():
        if isinstance(values, list) and len(values) == n_nodes:
            only[name] = [values[place] for place in order]
    for name in ("left_children", "right_children", "parents"):
        only[name] = [order[v] if 0 <= v < n_nodes else v for v in only[name]]
    with pytest.raises(MismatchError, match="lies outside"):
        sound_xgboost(json.dumps(content), n_columns)


def tree(name, value, node=0):
    def change(content):
        content["learner"]["gradient_booster"]["model"]["trees"][0][name][node] = value

    return change


def model_of(content):
    return content["learner"]["gradient_booster"]["model"]


XGBOOST = {
    "a feature that is not": tree("split_indices", 4),
    "a feature below 0": tree("split_indices", -1),
    "a child that leads back": tree("left_children", 0),
    "a child out of range": tree("right_children", 10**6),
    "one child": tree("right_children", -1),
    "another parent": tree("parents", 0, 3),
    "a text": tree("split_conditions", "1"),
    "infinity": tree("split_conditions", float("inf")),
    "a categorical split": tree("split_type", 1),
    "a kind of split": tree("split_type", 7),
    "a huge count": lambda c: model_of(c)["trees"][0]["tree_param"].update(num_nodes="2147483647"),
    "deleted nodes": lambda c: model_of(c)["trees"][0]["tree_param"].update(num_deleted="2"),
    "vectors": lambda c: model_of(c)["trees"][0]["tree_param"].update(size_leaf_vector="9"),
    "a tree too few": lambda c: model_of(c)["trees"].pop(),
    "other rounds": lambda c: model_of(c).update(iteration_indptr=[0, 99]),
    "a class": lambda c: model_of(c)["tree_info"].__setitem__(0, 5),
    "a line of its own": lambda c: c.update(more=1),
    "a booster": lambda c: c["learner"]["gradient_booster"].update(name="dart"),
    "features": lambda c: c["learner"]["learner_model_param"].update(num_feature="1000000"),
    "targets": lambda c: c["learner"]["learner_model_param"].update(num_target="1000000"),
    "an objective": lambda c: c["learner"]["objective"].update(name="rank:ndcg"),
    "a base": lambda c: c["learner"]["learner_model_param"].update(base_score="nan"),
    "names": lambda c: c["learner"].update(feature_names=["a"]),
}


@pytest.mark.parametrize("what", XGBOOST)
def test_a_forged_text_of_xgboost_is_refused(what):
    model, n_columns = trained("xgboost", prepared(300), n_estimators=3)
    content = json.loads(model.learned(0)[0])
    XGBOOST[what](content)
    with pytest.raises(MismatchError, match="XGBoost cannot have written"):
        sound_xgboost(json.dumps(content), n_columns)


def test_a_file_with_a_forged_tree_is_refused_when_it_is_loaded(kind, text):
    model, _ = trained(kind, prepared(300), n_estimators=3)
    state = model.to_state()
    state["learned"][0][0] = text[0].replace("0", "1")
    with pytest.raises(MismatchError, match="train it again"):
        TABULAR[kind].from_state(state)


def damaged(state, what):
    changes = {
        "levels": lambda: state["learned"].append([]),
        "window": lambda: state.update(window=10**12),
        "lags": lambda: state.update(window=1, settings={**state["settings"], "lags": [0, 1]}),
        "names": lambda: state["schema"].update(feature_names=3),
        "mean": lambda: state.update(target_mean=["a"]),
        "history": lambda: state["history"].update(best_epoch=99),
        "calibration": lambda: state.update(calibration={"interval": 0.8}),
    }
    changes[what]()
    return state


@pytest.mark.parametrize(
    "what", ["levels", "window", "lags", "names", "mean", "history", "calibration"]
)
@pytest.mark.parametrize("name", ["ridge", "lightgbm"])
def test_a_state_that_cannot_be_is_refused(name, what):
    settings = {} if name == "ridge" else {"n_estimators": 3}
    model = new_model(name, settings, window=W, seed=1).fit_windows(prepared(300))
    with pytest.raises(MismatchError, match="train it again"):
        TABULAR[name].from_state(damaged(model.to_state(), what))


# learning on


def test_trees_go_on_from_those_of_a_former_training(kind):
    # Without validation every tree is kept.
    data = dataclasses.replace(prepared(300), valid=None)
    first, _ = trained(kind, data, n_estimators=10, learning_rate=0.1)
    rows = data.train.rows.numpy()
    has_window = np.arange(len(rows)) >= W - 1
    ends = data.train.ends.numpy()
    targets = data.train.targets.numpy()[:, 0]

    def loss(model):
        said = model.predict_windows(rows, has_window).point[ends, 0]
        return np.mean(np.square(said - targets))

    settings = {"n_estimators": 10, "learning_rate": 0.1}
    more = new_model(kind, settings, window=W, seed=1).fit_windows(data, start_from=first)
    twenty = new_model(
        kind, {"n_estimators": 20, "learning_rate": 0.1}, window=W, seed=1
    ).fit_windows(data)
    assert loss(more) < loss(first)
    np.testing.assert_allclose(loss(more), loss(twenty), rtol=1e-3)
    # The losses are those of the new trees, which begin where the former ones ended.
    assert more.history_.epochs[0].number == 1
    assert more.history_.epochs[0].train_loss < first.history_.epochs[-1].train_loss
