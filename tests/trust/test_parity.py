"""Backtest, live and the model file alone give the same prediction for the same candle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.configuration import TimeRange
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins import SequenceClassifier, load_model
from freqai_lstm_plugins.data.arrays import finite_rows, to_float32
from freqai_lstm_plugins.data.windows import consecutive_in_time, window_ends
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from tests.freqai.host import (
    CLASSES,
    MODELS,
    PAIR,
    WINDOW,
    make_classes,
    make_frame,
    make_model,
    predict,
    train,
)
from tests.freqai.panel.walk import PANEL
from tests.trust.cases import ALL_PAIRS, CASES, KWARGS, ONE_NET, Case, columns_alone

# Those that take a net's settings; the others stand among the cases.
OTHERS = [case for case in CASES if case is not ONE_NET]
MODEL_NAMES = sorted(
    {path.stem for path in MODELS.glob("Lea*Regressor.py")}
    - {case.changes.get("freqaimodel") for case in OTHERS}
)

# Every candle around the holes, and of the others enough.
LIVE_ROWS = [*range(WINDOW - 1, 290, 5), *range(290, 396)]

SWITCHES = {
    "plain": {},
    "PCA": {"principal_component_analysis": True},
    "SVM": {"use_SVM_to_remove_outliers": True},
    "DBSCAN": {"use_DBSCAN_to_remove_outliers": True},
    "DI": {"DI_threshold": 3.0},
    "noise": {"noise_standard_deviation": 0.05},
    "everything": {
        "principal_component_analysis": True,
        "use_SVM_to_remove_outliers": True,
        "DI_threshold": 3.0,
        "weight_factor": 0.9,
    },
}


def holed(frame: pd.DataFrame) -> pd.DataFrame:
    """Cut every kind of hole into the second half: NaN, infinity, a gap, a candle made up."""
    frame = frame.copy()
    frame.loc[300, "%-signal"] = np.nan
    frame.loc[317, "%-noise"] = np.inf
    frame.loc[340, ["open", "high", "low", "close"]] = frame.loc[339, "close"]
    frame.loc[340, "volume"] = 0.0
    return frame.drop(index=range(360, 364)).reset_index(drop=True)


def built(user_dir: Path, **changes):
    """Load a model whose classes, if it has any, the strategy has named."""
    model = make_model(user_dir, **changes)
    model.class_names = CLASSES
    return model


def from_backtest(user_dir: Path, frame: pd.DataFrame, **changes):
    """Predict slice by slice as a backtest does that finds its models on disk."""
    model = built(user_dir, live=False, **changes)
    kitchen = model.new_kitchen(PAIR)
    kitchen.set_paths(PAIR, 1)
    kitchen.set_new_model_names(PAIR, 1)
    times = frame["date"].map(lambda date: int(date.timestamp()))
    parts = []
    for first, last in ((0, 150), (150, 310), (310, 311), (311, len(frame))):
        model.model = model.dd.load_data(PAIR, kitchen)
        stop = times.iloc[last] if last < len(frame) else times.iloc[-1] + 300
        span = TimeRange("date", "date", times.iloc[first], stop)
        part = kitchen.slice_dataframe(span, frame)
        predicted, do_predict = model.predict(part, kitchen)
        parts.append(predicted.assign(do_predict=do_predict))
    return pd.concat(parts, ignore_index=True)


def from_live(user_dir: Path, frame: pd.DataFrame, **changes):
    """Predict candle by candle, each from the newest `conv_width` rows alone."""
    model = built(user_dir, **changes)
    parts = []
    for row in LIVE_ROWS:
        predicted, do_predict = predict(model, frame.iloc[row + 1 - WINDOW : row + 1])
        parts.append(predicted.iloc[[-1]].assign(do_predict=do_predict[-1]))
    return pd.concat(parts, ignore_index=True)


def from_file(user_dir: Path, kitchen: FreqaiDataKitchen, frame: pd.DataFrame):
    """Predict with what the model file holds, without FreqAI's classes."""
    path = next(user_dir.glob("models/test/sub-train-*/*_model.zip"))
    model = load_model(path)
    features = frame[kitchen.training_features_list].replace([np.inf, -np.inf], np.nan)
    is_filled = (frame["volume"] == 0) & (frame["open"] == frame["close"])
    missing = (features.isna().any(axis=1) | is_filled).to_numpy()
    scaled, _, _ = kitchen.feature_pipeline.transform(features.fillna(0.0), outlier_check=True)
    scaled = scaled.set_axis(pd.DatetimeIndex(frame["date"]), axis=0)
    scaled[missing] = np.nan
    if isinstance(model, EnsembleRegressor):
        rows = to_float32(scaled.to_numpy())
        step = np.timedelta64(5, "m")
        follows = consecutive_in_time(frame["date"].to_numpy(dtype="datetime64[ns]"), step)
        has_window = window_ends(finite_rows(rows), WINDOW, follows)
        return columns_alone(model, rows, has_window, kitchen)
    if isinstance(model, SequenceClassifier):
        found = pd.DataFrame(model.predict(scaled)).join(model.predict_proba(scaled))
        return found.reset_index(drop=True)

    def unscaled(predicted):
        predicted = predicted[PAIR] if model.symbols_ else predicted
        predicted = pd.DataFrame(predicted).reset_index(drop=True)
        back, _, _ = kitchen.label_pipeline.inverse_transform(predicted.fillna(0.0))
        return back.mask(predicted.isna())

    point = unscaled(model.predict({PAIR: scaled} if model.symbols_ else scaled))
    if model.calibration is None:
        return point
    interval = model.predict_interval(scaled)
    ends = {"lower": interval.lower, "upper": interval.upper}
    return point.join([unscaled(end).add_suffix(f"_{name}") for name, end in ends.items()])


