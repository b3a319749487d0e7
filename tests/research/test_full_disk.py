"""Disks that are full or read-only, as they really are: a small file system in memory."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.experiment import write_template
from freqai_lstm_plugins.research.judgement import judge_run, require_some_done
from freqai_lstm_plugins.research.single import single_experiment, summarize
from freqai_lstm_plugins.research.started import start, train
from tests.research.processes import SMALL, call, finished_at, forecasts
from tests.research.test_commands import place
from tests.research.test_run import experiment, write_candles

__all__ = ["place"]

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

QUICK = {"models": {"lightgbm": {"n_estimators": 5}}, "seeds": [1]}


class SmallDisk:
    """A file system of a few kilobytes."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self._mount("size=64k")

    def _mount(self, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(self.path)]
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("mounting a small file system needs rights that are missing here")

    def change(self, options):
        """Change its size (`size=1m`), or whether it may be written (`ro`, `rw`)."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def fill(self):
        """Take all the room that is left."""
        with contextlib.suppress(OSError), (self.path / "filler").open("wb") as stream:
            while True:
                stream.write(bytes(4096))
                stream.flush()

    def make_room(self):
        """Give back what `fill` took."""
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path):
    found = SmallDisk(tmp_path / "small")
    try:
        yield found
    finally:
        subprocess.run(["umount", "--lazy", str(found.path)], check=False)


@pytest.fixture
def folder(tmp_path):
    write_candles(tmp_path / "candles", "ABC")
    return tmp_path / "candles"


def run_all(asked, out):
    """Do what the command does."""
    run = train(start(asked, out), workers=1)
    require_some_done(run)
    return judge_run(run)


FULL = r"out cannot be written: No space left on device\. What is finished stays: make room or name"


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_moment_is_one_line_and_loses_nothing(folder, tmp_path, disk):
    asked, out = experiment(folder, **QUICK), disk.path / "out"
    finished: dict[str, tuple[int, int]] = {}
    counts = []
    # A little more room each time: it ends at the tables, the checks, in jobs, tables of the
    # report, and in the page, which takes most of all.
    for kilobytes in (4, 150, 300, 380, 450, 550, 900, 5500):
        disk.change(f"size={kilobytes}k")
        with pytest.raises(DataError, match=FULL):
            run_all(asked, out)
        assert not list(out.rglob(".*.tmp"))
        now = finished_at(out)
        assert finished.items() <= now.items()
        finished = now
        counts.append(len(now))
    assert counts[:2] == [0, 0]
    assert counts[-1] == 18
    # Some runs ended in the middle of the jobs.
    assert {0, 18} < set(counts)
    disk.change("size=20m")
    assert run_all(asked, out).stat().st_size > 1e6
    assert finished_at(out) == finished
    run_all(asked, tmp_path / "whole")
    expected = forecasts(tmp_path / "whole")
    found = forecasts(out)
    assert expected.keys() == found.keys()
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame)


@pytest.mark.slow
def test_a_disk_that_fills_up_between_jobs_fails_those_after_it(folder, disk):
    disk.change("size=20m")
    started = start(experiment(folder, **QUICK), disk.path / "out")
    ended = []

    def on_done(done):
        ended.append(done)
        if len(ended) == 3:
            disk.fill()

    with pytest.raises(DataError, match=r"No space left on device\. Before that: .*No space left"):
        train(started, workers=1, on_done=on_done)
    assert [done.failure is None for done in ended] == [True] * 3 + [False] * 15
    assert all("No space left on device" in done.failure for done in ended[3:])
    assert not list(started.out.rglob(".*.tmp"))
    before = finished_at(started.out)
    disk.make_room()
    again = start(started.experiment, started.out)
    assert (again.n_done, again.n_left) == (3, 15)
    assert train(again, workers=1).failures.empty
    assert before.items() <= finished_at(started.out).items()


@pytest.mark.slow
def test_results_on_a_disk_that_is_full_can_be_judged_later(folder, disk):
    disk.change("size=20m")
    run = train(start(experiment(folder, **QUICK), disk.path / "out"), workers=1)
    disk.fill()
    with pytest.raises(DataError, match=FULL):
        judge_run(run)
    # A page that is not whole would be taken for one.
    assert not (run.out / "report" / "report.html").exists()
    assert not list(run.out.rglob(".*.tmp"))
    disk.make_room()
    assert judge_run(run).stat().st_size > 1e6


@pytest.mark.slow
def test_a_picture_that_finds_no_room_is_one_line_and_is_drawn_later(folder, disk):
    disk.change("size=20m")
    settings = {"hidden_size": 4, "max_epochs": 2}
    asked = single_experiment(
        folder / "A.csv", "gru", settings, horizon=1, window=5, seed=1, test_share=0.2
    )
    run = train(start(asked, disk.path / "out"), workers=1)
    disk.fill()
    with pytest.raises(DataError, match=FULL):
        summarize(run, "gru")
    assert not list(run.out.rglob("*.png"))
    disk.make_room()
    assert summarize(run, "gru").history.stat().st_size > 1000


@pytest.mark.slow
def test_a_disk_that_may_only_be_read_is_one_line(folder, disk):
    disk.change("ro")
    with pytest.raises(DataError, match="out cannot be written: Read-only file system"):
        start(experiment(folder, **QUICK), disk.path / "out")
    with pytest.raises(ConfigError, match=r"e\.toml cannot be written: Read-only file system"):
        write_template(disk.path / "e.toml")


@pytest.mark.slow
def test_commands_that_find_no_room_say_so_and_go_on_where_there_is(place, disk):
    call("compare", "--init", "e.toml", cwd=place)
    command = ["compare", "e.toml", "--out", "small/o", "--workers", "2", *SMALL]
    finished: dict[str, tuple[int, int]] = {}
    for kilobytes in (64, 600, 2000):
        disk.change(f"size={kilobytes}k")
        result = call(*command, cwd=place, check=False)
        assert result.returncode == 1
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert "o cannot be written: No space left on device." in line
        assert finished.items() <= finished_at(place / "small/o").items()
        finished = finished_at(place / "small/o")
    assert len(finished) == 24
    disk.change("size=20m")
    assert "24 jobs, 24 of them done" in call(*command, cwd=place).stderr
    disk.change("ro")
    for command in (
        ["compare", "--init", "small/e.toml"],
        ["compare", "e.toml", "--out", "small/p", *SMALL],
        ["train", "user_data/data/binance/BTC_USDT-1h.csv", "--out", "small/t"],
    ):
        result = call(*command, cwd=place, check=False)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert "cannot be written: Read-only file system" in line
