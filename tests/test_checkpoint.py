from __future__ import annotations

import contextlib
import math
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, load_model
from freqai_lstm_plugins.checkpoint import Checkpoint, PyTrainer, read_checkpoint, write_checkpoint
from freqai_lstm_plugins.errors import (
    CheckpointError,
    MismatchError,
    NewerFormatError,
    NotACheckpointError,
)
from freqai_lstm_plugins.names import require_names


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(60, 3))


@pytest.fixture(scope="module")
def model(rows):
    return SequenceRegressor("gru", window=4, hidden_size=4, num_layers=1, max_epochs=2).fit(
        rows, rows[:, 0]
    )


@pytest.fixture
def file(model, tmp_path):
    model.save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


def rewritten(file, **changes):
    """Change entries of the stored dictionary, or of the state in it; None takes one out."""
    content = model_content(file)
    for key, value in changes.items():
        place = content if key in content or key not in content["state"] else content["state"]
        place[key] = value
        if value is None:
            del place[key]
    torch.save(content, file)
    return file


def model_content(file):
    with torch.serialization.safe_globals([PyTrainer]):
        return torch.load(file, weights_only=True)


def scaling(**changes):
    sound = {"feature_mean": [0.0] * 3, "feature_std": [1.0] * 3}
    return {**sound, "target_mean": [0.0], "target_std": [1.0], **changes}


def calibration(**changes):
    ends = {"margins": [1.0], "blank_lower": [-1.0], "blank_upper": [1.0]}
    return {"interval": 0.8, **ends, "n_rows": 9, **changes}


def history(**changes):
    epoch = {"number": 1, "train_loss": 1.0, "valid_loss": None}
    return {"epochs": [{**epoch, "learning_rate": 0.1, "seconds": 0.1, **changes}], "best_epoch": 1}


def doubled(times):
    """Return lists that hold the same list twice, again and again: 2 ** times values to show."""
    value = []
    for _ in range(times):
        value = [value, value]
    return value


def test_a_loaded_model_predicts_the_same_bit_by_bit(model, rows, file):
    loaded = SequenceRegressor.load(file)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert loaded.get_params() == model.get_params()
    assert loaded.history_ == model.history_


def test_freqtrade_finds_the_model_in_the_file(model, rows, file):
    # What freqtrade's loader does.
    content = torch.load(file, weights_only=False)
    loaded = content["pytrainer"].load_from_checkpoint(content)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


def test_the_dotted_path_in_files_never_changes(file):
    trainer = model_content(file)["pytrainer"]
    name = f"{type(trainer).__module__}.{type(trainer).__qualname__}"
    assert name == "freqai_lstm_plugins.checkpoint.PyTrainer"


def test_a_loaded_model_breaks_windows_and_splits_rows_as_it_did(rows, tmp_path):
    index = pd.date_range("2025-01-01", periods=61, freq="5min", tz="UTC").delete(30)
    frame = pd.DataFrame(rows, index=index)
    model = SequenceRegressor(
        window=4, hidden_size=4, max_epochs=1, step="5min", label_period=3, valid_size=0.25
    ).fit(frame, rows[:, 0])
    model.save(tmp_path / "model.zip")
    loaded = SequenceRegressor.load(tmp_path / "model.zip")
    assert (loaded.step, loaded.label_period, loaded.valid_size) == ("5min", 3, 0.25)
    assert loaded.predict(frame).equals(model.predict(frame))
    assert np.flatnonzero(loaded.predict(frame).isna()).tolist() == [0, 1, 2, 30, 31, 32]


def test_many_threads_read_at_once(file):
    errors = []

    def read():
        try:
            for _ in range(15):
                read_checkpoint(file)
        except CheckpointError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_view_is_stored_without_what_it_looks_at(model, tmp_path):
    state = model.to_state()
    state["state_dict"] = {name: torch.zeros(10**6)[:1] for name in state["state_dict"]}
    write_checkpoint(Checkpoint(model.kind, state), tmp_path / "model.zip")
    assert (tmp_path / "model.zip").stat().st_size < 10**6


def test_a_file_of_the_same_model_is_written_over(model, file, rows):
    model.save(file)
    assert SequenceRegressor.load(file).predict(rows).shape == (60,)
    assert [path.name for path in file.parent.iterdir()] == ["model.zip"]