# Several targets meet most switches in "everything", and the other nets meet several targets.
CASES = [("LeaLSTMRegressor", switch, 1) for switch in SWITCHES]
CASES += [(name, switch, 3) for name in MODEL_NAMES for switch in ("plain", "everything")]


@pytest.mark.parametrize(("name", "switch", "n_targets"), CASES)
def test_backtest_live_and_the_file_alone_agree(tmp_path, name, switch, n_targets):
    """Catches windows, scaling or masks that differ between the paths by a row or a rounding."""
    frame = holed(make_frame(400, n_targets))
    changes = {f"freqai__feature_parameters__{key}": item for key, item in SWITCHES[switch].items()}
    assert_all_agree(tmp_path, frame, freqaimodel=name, **changes)


ANSWERS = [
    ("plain", "LeaLSTMRegressor", {"interval": 0.8}),
    ("everything", "LeaLSTMRegressor", {"interval": 0.8, "loss": "quantile"}),
    ("PCA", "LeaGRURegressor", {"interval": 0.5, "loss": "huber"}),
    ("plain", "LeaALSTMRegressor", {"interval": 0.5, "loss": "mae"}),
    ("plain", "LeaTFTRegressor", {"interval": 0.8}),
    ("plain", "LeaLSTMClassifier", {}),
    ("everything", "LeaLSTMClassifier", {}),
    ("PCA", "LeaGRUClassifier", {"class_weight": "balanced"}),
]


TOLD = Case("one net that is told the pair", {PANEL: {"symbol_embedding": 2}})


@pytest.mark.parametrize(
    ("switch", "case"),
    [
        *((switch, case) for switch in ("plain", "everything") for case in OTHERS),
        ("plain", TOLD),
    ],
    ids=lambda given: getattr(given, "name", given),
)
def test_all_paths_agree_on_models_of_several(tmp_path, switch, case):
    """Catches a member, a weight or a bound that one path makes differently."""
    changes = {f"freqai__feature_parameters__{key}": item for key, item in SWITCHES[switch].items()}
    if case is ALL_PAIRS:
        # It would give each pair other columns, and is refused.
        changes.pop("freqai__feature_parameters__principal_component_analysis", None)
    assert_all_agree(tmp_path, holed(make_frame(400, 2)), **changes, **case.changes)


@pytest.mark.parametrize(("switch", "name", "training"), ANSWERS)
def test_all_paths_agree_on_intervals_and_classes(tmp_path, switch, name, training):
    """Catches a bound, a class or a probability that one path makes differently."""
    changes = {f"freqai__feature_parameters__{key}": item for key, item in SWITCHES[switch].items()}
    for key, item in training.items():
        changes[f"freqai__model_training_parameters__trainer_kwargs__{key}"] = item
    frame = make_classes(400) if name.endswith("Classifier") else make_frame(400, 2)
    found = assert_all_agree(tmp_path, holed(frame), freqaimodel=name, **changes)
    if name.endswith("Classifier"):
        assert list(found) == ["&-direction", *CLASSES, "do_predict"]
    else:
        ends = [f"&-target{k}_{end}" for k in ("", "1") for end in ("lower", "upper")]
        assert list(found) == ["&-target", "&-target1", *ends, "do_predict"]


def assert_all_agree(user_dir: Path, frame: pd.DataFrame, **changes) -> pd.DataFrame:
    """Compare every column of the three paths, and return what the backtest gave."""
    # The settings of a shape that all nets have.
    changes = {KWARGS: {"hidden_dim": 8, "n_layer": 1}, **changes}
    _, kitchen = train(built(user_dir, **changes), frame)
    # Not in the float32 that nets compute in, so a hole too.
    frame.loc[324, "%-wave"] = 1e39
    backtest = from_backtest(user_dir, frame, **changes)
    live = from_live(user_dir, frame, **changes)
    alone = from_file(user_dir, kitchen, frame)

    tail = backtest.iloc[LIVE_ROWS].reset_index(drop=True)
    assert tail["do_predict"].to_list() == live["do_predict"].to_list()
    # Some candles are predicted, and those around the holes are not.
    holes = [
        *range(300, 306),
        *range(317, 323),
        *range(324, 330),
        *range(340, 346),
        *range(360, 365),
    ]
    assert not backtest["do_predict"].iloc[holes].any()
    assert tail["do_predict"].mean() > 0.5
    columns = [name for name in backtest if name != "do_predict"]
    assert set(columns) == set(alone) == set(live) - {"do_predict"}
    for name in columns:
        known = alone[name].notna()
        # An outlier has a value, which the host is told not to use.
        assert known[backtest["do_predict"] == 1].all()
        assert not known.iloc[holes].any()
        assert_alike(tail[name], live[name], frame, name)
        assert_alike(backtest.loc[known, name], alone.loc[known, name], frame, name)
    return backtest


def assert_alike(one: pd.Series, other: pd.Series, frame: pd.DataFrame, name: str) -> None:
    label = name.removesuffix("_lower").removesuffix("_upper")
    if label not in frame:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    elif pd.api.types.is_numeric_dtype(frame[label]):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * frame[label].std())
    else:
        assert one.to_list() == other.to_list()
