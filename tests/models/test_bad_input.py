"""What users get wrong, and what they are told: one line that names the value and the remedy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    MismatchError,
    NotACheckpointError,
)

SMALL = {"window": 4, "hidden_size": 4, "num_layers": 1, "max_epochs": 1, "progress": False}
N = 60


def rows():
    return np.random.default_rng(0).normal(size=(N, 3))


def frame(columns="abc"):
    index = pd.date_range("2025-01-01", periods=N, freq="5min")
    return pd.DataFrame(rows(), columns=list(columns), index=index)


def targets():
    return rows()[:, 0]


def refused(error, message, call):
    with pytest.raises(error, match=message) as caught:
        call()
    # Every error is one of the package's, and one line.
    assert isinstance(caught.value, FreqaiLSTMError)
    assert "\n" not in str(caught.value)


SETTINGS = [
    (
        {"net": "lstn"},
        "unknown net 'lstn': the nets are lstm, gru, alstm, tft, mlp. Did you mean 'lstm'",
    ),
    ({"net": ""}, "unknown net '': the nets are lstm, gru"),
    ({"net": 3}, "net must be a name or a function that makes a net, not 3"),
    ({"window": 0}, "window must be an integer of at least 1, not 0"),
    ({"window": 2.5}, "window must be an integer of at least 1, not 2.5"),
    ({"window": "24"}, "window must be an integer of at least 1, not '24'"),
    ({"valid_size": 1}, "valid_size must be a number from 0 up to, not including, 1, not 1"),
    ({"valid_size": -0.1}, "valid_size must be a number from 0 .*, not -0.1"),
    ({"valid_size": np.nan}, "valid_size must be a number from 0 .*, not nan"),
    ({"valid_size": "10%"}, "valid_size must be a number from 0 .*, not '10%'"),
    ({"label_period": -1}, "label_period must be an integer of at least 0, not -1"),
    ({"label_period": 2.5}, "label_period must be an integer of at least 0, not 2.5"),
    ({"step": "soon"}, "step must be a time above 0 such as '5min', not 'soon'"),
    ({"step": "0min"}, "step must be a time above 0 such as '5min', not '0min'"),
    ({"step": "NaT"}, "step must be a time above 0 such as '5min', not 'NaT'"),
    ({"step": 5}, "step must be a time above 0 such as '5min', not 5"),
    ({"hiddensize": 3}, "unknown setting 'hiddensize'. Did you mean 'hidden_size'"),
    ({"hidden_dim": 0}, "hidden_.* must be an integer of at least 1, not 0"),
    ({"hidden_dim": 3, "hidden_size": 4}, "hidden_dim = 3 and hidden_size = 4 are the same"),
    ({"batch_size": "big"}, "batch_size must be an integer of at least 1, not 'big'"),
    ({"max_epochs": None}, "max_epochs and n_steps are both null.*set max_epochs"),
    ({"net": nn.Identity, "hidden_dim": 3}, "unknown setting 'hidden_dim'. Known settings: learn"),
    ({"interval": 0}, "interval must be a number between 0 and 1, such as 0.8, or null, not 0"),
    ({"interval": 1}, "interval must be a number between 0 and 1, .*, not 1"),
    ({"interval": 1.5}, "interval must be a number between 0 and 1, .*, not 1.5"),
    ({"interval": -0.8}, "interval must be a number between 0 and 1, .*, not -0.8"),
    ({"interval": "x"}, "interval must be a number between 0 and 1, .*, not 'x'"),
    ({"interval": True}, "interval must be a number between 0 and 1, .*, not True"),
    ({"interval": np.nan}, "interval must be a number between 0 and 1, .*, not nan"),
    ({"interval": [0.1, 0.9]}, r"interval must be a number between 0 and 1, .*, not \[0.1, 0.9\]"),
    ({"loss": "mean"}, "loss must be one of auto, mse, mae, huber, quantile, .*, not 'mean'"),
    ({"loss": None}, "loss must be one of auto, mse, .*, not None"),
    ({"loss": "cross_entropy"}, "loss = 'cross_entropy' is for classes: take mse, .* a classifier"),
    ({"class_weight": "balanced"}, "class_weight is for classifiers. Leave it out"),
    ({"class_weight": {"up": 1.0}}, "class_weight is for classifiers. Leave it out"),
    ({"symbol": 3}, "symbol must be the name of a column, not 3"),
    ({"symbol_embedding": -1}, "symbol_embedding must be an integer of at least 0, not -1"),
    ({"symbol_embedding": True}, "symbol_embedding must be an integer of at least 0, not True"),
    ({"cell_type": "gru"}, "unknown setting 'cell_type'"),
]

NETS_SETTINGS = [
    ({"net": "alstm", "cell_type": "rnn"}, "cell_type must be one of gru, lstm, not 'rnn'"),
    ({"net": "alstm", "num_heads": 2}, "unknown setting 'num_heads'"),
    ({"net": "tft", "hidden_size": 10}, "10 is no multiple of num_heads = 4: hidden_size = 12 is"),
    ({"net": "tft", "num_heads": 3}, "32 is no multiple of num_heads = 3: hidden_size = 33 is the"),
    ({"net": "tft", "num_heads": 0}, "num_heads must be an integer of at least 1, not 0"),
    ({"net": "tft", "head_size": 8}, "unknown setting 'head_size'. Did you mean 'hidden_size'"),
    ({"net": "tft", "cell_type": "gru"}, "unknown setting 'cell_type'"),
]

CLASSIFIER_SETTINGS = [
    ({"loss": "mse"}, "loss = 'mse' is for numbers: .* so leave loss out, or take a regressor"),
    ({"loss": "mae"}, "loss = 'mae' is for numbers"),
    ({"loss": "quantile"}, "loss = 'quantile' is for numbers"),
    ({"interval": 0.8}, "interval = 0.8 is for numbers: the probabilities .* Leave interval out"),
    ({"class_weight": "even"}, "class_weight must be 'balanced', a dictionary .*, not 'even'"),
    ({"class_weight": {}}, "class_weight must be 'balanced', a dictionary .*, not {}"),
    ({"class_weight": {"up": 0}}, "class -> weight above 0, or null, not {'up': 0}"),
    ({"class_weight": {"up": np.inf}}, "class -> weight above 0, or null, not {'up': inf}"),
    ({"class_weight": {"up": np.nan}}, "class -> weight above 0, or null, not {'up': nan}"),
    ({"class_weight": {"up": "2"}}, "class -> weight above 0, or null, not {'up': '2'}"),
    ({"class_weight": {"up": True}}, "class -> weight above 0, or null, not {'up': True}"),
    ({"class_weight": 2.0}, "class_weight must be 'balanced', a dictionary .*, not 2.0"),
    ({"class_weight": ["up"]}, r"class_weight must be 'balanced', a dictionary .*, not \['up'\]"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS, ids=lambda value: str(value)[:40])
def test_wrong_settings(settings, message):
    refused(ConfigError, message, lambda: SequenceRegressor(**settings))
    # Changing a sound model to them is refused in the same words.
    if not {"net", "hidden_dim"} <= set(settings):
        refused(ConfigError, message, lambda: SequenceRegressor().set_params(**settings))


@pytest.mark.parametrize(("settings", "message"), NETS_SETTINGS, ids=lambda value: str(value)[:40])
def test_wrong_settings_of_nets(settings, message):
    for kind in (SequenceRegressor, SequenceClassifier):
        refused(ConfigError, message, lambda kind=kind: kind(**settings))
        refused(ConfigError, message, lambda kind=kind: kind().set_params(**settings))


@pytest.mark.parametrize(
    ("settings", "message"), CLASSIFIER_SETTINGS, ids=lambda value: str(value)[:40]
)
def test_wrong_settings_of_classifiers(settings, message):
    refused(ConfigError, message, lambda: SequenceClassifier(**settings))
    refused(ConfigError, message, lambda: SequenceClassifier().set_params(**settings))


def fit(x, y, eval_set=None, sample_weight=None, **settings):
    SequenceRegressor(**{**SMALL, **settings}).fit(x, y, sample_weight, eval_set)


FITS = {
    "one row of features": (lambda: fit(rows()[0], targets()), r"X must have shape .*not \(3,\)"),
    "no features": (lambda: fit(rows()[:, :0], targets()), r"X must have shape .*, not \(60, 0\)"),
    "no columns": (lambda: fit(frame()[[]], targets()), r"X must have shape .*, not \(60, 0\)"),
    "words as features": (
        lambda: fit(frame().assign(c="up"), targets()),
        "X: column '[ac]' holds text .'up'., and a model takes real numbers alone",
    ),
    "words as targets": (
        lambda: fit(rows(), ["up"] * N),
        "y holds text .'up'., and a model takes real numbers alone",
    ),
    "a target less": (lambda: fit(rows(), targets()[:-1]), r"one row a row of X \(60\).*\(59,\)"),
    "targets without a column": (lambda: fit(rows(), np.zeros((N, 0))), r"its shape is \(60, 0\)"),
    "targets in a cube": (lambda: fit(rows(), np.zeros((N, 1, 1))), r"its shape is \(60, 1, 1\)"),
    "too few rows": (
        lambda: fit(rows()[:3], targets()[:3]),
        "of 3 rows 3 have finite .* nowhere do 4",
    ),
    "no finite feature": (lambda: fit(rows() * np.nan, targets()), "of 60 rows 0 have finite"),
    "no finite target": (
        lambda: fit(rows(), targets() * np.inf),
        "60 have finite.*, 0 have targets",
    ),
    "weights of 0": (
        lambda: fit(rows(), targets(), sample_weight=np.zeros(N)),
        "0 have a weight above 0",
    ),
    "a weight below 0": (
        lambda: fit(rows(), targets(), sample_weight=np.r_[-1, np.ones(N - 1)]),
        "weights must be finite and at least 0",
    ),
    "a weight less": (
        lambda: fit(rows(), targets(), sample_weight=np.ones(3)),
        r"sample_weight must have one row a row of X \(60\), its shape is \(3,\)",
    ),
    "a purge of everything": (
        lambda: fit(rows(), targets(), label_period=200),
        "smaller valid_size or label_period",
    ),
    "a step without times": (
        lambda: fit(rows(), targets(), step="5min"),
        "step = '5min' needs a DataFrame with a DatetimeIndex",
    ),
    "a step that is not the data's": (
        lambda: fit(frame(), targets(), step="1h"),
        "nowhere do 4 consecutive usable rows",
    ),
    "an eval_set without a window": (
        lambda: fit(rows(), targets(), eval_set=(rows()[:3], targets()[:3])),
        "eval_set: nowhere in its 3 rows do 4 consecutive",
    ),
    "an eval_set of more targets": (
        lambda: fit(rows(), targets(), eval_set=(rows(), rows()[:, :2])),
        "eval_set has 2 targets, y has 1",
    ),
    "no validation to calibrate an interval on": (
        lambda: fit(rows(), targets(), interval=0.8, valid_size=0),
        "interval = 0.8 needs at least 4 validation rows .* there are 0. Keep more rows",
    ),
    "too little validation for an interval": (
        lambda: fit(rows(), targets(), interval=0.9, valid_size=0.1),
        "interval = 0.9 needs at least 9 validation rows .* there are 6. .* a smaller interval",
    ),
    "a net of ones own without quantiles": (
        lambda: fit_own(
            lambda f, k: nn.Sequential(nn.Flatten(), nn.Linear(4 * f, 1)), loss="quantile"
        ),
        r"the targets need \(1, 3\).* for each of the quantiles \[0.1, 0.5, 0.9\] of each target",
    ),
    "a net of another width": (
        lambda: fit_own(lambda f, k: nn.Sequential(nn.Flatten(), nn.Linear(4 * f, k + 1))),
        r"to \(1, 2\), but the targets need \(1, 1\)",
    ),
}


def fit_own(make_net, **settings):
    SequenceRegressor(make_net, 4, max_epochs=1, **settings).fit(rows(), targets())


@pytest.mark.parametrize("name", FITS)
def test_wrong_data_to_train_on(name):
    call, message = FITS[name]
    refused(DataError, message, call)


def test_wrong_nets_of_ones_own():
    refused(ConfigError, r"gave a int, not a torch nn\.Module", lambda: fit_own(lambda f, k: 3))
    refused(
        ConfigError,
        "the net has no parameters that could be trained",
        lambda: fit_own(lambda f, k: nn.Flatten()),
    )


def test_a_model_that_is_not_fitted():
    for call in (
        lambda model: model.predict(rows()),
        lambda model: model.predict_interval(rows()),
        lambda model: model.score(rows(), targets()),
        lambda model: model.save("never.zip"),
        lambda model: model.plot_history(),
    ):
        refused(
            ConfigError,
            "not fitted yet: call fit or load first",
            lambda call=call: call(SequenceRegressor()),
        )


PREDICTIONS = [
    (lambda: rows()[:, :2], MismatchError, "trained on 3 features, 2 are given"),
    (lambda: frame("abd"), MismatchError, "missing c; not known to the model d"),
    (lambda: frame("acb"), MismatchError, "another order, first 'c' where the model has 'b'"),
    (
        lambda: frame()[["a", "b", "c", "c"]],
        MismatchError,
        "4 are given: the same names another number of times, first 'c' where the model has 'n",
    ),
    (lambda: frame().assign(b="up"), DataError, "X: column 'b' holds text"),
    (lambda: rows()[0], DataError, "X must have shape"),
]


@pytest.mark.parametrize(("make", "error", "message"), PREDICTIONS)
def test_wrong_data_to_predict(make, error, message):
    model = SequenceRegressor(**SMALL).fit(frame(), targets())
    refused(error, message, lambda: model.predict(make()))


FILES = {
    "an empty file": (lambda path: path.write_bytes(b""), "not a whole zip"),
    "text": (lambda path: path.write_text("a model"), "not a whole zip"),
    "a folder": (lambda path: path.mkdir(), "There is no model file"),
    "nothing": (lambda path: None, "There is no model file"),
    "a list": (lambda path: torch.save([1], path), "not written by freqai_lstm_plugins"),
    "weights alone": (
        lambda path: torch.save(nn.Linear(2, 1).state_dict(), path),
        "not written by freqai_lstm_plugins",
    ),
    "a whole net": (lambda path: torch.save(nn.Linear(2, 1), path), "more than plain data"),
    "a format without a version": (
        lambda path: torch.save({"format": "freqai_lstm_plugins"}, path),
        "no valid format version, but None",
    ),
    "nothing but a version": (
        lambda path: torch.save({"format": "freqai_lstm_plugins", "format_version": 1}, path),
        "incomplete: it holds no 'net'",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_wrong_files(tmp_path, name):
    write, message = FILES[name]
    write(tmp_path / "model.zip")
    refused(NotACheckpointError, message, lambda: SequenceRegressor.load(tmp_path / "model.zip"))