def test_tensors_are_stored_alone_and_on_the_cpu(file):
    content = model_content(file)
    assert {tensor.device.type for tensor in content["state"]["state_dict"].values()} == {"cpu"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotACheckpointError, match=r"There is no model file .*none\.zip"):
        read_checkpoint(tmp_path / "none.zip")


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_file_is_executed(file, tmp_path):
    trap = tmp_path / "executed"
    rewritten(file, history=Bomb(trap))
    with pytest.raises(NotACheckpointError, match="holds more than plain data and tensors"):
        read_checkpoint(file)
    assert not trap.exists()


def test_a_pickle_that_is_no_zip_is_not_executed_either(tmp_path):
    trap, file = tmp_path / "executed", tmp_path / "model.zip"
    file.write_bytes(pickle.dumps(Bomb(trap)))
    with pytest.raises(NotACheckpointError, match="not a whole zip"):
        read_checkpoint(file)
    assert not trap.exists()


def test_a_model_file_of_another_program_is_told_apart(tmp_path):
    torch.save({"model_state_dict": {}}, tmp_path / "model.zip")
    with pytest.raises(NotACheckpointError, match="not written by freqai_lstm_plugins"):
        read_checkpoint(tmp_path / "model.zip")


def test_a_file_in_torchs_old_format_is_no_model(tmp_path):
    torch.save({}, tmp_path / "model.zip", _use_new_zipfile_serialization=False)
    with pytest.raises(NotACheckpointError, match="not a whole zip"):
        read_checkpoint(tmp_path / "model.zip")


def test_what_came_to_older_formats_later_may_be_missing(file):
    content = model_content(file)
    for key in ("data_settings", "scaling", "calibration", "symbols"):
        del content["state"][key]
    for version in (1, 2):
        open_state = {**content["state"], **content, "format_version": version}
        del open_state["state"]
        torch.save(open_state, file)
        state = read_checkpoint(file).state
        assert (state["data_settings"], state["scaling"], state["symbols"]) == ({}, None, [])


def test_every_kind_is_found_by_a_process_that_has_imported_nothing():
    code = (
        "from freqai_lstm_plugins.checkpoint import KINDS, model_class\n"
        "for kind in KINDS: assert model_class(kind).kind == kind, kind"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_is_read_from_the_disk_once(file, monkeypatch):
    read = []
    original = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *args, **options: read.append(1) or original(*args, **options)
    )
    load_model(file)
    assert read == [1]


