from __future__ import annotations

import json
import re
import threading
import warnings
from collections import deque

import pytest

from freqai_lstm_plugins.freqai import live, retries
from freqai_lstm_plugins.freqai.model import SequenceModel
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR, make_model
from tests.freqai.live import PATIENCE, LiveRun
from tests.freqai.test_slices import (
    CLASSIFIER,
    LabelIsFeature,
    LabelNamedAsAnEnd,
    NoNames,
    OtherClasses,
    OtherLabel,
)
from tests.freqai.walk import PER_DAY, ClassStrategy, SmallStrategy

TRAINING = "freqai__model_training_parameters__trainer_kwargs"


@pytest.fixture(scope="module")
def market():
    return synthetic_market([PAIR], "15m", 4 * PER_DAY, seed=1)[PAIR]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look at the queue without a pause, and take freqtrade's own warnings for what they are."""
    monkeypatch.setattr(live, "SECONDS_BETWEEN_LOOKS", 0.01)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Series.values returning", DeprecationWarning)
        yield


def test_a_bot_trains_beside_its_predictions_and_goes_on_after_a_restart(tmp_path, market):
    with LiveRun(tmp_path, market) as bot:
        assert (bot.candle(ago=2)["do_predict"] == 0).all()
        bot.wait_for_model()
        bot.candle(ago=1)
        newest = bot.candle().iloc[-1]
    assert newest["do_predict"] == 1
    with LiveRun(tmp_path, market) as bot:
        bot.candle(ago=1)
        assert bot.candle().iloc[-1]["&-return"] == pytest.approx(newest["&-return"], abs=1e-6)
        assert bot.model.train_time == 0


@pytest.mark.parametrize(
    ("first", "second", "changes", "message"),
    [
        (SmallStrategy, OtherLabel, {}, "predictions of BTC/USDT of &-return, and .* &-other"),
        (ClassStrategy, OtherClasses, CLASSIFIER, "&-direction, down, up, and .*, down, up, flat"),
    ],
)
@pytest.mark.parametrize("keeps_history", [True, False], ids=["predictions", "models alone"])
def test_a_bot_whose_identifier_is_of_other_labels_says_so_and_predicts_nothing(
    tmp_path, market, caplog, first, second, changes, message, keeps_history
):
    with LiveRun(tmp_path, market, first, **changes) as bot:
        bot.candle(ago=3)
        bot.wait_for_model()
        bot.candle(ago=2)
    saved = sorted(tmp_path.glob("models/test/sub-train-*"))
    if not keeps_history:
        message = "holds a model of BTC/USDT|trained on 2 classes"
        for path in tmp_path.glob("models/test/historic_predictions*"):
            path.unlink()
    caplog.clear()
    with LiveRun(tmp_path, market, second, **changes) as bot:
        for ago in (1, 0):
            assert (bot.candle(ago)["do_predict"] == 0).all()
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 2
    assert lines[0].startswith(f"{PAIR} is not predicted: ")
    assert re.search(message, lines[0])
    assert "Traceback" not in caplog.text
    assert sorted(tmp_path.glob("models/test/sub-train-*")) == saved


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        (LabelIsFeature, {}, "'&-return_%' is a label by its '&' and a feature by its '%'"),
        (LabelNamedAsAnEnd, {f"{TRAINING}__interval": 0.8}, "are both named '&-return_upper'"),
        (NoNames, CLASSIFIER, "class_names is []: set a list"),
    ],
)
def test_a_bot_with_unsound_labels_says_so_and_trains_nothing(
    tmp_path, market, caplog, strategy, changes, message
):
    with LiveRun(tmp_path, market, strategy, **changes) as bot:
        assert (bot.candle()["do_predict"] == 0).all()
        bot.wait(lambda: "Trying again in 10 s" in caplog.text)
    assert f"{PAIR} is not predicted: " in caplog.text
    assert message in caplog.text
    assert "Traceback" not in caplog.text
    assert not list(tmp_path.glob("models/test/sub-train-*/*_model.zip"))


