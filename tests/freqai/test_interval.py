from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest
from datasieve.pipeline import Pipeline
from datasieve.transforms import SKLearnWrapper
from freqtrade.exceptions import OperationalException
from sklearn.preprocessing import FunctionTransformer

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR, WINDOW, make_frame, make_model, next_candle, predict, train
from tests.freqai.walk import PER_DAY, SmallStrategy, backtest

TRAINING = "freqai__model_training_parameters__trainer_kwargs"
ENDS = ["&-target_lower", "&-target_upper"]
COLUMNS = ["&-target", *ENDS]
STATISTICS = [f"{name}_{what}" for name in COLUMNS for what in ("mean", "std")]
LOSSES = ["mse", "quantile"]


def make_sure(user_dir, loss="mse", interval=0.8, **changes):
    settings = {f"{TRAINING}__interval": interval, f"{TRAINING}__loss": loss}
    return make_model(user_dir, **{**settings, **changes})


@pytest.fixture
def frame() -> pd.DataFrame:
    return make_frame(400)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "quantile"])
def test_each_label_comes_with_the_ends_of_its_interval(tmp_path, loss):
    frame = make_frame(600, n_targets=2)
    model = make_sure(tmp_path, loss)
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert list(predicted) == [
        "&-target",
        "&-target1",
        *ENDS,
        "&-target1_lower",
        "&-target1_upper",
    ]
    for label in ("&-target", "&-target1"):
        lower, upper = predicted[f"{label}_lower"], predicted[f"{label}_upper"]
        counted = do_predict == 1
        assert (lower <= predicted[label])[counted].all()
        assert (predicted[label] <= upper)[counted].all()
        # The validation rows, on which the interval was calibrated.
        rows = slice(478, 597)
        inside = frame[label].between(lower, upper)[rows]
        assert inside.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_a_window_the_interval_is_that_of_the_training_labels(tmp_path, frame, loss):
    model = make_sure(tmp_path, loss)
    train(model, frame)
    holed = frame.copy()
    holed.loc[200, "%-noise"] = np.nan
    predicted, do_predict = predict(model, holed)
    without = do_predict == 0
    assert without.sum() == WINDOW - 1 + WINDOW
    ends = frame["&-target"].iloc[5:314].quantile([0.1, 0.9])
    np.testing.assert_allclose(predicted.loc[without, ENDS[0]], ends[0.1], rtol=1e-4)
    np.testing.assert_allclose(predicted.loc[without, ENDS[1]], ends[0.9], rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_restarted_bot_predicts_the_same_intervals(tmp_path, frame, loss):
    model = make_sure(tmp_path, loss)
    train(model, frame)
    before, _ = predict(model, frame)
    after, _ = predict(make_sure(tmp_path, loss), frame)
    pd.testing.assert_frame_equal(after, before)


@pytest.mark.parametrize("live_statistics", [0, 20])
def test_a_live_bot_has_every_column_before_and_after_its_first_model(
    tmp_path, frame, live_statistics
):
    changes = {"freqai__fit_live_predictions_candles": live_statistics}
    model = make_sure(tmp_path, **changes)
    expected = {*COLUMNS, *STATISTICS, "do_predict"}
    before = next_candle(model, frame.iloc[:390])
    assert expected <= set(before)
    assert (before[[*COLUMNS, "do_predict"]] == 0).all(axis=None)
    train(model, frame)
    for end in (390, 391, 393):
        given = next_candle(model, frame.iloc[:end])
        assert expected <= set(given)
    newest = given.iloc[-1]
    assert newest["do_predict"] == 1
    assert newest[ENDS[0]] < newest["&-target"] < newest[ENDS[1]]
    stored = model.dd.historic_predictions[PAIR][ENDS[0]].iloc[:-2].tail(20)
    if live_statistics:
        assert newest[f"{ENDS[0]}_mean"] == pytest.approx(stored.mean())
        assert newest[f"{ENDS[0]}_std"] == pytest.approx(stored.std(ddof=0))
    else:
        assert newest[f"{ENDS[0]}_mean"] == 0
    model.dd.save_historic_predictions_to_disk()
    restarted = make_sure(tmp_path, **changes)
    for end in (395, 396):
        given = next_candle(restarted, frame.iloc[:end])
        assert expected <= set(given)
    assert given["do_predict"].iloc[-1] == 1


def test_an_expired_model_has_no_interval(tmp_path, frame):
    model = make_sure(tmp_path, freqai__expiration_hours=1)
    train(model, frame)
    next_candle(model, frame.iloc[:390])
    newest = next_candle(model, frame.iloc[:391]).iloc[-1]
    assert newest["do_predict"] == 2
    assert (newest[COLUMNS] == 0).all()


class NoLabelsFirst(SmallStrategy):
    """The first training finds no label."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        early = frame["date"] < frame["date"].iloc[0] + pd.Timedelta(days=2)
        return frame.assign(**{"&-return": frame["&-return"].mask(early)})


@pytest.mark.parametrize("live_statistics", [0, 30])
def test_a_slice_that_could_not_be_trained_has_every_column(tmp_path, caplog, live_statistics):
    market = synthetic_market([PAIR], "15m", 6 * PER_DAY, seed=1)[PAIR]
    changes = {
        f"{TRAINING}__interval": 0.8,
        "freqai__fit_live_predictions_candles": live_statistics,
    }
    predicted, _ = backtest(tmp_path, market, NoLabelsFirst, **changes)
    inside = predicted.iloc[2 * PER_DAY :]
    first, others = inside.iloc[:PER_DAY], inside.iloc[PER_DAY:]
    columns = ["&-return", "&-return_lower", "&-return_upper"]
    assert (first[[*columns, "do_predict"]] == 0).all(axis=None)
    assert (others["do_predict"] == 1).all()
    assert (others["&-return_lower"] < others["&-return_upper"]).all()
    if live_statistics:
        row = 4 * PER_DAY
        known = predicted["&-return_lower"].iloc[row - 30 : row]
        assert predicted["&-return_lower_mean"].iloc[row] == pytest.approx(known.mean())
    for path in tmp_path.glob("models/test/backtesting_predictions/*.feather"):
        assert {*columns, "&-return_lower_mean"} <= set(pd.read_feather(path))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again, _ = backtest(tmp_path, market, NoLabelsFirst, **changes)
    assert "Done training" not in caplog.text
    pd.testing.assert_frame_equal(again[columns], predicted[columns], check_dtype=False)


def test_a_label_pipeline_that_turns_the_order_round_keeps_lower_below_upper(tmp_path, frame):
    model = make_sure(tmp_path, "quantile")
    flip = FunctionTransformer(np.negative, np.negative, check_inverse=False)
    model.define_label_pipeline = lambda threads: Pipeline([("flip", SKLearnWrapper(flip))])
    trained, _ = train(model, frame)
    assert isinstance(trained, SequenceRegressor)
    predicted, _ = predict(model, frame)
    assert (predicted[ENDS[0]] < predicted["&-target"]).all()
    assert (predicted["&-target"] < predicted[ENDS[1]]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{TRAINING}__interval": 0}, "interval must be a number between 0 and 1"),
        ({f"{TRAINING}__interval": 1}, "interval must be a number between 0 and 1"),
        ({f"{TRAINING}__interval": 80}, "interval must be a number between 0 and 1.*not 80"),
        ({f"{TRAINING}__loss": "cross_entropy"}, "loss = 'cross_entropy' is for classes"),
        ({f"{TRAINING}__class_weight": "balanced"}, "class_weight is for classifiers"),
        (
            {"freqai__data_split_parameters__test_size": 0},
            r"interval = 0.8 needs validation rows .*\.test_size is 0",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(tmp_path, changes, message):
    with pytest.raises(OperationalException, match=message):
        make_sure(tmp_path, **changes)
    # A refused configuration leaves no trace that would refuse the mended one.
    make_sure(tmp_path)


def test_too_few_validation_rows_for_the_interval_say_how_many_are_needed(tmp_path, frame):
    model = make_sure(tmp_path, interval=0.99)
    match = "interval = 0.99 needs at least 99 validation rows .* there are 80.*test_size"
    with pytest.raises(DataError, match=match):
        train(model, frame)


def test_no_validation_split_by_default_is_freqtrades_default_split(tmp_path, frame):
    model = make_sure(tmp_path, freqai__data_split_parameters={})
    trained, _ = train(model, frame)
    assert trained.calibration.n_rows == trained.history_.n_valid_windows > 0


def test_continual_learning_calibrates_anew(tmp_path, frame):
    model = make_sure(tmp_path, "quantile", freqai__continual_learning=True)
    first, _ = train(model, frame.iloc[:300], stamp=1)
    margins = list(first.calibration.margins)
    restarted = make_sure(tmp_path, "quantile", freqai__continual_learning=True)
    predict(restarted, frame)
    second, _ = train(restarted, frame, stamp=2)
    assert second.calibration.margins != margins
    assert restarted.dd.model_dictionary[PAIR] is second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{TRAINING}__interval": 0.9}, "trainer_kwargs.interval: 0.8 -> 0.9"),
        ({f"{TRAINING}__interval": None}, "trainer_kwargs.interval: 0.8 -> None"),
        ({f"{TRAINING}__loss": "mae"}, "trainer_kwargs.loss: 'mse' -> 'mae'"),
    ],
)
def test_changed_losses_and_intervals_under_an_old_identifier_are_refused(
    tmp_path, changes, message
):
    make_sure(tmp_path)
    with pytest.raises(OperationalException, match=message):
        make_sure(tmp_path, **changes)


def test_a_record_from_before_there_were_intervals_is_taken_for_their_defaults(tmp_path):
    make_model(tmp_path)
    record = tmp_path / "models" / "test" / "freqai_lstm_settings.json"
    recorded = json.loads(record.read_text())
    for name in ("class_weight", "loss", "interval"):
        del recorded[f"trainer_kwargs.{name}"]
    record.write_text(json.dumps(recorded))
    make_model(tmp_path)
    with pytest.raises(OperationalException, match=r"trainer_kwargs.interval: None -> 0.8"):
        make_sure(tmp_path, "auto")


@pytest.mark.parametrize("dtype", ["Float64", "float32"])
def test_labels_of_other_number_types_are_learned(tmp_path, frame, dtype):
    model = make_sure(tmp_path)
    train(model, frame.astype({"&-target": dtype}))
    _, do_predict = predict(model, frame)
    assert do_predict[-1] == 1


@pytest.mark.parametrize(
    "switch",
    [
        {"principal_component_analysis": True},
        {"use_SVM_to_remove_outliers": True},
        {"noise_standard_deviation": 0.05},
        {"weight_factor": 0.9},
        {"reverse_train_test_order": True},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_freqai_switches_work_with_intervals(tmp_path, frame, switch):
    changes = {f"freqai__feature_parameters__{key}": value for key, value in switch.items()}
    model = make_sure(tmp_path, "quantile", **changes)
    train(model, frame)
    whole, _ = predict(model, frame)
    tail, _ = predict(model, frame.iloc[-WINDOW:])
    np.testing.assert_allclose(tail.iloc[-1], whole.iloc[-1], atol=1e-5)