def test_a_zip_of_something_else_is_told_apart(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(NotACheckpointError, match=r"model\.zip"):
        read_checkpoint(tmp_path / "model.zip")


def test_a_torchscript_file_is_told_apart_and_not_run(tmp_path):
    # The mark by which torch takes a file for TorchScript.
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
    with pytest.raises(NotACheckpointError, match="it is a TorchScript file"):
        read_checkpoint(tmp_path / "model.zip")


def test_a_newer_format_asks_for_an_upgrade(file):
    rewritten(file, format_version=99)
    with pytest.raises(NewerFormatError, match=r"version 99; .*reads up to 3. Upgrade"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "1"}, "no valid format version, but '1'"),
        ({"format_version": 0}, "no valid format version, but 0"),
        ({"window": None}, "incomplete: it holds no 'window'"),
        ({"window": "4"}, "damaged: 'window' is a str"),
        ({"window": 0}, "window or target_mean cannot be right"),
        ({"feature_names": [1, 2]}, "'feature_names' holds more than names"),
        ({"state_dict": {"a": 1}}, "'state_dict' holds more than tensors"),
        ({"history": {"epochs": []}}, "history names no best epoch"),
        ({"history": {"epochs": [{}], "best_epoch": 1}}, "its history has a wrong epoch"),
        ({"history": history(train_loss="0.1")}, "its history has a wrong epoch"),
        ({"history": history(valid_loss=math.nan)}, "its history has a wrong epoch"),
        ({"history": history(seconds=None)}, "its history has a wrong epoch"),
        ({"history": history(number=1.0)}, "its history has a wrong epoch"),
        ({"history": history(colour="red")}, "its history has a wrong epoch"),
        ({"history": {**history(), "n_train_windows": "9"}}, "a wrong number of windows"),
        ({"history": {**history(), "constant_loss": "9"}}, "a wrong yardstick"),
        ({"window": 10**100}, "a number of too many digits"),
        ({"net_settings": {"hidden_size": doubled(60)}}, "claims more than its bytes can hold"),
        ({"data_settings": 3}, "'data_settings' is a int"),
        ({"scaling": {"feature_mean": [0.0]}}, "its scaling has a wrong 'feature_mean'"),
        ({"label_names": "up"}, "damaged: 'label_names' is a str"),
        ({"target_mean": []}, "window or target_mean cannot be right"),
        ({"target_mean": ["0"]}, "window or target_mean cannot be right"),
        ({"target_mean": [math.nan]}, "window or target_mean cannot be right"),
        ({"scaling": {}}, "its scaling has a wrong 'feature_mean'"),
        ({"scaling": scaling(feature_mean="abc")}, "its scaling has a wrong 'feature_mean'"),
        (
            {"scaling": scaling(feature_std=[1.0, 0.0, 1.0])},
            "its scaling has a wrong 'feature_std'",
        ),
        ({"scaling": scaling(target_std=[math.inf])}, "its scaling has a wrong 'target_std'"),
        ({"scaling": scaling(target_mean=[None])}, "its scaling has a wrong 'target_mean'"),
        ({"kind": 3}, "'kind' is a int"),
        ({"kind": "oracle"}, "it holds a 'oracle', and the kinds of models are regressor, cl"),
        ({"kind": "classifier"}, "its classes cannot be right"),
        ({"classes": [["a", "b"]]}, "its classes cannot be right"),
        ({"classes": {"a": 1}}, "'classes' is a dict"),
        ({"symbols": "BTC"}, "'symbols' is a str"),
        ({"symbols": [1]}, "'symbols' holds more than names"),
        ({"symbols": ["BTC", "BTC"]}, "'symbols' holds a name twice"),
        ({"calibration": []}, "'calibration' is a list"),
        ({"calibration": {}}, "its calibration cannot be right"),
        ({"calibration": calibration(interval=1.0)}, "its calibration cannot be right"),
        ({"calibration": calibration(interval="0.8")}, "its calibration cannot be right"),
        ({"calibration": calibration(margins=[math.nan])}, "its calibration cannot be right"),
        ({"calibration": calibration(margins=[1])}, "its calibration cannot be right"),
        ({"calibration": calibration(margins=[])}, "its calibration cannot be right"),
        ({"calibration": calibration(blank_lower=None)}, "its calibration cannot be right"),
        ({"calibration": calibration(blank_upper=[-math.inf])}, "its calibration cannot be right"),
        ({"calibration": calibration(n_rows=None)}, "its calibration cannot be right"),
        ({"calibration": calibration(colour="red")}, "its calibration cannot be right"),
    ],
)
def test_a_file_with_wrong_content_is_refused_with_what_is_wrong(file, changes, message):
    rewritten(file, **changes)
    with pytest.raises(NotACheckpointError, match=message):
        load_model(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": "convolution"}, "unknown here .*unknown net 'convolution'"),
        ({"net_settings": {"hidden_size": 9}}, "do not fit the net 'gru'.*size mismatch"),
        ({"net_settings": {"colour": "red"}}, "unknown setting 'colour'"),
        ({"train_settings": {"batch_size": 0}}, "batch_size must be .*, not 0"),
        ({"data_settings": {"step": "soon"}}, "step must be a time .*, not 'soon'"),
        ({"data_settings": {"window": 3}}, "net or settings are unknown here"),
        ({"train_settings": {"loss": "mean"}}, "loss must be one of .*, not 'mean'"),
        ({"train_settings": {"loss": "cross_entropy"}}, "'cross_entropy' is for classes"),
        ({"train_settings": {"loss": "quantile"}}, "do not fit the net 'gru'.*size mismatch"),
        ({"train_settings": {"class_weight": {}}}, "class_weight must be .*, not {}"),
        ({"net": "tft", "net_settings": {"hidden_size": 4}}, "do not fit the net 'tft'"),
        ({"symbols": ["BTC", "ETH"]}, "symbol_embedding = 0 beside the names of symbols"),
        (
            {"symbols": ["BTC", "ETH"], "data_settings": {"symbol_embedding": 2}},
            "do not fit the net 'gru'",
        ),
        ({"data_settings": {"symbol": ["BTC"]}}, "symbol must be the name of a column"),
        ({"net_settings": {"hidden_size": 10**9}}, "hidden_size = 1000000000 is more than"),
        ({"net_settings": {"hidden_size": 4, "num_layers": 10**9}}, "num_layers = 1000000000 is"),
        (
            {"net_settings": {"hidden_size": 4, "num_layers": 99}},
            "num_layers = 99 is more than 8 t",
        ),
        ({"train_settings": {"num_threads": 100_000}}, "num_threads must be .* not 100000"),
        ({"data_settings": {"symbol_embedding": 10**9}, "symbols": ["BTC"]}, "= 1000000000 is"),
    ],
)
def test_a_sound_file_that_fits_no_net_here_says_why(file, changes, message):
    rewritten(file, **changes)
    with pytest.raises(MismatchError, match=message):
        SequenceRegressor.load(file)


