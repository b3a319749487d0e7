"""What was seen to fail in pyqlib 0.9.7: each time qlib's own model beside ours.

A test that fails in its first half means that qlib was mended, and that the page about it is old.
"""

import numpy as np
import pytest
from qlib.contrib.model import (
    pytorch_alstm,
    pytorch_gru,
    pytorch_gru_ts,
    pytorch_lstm,
    pytorch_lstm_ts,
    pytorch_transformer,
)
from qlib.workflow import R

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.qlib import SequenceModel
from freqai_lstm_plugins.training import prediction
from tests.qlib.panels import DAYS, MARKS, SEGMENTS, STOCKS, dataset_of, frame_of, part_of

pytestmark = MARKS

FLAT = {"d_feat": 4, "n_epochs": 1, "GPU": -1, "seed": 0}
SERIES = {**FLAT, "n_jobs": 0}


def ours(name="lstm", **settings):
    small = {"hidden_size": 8, "n_epochs": 1, "GPU": -1, "num_threads": 1}
    return SequenceModel(model=name, label_horizon=0, **{"step_len": 6, **small, **settings})


def trained(model, dataset):
    model.fit(dataset)
    return model


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        (lambda: pytorch_lstm.LSTM(**FLAT, batch_size=20), "lstm"),
        (lambda: pytorch_alstm.ALSTM(**FLAT, batch_size=20), "alstm"),
        (
            lambda: pytorch_transformer.TransformerModel(**FLAT, batch_size=20, d_model=8),
            "gru",
        ),
    ],
    ids=["LSTM", "ALSTM", "Transformer"],
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_a_dataset_without_a_test_segment(theirs, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of(segments=part_of("train", "valid"))
    with pytest.raises(TypeError, match="'<' not supported between instances of 'str' and 'int'"):
        theirs().fit(dataset)
    assert trained(ours(name), dataset).predict(dataset, "valid").notna().all()


@pytest.mark.parametrize(
    ("theirs", "series"),
    [
        (lambda: pytorch_lstm.LSTM(**FLAT, batch_size=100), None),
        (lambda: pytorch_alstm.ALSTM(**FLAT, batch_size=100), None),
        (lambda: pytorch_lstm_ts.LSTM(**SERIES, batch_size=100), 6),
        (lambda: pytorch_gru_ts.GRU(**SERIES, batch_size=100), 6),
    ],
    ids=["LSTM", "ALSTM", "LSTM_ts", "GRU_ts"],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_a_batch_larger_than_the_validation_rows(theirs, series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of(series=series)
    with pytest.raises(UnboundLocalError, match="best_param"):
        theirs().fit(dataset)
    evals = {}
    model = ours(batch_size=100_000)
    model.fit(dataset, evals_result=evals)
    assert np.isfinite(evals["valid"]).all()
    assert model.predict(dataset).notna().all()


def test_a_batch_size_that_a_search_drew_as_a_fraction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of()
    with pytest.raises(TypeError):
        pytorch_lstm.LSTM(**FLAT, batch_size=20.0).fit(dataset)
    assert trained(ours(batch_size=256.0), dataset).predict(dataset).notna().all()


@pytest.mark.parametrize(
    ("theirs", "series"),
    [
        (lambda: pytorch_lstm.LSTM(**FLAT, batch_size=59), None),
        (lambda: pytorch_lstm_ts.LSTM(**SERIES, batch_size=59), 6),
        (lambda: pytorch_gru_ts.GRU(**SERIES, batch_size=59), 6),
    ],
    ids=["LSTM", "LSTM_ts", "GRU_ts"],
)
def test_a_last_batch_of_one_row_in_a_prediction(theirs, series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # 20 days of 3 stocks are a batch of 59 rows and one of a single row.
    dataset = dataset_of(series=series, segments={**SEGMENTS, "test": (DAYS[90], DAYS[109])})
    model = theirs()
    model.fit(dataset)
    with pytest.raises(ValueError, match="dimension"):
        model.predict(dataset)
    net = trained(ours(batch_size=59), dataset)
    monkeypatch.setattr(prediction, "PREDICT_BATCH", 59)
    found = net.predict(dataset)
    assert len(found) == 60
    assert found.notna().all()


def test_a_training_without_a_recorder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of()
    monkeypatch.setattr(R, "_provider", None)
    with pytest.raises(AttributeError, match=r"run qlib\.init"):
        pytorch_gru.GRU(**FLAT, batch_size=20).fit(dataset)
    assert trained(ours("gru"), dataset).predict(dataset).notna().all()


def test_flat_rows_are_no_series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = frame_of()
    dataset = dataset_of(frame)
    model = pytorch_lstm.LSTM(**FLAT, batch_size=20)
    model.fit(dataset)
    # qlib's net sees one day: another past changes none of its forecasts.
    changed = frame.copy()
    changed.loc[DAYS[95], "feature"] = 3.0
    rows = [(DAYS[98], stock) for stock in STOCKS]
    assert model.predict(dataset)[rows].equals(model.predict(dataset_of(changed))[rows])
    net = trained(ours(), dataset)
    assert not np.allclose(net.predict(dataset)[rows], net.predict(dataset_of(changed))[rows])
    with pytest.raises(ConfigError, match="step_len = 1 leaves"):
        ours(step_len=1)


@pytest.mark.parametrize("series", [None, 6])
def test_predictions_stand_where_qlibs_do(series, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of(series=series)
    theirs = (
        pytorch_lstm.LSTM(**FLAT, batch_size=20)
        if series is None
        else pytorch_lstm_ts.LSTM(**SERIES, batch_size=20)
    )
    theirs.fit(dataset)
    expected = theirs.predict(dataset)
    found = trained(ours(), dataset).predict(dataset)
    assert found.index.equals(expected.index)
    assert found.index.names == expected.index.names
    assert found.name == expected.name
    assert type(found) is type(expected)
