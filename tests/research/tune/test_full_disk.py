"""A disk that fills up under a search, as it really does: a small file system in memory."""

from __future__ import annotations

import json

import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.tune.storage import default_url, open_storage
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished
from tests.research.test_full_disk import disk

from .studies import call, search, write_candles, write_place
from .test_workers import assert_exact

__all__ = ["disk"]

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

pytestmark = pytest.mark.slow


def tried(study):
    return [(one.value, one.user_attrs[SETTINGS]) for one in finished(study)]


def kept(url):
    """Return the trials of a study on a disk that is still full."""
    try:
        return tried(optuna.load_study(study_name="lightgbm", storage=open_storage(url)))
    # There was no room for a study yet.
    except (KeyError, DataError):
        return []


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_disk_that_is_full_at_any_moment_is_one_line_and_loses_no_trial(tmp_path, disk, kind):
    folder, out = write_candles(tmp_path / "candles"), disk.path / "out"
    url = default_url(out) if kind == "sqlite" else f"journal:{disk.path / 'journal.log'}"
    known, said = [], []
    # A little more room each time: it ends in the study's file, in tables, in results.
    for kilobytes in range(8, 2000, 40):
        disk.change(f"size={kilobytes}k")
        try:
            session = search(folder, out, 5, storage=url)
            break
        except DataError as error:
            said.append(str(error))
        now = kept(url)
        assert now[: len(known)] == known
        known = now
    assert len(completed(session.study)) == 5
    assert_exact(session.study, 5)
    assert not list(out.rglob(".*.tmp"))
    assert all("\n" not in line and "run it again." in line for line in said)
    begins = {line.split()[0] for line in said}
    # A file of SQLite takes room of its own, with its tables and later.
    assert begins >= ({"The", "lightgbm,"} if kind == "sqlite" else {"lightgbm,"})


def test_the_command_that_finds_no_room_says_so_and_goes_on_where_there_is(tmp_path, disk):
    place = write_place(tmp_path)
    words = ["tune", "hourly.toml", "--model", "lstm", "--ranges", "ranges.json"]
    words += ["--trials", "4", "--out", str(disk.path / "out")]
    for kilobytes in (60, 330, 400):
        disk.change(f"size={kilobytes}k")
        found = call(*words, cwd=place)
        assert found.returncode == 1
        *before, last = found.stderr.splitlines()
        assert last.startswith("Error: ")
        assert "No space left on device" in last or "disk is full" in last
        assert "make room" in last
        assert not any("rror" in line for line in before)
    disk.change("size=40m")
    found = call(*words, cwd=place)
    assert found.returncode == 0, found.stderr
    disk.change("ro")
    found = call(*words[:-2], "--out", str(disk.path / "other"), cwd=place)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert "other cannot be written: Read-only file system" in line
    disk.change("rw")
    found = call(*words[:-4], "--trials", "2", *words[-2:], "--holdout", cwd=place)
    assert found.returncode == 0, found.stderr
    assert json.loads((disk.path / "out" / "lstm.json").read_text())["luck"]["n_tried"] == 4