def test_trainings_that_keep_failing_back_off_while_others_are_trained(
    tmp_path, market, caplog, monkeypatch
):
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.05)
    tried = []
    whole = SequenceModel.train_pair

    def fails_for_eth(self, frame, pair, dk):
        tried.append(pair)
        if pair == "ETH/USDT":
            raise RuntimeError("no memory")
        return whole(self, frame, pair, dk)

    monkeypatch.setattr(SequenceModel, "train_pair", fails_for_eth)
    with LiveRun(tmp_path, market, pairs=("ETH/USDT", PAIR)) as bot:
        bot.candle()
        bot.wait(lambda: tried.count("ETH/USDT") >= 4)
    # The others are trained once each, and none of them waits for the one that fails.
    assert tried[:2] == ["ETH/USDT", PAIR]
    assert tried.count(PAIR) == 1
    assert caplog.text.count("Traceback") == 1
    assert "(3 in a row). Message: no memory Trying again in 0 s." in caplog.text


def test_a_bot_that_stops_ends_its_training_with_the_epoch(tmp_path, market, caplog, monkeypatch):
    caplog.set_level("INFO")
    running = threading.Event()
    epochs = []
    after = SequenceModel._after_epoch

    def noting(self, epoch):
        epochs.append(epoch.number)
        running.set()
        # Until the bot is told to stop.
        self._stop_event.wait(PATIENCE)
        after(self, epoch)

    monkeypatch.setattr(SequenceModel, "_after_epoch", noting)
    with LiveRun(tmp_path, market, **{f"{TRAINING}__n_epochs": 1000}) as bot:
        bot.candle()
        assert running.wait(PATIENCE)
    assert epochs == [1]
    assert "the training was given up after epoch 1; the former model stays" in caplog.text
    assert "raised exception" not in caplog.text
    assert not list(tmp_path.glob("models/test/sub-train-*/*_model.zip"))


def test_a_pair_with_a_text_among_its_features_is_named(tmp_path, market, caplog):
    class Text(SmallStrategy):
        def feature_engineering_standard(self, dataframe, metadata, **kwargs):
            return dataframe.assign(**{"%-band": "upperband"})

    with LiveRun(tmp_path, market, Text) as bot:
        bot.candle()
        bot.wait(lambda: "raised exception" in caplog.text)
    assert f"{PAIR}: the feature '%-band' holds " in caplog.text
    assert "such as 'upperband', and a net needs numbers" in caplog.text


def test_classes_that_are_numbers_are_said_to_come_back_as_text_once(tmp_path, market, caplog):
    class Numbers(ClassStrategy):
        def set_freqai_targets(self, dataframe, metadata, **kwargs):
            frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
            self.freqai.class_names = [0, 1]
            return frame.assign(**{"&-direction": frame["&-direction"].map({"down": 0, "up": 1})})

    with LiveRun(tmp_path, market, Numbers, **CLASSIFIER) as bot:
        bot.candle(ago=2)
        bot.wait_for_model()
        bot.candle(ago=1)
        newest = bot.candle().iloc[-1]
    assert newest["&-direction"] in ("0", "1")
    (line,) = [text for text in caplog.messages if "hands classes back as text" in text]
    assert "holds 0, 1" in line
    assert "compare a prediction with '0', and not with 0" in line


def test_the_pair_list_knows_no_pair_that_never_was_trained(tmp_path, market):
    with LiveRun(tmp_path, market) as bot:
        bot.candle(ago=1)
        bot.wait_for_model()
    saved = json.loads((tmp_path / "models" / "test" / "pair_dictionary.json").read_text())
    assert saved[PAIR]["model_filename"]


def test_trainings_go_on_where_past_predictions_find_no_room(tmp_path, caplog, monkeypatch):
    model, trained = make_model(tmp_path), []
    monkeypatch.setattr(model, "train_now", lambda pair, strategy: trained.append(pair))

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.dd, "save_historic_predictions_to_disk", full)
    model.train_queue = deque([PAIR, "ETH/USDT"])
    for _ in range(2):
        model._train_in_turn(model.train_queue[0], None)
    assert trained == [PAIR, "ETH/USDT"]
    assert list(model.train_queue) == trained
    assert "The past predictions are not saved ([Errno 28] No space left on device)" in caplog.text
