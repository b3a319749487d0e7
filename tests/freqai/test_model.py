from __future__ import annotations

import json
import logging
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from freqtrade.configuration import TimeRange
from freqtrade.exceptions import OperationalException
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import DataError, TrainingError
from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen
from freqai_lstm_plugins.freqai.stored import read_model
from tests.freqai.host import PAIR, WINDOW, make_frame, make_kitchen, make_model, predict, train


@pytest.fixture
def frame() -> pd.DataFrame:
    return make_frame(400)


def test_newest_row_gets_a_prediction_and_only_the_first_rows_do_not(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert len(predicted) == len(do_predict) == len(frame)
    assert do_predict.tolist() == [0] * (WINDOW - 1) + [1] * (len(frame) - WINDOW + 1)


def test_live_tail_and_whole_frame_give_the_same_number(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame)
    whole, _ = predict(model, frame)
    for end in (WINDOW, 100, 250, 400):
        tail, do_predict = predict(model, frame.iloc[end - WINDOW : end])
        assert do_predict[-1] == 1
        deviation = frame["&-target"].std()
        assert tail.iloc[-1, 0] == pytest.approx(whole.iloc[end - 1, 0], abs=1e-5 * deviation)


def test_a_backtest_slice_predicts_from_the_rows_before_it_what_live_predicts(tmp_path, frame):
    model = make_model(tmp_path, live=False)
    _, trained_kitchen = train(model, frame)
    whole, _ = predict(make_model(tmp_path), frame)
    kitchen = SequenceDataKitchen(model.config, False, PAIR, WINDOW - 1)
    kitchen.set_paths(PAIR, 1)
    kitchen.set_new_model_names(PAIR, 1)
    model.model = model.dd.load_data(PAIR, kitchen)
    assert kitchen.feature_pipeline is not trained_kitchen.feature_pipeline
    for first, last in ((0, 50), (50, 200), (399, 400)):
        start, stop = (int(frame["date"].iloc[0].timestamp()) + 300 * row for row in (first, last))
        part = kitchen.slice_dataframe(TimeRange("date", "date", start, stop), frame)
        predicted, do_predict = model.predict(part, kitchen)
        # Only candles that have no past at all are without a prediction.
        assert do_predict.tolist() == [int(row >= WINDOW - 1) for row in range(first, last)]
        np.testing.assert_allclose(predicted, whole.iloc[first:last], atol=1e-5)
        assert kitchen.DI_values.shape == (last - first,)


def test_newest_labelled_row_is_trained_on(tmp_path, frame, monkeypatch):
    model = make_model(tmp_path, freqai__data_split_parameters__test_size=0)
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceRegressor())
    model.train(frame, PAIR, make_kitchen(model, frame))
    # The last three rows have no label; no row before them is left out but for want of a past.
    assert seen["train_windows"].ends.tolist() == list(range(WINDOW - 1, 397))


def test_rows_whose_labels_reach_into_validation_are_left_out(tmp_path, frame, monkeypatch):
    model = make_model(tmp_path)
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceRegressor())
    model.train(frame, PAIR, make_kitchen(model, frame))
    first_valid = int(seen["valid_windows"].ends[0])
    # label_period_candles is 3: the label of row r knows candle r + 3.
    assert int(seen["train_windows"].ends[-1]) == first_valid - 4
    # Validation windows see the training rows before them, as they would live.
    assert first_valid == 397 - len(seen["valid_windows"])


def test_reversed_order_validates_on_the_past_and_keeps_the_purge(tmp_path, frame, monkeypatch):
    model = make_model(tmp_path, freqai__feature_parameters__reverse_train_test_order=True)
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceRegressor())
    model.train(frame, PAIR, make_kitchen(model, frame))
    assert int(seen["valid_windows"].ends[-1]) == int(seen["train_windows"].ends[0]) - 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_window_that_held_a_missing_value_predicts(tmp_path, frame, bad):
    model = make_model(tmp_path)
    train(model, frame)
    whole, _ = predict(model, frame)
    holed = frame.copy()
    holed.loc[200, "%-noise"] = bad
    predicted, do_predict = predict(model, holed)
    assert np.flatnonzero(do_predict[WINDOW - 1 :] == 0).tolist() == [
        row - WINDOW + 1 for row in range(200, 200 + WINDOW)
    ]
    # The rows around the hole are what they were, and nowhere is there a zero.
    kept = do_predict == 1
    np.testing.assert_allclose(predicted[kept], whole[kept], rtol=1e-6)
    # Without a window the value is the mean label of the training windows, which end at rows 5
    # to 313: 80 of 397 labelled rows validate, and the 3 before them are purged.
    mean = frame["&-target"].iloc[5:314].mean()
    np.testing.assert_allclose(predicted[~kept], mean, rtol=1e-4)


