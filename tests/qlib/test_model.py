import pickle
import pickletools
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from qlib.contrib.model import gbdt
from qlib.contrib.model.gbdt import LGBModel
from qlib.data.dataset.weight import Reweighter

from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.models.registry import load_model
from freqai_lstm_plugins.qlib import SequenceModel
from freqai_lstm_plugins.qlib.dataset import cut_valid, read_table, rows_of_part
from tests.qlib.panels import DAYS, MARKS, SEGMENTS, STOCKS, dataset_of, frame_of, part_of

pytestmark = MARKS

SMALL = {
    "hidden_size": 8,
    "num_layers": 1,
    "head_size": 8,
    "n_epochs": 2,
    "device": "cpu",
    "num_threads": 1,
}
SETTINGS = {
    "lstm": SMALL,
    "gru": SMALL,
    "alstm": SMALL,
    "tft": {"hidden_size": 8, "n_epochs": 1, "device": "cpu", "num_threads": 1},
    "lightgbm": {"n_estimators": 5},
    "xgboost": {"n_estimators": 5},
    "ridge": {},
    "naive_zero": {},
    "ensemble": {"members": {"lightgbm": {"n_estimators": 5}, "ridge": {}}, "folds": 1},
}


def model_of(name="lstm", **settings):
    return SequenceModel(
        model=name, **{"step_len": 6, "label_horizon": 0, **SETTINGS[name], **settings}
    )


def fitted(dataset=None, name="lstm", **settings):
    model = model_of(name, **settings)
    model.fit(dataset_of() if dataset is None else dataset)
    return model


@pytest.fixture(scope="module")
def net():
    return fitted()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("series", [None, 6])
def test_every_regressor_runs_on_both_kinds_of_datasets(name, series, tmp_path):
    dataset = dataset_of(series=series)
    model = fitted(dataset, name)
    found = model.predict(dataset)
    assert found.index.names == ["datetime", "instrument"]
    assert found.name is None
    assert len(found) == 30 * len(STOCKS)
    assert found.notna().all()
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_series_equal(again.predict(dataset), found, check_exact=True)


def test_the_label_is_learned():
    dataset = dataset_of()
    found = fitted(dataset, "ridge", lags=[0, 1, 2]).predict(dataset)
    label = dataset.prepare("test", col_set="label")["LABEL0"]
    assert np.corrcoef(found, label)[0, 1] > 0.9


def test_both_kinds_of_datasets_give_the_same_predictions(net):
    flat = net.predict(dataset_of())
    series = net.predict(dataset_of(series=6))
    pd.testing.assert_series_equal(series.sort_index(), flat.sort_index(), check_exact=True)


def test_rows_before_a_segment_are_context(net):
    dataset = dataset_of()
    later = net.predict(dataset, slice(DAYS[95], DAYS[99]))
    assert later.notna().all()
    pd.testing.assert_series_equal(later, net.predict(dataset)[later.index], check_exact=True)
    # Only what truly has no past is unknown.
    first = net.predict(dataset, "train").unstack()
    assert first.isna().sum(axis=0).tolist() == [5, 5, 5]
    assert first.iloc[:5].isna().all(axis=None)


def test_a_suspended_stock_breaks_windows(net):
    frame = frame_of().drop((DAYS[100], "BBB"))
    found = net.predict(dataset_of(frame)).unstack()
    whole = net.predict(dataset_of()).unstack()
    broken = found["BBB"].isna()
    assert broken[broken].index.tolist() == DAYS[100:106].tolist()
    pd.testing.assert_frame_equal(found[["AAA", "CCC"]], whole[["AAA", "CCC"]])


def test_a_stock_that_is_shorter_than_a_window_is_unknown(net):
    frame = frame_of()
    kept = (frame.index.get_level_values(1) != "CCC") | (
        frame.index.get_level_values(0) >= DAYS[115]
    )
    found = net.predict(dataset_of(frame[kept])).unstack()
    assert found["CCC"].isna().all()
    assert found[["AAA", "BBB"]].notna().all(axis=None)


def test_an_unknown_or_infinite_feature_leaves_its_windows_unknown(net):
    frame = frame_of()
    for value in (np.nan, np.inf, 1e39):
        changed = frame.astype("float64")
        changed.loc[(DAYS[100], "AAA"), ("feature", "F2")] = value
        found = net.predict(dataset_of(changed)).unstack()["AAA"]
        assert found[found.isna()].index.tolist() == DAYS[100:106].tolist()
        assert np.isfinite(found.dropna()).all()


