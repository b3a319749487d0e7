"""Backtest, live and the model file alone give the same prediction for the same candle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.configuration import TimeRange
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.freqai.data import SequenceDataKitchen
from tests.freqai.host import MODELS, PAIR, WINDOW, make_frame, make_model, predict, train

MODEL_NAMES = sorted(path.stem for path in MODELS.glob("Lea*Regressor.py"))

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


def from_backtest(user_dir: Path, frame: pd.DataFrame, **changes):
    """Predict slice by slice as a backtest does that finds its models on disk."""
    model = make_model(user_dir, live=False, **changes)
    kitchen = SequenceDataKitchen(model.config, False, PAIR, WINDOW - 1)
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
    model = make_model(user_dir, **changes)
    parts = []
    for end in range(WINDOW, len(frame) + 1):
        predicted, do_predict = predict(model, frame.iloc[end - WINDOW : end])
        parts.append(predicted.iloc[[-1]].assign(do_predict=do_predict[-1]))
    return pd.concat(parts, ignore_index=True)


def from_file(user_dir: Path, kitchen: FreqaiDataKitchen, frame: pd.DataFrame):
    """Predict with what the model file holds, without FreqAI's classes."""
    path = next(user_dir.glob("models/test/sub-train-*/*_model.zip"))
    model = SequenceRegressor.load(path)
    features = frame[kitchen.training_features_list].replace([np.inf, -np.inf], np.nan)
    is_filled = (frame["volume"] == 0) & (frame["open"] == frame["close"])
    missing = (features.isna().any(axis=1) | is_filled).to_numpy()
    scaled, _, _ = kitchen.feature_pipeline.transform(features.fillna(0.0), outlier_check=True)
    scaled = scaled.set_axis(pd.DatetimeIndex(frame["date"]), axis=0)
    scaled[missing] = np.nan
    predicted = pd.DataFrame(model.predict(scaled)).reset_index(drop=True)
    back, _, _ = kitchen.label_pipeline.inverse_transform(predicted.fillna(0.0))
    return back.mask(predicted.isna())


# Several targets meet most switches in "everything".
CASES = [(switch, 1) for switch in SWITCHES] + [("plain", 3), ("everything", 3)]


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize(("switch", "n_targets"), CASES)
def test_backtest_live_and_the_file_alone_agree(tmp_path, name, switch, n_targets):
    """Catches windows, scaling or masks that differ between the paths by a row or a rounding."""
    changes = {f"freqai__feature_parameters__{key}": item for key, item in SWITCHES[switch].items()}
    changes["freqaimodel"] = name
    frame = holed(make_frame(400, n_targets))
    _, kitchen = train(make_model(tmp_path, **changes), frame)
    # Not in the float32 that nets compute in, so a hole too.
    frame.loc[324, "%-wave"] = 1e39
    backtest = from_backtest(tmp_path, frame, **changes)
    live = from_live(tmp_path, frame, **changes)
    alone = from_file(tmp_path, kitchen, frame)

    tail = backtest.iloc[WINDOW - 1 :].reset_index(drop=True)
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
    deviation = frame[kitchen.label_list].std()
    for label in kitchen.label_list:
        tolerance = 1e-5 * deviation[label]
        np.testing.assert_allclose(tail[label], live[label], rtol=0, atol=tolerance)
        known = alone[label].notna()
        # An outlier has a value, which the host is told not to use.
        assert known[backtest["do_predict"] == 1].all()
        np.testing.assert_allclose(
            backtest.loc[known, label], alone.loc[known, label], rtol=0, atol=tolerance
        )
        assert not known.iloc[holes].any()
