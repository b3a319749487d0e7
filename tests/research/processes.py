"""Comparisons as processes of their own, as a user starts, stops and kills them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

CLI = [sys.executable, "-m", "freqai_lstm_plugins.cli"]
SMALL = [
    *("--set", "split.folds=2", "--set", "split.test_bars=60", "--set", "features.window=5"),
    *("--set", "data.timeframe=1h", "--set", "models.lstm.max_epochs=1"),
    *("--set", "models.lstm.hidden_size=4", "--set", "models.lightgbm.n_estimators=10"),
]


def call(*arguments, cwd, check=True, env=None):
    """Run a command to its end; whatever it does, it shows no traceback."""
    result = subprocess.run(
        [*CLI, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert not check or result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result


@contextlib.contextmanager
def running(*command, cwd, log=None, env=None):
    """Start a command in a process group of its own, all of which is ended at the end."""
    stream = subprocess.DEVNULL if log is None else log.open("wb")
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    ) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if log is not None:
        stream.close()


def results(out):
    """Return the folders of finished jobs; those that begin with a dot were being written."""
    return sorted(path.parent for path in Path(out).glob("models/**/[!.]*/predictions.parquet"))


def forecasts(out):
    """Return the predictions of all finished jobs, by their folders."""
    return {
        str(folder.relative_to(out)): pd.read_parquet(folder / "predictions.parquet")
        for folder in results(out)
    }


def finished_at(out):
    """Return what tells a job's files from others of the same content: that they are the same."""
    stats = {folder: (folder / "metadata.json").stat() for folder in results(out)}
    return {
        str(folder.relative_to(out)): (found.st_ino, found.st_mtime_ns)
        for folder, found in stats.items()
    }


def await_results(out, least, child=None, seconds=600):
    """Wait until as many jobs are finished, or the run is over."""
    deadline = time.monotonic() + seconds
    while len(results(out)) < least and time.monotonic() < deadline:
        if child is not None and child.poll() is not None:
            return
        time.sleep(0.05)


def processes(group):
    """Return the ids of a process group's members that are alive."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                alive.append(int(path.parent.name))
    return alive


def workers(group):
    """Return the ids of a run's workers."""
    found = []
    for number in processes(group):
        with contextlib.suppress(OSError):
            if "popen_loky" in Path(f"/proc/{number}/cmdline").read_text():
                found.append(number)
    return found


def await_end(group, seconds=60):
    """Wait until a process group has no member left, and return those that it still has."""
    deadline = time.monotonic() + seconds
    while processes(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    return processes(group)