def test_no_window_bridges_missing_candles(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame)
    gapped = frame.drop(index=range(200, 203)).reset_index(drop=True)
    _, do_predict = predict(model, gapped)
    assert np.flatnonzero(do_predict == 0).tolist() == [
        *range(WINDOW - 1),
        *range(200, 200 + WINDOW - 1),
    ]


def test_a_candle_that_the_host_filled_in_counts_as_missing(tmp_path, frame):
    filled = frame.copy()
    filled.loc[200, ["open", "high", "low", "close"]] = filled.loc[199, "close"]
    filled.loc[200, "volume"] = 0
    model = make_model(tmp_path)
    train(model, frame)
    _, do_predict = predict(model, filled)
    assert (do_predict[200 : 200 + WINDOW] == 0).all()
    keeping = make_model(
        tmp_path / "keep",
        freqai__model_training_parameters__window_kwargs={"filled_candles": "keep"},
    )
    train(keeping, frame)
    _, do_predict = predict(keeping, filled)
    assert (do_predict[WINDOW - 1 :] == 1).all()


def test_a_forecast_that_is_no_number_never_counts(tmp_path, frame, monkeypatch):
    model = make_model(tmp_path)
    train(model, frame)
    whole, _ = predict(model, frame)
    real = type(model.model).predict_outputs

    def spoilt(self, rows, has_window, num_threads=None):
        outputs = real(self, rows, has_window, num_threads)
        outputs[200:203] = [[np.nan], [np.inf], [-np.inf]]
        return outputs

    monkeypatch.setattr(type(model.model), "predict_outputs", spoilt)
    told, do_predict = predict(model, frame)
    expected = np.arange(len(frame)) >= WINDOW - 1
    expected[200:203] = False
    assert do_predict.tolist() == expected.astype(int).tolist()
    assert np.isfinite(told.to_numpy()).all()
    kept = np.flatnonzero(expected)
    pd.testing.assert_frame_equal(told.iloc[kept], whole.iloc[kept])


def test_outliers_are_no_targets_but_stay_context(tmp_path, frame, monkeypatch):
    frame.loc[150, "%-noise"] = 60.0
    model = make_model(
        tmp_path,
        freqai__feature_parameters__use_SVM_to_remove_outliers=True,
        freqai__feature_parameters__svm_params={"shuffle": False, "nu": 0.01},
    )
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceRegressor())
    kitchen = make_kitchen(model, frame)
    model.train(frame, PAIR, kitchen)
    features = frame[kitchen.training_features_list]
    _, inliers, _ = kitchen.feature_pipeline.transform(features, outlier_check=True)
    ends = set(seen["train_windows"].ends.tolist())
    outliers = np.flatnonzero(np.asarray(inliers) != 1)
    # The planted outlier is one, so the test can fail.
    assert len(outliers)
    last_train = max(ends)
    for row in range(WINDOW - 1, last_train + 1):
        assert (row in ends) == (row not in outliers)
    assert torch.isfinite(seen["train_windows"].rows[150]).all()