CLASSES = {
    "a dictionary": [{"a": 0, "b": 1}],
    "one class": [["a"]],
    "none": [],
    "a class twice": [["a", "a"]],
    "a number that is none": [["a", math.nan]],
    "more than names": [["a", ["b"]]],
    "nothing": [["a", None]],
    "two targets": [["a", "b"], ["a", "b"]],
    "more than the frequencies": [["a", "b", "c"]],
}


@pytest.fixture(scope="module")
def classifier(rows):
    model = SequenceClassifier("gru", window=4, hidden_size=4, num_layers=1, max_epochs=1)
    return model.fit(rows, np.where(rows[:, 0] > 0, "up", "down"))


@pytest.mark.parametrize("name", CLASSES)
def test_a_classifier_with_wrong_classes_is_refused(classifier, tmp_path, name):
    classifier.save(tmp_path / "model.zip")
    rewritten(tmp_path / "model.zip", classes=CLASSES[name])
    with pytest.raises(NotACheckpointError, match=r"damaged: its (classes|window or target_mean)"):
        load_model(tmp_path / "model.zip")


def test_classes_that_do_not_fit_the_weights_are_refused(classifier, tmp_path):
    file = tmp_path / "model.zip"
    classifier.save(file)
    rewritten(file, classes=[["a", "b", "c"]], target_mean=[0.5, 0.25, 0.25])
    with pytest.raises(MismatchError, match=r"do not fit the net 'gru'.*size mismatch"):
        load_model(file)
    # Nor has a classifier an interval.
    rewritten(file, classes=[["a", "b"]], target_mean=[0.5, 0.5], calibration=calibration())
    with pytest.raises(NotACheckpointError, match="its calibration cannot be right"):
        load_model(file)


def test_symbols_that_do_not_fit_the_embedding_are_refused(rows, tmp_path):
    file = tmp_path / "model.zip"
    model = SequenceRegressor("gru", window=4, hidden_size=4, max_epochs=1, symbol_embedding=2)
    model.fit({"A": rows, "B": rows}, {"A": rows[:, 0], "B": rows[:, 0]}).save(file)
    for symbols in (["A", "B", "C"], ["A"], []):
        with pytest.raises(MismatchError, match="do not fit the net 'gru'"):
            load_model(rewritten(file, symbols=symbols))
    assert load_model(rewritten(file, symbols=["X", "Y"])).symbols_ == ["X", "Y"]


