"""On qlib's own files: what expressions say, suspended stocks, recorders and workflows."""

import pickle

import numpy as np
import pandas as pd
import pytest
import qlib
from qlib.contrib.data.handler import Alpha158
from qlib.contrib.data.loader import Alpha158DL, Alpha360DL
from qlib.contrib.model.gbdt import LGBModel
from qlib.data import D
from qlib.data.dataset import DatasetH, TSDatasetH
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.loader import QlibDataLoader
from qlib.utils.exceptions import LoadObjectError
from qlib.workflow import R

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features import alpha158, alpha360
from freqai_lstm_plugins.qlib import SequenceModel
from freqai_lstm_plugins.qlib.dataset import read_table, rows_of_part
from freqai_lstm_plugins.qlib.expressions import reach
from tests.qlib.panels import MARKS, candles_of, load_example

pytestmark = MARKS

DAYS = pd.bdate_range("2020-01-01", periods=200)
SEGMENTS = {
    "train": (DAYS[0], DAYS[119]),
    "valid": (DAYS[120], DAYS[149]),
    "test": (DAYS[150], DAYS[199]),
}
GAP = DAYS[165:168]
LABEL = "Ref($close, -2) / Ref($close, -1) - 1"
FILL = {"class": "Fillna", "kwargs": {"fields_group": "feature"}}


@pytest.fixture(scope="module")
def stocks():
    found = {name: candles_of(seed=k) for k, name in enumerate(("AAA", "BBB", "CCC", "DDD"))}
    found["BBB"] = found["BBB"].drop(GAP)
    found["DDD"] = found["DDD"].iloc[100:]
    return found


