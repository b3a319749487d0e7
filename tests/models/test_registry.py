"""Files of every kind of model, written and read by two functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.checkpoint import KINDS, model_class, read_checkpoint
from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.data.targets import read_classes, read_numbers
from freqai_lstm_plugins.errors import CheckpointError, MismatchError
from freqai_lstm_plugins.models.naive import LAST_KNOWN
from freqai_lstm_plugins.models.registry import save_model
from freqai_lstm_plugins.models.state import read_state

W = 4
NETS = ("regressor", "classifier")
OPTIONS = {
    **{kind: {"window": W, "hidden_size": 4, "max_epochs": 1} for kind in NETS},
    "ensemble": {"window": W, "members": {"ridge": {}, "lightgbm": {"n_estimators": 5}}},
}


def prepared(kind):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", LAST_KNOWN.format("up")])
    target = pd.Series(np.roll(rows[:, 0], 1), name="up")
    is_classes = kind == "classifier"
    return prepare(
        frame,
        target > 0 if is_classes else target,
        DataConfig(window=W),
        read_targets=read_classes if is_classes else read_numbers,
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_loaded_model_of_every_kind_says_the_same(kind, tmp_path):
    options = dict(OPTIONS.get(kind, {}))
    data, path = prepared(kind), tmp_path / "model.zip"
    model = model_class(kind)(**options).fit_windows(data)
    save_model(model, path)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    rows = data.train.rows.numpy()
    has_window = np.arange(len(rows)) >= W - 1
    said, again = (which.predict_windows(rows, has_window) for which in (model, loaded))
    np.testing.assert_array_equal(again.point, said.point)
    assert np.isnan(said.point[: W - 1]).all()
    assert np.isfinite(said.point[W - 1 :]).all()
    checkpoint = read_checkpoint(path)
    assert checkpoint.kind == kind
    if kind not in NETS:
        with pytest.raises(MismatchError, match=f"holds a {kind}, which is no net"):
            read_state(checkpoint)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_state_of_another_kind_is_refused(kind):
    for state in ({}, {"schema": 3, "scaling": None, "settings": {}}):
        with pytest.raises(CheckpointError):
            model_class(kind).from_state(state)