HOSTILE = {
    "stride 0": lambda tensor: tensor[:1].as_strided((10**6, 10**6), (0, 0)),
    "rows that overlap": lambda tensor: tensor.flatten().as_strided((10**6, 4), (0, 1)),
    "meta": lambda tensor: torch.empty(10**6, 10**6, device="meta"),
    "not finite": lambda tensor: tensor * math.nan,
    "complex": lambda tensor: tensor + 1j,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(file, name):
    weights = model_content(file)["state"]["state_dict"]
    key = next(iter(weights))
    changed = {key: HOSTILE[name](weights[key])}
    rewritten(file, state_dict={**weights, **changed})
    started = time.monotonic()
    with pytest.raises(CheckpointError):
        load_model(file)
    # As many numbers as it claims would take hours, if they found room.
    assert time.monotonic() - started < 60


def test_many_views_of_one_tensor_are_refused(file):
    weights = model_content(file)["state"]["state_dict"]
    whole = torch.zeros(10_000)
    views = {f"{name}{i}": whole.view(-1) for name in weights for i in range(100)}
    rewritten(file, state_dict=views)
    with pytest.raises(NotACheckpointError, match="claims more than its bytes can hold"):
        load_model(file)


def test_packed_records_are_refused_before_they_are_unpacked(file):
    packed = file.with_name("packed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
        new.writestr("archive/data/bomb", bytes(10**7), zipfile.ZIP_DEFLATED)
    with pytest.raises(NotACheckpointError, match="records claim more bytes than the file has"):
        load_model(packed)


def test_loading_draws_no_random_number(file):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    load_model(file)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_file_cut_off_anywhere_is_refused(file, tmp_path):
    whole = file.read_bytes()
    cut = tmp_path / "cut.zip"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(NotACheckpointError):
            read_checkpoint(cut)


def test_a_record_that_the_directory_calls_a_folder_is_read_all_the_same(model, rows, file):
    """torch's reader would leave such a record's weights as whatever was in memory."""
    whole = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        place = archive.start_dir
    # The attribute of MS-DOS folders, in the central directory's entries.
    while whole[place : place + 4] == b"PK\x01\x02":
        whole[place + 38] = 16
        lengths = struct.unpack("<3H", whole[place + 28 : place + 34])
        place += 46 + sum(lengths)
    file.write_bytes(whole)
    loaded = SequenceRegressor.load(file)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_harmless(model, rows, tmp_path, place, byte):
    file = tmp_path / "model.zip"
    if not file.exists():
        model.save(file)
    whole = bytearray(file.read_bytes())
    whole[int(place * len(whole))] = byte
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(whole)
    with contextlib.suppress(CheckpointError):
        loaded = SequenceRegressor.load(damaged)
        # Harmless is what gives the same numbers: the byte is padding, or was what it is now.
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))


def test_one_wrong_bit_in_a_weight_is_found(model, file):
    weight = next(iter(model.net_.state_dict().values())).numpy().tobytes()
    whole = bytearray(file.read_bytes())
    place = whole.index(weight)
    whole[place] ^= 1
    file.write_bytes(whole)
    with pytest.raises(
        NotACheckpointError, match=r"is damaged: Bad CRC-32 for file 'archive/data/\d+'"
    ):
        read_checkpoint(file)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(noise=st.binary(max_size=300))
def test_bytes_without_meaning_are_no_model(tmp_path, noise):
    for start in (b"", b"PK\x03\x04"):
        (tmp_path / "noise.zip").write_bytes(start + noise)
        with pytest.raises(NotACheckpointError, match="not a whole zip"):
            read_checkpoint(tmp_path / "noise.zip")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(model, file, monkeypatch):
    before = file.read_bytes()

    def fail(content, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"Cannot write the model file .*No space left"):
        model.save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["model.zip"]


def test_settings_that_are_no_plain_data_are_refused_at_saving(model, file):
    checkpoint = Checkpoint(model.kind, {**model.to_state(), "bad": lambda: None})
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="settings must be plain data"):
        write_checkpoint(checkpoint, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("place", ["folder", "file/model.zip"])
def test_a_place_that_takes_no_file_is_named(model, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=rf"Cannot write the model file .*{place}"):
        model.save(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_names_that_differ_are_listed():
    expected = list("abcdefgh")
    require_names("features", expected, expected)
    with pytest.raises(MismatchError, match=r"missing a, b, c, d, e and 2 more; not known.* z"):
        require_names("features", ["h", "z"], expected)
    with pytest.raises(MismatchError, match=r"same names in another order, first 'b' where .* 'a'"):
        require_names("features", ["b", "a"], ["a", "b"])
    with pytest.raises(MismatchError, match="same names another number of times, first 'b'"):
        require_names("features", ["a", "b", "b"], ["a", "b"])


SAVING = """
import sys
from freqai_lstm_plugins import load_model
model = load_model(sys.argv[1])
print("ready", flush=True)
while True:
    model.save(sys.argv[1])
"""
FORMATS = Path(__file__).parent / "trust" / "formats"


@pytest.fixture(params=["format-3-lstm", "format-3-ensemble"])
def saved(request, tmp_path):
    return Path(shutil.copy(FORMATS / f"{request.param}.zip", tmp_path))


def kill_while_saving(file, times):
    chance = random.Random(0)
    for _ in range(times):
        command = [sys.executable, "-c", SAVING, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
        load_model(file)


def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_file(saved):
    kill_while_saving(saved, 4)


@pytest.mark.slow
def test_a_hundred_kills_in_the_middle_of_a_save_leave_a_whole_file(saved):
    kill_while_saving(saved, 100)