@pytest.fixture(scope="module", autouse=True)
def data(stocks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qlib")
    load_example("convert").write_qlib(stocks, folder / "data")
    manager = {
        "class": "MLflowExpManager",
        "module_path": "qlib.workflow.expm",
        "kwargs": {"uri": f"sqlite:///{folder}/runs.db", "default_exp_name": "test"},
    }
    qlib.init(provider_uri=str(folder / "data"), region="cn", exp_manager=manager, kernels=1)
    return folder


def handler_of(features=("$close / Ref($close, 1) - 1", "$volume / Ref($volume, 1)"), **options):
    loader = {
        "class": "QlibDataLoader",
        "kwargs": {
            "config": {
                "feature": (list(features), [f"F{k}" for k in range(len(features))]),
                "label": ([options.pop("label", LABEL)], ["LABEL0"]),
            }
        },
    }
    given = {"infer_processors": [FILL], "learn_processors": [{"class": "DropnaLabel"}], **options}
    return DataHandlerLP("all", DAYS[0], DAYS[-1], loader, **given)


def model_of(**settings):
    small = {"hidden_size": 8, "n_epochs": 2, "GPU": -1, "num_threads": 1, "step_len": 6}
    return SequenceModel(**{**small, **settings})


def test_the_files_are_read_back_as_they_were_written(stocks, data):
    fields = load_example("convert").fields_of(stocks["AAA"])
    names = [f"${name}" for name in fields]
    found = D.features(["AAA"], names).xs("AAA", level="instrument")
    assert found.index.equals(DAYS)
    np.testing.assert_array_equal(found, fields.astype(np.float32))
    late = D.features(["DDD"], ["$close"]).xs("DDD", level="instrument")
    assert late.index[0] == DAYS[100]
    gap = D.features(["BBB"], ["$close"]).xs("BBB", level="instrument")["$close"]
    assert gap[gap.isna()].index.equals(GAP)


def test_labels_reach_as_far_as_their_expression_says():
    handler = handler_of()
    assert reach(handler, "label") == {"LABEL0": 2}
    assert reach(handler, "feature") == {"F0": 0, "F1": 0}
    nested = handler_of(label="Ref(Ref($close, -3), -2) / $close - 1")
    assert reach(nested, "label") == {"LABEL0": 5}
    table = read_table(DatasetH(handler, SEGMENTS))
    # The label of a row is known two days later, and that day is before the next part.
    assert table.days[rows_of_part(table, "train", 2)].max() == 117
    assert table.days[rows_of_part(table, "valid", 2)].max() == 147


@pytest.mark.parametrize("kind", ["flat", "series"])
def test_a_stock_that_qlib_filled_in_breaks_windows(kind):
    handler = handler_of()
    dataset = (
        DatasetH(handler, SEGMENTS)
        if kind == "flat"
        else TSDatasetH(step_len=6, handler=handler, segments=SEGMENTS)
    )
    # qlib itself has rows there, full of zeros.
    rows = handler.fetch(slice(GAP[0], GAP[-1]), col_set="feature", data_key="infer")
    assert (rows.xs("BBB", level="instrument") == 0).all(axis=None)
    model = model_of()
    model.fit(dataset)
    found = model.predict(dataset).unstack()
    unknown = found["BBB"].isna()
    assert unknown[unknown].index.equals(DAYS[165:173])
    assert found[["AAA", "CCC", "DDD"]].notna().all(axis=None)


def test_the_newest_rows_whose_label_is_not_known_are_predicted():
    dataset = DatasetH(handler_of(), {**SEGMENTS, "test": (DAYS[190], None)})
    model = model_of()
    model.fit(dataset)
    assert model.predict(dataset).unstack().iloc[-1].notna().all()


def test_a_feature_that_looks_ahead_is_noticed():
    handler = handler_of(["$close / Ref($close, 1) - 1", "Ref($close, -1) / $close"])
    with pytest.warns(UserWarning, match="'F1' looks 1 rows ahead"):
        model_of().fit(DatasetH(handler, SEGMENTS))


@pytest.mark.parametrize("end", [DAYS[199], None])
def test_a_scaler_that_saw_more_than_the_training_is_noticed(end):
    def scaler(last):
        kwargs = {"fit_start_time": DAYS[0], "fit_end_time": last, "fields_group": "feature"}
        return {"class": "RobustZScoreNorm", "kwargs": kwargs}

    handler = handler_of(infer_processors=[scaler(end), FILL])
    with pytest.warns(UserWarning, match="RobustZScoreNorm was fitted up to 2020-10-06"):
        model_of().fit(DatasetH(handler, SEGMENTS))
    # The errors of these tests are warnings, so silence is checked too.
    model_of().fit(DatasetH(handler_of(infer_processors=[scaler(DAYS[119]), FILL]), SEGMENTS))


def test_a_recorder_is_told_the_losses_and_keeps_the_model(data):
    dataset = DatasetH(handler_of(), SEGMENTS)
    with R.start(experiment_name="test"):
        model = model_of(n_epochs=3)
        evals = {}
        model.fit(dataset, evals_result=evals)
        R.save_objects(**{"params.pkl": model})
        recorder = R.get_recorder()
        again = recorder.load_object("params.pkl")
        assert again.predict(dataset).equals(model.predict(dataset))
    # qlib writes metrics in the background until the experiment ends.
    told = recorder.client.get_metric_history(recorder.id, "valid")
    assert [metric.value for metric in told] == pytest.approx(evals["valid"])
    before = set(R.list_experiments())
    model_of().fit(dataset)
    assert set(R.list_experiments()) == before
    assert R.exp_manager.active_experiment is None


class OneClass(pickle.Unpickler):
    """Refuses every class but one, as loaders of later versions refuse what they were not told."""

    def find_class(self, module, name):
        if (module, name) != ("freqai_lstm_plugins.qlib", "SequenceModel"):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.mark.parametrize("kind", ["gru", "lightgbm", "ensemble"])
def test_a_restricted_loader_needs_to_be_told_of_one_class_alone(kind):
    dataset = DatasetH(handler_of(), SEGMENTS)
    members = {"ridge": {}, "lightgbm": {"n_estimators": 5}}
    small = {
        "gru": {"hidden_size": 8, "n_epochs": 1, "num_threads": 1},
        "lightgbm": {"n_estimators": 5},
        "ensemble": {"members": members, "folds": 1},
    }
    with R.start(experiment_name="test"):
        model = SequenceModel(kind, step_len=6, **small[kind])
        model.fit(dataset)
        theirs = LGBModel(num_boost_round=5)
        theirs.fit(dataset)
        R.save_objects(**{"params.pkl": model, "theirs.pkl": theirs})
        recorder = R.get_recorder()
        again = recorder.load_object("params.pkl", unpickler=OneClass)
        with pytest.raises(LoadObjectError, match="LGBModel"):
            recorder.load_object("theirs.pkl", unpickler=OneClass)
    assert again.predict(dataset).equals(model.predict(dataset))


def test_a_pickled_dataset_and_model_of_a_recorder_go_on():
    dataset = DatasetH(handler_of(), SEGMENTS)
    model = SequenceModel("lightgbm", step_len=6, n_estimators=5)
    model.fit(dataset)
    expected = model.predict(dataset)
    dataset.config(dump_all=False, recursive=True)
    again = pickle.loads(pickle.dumps(dataset))
    again.setup_data(handler_kwargs={"init_type": DataHandlerLP.IT_LS})
    found = pickle.loads(pickle.dumps(model)).predict(again)
    assert found.equals(expected)


def test_alpha158_of_qlib_is_learned_from():
    handler = Alpha158("all", DAYS[0], DAYS[-1], infer_processors=[FILL])
    dataset = DatasetH(handler, SEGMENTS)
    model = model_of(model="gru", n_epochs=1)
    model.fit(dataset)
    found = model.predict(dataset)
    assert len(found) == len(dataset.prepare("test", col_set="feature"))
    assert np.isfinite(found.drop("BBB", level="instrument")).all()


@pytest.mark.parametrize(("theirs", "ours"), [(Alpha158DL, alpha158), (Alpha360DL, alpha360)])
def test_features_are_those_that_qlib_computes(theirs, ours, stocks):
    expected = QlibDataLoader({"feature": theirs.get_feature_config()}).load("all")["feature"]
    # A stock that came late, and one with days on which it was not traded.
    for name in ("DDD", "BBB"):
        one = expected.xs(name, level="instrument").astype(float)
        found = ours(stocks[name].reindex(one.index), qlib_compatible=True)
        pd.testing.assert_frame_equal(found, one, check_names=False, rtol=1e-5, atol=1e-7)


def write_csv(folder, frame, name="AAA.csv"):
    frame.rename_axis("date").to_csv(folder / name)
    return folder / name


def test_days_without_price_or_before_the_first_volume_are_left_out(tmp_path):
    frame = candles_of(20)
    frame.iloc[:3, frame.columns.get_loc("volume")] = 0.0
    frame.iloc[10, frame.columns.get_loc("close")] = 0.0
    found, notes = load_example("convert").read_stock(write_csv(tmp_path, frame))
    assert found.index.equals(frame.index.delete([0, 1, 2, 10]))
    assert notes == ["3 days before the first volume left out", "1 days without a price left out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(columns={"volume": "Volume"}), "no column 'volume'. Did you mean"),
        (lambda f: f.assign(close="n/a?"), "could not convert"),
        (lambda f: pd.concat([f, f.iloc[[3]]]), "the date 2020-01-06 stands there twice"),
    ],
)
def test_a_csv_that_cannot_be_converted_is_named(change, message, tmp_path):
    with pytest.raises(DataError, match=f"AAA.csv: .*{message}"):
        load_example("convert").read_stock(write_csv(tmp_path, change(candles_of(20))))


def test_nothing_to_convert_is_said(tmp_path):
    convert = load_example("convert")
    with pytest.raises(DataError, match="no stock"):
        convert.write_qlib({}, tmp_path)
    with pytest.raises(DataError, match="AAA has no day"):
        convert.write_qlib({"AAA": candles_of(20).iloc[:0]}, tmp_path)
