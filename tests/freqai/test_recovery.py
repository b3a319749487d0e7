from __future__ import annotations

import json
import pickle

import pandas as pd
import pytest

from tests.freqai.host import PAIR, make_frame, make_model, next_candle, train


@pytest.fixture
def folder(tmp_path):
    frame = make_frame(300)
    model = make_model(tmp_path)
    train(model, frame)
    next_candle(model, frame)
    model.dd.save_historic_predictions_to_disk()
    model.dd.save_global_metadata_to_disk({"start_dry_live_date": 1})
    return tmp_path / "models" / "test"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pair_dictionary.json", b'{"BTC/USDT": {"model_fi'),
        ("pair_dictionary.json", b"[]"),
        ("pair_dictionary.json", b'{"BTC/USDT": {}}'),
        ("pair_dictionary.json", b"\xff\xfe"),
        ("global_metadata.json", b""),
        ("historic_predictions.pkl", b"\x80\x05cut"),
        ("historic_predictions.pkl", b"cno_such_package\nThing\n."),
        ("historic_predictions.pkl", pickle.dumps([1])),
    ],
)
def test_a_bot_starts_whatever_stands_in_its_files(folder, caplog, name, content):
    (folder / name).write_bytes(content)
    model = make_model(folder.parents[1])
    assert f"{name} cannot be read" in caplog.text
    assert (folder / f"{name}.damaged").read_bytes() == content
    assert model.train_queue[0] == PAIR


def test_past_predictions_come_from_the_backup(folder):
    (folder / "historic_predictions.pkl").write_bytes(b"cno_such_package\nThing\n.")
    model = make_model(folder.parents[1])
    assert len(model.dd.historic_predictions[PAIR]) == 300


def test_past_predictions_begin_anew_where_the_backup_is_lost_too(folder):
    for name in ("historic_predictions.pkl", "historic_predictions.backup.pkl"):
        (folder / name).write_bytes(b"")
    assert make_model(folder.parents[1]).dd.historic_predictions == {}


def test_sound_files_stay_as_they_are(folder, caplog):
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    model = make_model(folder.parents[1])
    assert "cannot be read" not in caplog.text
    assert {name: (folder / name).read_bytes() for name in before if name != "x"} | before == before
    assert isinstance(model.dd.historic_predictions[PAIR], pd.DataFrame)
    assert json.loads((folder / "global_metadata.json").read_text()) == {"start_dry_live_date": 1}


def test_start_up_lines_come_once(folder, caplog):
    caplog.set_level("INFO")
    make_model(folder.parents[1])
    repeated = [text for text in set(caplog.messages) if caplog.messages.count(text) > 1]
    assert repeated == []