def test_a_row_without_a_label_is_context_and_no_target():
    frame = frame_of()
    dropped = frame.copy()
    lost = [(DAYS[40], stock) for stock in STOCKS]
    dropped.loc[lost, ("label", "LABEL0")] = np.nan
    counts = [
        fitted(dataset_of(one))._fitted.model.history_.n_train_windows for one in (frame, dropped)
    ]
    # Three targets fewer, and no window more than those.
    assert counts == [(70 - 5) * 3, (70 - 5) * 3 - 3]
    table = read_table(dataset_of(dropped))
    assert len(table.features) == 90 * 3
    assert table.label.isna().sum().item() == 3


def test_no_label_of_training_or_validation_reaches_into_a_later_part():
    table = read_table(dataset_of())
    last = {part: table.days[rows_of_part(table, part, 2)].max() for part in ("train", "valid")}
    assert last == {"train": 67, "valid": 87}


def test_without_a_validation_segment_the_end_of_the_training_validates():
    dataset = dataset_of(segments=part_of("train", "test"))
    table = cut_valid(read_table(dataset), 0.2)
    assert table.parts["train"] == (0, 56)
    assert table.parts["valid"] == (56, 70)
    assert table.days[rows_of_part(table, "train", 2)].max() == 53
    evals = {}
    model = model_of(valid_size=0.2)
    model.fit(dataset, evals_result=evals)
    assert len(evals["valid"]) == len(evals["train"]) == 2
    assert model.predict(dataset).notna().all()
    model = model_of(valid_size=0.0)
    model.fit(dataset, evals_result=evals)
    assert evals["valid"] == []


def test_without_a_test_segment_a_model_is_trained_and_predicts_any_other():
    dataset = dataset_of(segments=part_of("train", "valid"))
    model = fitted(dataset)
    assert model.predict(dataset, "valid").notna().all()
    assert model.predict(dataset, slice(DAYS[110], None)).notna().all()
    with pytest.raises(DataError, match="no segment 'test'; it has train, valid"):
        model.predict(dataset)


def test_what_a_part_of_the_future_holds_changes_nothing():
    frame = frame_of()
    changed = frame.copy()
    changed.loc[DAYS[90:], :] = 7.0
    first, second = (fitted(dataset_of(one)) for one in (frame, changed))
    dataset = dataset_of()
    assert first.predict(dataset, "valid").equals(second.predict(dataset, "valid"))


class Late(Reweighter):
    """Weighs the rows from a date on, and none before it."""

    def __init__(self, first):
        self.first = first

    def reweight(self, data):
        return (data.index.get_level_values("datetime") >= self.first).astype(float)


class Wrong(Reweighter):
    def __init__(self):
        pass

    def reweight(self, data):
        return np.ones(3)


@pytest.mark.parametrize("series", [None, 6])
def test_a_row_that_is_weighed_by_zero_is_no_target(series):
    weighed = model_of()
    weighed.fit(dataset_of(series=series), reweighter=Late(DAYS[30]))
    frame = frame_of()
    frame.loc[DAYS[:30], ("label", "LABEL0")] = np.nan
    dataset = dataset_of()
    unlabelled = fitted(dataset_of(frame, series=series))
    assert weighed.predict(dataset).equals(unlabelled.predict(dataset))


def test_what_is_no_reweighter_is_refused():
    with pytest.raises(ConfigError, match="must be a Reweighter"):
        model_of().fit(dataset_of(), reweighter=[1.0])
    with pytest.raises(DataError, match="gave 3 weights for 210 rows"):
        model_of().fit(dataset_of(), reweighter=Wrong())


def test_training_stops_early_and_tells_every_epoch():
    evals = {}
    model = model_of(n_epochs=40, early_stop=2, lr=0.05)
    model.fit(dataset_of(), evals_result=evals)
    best = int(np.argmin(evals["valid"]))
    assert len(evals["valid"]) == best + 3 < 40


