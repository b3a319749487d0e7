from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins import SequenceClassifier
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import (
    CLASSES,
    PAIR,
    WINDOW,
    make_classes,
    make_classifier,
    make_frame,
    make_kitchen,
    next_candle,
    predict,
    train,
)
from tests.freqai.walk import PER_DAY, ClassStrategy, backtest

LABEL = "&-direction"
TRAINING = "freqai__model_training_parameters__trainer_kwargs"
STATISTICS = [f"{name}_{what}" for name in CLASSES for what in ("mean", "std")]


@pytest.fixture
def frame() -> pd.DataFrame:
    return make_classes(400)


def test_the_strategy_gets_the_likeliest_class_and_a_probability_a_class(tmp_path, frame):
    settings = {"n_epochs": 40, "batch_size": 32, "num_threads": 1, "lr_schedule": "none"}
    model = make_classifier(tmp_path, **{TRAINING: settings})
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert list(predicted) == [LABEL, *CLASSES]
    np.testing.assert_allclose(predicted[CLASSES].sum(axis=1), 1)
    assert (predicted[CLASSES].idxmax(axis=1) == predicted[LABEL]).all()
    known = (do_predict == 1) & frame[LABEL].notna().to_numpy()
    assert (predicted[LABEL] == frame[LABEL])[known].mean() > 0.7


def test_without_a_window_the_values_are_the_frequencies_of_training(tmp_path, frame):
    model = make_classifier(tmp_path)
    train(model, frame)
    holed = frame.copy()
    holed.loc[200, "%-noise"] = np.nan
    predicted, do_predict = predict(model, holed)
    without = do_predict == 0
    assert np.flatnonzero(without).tolist() == [*range(WINDOW - 1), *range(200, 200 + WINDOW)]
    # Training windows end at rows 5 to 313, as in the test of the same kind for numbers.
    counts = frame[LABEL].iloc[5:314].value_counts(normalize=True)
    assert set(predicted.loc[without, LABEL]) == {counts.idxmax()}
    for name in CLASSES:
        np.testing.assert_allclose(predicted.loc[without, name], counts[name], rtol=1e-5)


def test_a_restarted_bot_predicts_the_same_classes(tmp_path, frame):
    model = make_classifier(tmp_path)
    train(model, frame)
    before, _ = predict(model, frame)
    after, _ = predict(make_classifier(tmp_path), frame)
    pd.testing.assert_frame_equal(after, before)


def test_classes_other_than_those_of_the_saved_model_are_refused(tmp_path, frame):
    train(make_classifier(tmp_path), frame)
    with pytest.raises(OperationalException, match="trained on 3 classes, 2 are given: missing fl"):
        predict(make_classifier(tmp_path, ["down", "up"]), frame)


@pytest.mark.parametrize("live_statistics", [0, 20])
def test_a_live_bot_has_every_column_before_and_after_its_first_model(
    tmp_path, frame, live_statistics
):
    changes = {"freqai__fit_live_predictions_candles": live_statistics}
    model = make_classifier(tmp_path, **changes)
    expected = {LABEL, *CLASSES, *STATISTICS, "do_predict"}
    before = next_candle(model, frame.iloc[:390])
    assert expected <= set(before)
    assert (before["do_predict"] == 0).all()
    train(model, frame)
    first = next_candle(model, frame.iloc[:390])
    assert expected <= set(first)
    # freqtrade hands out the candle of the first prediction a second time.
    for end in (390, 391, 392, 395):
        given = next_candle(model, frame.iloc[:end])
        assert len(given) == end
        assert expected <= set(given)
        newest = given.iloc[-1]
        assert newest["do_predict"] == 1
        assert newest[LABEL] in CLASSES
        assert newest[CLASSES].sum() == pytest.approx(1)
    # The two candles that the bot has missed.
    assert given["do_predict"].iloc[-3:-1].tolist() == [0, 0]
    # What was known before the newest candle and the two missed ones.
    stored = model.dd.historic_predictions[PAIR]["up"].iloc[:-3].tail(20)
    if live_statistics:
        assert newest["up_mean"] == pytest.approx(stored.mean())
        assert newest["up_std"] == pytest.approx(stored.std(ddof=0))
    else:
        assert newest["up_mean"] == 0
    model.dd.save_historic_predictions_to_disk()
    restarted = make_classifier(tmp_path, **changes)
    for end in (397, 398):
        given = next_candle(restarted, frame.iloc[:end])
        assert expected <= set(given)
    assert given[LABEL].iloc[-1] in CLASSES
    assert given["do_predict"].iloc[-1] == 1


def test_an_expired_model_says_so_in_do_predict(tmp_path, frame):
    model = make_classifier(tmp_path, freqai__expiration_hours=1)
    train(model, frame)
    next_candle(model, frame.iloc[:390])
    # The same candle once more, and a new one.
    for end in (390, 391):
        newest = next_candle(model, frame.iloc[:end]).iloc[-1]
        assert newest["do_predict"] == 2
        assert newest[LABEL] == 0


@pytest.fixture(scope="module")
def market():
    return synthetic_market([PAIR], "15m", 5 * PER_DAY, seed=1)[PAIR]