@pytest.mark.parametrize(
    "switch",
    [
        {"principal_component_analysis": True},
        {"use_SVM_to_remove_outliers": True},
        {"use_DBSCAN_to_remove_outliers": True},
        {"DI_threshold": 2.0},
        {"noise_standard_deviation": 0.05},
        {"weight_factor": 0.9},
        {"include_shifted_candles": 1},
        {"reverse_train_test_order": True},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_freqai_switches_work_and_keep_live_and_whole_frame_alike(tmp_path, frame, switch):
    changes = {f"freqai__feature_parameters__{key}": value for key, value in switch.items()}
    model = make_model(tmp_path, **changes)
    train(model, frame)
    whole, do_whole = predict(model, frame)
    tail, do_tail = predict(model, frame.iloc[-WINDOW:])
    assert do_whole[WINDOW - 1 :].mean() > 0.5
    assert tail.iloc[-1, 0] == pytest.approx(whole.iloc[-1, 0], abs=1e-5)
    assert do_tail[-1] == do_whole[-1]


def test_di_values_come_with_every_row(tmp_path, frame):
    model = make_model(tmp_path, freqai__feature_parameters__DI_threshold=2.0)
    train(model, frame)
    kitchen = FreqaiDataKitchen(model.config, True, PAIR)
    model.model = model.dd.load_data(PAIR, kitchen)
    kitchen.find_labels(frame)
    model.predict(frame.tail(50), kitchen)
    assert kitchen.DI_values.shape == (50,)
    assert (kitchen.DI_values > 0).any()


def test_weights_of_recent_rows_reach_the_loss(tmp_path, frame, monkeypatch):
    model = make_model(tmp_path, freqai__feature_parameters__weight_factor=0.5)
    seen = {}
    monkeypatch.setattr(model, "fit", lambda data, dk: seen.update(data) or SequenceRegressor())
    model.train(frame, PAIR, make_kitchen(model, frame))
    weights = seen["train_windows"].weights.numpy()
    assert (np.diff(weights) > 0).all()


def test_several_labels_each_get_their_column(tmp_path):
    frame = make_frame(600, n_targets=2)
    training = {"n_epochs": 60, "batch_size": 32, "lr_schedule": "none", "num_threads": 1}
    model = make_model(
        tmp_path,
        freqai__model_training_parameters__model_kwargs={"hidden_size": 16, "num_layers": 1},
        freqai__model_training_parameters__trainer_kwargs=training,
    )
    train(model, frame)
    predicted, do_predict = predict(model, frame)
    assert list(predicted.columns) == ["&-target", "&-target1"]
    known = (do_predict == 1) & frame["&-target"].notna().to_numpy()
    for name in predicted:
        correlation = np.corrcoef(predicted.loc[known, name], frame.loc[known, name])[0, 1]
        assert correlation > 0.7


def test_a_restarted_bot_predicts_from_the_saved_model(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame)
    before, _ = predict(model, frame)
    restarted = make_model(tmp_path)
    after, do_predict = predict(restarted, frame)
    np.testing.assert_array_equal(after, before)
    assert do_predict[-1] == 1


def damaged(path: Path, damage: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "cut":
        path.write_bytes(content[:100])
    elif damage == "flipped":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "foreign":
        # As a package that moved a class leaves it.
        path.write_bytes(b"cno_such_package\nThing\n.")
    elif damage == "empty":
        path.write_bytes(b"{}")
    else:
        path.unlink()


@pytest.mark.parametrize("has_hashes", [True, False], ids=["", "of an earlier version"])
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        (part, damage)
        for part in ("model.zip", "feature_pipeline.pkl", "label_pipeline.pkl", "metadata.json")
        for damage in ("cut", "foreign", "empty", "gone")
    ],
)
def test_a_restarted_bot_trains_a_pair_with_a_damaged_file_again(
    tmp_path, frame, caplog, part, damage, has_hashes
):
    _, kitchen = train(make_model(tmp_path), frame)
    stem = Path(kitchen.data_path) / kitchen.model_filename
    damaged(stem.with_name(f"{stem.name}_{part}"), damage)
    if not has_hashes:
        stem.with_name(f"{stem.name}_sha256.json").unlink()
    # The drawer is written by the bot after each training.
    pairs = ["ETH/USDT", PAIR]
    drawer = tmp_path / "models" / "test" / "pair_dictionary.json"
    saved = json.loads(drawer.read_text())
    saved["ETH/USDT"] = {**saved[PAIR], "model_filename": "", "trained_timestamp": time.time()}
    drawer.write_text(json.dumps(saved))
    restarted = make_model(tmp_path, exchange__pair_whitelist=pairs)
    (line,) = [text for text in caplog.messages if f"Training {PAIR} again, its saved" in text]
    assert "\n" not in line
    assert restarted.train_queue[0] == PAIR
    restarted.dd.get_pair_dict_info(PAIR)
    assert restarted.dd.load_data(PAIR, FreqaiDataKitchen(restarted.config, True, PAIR)) is None


@pytest.mark.parametrize("part", ["feature_pipeline.pkl", "label_pipeline.pkl", "metadata.json"])
def test_a_single_flipped_bit_beside_the_model_is_noticed(tmp_path, frame, caplog, part):
    _, kitchen = train(make_model(tmp_path), frame)
    stem = Path(kitchen.data_path) / kitchen.model_filename
    damaged(stem.with_name(f"{stem.name}_{part}"), "flipped")
    make_model(tmp_path)
    assert f"_{part} is damaged, or from another training" in caplog.text


def test_pipelines_of_another_training_under_the_same_name_are_noticed(tmp_path, frame, caplog):
    _, kitchen = train(make_model(tmp_path), frame)
    stem = Path(kitchen.data_path) / kitchen.model_filename
    former = stem.with_name(f"{stem.name}_feature_pipeline.pkl").read_bytes()
    train(make_model(tmp_path), frame.iloc[:300])
    stem.with_name(f"{stem.name}_feature_pipeline.pkl").write_bytes(former)
    make_model(tmp_path)
    assert "from another training than the files beside it" in caplog.text


def test_files_of_an_earlier_version_without_hashes_keep_loading(tmp_path, frame):
    _, kitchen = train(make_model(tmp_path), frame)
    stem = Path(kitchen.data_path) / kitchen.model_filename
    stem.with_name(f"{stem.name}_sha256.json").unlink()
    _, do_predict = predict(make_model(tmp_path), frame)
    assert do_predict[-1] == 1


def test_nothing_in_gives_nothing_out(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame)
    predicted, do_predict = predict(model, frame.iloc[:0])
    assert list(predicted) == ["&-target"]
    assert len(predicted) == len(do_predict) == 0


def test_a_model_keeps_to_its_own_scaling_while_another_is_being_saved(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame, stamp=1)
    former = dict(model.dd.meta_data_dictionary[PAIR])
    trained, kitchen = train(model, frame.iloc[:300], stamp=2)
    # The moment between freqtrade's two assignments: the new model, the former pipelines.
    model.dd.meta_data_dictionary[PAIR] = former
    loading = FreqaiDataKitchen(model.config, True, PAIR)
    assert model.dd.load_data(PAIR, loading) is trained
    assert loading.feature_pipeline is kitchen.feature_pipeline
    assert loading.label_pipeline is kitchen.label_pipeline
    assert loading.data is kitchen.data


def test_a_model_read_from_disk_takes_no_newer_ones_place(tmp_path, frame):
    train(make_model(tmp_path), frame, stamp=1)
    model = make_model(tmp_path)
    entry = model.dd.pair_dict[PAIR]
    newer = read_model(Path(entry["data_path"]) / entry["model_filename"])

    class TrainedMeanwhile(dict):
        def setdefault(self, key, default):
            found = super().setdefault(key, default)
            model.dd.swap({PAIR: newer}, 2)
            return found

    model.dd.model_dictionary = TrainedMeanwhile()
    model.dd.load_data(PAIR, FreqaiDataKitchen(model.config, True, PAIR))
    assert model.dd.model_dictionary[PAIR] is newer


def test_models_are_replaced_while_the_trading_loop_reads_others(tmp_path, frame):
    trained, _ = train(make_model(tmp_path), frame, stamp=1)
    model = make_model(tmp_path)

    class Growing(dict):
        def items(self):
            for pair in self:
                yield pair, self[pair]
                self["OTHER/USDT"] = trained

    model.dd.model_dictionary = Growing({PAIR: trained, "GONE/USDT": trained})
    model.dd.swap({PAIR: trained}, 2, ["GONE/USDT"])
    assert list(model.dd.model_dictionary) == [PAIR]


def test_the_same_settings_and_data_give_the_same_weights(tmp_path, frame):
    first, _ = train(make_model(tmp_path / "a"), frame)
    second, _ = train(make_model(tmp_path / "b"), frame)
    for one, other in zip(first.net_.parameters(), second.net_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_changed_setting_under_an_old_identifier_is_refused(tmp_path, frame):
    train(make_model(tmp_path), frame)
    match = r"identifier 'test'.*trainer_kwargs.learning_rate: 0.005 -> 0.001"
    with pytest.raises(OperationalException, match=match):
        make_model(tmp_path, freqai__model_training_parameters__learning_rate=0.001)
    # A setting on which no prediction depends may change.
    make_model(tmp_path, freqai__model_training_parameters__trainer_kwargs__num_threads=2)


def test_another_model_under_an_old_identifier_is_refused(tmp_path, frame):
    train(make_model(tmp_path), frame)
    with pytest.raises(OperationalException, match=r"LeaLSTMRegressor' -> 'LeaGRURegressor'"):
        make_model(tmp_path, freqaimodel="LeaGRURegressor")


def test_results_of_a_foreign_model_under_the_identifier_are_refused(tmp_path):
    folder = tmp_path / "models" / "test" / "backtesting_predictions"
    folder.mkdir(parents=True)
    (folder / "cb_btc_1_prediction.feather").write_bytes(b"")
    with pytest.raises(OperationalException, match="used before, by another kind of model"):
        make_model(tmp_path)


def test_window_is_24_where_the_config_names_none(tmp_path):
    assert make_model(tmp_path, freqai__conv_width=None).window_size == 24


def test_a_window_of_one_row_predicts_every_row(tmp_path, frame):
    model = make_model(tmp_path, freqai__conv_width=1)
    train(model, frame)
    _, do_predict = predict(model, frame)
    assert do_predict.all()


def test_without_a_test_split_all_epochs_are_trained(tmp_path, frame):
    model = make_model(tmp_path, freqai__data_split_parameters__test_size=0)
    trained, _ = train(model, frame)
    assert len(trained.history_.epochs) == 4
    assert trained.history_.n_valid_windows == 0


def test_a_constant_column_is_dropped_and_prediction_goes_on(tmp_path, frame):
    frame["%-constant"] = 1.0
    model = make_model(tmp_path)
    trained, _ = train(model, frame)
    assert "%-constant" not in trained.feature_names_in_
    _, do_predict = predict(model, frame)
    assert do_predict[-1] == 1


def test_infinite_labels_are_no_targets(tmp_path, frame, caplog):
    frame.loc[100, "&-target"] = np.inf
    with caplog.at_level(logging.WARNING):
        train(make_model(tmp_path), frame)
    assert "&-target is infinite at 1 candles" in caplog.text


def test_continual_learning_goes_on_from_the_former_weights_and_leaves_them_alone(tmp_path, frame):
    model = make_model(tmp_path, freqai__continual_learning=True)
    first, _ = train(model, frame, stamp=1)
    weights = {name: tensor.clone() for name, tensor in first.net_.state_dict().items()}
    second, _ = train(model, frame, stamp=2)
    for name, tensor in first.net_.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert second is not first
    # With the same seed and rows a fresh start would repeat the loss exactly.
    assert second.history_.epochs[0].train_loss < first.history_.epochs[0].train_loss
    assert not hasattr(first, "tb_logger")


def test_continual_learning_after_a_restart_uses_the_saved_optimizer(tmp_path, frame):
    model = make_model(tmp_path, freqai__continual_learning=True)
    first, _ = train(model, frame, stamp=1)
    restarted = make_model(tmp_path, freqai__continual_learning=True)
    predict(restarted, frame)
    loaded = restarted.dd.model_dictionary[PAIR]
    assert loaded.optimizer_state["state"].keys() == first.optimizer_state["state"].keys()
    second, _ = train(restarted, frame, stamp=2)
    assert second.history_.epochs[0].train_loss < first.history_.epochs[0].train_loss


def test_continual_learning_starts_afresh_when_features_change(tmp_path, frame, caplog):
    model = make_model(tmp_path, freqai__continual_learning=True)
    train(model, frame, stamp=1)
    with caplog.at_level(logging.WARNING):
        train(model, frame.assign(**{"%-new": frame["%-noise"] ** 2}), stamp=2)
    assert "continual learning starts afresh" in caplog.text


def test_a_diverging_training_raises_and_the_former_model_stays(tmp_path, frame):
    model = make_model(tmp_path)
    train(model, frame, stamp=1)
    before, _ = predict(model, frame)
    object.__setattr__(model.settings.train, "learning_rate", 1e30)
    object.__setattr__(model.settings.train, "gradient_clip", 0.0)
    with pytest.raises(TrainingError, match=r"epoch \d.*learning_rate"):
        train(model, frame, stamp=2)
    after, _ = predict(model, frame)
    np.testing.assert_array_equal(after, before)


def test_the_file_holds_no_pickled_class_but_the_stateless_one(tmp_path, frame):
    _, kitchen = train(make_model(tmp_path), frame)
    path = Path(kitchen.data_path) / f"{kitchen.model_filename}_model.zip"
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = archive.read(name)
    assert b"freqai_lstm_plugins.checkpoint\nPyTrainer" in pickled
    assert pickled.count(b"freqai_lstm_plugins.") == 1
    # Readable without freqtrade, and without executing anything.
    loaded = SequenceRegressor.load(path)
    assert loaded.feature_names_in_ == ["%-signal", "%-noise", "%-wave"]


def test_losses_reach_tensorboard(tmp_path, frame):
    _, kitchen = train(make_model(tmp_path, freqai__activate_tensorboard=True), frame)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(kitchen.data_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2, 3, 4]
    assert "test_loss" in events.Tags()["scalars"]


def test_what_stays_in_memory_holds_no_training_rows(tmp_path, frame):
    trained, kitchen = train(make_model(tmp_path), frame)
    sizes = [len(value) for value in vars(trained).values() if isinstance(value, pd.DataFrame)]
    assert sizes == []
    assert "filter_drop_index_training" not in kitchen.data


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.assign(**{"%-noise": np.nan}), "'%-noise' is missing in 400"),
        (lambda f: f.iloc[:7], "test split|no training|no training window"),
        (lambda f: f.assign(**{"%-signal": 1, "%-noise": 2, "%-wave": 3}), "feature is constant"),
        (lambda f: f.iloc[::2], "no training window"),
        (lambda f: f.assign(**{"&-target": "up"}), "a regressor needs numbers"),
    ],
    ids=["all-NaN feature", "too few rows", "constant features", "only gaps", "text label"],
)
def test_a_slice_without_anything_to_learn_from_says_so(tmp_path, frame, spoil, message):
    with pytest.raises(DataError, match=message):
        train(make_model(tmp_path), spoil(frame))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freqai__data_split_parameters__shuffle": True}, "data_split_parameters.shuffle"),
        ({"freqai__feature_parameters__shuffle_after_split": True}, "shuffle_after_split"),
        ({"freqai__keras": True}, "freqai.keras"),
        ({"freqai__conv_width": 0}, "conv_width must be an integer of at least 1, not 0"),
        ({"freqai__conv_width": "24"}, "conv_width must be an integer of at least 1, not '24'"),
        (
            {"freqai__model_training_parameters__learning_rat": 1},
            "unknown setting 'learning_rat'.*Did you mean 'learning_rate'",
        ),
        (
            {"freqai__model_training_parameters__model_kwargs__hiden_dim": 1},
            "unknown setting 'hiden_dim'.*Did you mean 'hidden_dim'",
        ),
        (
            {"freqai__model_training_parameters__model_kwargs__hidden_size": 9},
            "hidden_dim = 8 and hidden_size = 9",
        ),
        (
            {"freqai__model_training_parameters__trainer_kwargs__learning_rate": 1.0},
            "learning_rate = 0.005, but trainer_kwargs has learning_rate = 1.0",
        ),
        (
            {"freqai__model_training_parameters__trainer_kwargs__device": "cuda:99"},
            "device 'cuda:99' cannot be used here",
        ),
        (
            {"freqai__model_training_parameters__window_kwargs__filled_candles": "maybe"},
            "filled_candles must be one of break, keep",
        ),
        ({"freqai__model_training_parameters__model_kwargs": [1]}, "must be a dictionary"),
        (
            {
                "freqaimodel": "LeaTFTRegressor",
                "freqai__model_training_parameters__model_kwargs": {"hidden_size": 8},
                "freqai__model_training_parameters__trainer_kwargs__supervision": "dense",
            },
            "supervision = 'dense' is for the nets lstm and gru, and not for 'tft'",
        ),
        ({"freqai__identifier": "../../elsewhere"}, "'../../elsewhere' leads out of .*plain name"),
        ({"freqai__identifier": "/elsewhere"}, "'/elsewhere' leads out of"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_its_key(tmp_path, changes, message):
    with pytest.raises(OperationalException, match=message):
        make_model(tmp_path, **changes)


def test_new_candles_can_be_appended_to_the_history_from_disk(tmp_path, frame):
    model = make_model(tmp_path, datadir=tmp_path / "candles", dataformat_ohlcv="feather")
    candles = frame[["date", "open", "high", "low", "close", "volume"]]
    (tmp_path / "candles").mkdir()
    candles.to_feather(tmp_path / "candles" / "BTC_USDT-5m.feather")
    kitchen = make_kitchen(model, frame)
    model.dd.load_all_pair_histories(TimeRange("date", None, 1748736000, 0), kitchen)
    history = model.dd.historic_data[PAIR]["5m"]
    # As freqtrade turns an exchange's milliseconds into dates.
    new = pd.DataFrame({"date": pd.to_datetime([1748859300000], unit="ms", utc=True)})
    assert pd.api.types.is_datetime64_any_dtype(pd.concat([history, new])["date"])