@pytest.mark.parametrize("series", [None, 6])
def test_finetuning_goes_on_from_the_trained_weights(series):
    dataset = dataset_of(series=series)
    first, further = {}, {}
    model = model_of(n_epochs=3, early_stop=0)
    model.fit(dataset, evals_result=first)
    scaling = model._fitted.scaling
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.finetune(dataset, evals_result=further)
        assert further["train"][0] < first["train"][0]
    assert model._fitted.scaling == scaling
    # Other rows are scaled as those that the weights are from.
    model.finetune(dataset_of(frame_of() * 3))
    again.finetune(dataset_of(frame_of() * 3))
    assert model._fitted.scaling == scaling
    assert model.predict(dataset).equals(again.predict(dataset))


def test_what_cannot_go_on_says_so():
    with pytest.raises(ConfigError, match="not fitted yet"):
        model_of().finetune(dataset_of())
    with pytest.raises(ConfigError, match="lightgbm cannot go on"):
        fitted(name="lightgbm").finetune(dataset_of())
    model = fitted()
    with pytest.raises(MismatchError, match="missing F3"):
        model.finetune(dataset_of(frame_of(n_features=3)))
    with pytest.raises(MismatchError, match="missing F3"):
        model.predict(dataset_of(frame_of(n_features=3)))


def test_a_pickle_holds_plain_data_and_a_model_file(net, tmp_path):
    names = {
        argument
        for opcode, argument, _ in pickletools.genops(pickle.dumps(net, protocol=2))
        if opcode.name == "GLOBAL"
    }
    plain = {"copy_reg _reconstructor", "__builtin__ object", "_codecs encode"}
    assert names - plain <= {"freqai_lstm_plugins.qlib SequenceModel", "copyreg __newobj__"}
    state = net.__getstate__()
    (tmp_path / "model.zip").write_bytes(state["_fitted"]["file"])
    assert load_model(tmp_path / "model.zip").feature_names_in_ == ["F0", "F1", "F2", "F3"]