class OneClassFirst(ClassStrategy):
    """The first training knows one class alone."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        early = frame["date"] < frame["date"].iloc[0] + pd.Timedelta(days=2)
        return frame.assign(**{LABEL: frame[LABEL].mask(early & frame[LABEL].notna(), "up")})


@pytest.mark.parametrize("live_statistics", [0, 30])
def test_a_slice_that_could_not_be_trained_has_every_column(
    tmp_path, market, caplog, live_statistics
):
    changes = {
        "freqaimodel": "LeaLSTMClassifier",
        "freqai__fit_live_predictions_candles": live_statistics,
    }
    caplog.set_level(logging.INFO)
    predicted, _ = backtest(tmp_path, market, OneClassFirst, **changes)
    assert "training rows are of the class 'up', so there is nothing to tell apart" in caplog.text
    inside = predicted.iloc[2 * PER_DAY :]
    first, others = inside.iloc[:PER_DAY], inside.iloc[PER_DAY:]
    assert (first[[LABEL, "down", "up", "do_predict"]] == 0).all(axis=None)
    assert others[LABEL].isin(["down", "up"]).all()
    assert (others["do_predict"] == 1).all()
    columns = ["date", LABEL, *(f"{c}{end}" for c in ("down", "up") for end in ("", "_mean"))]
    for path in tmp_path.glob("models/test/backtesting_predictions/*.feather"):
        assert set(columns) <= set(pd.read_feather(path))
    # The second run finds the predictions that there are, and tries the failed slice again.
    again, _ = backtest(tmp_path, market, OneClassFirst, **changes)
    assert caplog.text.count("Done training") == 2
    assert caplog.text.count("1 of 3 slices could not be trained") == 2
    pd.testing.assert_frame_equal(
        again[[LABEL, "down", "up"]], predicted[[LABEL, "down", "up"]], check_dtype=False
    )


@pytest.mark.parametrize(
    ("names", "spell"),
    [
        (["0", "1", "2"], int),
        ([0, 1, 2], float),
        ([0.0, 1.0, 2.0], lambda number: str(int(number))),
    ],
    ids=["integers", "floats", "texts"],
)
def test_classes_may_be_numbers_however_they_are_written(tmp_path, frame, names, spell):
    numbers = frame[LABEL].map({"down": 0.0, "flat": 1.0, "up": 2.0})
    written = numbers.map(spell, na_action="ignore")
    model = make_classifier(tmp_path, names)
    train(model, frame.assign(**{LABEL: written}))
    predicted, _ = predict(model, frame)
    assert list(predicted) == [LABEL, "0", "1", "2"]
    assert set(predicted[LABEL]) <= {"0", "1", "2"}
    assert next_candle(model, frame)["2_mean"].iloc[-1] == 0


@pytest.mark.parametrize("names", [[False, True], ["False", "True"]])
def test_classes_may_be_booleans(tmp_path, frame, names):
    model = make_classifier(tmp_path, names)
    train(model, frame.assign(**{LABEL: frame[LABEL] == "up"}))
    predicted, _ = predict(model, frame)
    assert list(predicted) == [LABEL, "False", "True"]


def test_classes_may_be_categories(tmp_path, frame):
    plain, _ = train(make_classifier(tmp_path / "plain"), frame)
    categories, _ = train(
        make_classifier(tmp_path / "categories"), frame.astype({LABEL: "category"})
    )
    for one, other in zip(plain.net_.parameters(), categories.net_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_candles_without_a_class_are_no_targets_but_context(tmp_path, frame, monkeypatch):
    frame.loc[100:120, LABEL] = None
    model = make_classifier(tmp_path)
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceClassifier())
    model.train(frame, PAIR, make_kitchen(model, frame))
    ends = seen["train_windows"].ends.tolist()
    assert not set(range(100, 121)) & set(ends)
    assert 121 in ends


def test_a_class_that_training_never_saw_has_its_column_and_is_told_of(tmp_path, frame, caplog):
    model = make_classifier(tmp_path, [*CLASSES, "crash"])
    with caplog.at_level(logging.WARNING):
        train(model, frame)
    assert "No training row is of the class 'crash'" in caplog.text
    predicted, _ = predict(model, frame)
    assert predicted["crash"].max() < 0.5
    assert "crash_mean" in next_candle(model, frame)


@pytest.mark.parametrize(
    ("names", "spoil", "error", "message"),
    [
        ([], {}, ConfigError, r"class_names is \[\]: set a list of at least two"),
        (None, {}, ConfigError, "class_names is None"),
        ("up", {}, ConfigError, "class_names is 'up'"),
        (["up"], {}, ConfigError, r"class_names is \['up'\]"),
        (["up", "up"], {}, ConfigError, "two different names"),
        ([1, "1"], {}, ConfigError, "two different names"),
        (["up", "down"], {}, DataError, f"{LABEL}' holds 'flat', and the classes .* 'up', 'down'"),
        (["close", "up"], {}, ConfigError, "column 'close' and another column of the"),
        (["%", "up"], {}, ConfigError, "'%' is to be a column of the predictions, but"),
        (CLASSES, {LABEL: "up"}, DataError, "rows are of the class 'up', so there is nothing"),
        (CLASSES, {LABEL: np.arange(400) / 7}, DataError, r"'0', '0.14.* and 395 more, and the"),
        (CLASSES, {"&-other": 1.0}, ConfigError, f"one label, the strategy sets 2: {LABEL}, &-oth"),
    ],
)
def test_classes_that_cannot_be_learned_are_refused_in_one_line(
    tmp_path, frame, names, spoil, error, message
):
    model = make_classifier(tmp_path, names)
    with pytest.raises(error, match=message) as caught:
        train(model, frame.assign(**spoil))
    assert "\n" not in str(caught.value)
    # The strategy goes on with zeros.
    assert (next_candle(model, frame)["do_predict"] == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "quantile"}, "loss = 'quantile' is for numbers"),
        ({"loss": "mse"}, "loss = 'mse' is for numbers"),
        ({"interval": 0.8}, "interval = 0.8 is for numbers"),
        ({"class_weight": "even"}, "class_weight must be 'balanced', a dictionary"),
        ({"class_weight": {"up": 0}}, "class_weight must be 'balanced', a dictionary"),
    ],
)
def test_settings_of_regressors_are_refused_at_the_start(tmp_path, settings, message):
    with pytest.raises(OperationalException, match=message):
        make_classifier(tmp_path, **{f"{TRAINING}__{key}": item for key, item in settings.items()})
    # A refused configuration leaves no trace that would refuse the mended one.
    make_classifier(tmp_path)


def test_class_weights_shift_the_predictions(tmp_path, frame):
    weight = {"down": 1, "flat": 1, "up": 20}
    shares = {}
    for key, given in (("none", None), ("balanced", "balanced"), ("up", weight)):
        model = make_classifier(tmp_path / key, **{f"{TRAINING}__class_weight": given})
        train(model, frame)
        shares[key] = predict(model, frame)[0]["up"].mean()
    assert shares["none"] < shares["balanced"] < shares["up"]


def test_class_weights_must_name_the_classes(tmp_path, frame):
    model = make_classifier(tmp_path, **{f"{TRAINING}__class_weight": {"up": 2, "dwon": 1}})
    with pytest.raises(ConfigError, match="differs in 'down', 'flat', 'dwon'"):
        train(model, frame)


def test_continual_learning_goes_on_with_the_same_classes_alone(tmp_path, frame, caplog):
    model = make_classifier(tmp_path, freqai__continual_learning=True)
    first, _ = train(model, frame, stamp=1)
    restarted = make_classifier(tmp_path, freqai__continual_learning=True)
    predict(restarted, frame)
    second, _ = train(restarted, frame, stamp=2)
    assert second.history_.epochs[0].train_loss < first.history_.epochs[0].train_loss
    restarted.class_names = CLASSES[::-1]
    with caplog.at_level(logging.WARNING):
        third, _ = train(restarted, frame, stamp=3)
    assert "continual learning starts afresh" in caplog.text
    assert third.classes_.tolist() == CLASSES[::-1]


def test_changed_class_weights_under_an_old_identifier_are_refused(tmp_path, frame):
    train(make_classifier(tmp_path), frame)
    with pytest.raises(OperationalException, match=r"class_weight: None -> 'balanced'"):
        make_classifier(tmp_path, **{f"{TRAINING}__class_weight": "balanced"})


def test_a_record_from_before_there_were_class_weights_is_taken_for_their_default(tmp_path, frame):
    train(make_classifier(tmp_path), frame)
    record = tmp_path / "models" / "test" / "freqai_lstm_settings.json"
    recorded = json.loads(record.read_text())
    for name in ("class_weight", "loss", "interval"):
        del recorded[f"trainer_kwargs.{name}"]
    record.write_text(json.dumps(recorded))
    make_classifier(tmp_path)
    with pytest.raises(OperationalException, match=r"class_weight: None -> 'balanced'"):
        make_classifier(tmp_path, **{f"{TRAINING}__class_weight": "balanced"})


@pytest.mark.parametrize(
    "switch",
    [
        {"principal_component_analysis": True},
        {"use_SVM_to_remove_outliers": True},
        {"DI_threshold": 2.0},
        {"noise_standard_deviation": 0.05},
        {"reverse_train_test_order": True},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_freqai_switches_work_for_classes(tmp_path, frame, switch):
    changes = {f"freqai__feature_parameters__{key}": value for key, value in switch.items()}
    model = make_classifier(tmp_path, **changes)
    train(model, frame)
    whole, do_whole = predict(model, frame)
    tail, _ = predict(model, frame.iloc[-WINDOW:])
    assert do_whole[WINDOW - 1 :].mean() > 0.5
    np.testing.assert_allclose(
        tail[CLASSES].iloc[-1].astype(float), whole[CLASSES].iloc[-1].astype(float), atol=1e-5
    )


def test_numbers_for_a_classifier_and_texts_for_a_regressor_name_the_other(tmp_path):
    with pytest.raises(ConfigError, match="set_freqai_targets"):
        train(make_classifier(tmp_path, []), make_frame(400))
