"""Ratios alone: both sides run here, one after the other, on the same rows."""

import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from qlib.contrib.model import pytorch_lstm_ts

from benchmarks import qlib_alpha158
from freqai_lstm_plugins.qlib import SequenceModel
from tests.qlib.panels import MARKS, dataset_of

pytestmark = [*MARKS, pytest.mark.slow]

DAYS = pd.bdate_range("2018-01-01", periods=700)
SEGMENTS = {"train": (DAYS[0], DAYS[599]), "valid": (DAYS[600], DAYS[699])}
SHAPE = {"hidden_size": 64, "num_layers": 2, "dropout": 0.0, "batch_size": 800, "GPU": -1}


def frame():
    """Return 20 features of 10 stocks, and a label."""
    names = ["datetime", "instrument"]
    index = pd.MultiIndex.from_product([DAYS, [f"S{k}" for k in range(10)]], names=names)
    values = np.random.default_rng(0).normal(size=(len(index), 21)).astype("float32")
    features = pd.DataFrame(values[:, :20], index, [f"F{k}" for k in range(20)])
    label = pd.DataFrame(values[:, 20:], index, ["LABEL0"])
    return pd.concat({"feature": features, "label": label}, axis=1)


def seconds(model, dataset):
    # Of the processor: what else the machine does is no matter here.
    start = time.process_time()
    model.fit(dataset)
    return time.process_time() - start


def seconds_an_epoch(new_model, dataset):
    """Return what two more epochs take, by epoch: reading the dataset is no part of either."""
    short, long = (
        min(seconds(new_model(n_epochs=epochs), dataset) for _ in range(2)) for epochs in (1, 3)
    )
    return (long - short) / 2


@pytest.mark.parametrize(("supervision", "goal"), [("dense", 3), ("exact", 2)])
def test_an_epoch_takes_less_of_the_processor_than_qlibs(
    supervision, goal, tmp_path, monkeypatch, record_figure
):
    monkeypatch.chdir(tmp_path)
    dataset = dataset_of(frame(), series=20, segments=SEGMENTS)
    settings = {"label_horizon": 0, "early_stop": 0, "supervision": supervision, **SHAPE}
    # The first one compiles.
    seconds(SequenceModel("lstm", n_epochs=1, **settings), dataset)
    ours = seconds_an_epoch(partial(SequenceModel, "lstm", **settings), dataset)
    their_model = partial(pytorch_lstm_ts.LSTM, d_feat=20, n_jobs=0, **SHAPE)
    theirs = seconds_an_epoch(their_model, dataset)
    record_figure(
        f"qlib's pytorch_lstm_ts / ours, {supervision} supervision", f"{theirs / ours:.2f}"
    )
    assert goal * ours <= theirs


def test_qlibs_own_alpha158_takes_no_less_time(monkeypatch, record_figure):
    monkeypatch.setattr(qlib_alpha158, "PYTHON", sys.executable)
    times = qlib_alpha158.in_qlibs_environment(5, 1500, 2)
    ratio = min(times[qlib_alpha158.THEIRS]) / min(times[qlib_alpha158.OURS])
    record_figure("qlib's Alpha158 / ours, 5 stocks of 1,500 days", f"{ratio:.2f}")
    assert min(times[qlib_alpha158.OURS]) <= max(times[qlib_alpha158.THEIRS])
