"""Which model a pair has when files vanish, and what is written of a slice."""

from __future__ import annotations

import cloudpickle
import pytest
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins import files
from tests.freqai.host import PAIR, make_frame, make_model, train


def test_a_model_that_cannot_be_read_any_more_is_said_so_once(tmp_path, caplog):
    model, frame = make_model(tmp_path), make_frame(400)
    train(model, frame)
    model.dd.model_dictionary.clear()
    for path in tmp_path.glob("models/test/sub-train-*/*_model.zip"):
        path.unlink()
    for _ in range(2):
        assert model.dd.load_data(PAIR, FreqaiDataKitchen(model.config, True, PAIR)) is None
    assert caplog.text.count("Training BTC/USDT again, its saved model is unusable") == 1
    assert model.needs_training(PAIR)


def test_a_model_that_was_trained_while_the_old_was_read_is_not_forgotten(tmp_path, monkeypatch):
    model, frame = make_model(tmp_path), make_frame(400)
    trained, _ = train(model, frame, 1)
    model.dd.model_dictionary.clear()

    def swapped(model_of_disk):
        model.dd.swap({PAIR: trained}, 2)
        raise OSError("gone")

    monkeypatch.setattr(model.dd, "require", swapped)
    model.dd.load_data(PAIR, FreqaiDataKitchen(model.config, True, PAIR))
    assert model.dd.pair_dict[PAIR]["trained_timestamp"] == 2


def test_a_bot_that_has_just_started_learns_on_from_the_model_on_disk(tmp_path):
    changes, frame = {"freqai__continual_learning": True}, make_frame(400)
    trained, kitchen = train(make_model(tmp_path, **changes), frame)
    model = make_model(tmp_path, **changes)
    model.tb_logger = None
    assert model.former_model(kitchen).history_ == trained.history_


def no_room(number):
    raise OSError("no room")


def test_metadata_of_a_slice_are_written_whole(tmp_path, monkeypatch):
    model, frame = make_model(tmp_path), make_frame(400)
    _, kitchen = train(model, frame)
    model.dd.save_metadata(kitchen)
    (path,) = tmp_path.glob("models/test/sub-train-*/*_metadata.json")
    before = path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", no_room)
    with pytest.raises(OSError, match="no room"):
        model.dd.save_metadata(kitchen)
    assert path.read_bytes() == before


def test_a_pair_that_comes_while_predictions_are_saved_ends_nothing(tmp_path):
    """Catches a training thread that dies as the trading loop adds a pair's first prediction."""
    drawer = make_model(tmp_path).dd

    class Slow:
        def __reduce__(self):
            drawer.historic_predictions["ETH/USDT"] = "new"
            return str, ("old",)

    drawer.historic_predictions = {PAIR: Slow(), "ADA/USDT": "old"}
    drawer.save_historic_predictions_to_disk()
    saved = cloudpickle.loads(drawer.historic_predictions_path.read_bytes())
    assert saved == {PAIR: "old", "ADA/USDT": "old"}
