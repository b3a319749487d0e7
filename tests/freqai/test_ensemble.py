"""The FreqAI model made of several: columns, parity, weights that follow labels, settings."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest
from freqtrade.configuration import TimeRange
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.errors import StoppedError
from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR, WINDOW, make_frame, make_model, next_candle, predict, train
from tests.freqai.test_importances import bars
from tests.freqai.test_importances import train as train_as_the_bot_does
from tests.freqai.walk import PER_DAY, SmallStrategy, backtest

pytest.importorskip("lightgbm")

MEMBERS = {
    "lstm": {"hidden_dim": 4, "n_layer": 1, "n_epochs": 2},
    "ridge": {"lags": [0, 1, 2]},
    "lightgbm": {"n_estimators": 15, "learning_rate": 0.2, "num_leaves": 7},
}
KWARGS = "freqai__model_training_parameters__model_kwargs"
PERIOD = 3
# Up to here candles are trained on.
STOP = 400


def make_ensemble(user_dir, members=None, live=True, changes=None, **settings):
    given = {"members": MEMBERS if members is None else members, **settings}
    return make_model(
        user_dir,
        live=live,
        **{"freqaimodel": "LeaEnsembleRegressor", KWARGS: given, **(changes or {})},
    )


def known_by(frame, row):
    """Return the frame as a bot has it once `row` has closed: newest labels are missing."""
    labels = [name for name in frame if name.startswith("&")]
    part = frame.iloc[: row + 1].copy()
    part.loc[part.index[-PERIOD:], labels] = np.nan
    return part


@pytest.fixture
def frame():
    """Candles whose labels turn round now and then, so that weights have something to follow."""
    frame = make_frame(600, 2)
    is_turned = frame.index % 90 >= 60
    for label in ("&-target", "&-target1"):
        frame.loc[is_turned, label] *= -1
    return frame


TURNING = {"ridge": MEMBERS["ridge"], "naive_zero": {}, "lstm": MEMBERS["lstm"]}


COLUMNS = [
    "&-target",
    "&-target_lower",
    "&-target_upper",
    "&-target_lstm",
    "&-target_ridge",
    "&-target_lightgbm",
    "&-target_w_lstm",
    "&-target_w_ridge",
    "&-target_w_lightgbm",
    "&-target_disagreement",
]


def test_the_strategy_gets_members_weights_and_disagreement(tmp_path):
    frame = make_frame(STOP)
    model = make_ensemble(tmp_path, interval=0.8)
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert list(predicted) == COLUMNS
    assert (do_predict[WINDOW - 1 :] == 1).all()
    members = predicted[COLUMNS[3:6]].to_numpy()
    weights = predicted[COLUMNS[6:9]].to_numpy()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    known = do_predict == 1
    combined = (members * weights).sum(axis=1)
    np.testing.assert_allclose(predicted["&-target"][known], combined[known], atol=1e-9)
    spread = (weights * np.square(members - combined[:, None])).sum(axis=1)
    np.testing.assert_allclose(
        predicted["&-target_disagreement"][known], np.sqrt(spread)[known], atol=1e-9
    )
    assert (predicted["&-target_lower"] < predicted["&-target"])[known].all()
    # Where no window ends stands the mean training label.
    np.testing.assert_allclose(predicted["&-target"][~known], 0.3, atol=0.15)
    assert np.isfinite(predicted).all(axis=None)


def test_columns_can_be_switched_off(tmp_path):
    model = make_ensemble(tmp_path, columns=False)
    frame = make_frame(STOP)
    train(model, frame)
    predicted, _ = predict(model, frame)
    assert list(predicted) == ["&-target"]


def test_every_column_has_its_statistics_live_before_and_after_the_first_model(tmp_path):
    frame = make_frame(STOP)
    model = make_ensemble(tmp_path, interval=0.8)
    expected = {f"{name}{end}" for name in COLUMNS for end in ("", "_mean", "_std")}
    assert expected <= set(next_candle(model, frame.iloc[:390]))
    train(model, frame)
    for end in (390, 391):
        given = next_candle(model, frame.iloc[:end])
        assert expected <= set(given)
    assert given["do_predict"].iloc[-1] == 1


def from_backtest(user_dir, frame, start=STOP, **settings):
    """Predict the candles after the training as a slice, from the model on disk."""
    model = make_ensemble(user_dir, live=False, **settings)
    kitchen = SequenceDataKitchen(model.config, False, PAIR, WINDOW - 1)
    kitchen.set_paths(PAIR, 1)
    kitchen.set_new_model_names(PAIR, 1)
    kitchen.find_labels(frame)
    model.model = model.dd.load_data(PAIR, kitchen)
    times = frame["date"].map(lambda date: int(date.timestamp()))
    span = TimeRange("date", "date", times.iloc[start], times.iloc[-1] + 300)
    predicted, do_predict = model.predict(kitchen.slice_dataframe(span, frame), kitchen)
    return predicted.assign(do_predict=do_predict)


def holed(frame):
    frame = frame.copy()
    frame.loc[470, "%-signal"] = np.nan
    return frame.drop(index=range(520, 523)).reset_index(drop=True)


@pytest.mark.parametrize("combine", ["stack", "dynamic", "mean"])
def test_backtest_bot_and_restarted_bot_agree_candle_by_candle(tmp_path, frame, combine):
    frame = holed(frame)
    settings = {"members": TURNING, "combine": combine, "interval": 0.8, "half_lives": [10]}
    model = make_ensemble(tmp_path, **settings)
    train(model, known_by(frame, STOP - 1))
    sliced = from_backtest(tmp_path, frame, **settings)
    restarts = {STOP + 2, 430, 471, 530}
    for row in [*range(STOP + 2, 480), *range(515, 560)]:
        if row in restarts:
            model = make_ensemble(tmp_path, **settings)
            # freqtrade fills the first candle after a start with what it knows of the past.
            next_candle(model, known_by(frame, row - 1).tail(250))
        given = next_candle(model, known_by(frame, row).tail(250)).iloc[-1]
        expected = sliced.iloc[row - STOP]
        assert given["do_predict"] == expected["do_predict"], row
        for name in sliced:
            assert given[name] == pytest.approx(expected[name], abs=1e-5), (row, name)
    weights = sliced[[f"&-target_w_{name}" for name in TURNING]]
    moved = weights.max() - weights.min()
    assert (moved.max() > 0.05) == (combine == "dynamic")


def test_no_label_after_a_candle_changes_its_weights_or_forecast(tmp_path, frame):
    settings = {"members": TURNING, "combine": "dynamic", "half_lives": [10]}
    train(make_ensemble(tmp_path, **settings), known_by(frame, STOP - 1))
    before = from_backtest(tmp_path, frame, **settings)
    changed = frame.copy()
    # The label of candle r is known at r + PERIOD.
    changed.loc[501 - PERIOD :, ["&-target", "&-target1"]] = 9.0
    after = from_backtest(tmp_path, changed, **settings)
    seen = 501 - STOP
    pd.testing.assert_frame_equal(after.iloc[:seen], before.iloc[:seen])
    # And no later than it is known.
    assert abs(after["&-target_w_ridge"] - before["&-target_w_ridge"]).iloc[seen] > 1e-6


def test_a_bot_asks_a_member_about_each_candle_once_and_remembers_no_more_than_its_frame(
    tmp_path, frame, monkeypatch
):
    model = make_ensemble(
        tmp_path, {"ridge": {}, "lightgbm": MEMBERS["lightgbm"]}, combine="dynamic"
    )
    train(model, known_by(frame, STOP - 1))
    # Candles without a window, of the first frame and of later ones.
    frame.loc[[415, 480], "%-signal"] = np.nan
    asked = []
    ensemble = model.dd.model_dictionary[PAIR]
    ask = ensemble.forecast_members

    def noting(rows, has_window):
        asked.append(int(has_window.sum()))
        return ask(rows, has_window)

    monkeypatch.setattr(ensemble, "forecast_members", noting)
    for row in range(430, 500):
        next_candle(model, known_by(frame, row).tail(60))
    # The first candle shows the strategy its whole frame, and those without a window are looked at.
    assert asked[0] > 40
    assert asked[1] == 0
    assert asked[2:] == [int(not 480 <= row < 480 + WINDOW) for row in range(431, 500)]
    (remembered,) = model._said.values()
    assert len(remembered.positions) == 60


def test_a_model_that_is_new_in_the_midst_of_the_frame_counts_the_candles_since_its_training(
    tmp_path, frame
):
    """Catches losses of candles that a model was trained on, and forecasts of the former model."""
    settings = {"members": TURNING, "combine": "dynamic", "half_lives": [10], "rates": [1.0]}
    model = make_ensemble(tmp_path / "bot", **settings)
    train(model, known_by(frame, STOP - 1), 1)
    for row in range(STOP + 30, STOP + 40):
        next_candle(model, known_by(frame, row).tail(120))
    # Its training began two candles ago.
    train(model, known_by(frame, STOP + 37), 2)
    last = model.dd.model_dictionary[PAIR].require_fitted().last_time
    assert last == model.candle_numbers(frame["date"])[STOP + 37]
    names = [f"&-target_w_{name}" for name in TURNING]
    bot = [
        next_candle(model, known_by(frame, row).tail(120)).iloc[-1]
        for row in range(STOP + 40, STOP + 60)
    ]
    alone = make_ensemble(tmp_path / "alone", **settings)
    train(alone, known_by(frame, STOP + 37), 1)
    sliced = from_backtest(tmp_path / "alone", frame, start=STOP + 38, **settings)
    expected = sliced.iloc[2:22]
    found = pd.DataFrame(bot)[[*names, "&-target"]].to_numpy(dtype=float)
    np.testing.assert_allclose(found, expected[[*names, "&-target"]], atol=1e-5)
    assert expected[names].std().max() > 0.05


@pytest.mark.parametrize("n_cut", [0, 10])
def test_weights_follow_from_the_slice_on_whatever_freqai_cuts_off_its_training(tmp_path, n_cut):
    """A bot's training has the candles that a backtest's buffer cuts off."""
    market = synthetic_market([PAIR], "15m", 3 * PER_DAY, seed=1)[PAIR]
    changes = {
        "freqaimodel": "LeaEnsembleRegressor",
        KWARGS: {"members": {"ridge": {}, "naive_zero": {}}, "combine": "dynamic"},
        "freqai__feature_parameters__buffer_train_data_candles": n_cut,
    }
    _, model = backtest(tmp_path, market, SmallStrategy, **changes)
    (path,) = tmp_path.glob("models/test/sub-train-*/*_model.zip")
    begins = model.candle_numbers(market["date"])[2 * PER_DAY]
    assert load_model(path).require_fitted().last_time == begins - 1


def test_the_dissimilarity_is_that_of_the_newest_candle_after_missed_ones(tmp_path, frame):
    settings = {
        "members": TURNING,
        "combine": "dynamic",
        "changes": {"freqai__feature_parameters__DI_threshold": 5},
    }
    train(make_ensemble(tmp_path, **settings), known_by(frame, STOP - 1))
    found = []
    for rows in ((430, 431, 432, 433), (430, 433)):
        model = make_ensemble(tmp_path, **settings)
        frames = [next_candle(model, known_by(frame, row).tail(60)) for row in rows]
        found.append(frames[-1]["DI_values"].iloc[-1])
    assert found[0] == pytest.approx(found[1])


def test_the_model_file_alone_gives_the_same_forecasts(tmp_path):
    frame = make_frame(STOP)
    model = make_ensemble(tmp_path)
    _, kitchen = train(model, frame)
    predicted, do_predict = predict(model, frame)
    path = next(tmp_path.glob("models/test/sub-train-*/*_model.zip"))
    alone = load_model(path)
    features = frame[kitchen.training_features_list]
    scaled, _, _ = kitchen.feature_pipeline.transform(features, outlier_check=True)
    has_window = np.arange(len(frame)) >= WINDOW - 1
    point = alone.predict_windows(scaled.to_numpy(dtype=np.float32), has_window).point
    back, _, _ = kitchen.label_pipeline.inverse_transform(point[WINDOW - 1 :])
    np.testing.assert_allclose(
        predicted["&-target"].to_numpy()[do_predict == 1], back["&-target"], atol=1e-6
    )


def test_a_whole_backtest_trains_predicts_and_is_found_again(tmp_path, caplog):
    market = synthetic_market([PAIR], "15m", 5 * PER_DAY, seed=1)[PAIR]
    changes = {
        "freqaimodel": "LeaEnsembleRegressor",
        KWARGS: {"members": MEMBERS, "combine": "dynamic", "interval": 0.8},
        "freqai__model_training_parameters__trainer_kwargs": {"n_epochs": 2, "num_threads": 1},
    }
    predicted, model = backtest(tmp_path, market, SmallStrategy, **changes)
    inside = predicted.iloc[2 * PER_DAY :]
    assert (inside["do_predict"] == 1).all()
    assert inside["&-return_w_ridge"].between(0, 1).all()
    model.lock.release()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again, _ = backtest(tmp_path, market, SmallStrategy, **changes)
    assert "Done training" not in caplog.text
    pd.testing.assert_frame_equal(again, predicted, check_dtype=False)


def test_a_member_that_fails_says_nothing_and_weighs_nothing(tmp_path):
    frame = make_frame(STOP)
    # There are not so many validation rows.
    members = {"bad": {"kind": "ridge", "interval": 0.9999}, "ridge": {}}
    model = make_ensemble(tmp_path, members)
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert (do_predict[WINDOW - 1 :] == 1).all()
    assert (predicted["&-target_w_bad"] == 0).all()
    assert (predicted["&-target_w_ridge"] == 1).all()
    assert predicted["&-target_bad"].nunique() == 1


def test_confident_without_any_narrow_interval_predicts_nothing(tmp_path):
    frame = make_frame(STOP)
    sure = {name: {"loss": "quantile", "n_estimators": 10} for name in ("lightgbm", "xgboost")}
    model = make_ensemble(tmp_path, sure, combine="confident", max_width=1e-9)
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert not do_predict.any()
    assert np.isfinite(predicted).all(axis=None)


@pytest.mark.parametrize("continual", [True, False])
def test_trees_and_nets_go_on_from_the_former_training_where_asked(tmp_path, caplog, continual):
    # Trees so small that each is of use, and all are kept.
    trees = {**MEMBERS["lightgbm"], "learning_rate": 0.05, "lags": [0, 1]}
    members = {"lstm": MEMBERS["lstm"], "lightgbm": trees}
    changes = {"freqai__continual_learning": continual}
    model = make_ensemble(tmp_path, members, changes=changes)
    frame = make_frame(STOP + 100)
    first, _ = train(model, frame.iloc[:STOP], 1)
    second, _ = train(model, frame.iloc[100:], 2)
    counts = [
        one.require_fitted().models[1].learned(0)[0].count("Tree=") for one in (first, second)
    ]
    assert counts == [15, 30 if continual else 15]
    net = second.require_fitted().models[0]
    assert (net.fitted.optimizer_state is not None) == continual
    assert "starts afresh" not in caplog.text
    predicted, do_predict = predict(model, frame)
    assert (do_predict[WINDOW - 1 :] == 1).all()
    assert np.isfinite(predicted).all(axis=None)


def test_importances_are_plotted_for_each_label(tmp_path):
    pytest.importorskip("plotly")
    pytest.importorskip("captum")
    switch = "freqai__feature_parameters__plot_feature_importances"
    members = {"lstm": MEMBERS["lstm"], "lightgbm": {**MEMBERS["lightgbm"], "lags": [0, 1]}}
    model = make_ensemble(tmp_path, members, changes={switch: 2})
    kitchen = train_as_the_bot_does(model, make_frame(STOP, 2))
    plots = sorted(path.name for path in kitchen.data_path.glob("*.html"))
    name = kitchen.model_filename
    assert plots == [f"{name}--target.html", f"{name}--target1.html"]
    best, _ = bars(kitchen.data_path / plots[0])
    assert best[-1] == "%-signal"


def test_a_stopped_bot_gives_the_training_up(tmp_path):
    model = make_ensemble(tmp_path)
    model._stop_event.set()
    with pytest.raises(StoppedError, match="The bot is stopped"):
        train(model, make_frame(STOP))


# settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": {}}, "members is empty"),
        ({"members": {"lgbm": {}}}, "unknown kind 'lgbm'"),
        ({"combin": "mean"}, "unknown setting 'combin'. Did you mean 'combine'"),
        ({"columns": "no"}, "columns must be true or false, not 'no'"),
        ({"members": {"lstm": {"hidden_sise": 4}}}, "member 'lstm': .*hidden_sise"),
        ({"combine": "confident"}, "change from row to row"),
        ({"members": 3}, "members must be a section of models, not 3"),
        ({"members": ["ridge"]}, "members must be a section of models"),
        ({"members": {"ridge": None}}, "member 'ridge' must be a section of settings, not None"),
        ({"members": {"LSTM": {}}}, "unknown kind 'LSTM'.*Did you mean 'lstm'"),
        ({"members": {"lstm": {"loss": "cross_entropy"}}}, "is for classes"),
        ({"members": {"lstm": {"window": 9}}}, "window = 9 is said elsewhere"),
        ({"members": {"lstm": {"device": "gpu"}}}, "device 'gpu' cannot be used here"),
        ({"members": {"lightgbm": {"n_estimators": 0}}}, "n_estimators must be"),
        ({"members": {"lightgbm": {"lags": []}}}, "lags must be"),
        (
            {"members": {"ridge": {"lags": [6]}}},
            "member 'ridge': .*lag 6 lies outside windows of 6",
        ),
        ({"members": {"ridge": {"alpha": float("nan")}}}, "alpha must be"),
        ({"combine": None}, "combine must be one of"),
        ({"combine": ["stack"]}, "combine must be one of"),
        ({"combine": "dynamic", "half_lives": [0]}, "half_lives must be a list of numbers above 0"),
        ({"combine": "dynamic", "half_lives": 50}, "half_lives must be a list of numbers above 0"),
        ({"combine": "dynamic", "rates": [float("inf")]}, "rates must be"),
        ({"folds": 2.5}, "folds must be"),
        ({"folds": True}, "folds must be"),
        ({"interval": "0.8"}, "interval must be"),
        ({"max_width": -1}, "max_width must be"),
        ({"share": 1}, "share must be"),
        ({"label_period": 1}, "label_period = 1, and label_period_candles is 3"),
        ({"symbol_embedding": 4}, "panel.symbol_embedding says whether members are told the pair"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(tmp_path, settings, message):
    with pytest.raises(OperationalException, match=message):
        make_ensemble(tmp_path, **settings)
    make_ensemble(tmp_path)


def test_intervals_that_contradict_each_other_are_refused(tmp_path):
    changes = {"freqai__model_training_parameters__trainer_kwargs__interval": 0.5}
    with pytest.raises(OperationalException, match=r"interval = 0.8 in model_kwargs and 0.5 in"):
        make_ensemble(tmp_path, changes=changes, interval=0.8)
    assert make_ensemble(tmp_path, changes=changes).interval == 0.5


def test_changed_members_under_an_old_identifier_are_refused(tmp_path):
    make_ensemble(tmp_path)
    record = json.loads((tmp_path / "models" / "test" / "freqai_lstm_settings.json").read_text())
    assert record["model_kwargs.combine"] == "stack"
    assert "num_threads" not in record["model_kwargs.members"]["lstm"]
    changed = {**MEMBERS, "ridge": {"lags": [0]}}
    with pytest.raises(OperationalException, match=r"model_kwargs.members"):
        make_ensemble(tmp_path, changed)
    with pytest.raises(OperationalException, match=r"model_kwargs.combine: 'stack' -> 'mean'"):
        make_ensemble(tmp_path, combine="mean")


def test_training_settings_reach_nets_that_say_nothing_else(tmp_path):
    members = {"lstm": {"hidden_dim": 4}, "gru": {"n_epochs": 1}}
    model = make_ensemble(tmp_path, members)
    trained, _ = train(model, make_frame(STOP))
    lstm, gru = trained.require_fitted().models
    assert len(lstm.history_.epochs) == 4
    assert len(gru.history_.epochs) == 1


def test_a_file_of_other_members_is_refused(tmp_path):
    model = make_ensemble(tmp_path, {"ridge": {}})
    train(model, make_frame(STOP))
    model.member_names = ["ridge", "lightgbm"]
    with pytest.raises(OperationalException, match="missing lightgbm"):
        predict(model, make_frame(STOP))