def test_a_fresh_process_predicts_the_same_bit_by_bit(net, tmp_path):
    dataset = dataset_of()
    dataset.config(dump_all=True, recursive=True)
    net.to_pickle(tmp_path / "params.pkl")
    dataset.to_pickle(tmp_path / "dataset.pkl")
    code = f"""
import pickle
names = ("params.pkl", "dataset.pkl")
model, dataset = (pickle.load(open({str(tmp_path)!r} + "/" + name, "rb")) for name in names)
model.predict(dataset).to_pickle({str(tmp_path / "found.pkl")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    found = pd.read_pickle(tmp_path / "found.pkl")
    pd.testing.assert_series_equal(found, net.predict(dataset), check_exact=True)


def test_the_file_beside_a_recorder_is_this_packages_own(tmp_path):
    model = model_of()
    model.fit(dataset_of(), save_path=tmp_path / "model.zip")
    alone = load_model(tmp_path / "model.zip")
    frame = frame_of()
    features = frame["feature"].xs("AAA", level="instrument")
    expected = model.predict(dataset_of()).xs("AAA", level="instrument")
    found = np.ravel(alone.predict(features))[-len(expected) :]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "ensemble"])
def test_a_window_of_one_day_is_refused(name):
    with pytest.raises(ConfigError, match="step_len = 1 leaves"):
        model_of(name, step_len=1)
    with pytest.raises(ConfigError, match="step_len = 1 leaves"):
        model_of(name, step_len=None).fit(dataset_of(series=1))


def test_flat_rows_become_windows_of_twenty_days():
    dataset = dataset_of()
    found = fitted(dataset, step_len=None).predict(dataset, "train").unstack()
    assert found.isna().sum(axis=0).tolist() == [19, 19, 19]


def test_the_dataset_and_the_model_cannot_differ_in_length():
    with pytest.raises(ConfigError, match="step_len = 6 of the model and 9 of the dataset"):
        model_of().fit(dataset_of(series=9))
    found = fitted(dataset_of(series=9), step_len=None)
    assert found._fitted.window == 9


@pytest.mark.parametrize("series", [None, 6])
@pytest.mark.parametrize(
    ("name", "settings", "unknown"),
    [("lightgbm", {}, 0), ("ridge", {"lags": [0, 2]}, 2), ("naive_zero", {}, 0)],
)
def test_a_model_of_single_days_needs_no_more_days_than_it_sees(name, settings, unknown, series):
    dataset = dataset_of(series=series)
    model = fitted(dataset, name, step_len=None, **settings)
    found = model.predict(dataset, "train").unstack()
    assert found.isna().sum(axis=0).tolist() == [unknown] * 3
    if name != "naive_zero":
        assert model._fitted.model.history_.n_train_windows == 3 * (70 - unknown)


def test_trees_are_qlibs(monkeypatch):
    # It logs, and so needs a recorder.
    monkeypatch.setattr(gbdt, "R", MagicMock())
    # So few values that LightGBM has a bin for each, in whatever unit they come.
    dataset = dataset_of(frame_of().round(0))
    settings = {"learning_rate": 0.2, "num_leaves": 9, "subsample": 0.8, "num_boost_round": 20}
    theirs = LGBModel(**settings, num_threads=1, early_stopping_rounds=20)
    theirs.fit(dataset)
    ours = SequenceModel("lightgbm", label_horizon=0, early_stop=20, **settings)
    ours.fit(dataset)
    np.testing.assert_allclose(ours.predict(dataset), theirs.predict(dataset), rtol=0, atol=1e-5)


def test_qlibs_names_of_settings_are_taken():
    model = model_of(
        "alstm", d_feat=20, lr=0.01, early_stop=7, rnn_type="LSTM", metric="loss", GPU=-1,
        n_jobs=20, optimizer="adam", loss="mse", batch_size=256.0, seed=3, device="cpu",
    )  # fmt: skip
    told = model._make(6, 0).get_params()
    expected = {
        "learning_rate": 0.01,
        "patience": 7,
        "cell_type": "lstm",
        "max_epochs": 2,
        "batch_size": 256,
        "seed": 3,
        "device": "cpu",
    }
    assert told.items() >= expected.items()
    tree = model_of("lightgbm", lambda_l1=2.0, lambda_l2=3.0, num_leaves=9)._make(6, 0).config
    assert (tree.reg_alpha, tree.reg_lambda, tree.num_leaves) == (2.0, 3.0, 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "lstmm"}, "Did you mean 'lstm'"),
        ({"hidden_sise": 3}, "Did you mean 'hidden_size'"),
        ({"lr": 0.1, "learning_rate": 0.2}, "are one setting"),
        ({"metric": "ic"}, "metric must be one of '', 'loss'"),
        ({"optimizer": "gd"}, "optimizer must be one of 'adam'"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"valid_size": 1.0}, "valid_size must be"),
        ({"scale": "no"}, "scale must be true or false, not 'no'"),
        ({"model": "ensemble", "members": ["ridge"]}, "members must be a section of models"),
        ({"model": "ensemble", "members": {"ridge": 3}}, "'ridge' must be a section of settings"),
        ({"model": "ensemble", "members": {"ridge": {"alpa": 3}}}, "Did you mean 'alpha'"),
        ({"label_horizon": -1}, "label_horizon must be"),
        ({"step_len": 2.5}, "step_len must be"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        SequenceModel(**settings)


@pytest.mark.parametrize("name", ["lstm", "gru", "alstm"])
def test_the_head_of_recurrent_nets_is_qlibs_unless_another_is_asked_for(name):
    assert SequenceModel(name)._make(6, 0).get_params()["head_size"] == 0
    assert SequenceModel(name, head_size=9)._make(6, 0).get_params()["head_size"] == 9
    ensemble = SequenceModel("ensemble", members={name: {"n_epochs": 1}, "ridge": {}})
    assert ensemble._make(6, 0).members[0].settings["head_size"] == 0


def test_rows_are_drawn_by_lightgbm_where_qlibs_file_says_how_often(caplog):
    caplog.set_level("INFO", logger="qlib")
    share = {"subsample": 0.5}
    drawn = [
        model_of("lightgbm", **share, **more)._make(6, 0).config.subsample
        for more in ({}, {"bagging_freq": 0}, {"bagging_freq": 1}, {"subsample_freq": 1})
    ]
    assert drawn == [1.0, 1.0, 0.5, 0.5]
    assert caplog.text.count("subsample = 0.5 is not used: LightGBM draws rows only where") == 2
    model_of("ensemble", members={"lightgbm-a": share, "ridge": {}})
    assert caplog.text.count("subsample = 0.5 is not used") == 3
    with pytest.raises(ConfigError, match="bagging_freq must be one of '0', '1', not 5"):
        model_of("lightgbm", bagging_freq=5)
    with pytest.raises(ConfigError, match="bagging_freq"):
        model_of("lstm", bagging_freq=1)
    assert model_of("xgboost", **share)._make(6, 0).config.subsample == 0.5


def test_what_a_setting_does_not_do_is_said(caplog):
    caplog.set_level("INFO", logger="qlib")
    fitted(d_feat=20)
    assert "d_feat = 20 is not used: the dataset says how many" in caplog.text
    assert "epoch 2: train " in caplog.text


def test_without_scaling_a_model_sees_what_the_handler_gives():
    frame = frame_of()
    large = frame.copy()
    large["feature"] = 50 + 20 * frame["feature"]
    large["label"] = 3 + 2 * frame["label"]
    dataset, other = dataset_of(frame), dataset_of(large)
    scaled, plain = (fitted(dataset, scale=scale) for scale in (True, False))
    assert plain._fitted.scaling == Scaling([0.0] * 4, [1.0] * 4, [0.0], [1.0])
    # In other units a model learns the same where it scales, and not where it sees them.
    expected = 3 + 2 * scaled.predict(dataset)
    np.testing.assert_allclose(fitted(other).predict(other), expected, atol=1e-3)
    found = fitted(other, scale=False).predict(other)
    assert not np.allclose(found, 3 + 2 * plain.predict(dataset), atol=0.1)
    assert pickle.loads(pickle.dumps(plain)).predict(dataset).equals(plain.predict(dataset))
    state = scaled.__getstate__()
    del state["scale"]
    old = SequenceModel.__new__(SequenceModel)
    old.__setstate__(state)
    assert old.scale is True


def test_labels_of_unknown_reach_ask_for_it():
    with pytest.raises(ConfigError, match="set label_horizon"):
        model_of(label_horizon=None).fit(dataset_of())


def test_what_a_dataset_lacks_is_named(net):
    with pytest.raises(DataError, match="no segment 'train'"):
        model_of().fit(dataset_of(segments=part_of("test")))
    with pytest.raises(DataError, match="must load both features and a label"):
        model_of().fit(dataset_of(frame_of()[["feature"]], drops_labels=False))
    late = ("2031-01-01", "2032-01-01")
    for part in ("train", "valid"):
        with pytest.raises(DataError, match=f"The segment '{part}' holds no row"):
            model_of().fit(dataset_of(segments={**SEGMENTS, part: late}))
    with pytest.raises(DataError, match="The segment 'test' holds no row"):
        net.predict(dataset_of(segments={**SEGMENTS, "test": late}))
    with pytest.raises(ConfigError, match="not fitted yet"):
        model_of().predict(dataset_of())


def test_a_row_that_stands_twice_is_named():
    frame = frame_of()
    doubled = pd.concat([frame, frame.iloc[[4]]]).sort_index()
    with pytest.raises(DataError, match=r"2020-01-02.*BBB.* twice"):
        model_of().fit(dataset_of(doubled))


def test_two_labels_are_refused():
    frame = frame_of()
    frame[("label", "LABEL1")] = 1.0
    with pytest.raises(DataError, match="there are 2 labels"):
        model_of().fit(dataset_of(frame))


def test_labels_that_are_all_unknown_leave_nothing_to_train_on():
    frame = frame_of()
    frame[("label", "LABEL0")] = np.nan
    with pytest.raises(DataError, match="No training window"):
        model_of().fit(dataset_of(frame, drops_labels=False))


def test_stocks_that_are_all_shorter_than_a_window_leave_nothing_to_train_on():
    with pytest.raises(DataError, match="nowhere do 80 of them in a row end"):
        model_of(step_len=80).fit(dataset_of())


def test_a_fit_that_fails_leaves_the_model_as_it_was(net):
    dataset = dataset_of()
    expected = net.predict(dataset)
    with pytest.raises(DataError):
        net.fit(dataset_of(frame_of()[["feature"]], drops_labels=False))
    assert net.predict(dataset).equals(expected)


def test_rows_that_a_dataset_filters_are_context_alone():
    frame = frame_of()
    frame[("filter", "KEEP")] = True
    frame.loc[DAYS[100], ("filter", "KEEP")] = False
    dataset = dataset_of(frame, series=6, flt_col="filter")
    found = fitted(dataset, step_len=None).predict(dataset)
    assert DAYS[100] not in found.index.get_level_values("datetime")
    assert len(found) == 29 * 3
    assert found.notna().all()
