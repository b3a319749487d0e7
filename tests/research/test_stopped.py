"""What a run that is killed, interrupted or ended leaves: all that is finished, and no process."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from freqai_lstm_plugins.research import runner
from tests.research.processes import (
    CLI,
    SMALL,
    await_end,
    await_results,
    call,
    finished_at,
    forecasts,
    results,
    running,
    workers,
)
from tests.research.test_commands import place

__all__ = ["place"]

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="/proc tells which processes are left"
)
# Notes each folder that takes its name, in whichever process: that is how a job ends.
WITNESS = """
import os, sys

def hook(event, arguments):
    if event == "os.rename" and "-seed" in os.path.basename(arguments[1]):
        with open(os.environ["WITNESS"], "ab", buffering=0) as stream:
            stream.write(os.fsencode(os.path.abspath(arguments[1])) + b"\\n")

sys.addaudithook(hook)
"""


def test_a_worker_ends_with_the_run_that_started_it(monkeypatch):
    ended, handlers = threading.Event(), {}
    monkeypatch.setattr(os, "_exit", lambda _status: ended.set() or time.sleep(1e9))
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(runner, "ORPHAN_SECONDS", 0.01)
    parent = os.getppid()
    runner.follow(parent)
    # Ctrl-C is for the run to answer.
    assert handlers == {signal.SIGINT: signal.SIG_IGN}
    assert not ended.wait(0.1)
    # Orphans are given another parent.
    monkeypatch.setattr(os, "getppid", lambda: parent + 1)
    assert ended.wait(60)


@contextlib.contextmanager
def at_work(place, least=2):
    """Run a comparison with two workers, from the moment on at which a few jobs are done."""
    call("compare", "--init", "e.toml", cwd=place)
    # Trainings that take a while, so that some are under way at any moment.
    options = ["--workers", "2", *SMALL, "--set", "models.lstm.max_epochs=30"]
    options += ["--set", "models.lstm.patience=30"]
    command = ["compare", "e.toml", "--out", "o", *options]
    log = place / "log"
    with running(*CLI, *command, cwd=place, log=log) as child:
        await_results(place / "o", least, child)
        assert child.poll() is None, log.read_text()
        yield child, log, command


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("to_all", [True, False], ids=["to all", "to one"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_says_what_is_done_and_how_to_go_on(place, name, to_all):
    number = getattr(signal, name)
    with at_work(place) as (child, log, command):
        # A terminal sends Ctrl-C to the workers too, as a service manager does SIGTERM.
        (os.killpg if to_all else os.kill)(child.pid, number)
        child.wait(60)
        assert await_end(child.pid) == []
    said = log.read_text()
    assert child.returncode == 128 + number, said
    assert "Traceback" not in said
    finished = finished_at(place / "o")
    last = said.strip().splitlines()[-1]
    assert last == (
        f"Stopped. {len(finished)} of 24 jobs are done and stay done: the same command goes on "
        "from there."
    )
    assert said.count("Stopped.") == 1
    assert not list((place / "o").glob("models/**/.*"))
    again = call(*command, cwd=place)
    assert f"24 jobs, {len(finished)} of them done" in again.stderr
    assert finished.items() <= finished_at(place / "o").items()


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("moment", ["starting", "judging"])
def test_ctrl_c_is_one_line_while_workers_start_and_while_results_are_judged(place, moment):
    with at_work(place, 24 if moment == "judging" else 0) as (child, log, _):
        if moment == "starting":
            deadline = time.monotonic() + 60
            while not workers(child.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            # They import for seconds: no signal finds them ready.
            time.sleep(0.3)
        os.killpg(child.pid, signal.SIGINT)
        child.wait(60)
        assert await_end(child.pid) == []
    said = log.read_text()
    assert child.returncode == 130, said
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith(f"Stopped. {len(results(place / 'o'))} of 24")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_training_that_is_stopped_goes_on_from_its_finished_jobs(place, name):
    file = "user_data/data/binance/BTC_USDT-1h.csv"
    command = ["train", file, "--model", "gru", "--window", "5", "--out", "o"]
    command += ["--set", "max_epochs=300", "--set", "patience=300", "--set", "hidden_size=4"]
    log, number = place / "log", getattr(signal, name)
    with running(*CLI, *command, cwd=place, log=log) as child:
        # The net comes first, so its training is what is stopped.
        deadline = time.monotonic() + 120
        while not (place / "o" / "identity.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        os.killpg(child.pid, number)
        child.wait(60)
        assert await_end(child.pid) == []
    said = log.read_text()
    assert child.returncode == 128 + number, said
    assert "Traceback" not in said
    n_done = len(results(place / "o"))
    assert said.strip().splitlines()[-1].startswith(f"Stopped. {n_done} of 4 jobs are done")
    assert "gru" in call(*command, cwd=place).stdout
    assert len(results(place / "o")) == 4


@pytest.mark.slow
@needs_proc
def test_a_worker_process_that_dies_takes_nothing_with_it(place):
    with at_work(place) as (child, log, _):
        before = finished_at(place / "o")
        os.kill(workers(child.pid)[0], signal.SIGKILL)
        child.wait(400)
    assert child.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    after = finished_at(place / "o")
    assert len(after) == 24
    assert before.items() <= after.items()


@pytest.mark.slow
@needs_proc
def test_ten_kills_at_random_moments_repeat_nothing_and_change_nothing(place):
    call("compare", "--init", "e.toml", cwd=place)
    options = ["e.toml", "--set", "seeds=[1,2,3,4]", "--workers", "2", *SMALL]
    options += ["--set", "models.lstm.max_epochs=10"]
    call("compare", *options, "--out", "whole", cwd=place)
    n_jobs, out = len(results(place / "whole")), place / "killed"
    (place / "sitecustomize.py").write_text(WITNESS)
    witness = place / "witness"
    witness.touch()
    seen = {"WITNESS": str(witness), "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
    command, rng = [*CLI, "compare", *options, "--out", "killed"], random.Random(1)
    finished: dict[str, tuple[int, int]] = {}
    n_hit = 0
    for number in range(10):
        with running(*command, cwd=place, env=seen, log=place / f"log{number}") as child:
            # Spread over the run: while it reads, while jobs are done, and while it judges.
            await_results(out, round(number / 9 * n_jobs), child)
            time.sleep(rng.uniform(0, 2.5))
            n_hit += child.poll() is None
            # Alone, or with its workers: what is left of it must end by itself then.
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if rng.random() < 0.5 else os.kill)(child.pid, signal.SIGKILL)
            child.wait(60)
            assert await_end(child.pid) == []
        now = finished_at(out)
        assert finished.items() <= now.items()
        finished = now
    assert n_hit >= 9
    last = call("compare", *options, "--out", "killed", cwd=place, env=seen)
    assert f"{n_jobs} jobs, {len(finished)} of them done" in last.stderr
    assert finished.items() <= finished_at(out).items()
    finished = finished_at(out)
    # Whoever finished a job, in this process or another, there was nobody before him.
    counts = Counter(witness.read_text().splitlines())
    assert counts == {str(out / name): 1 for name in finished}
    same_report(place / "whole", out)


def same_report(one, other):
    """Check that two folders hold the same predictions and tables, all but times and memory."""
    expected, found = forecasts(one), forecasts(other)
    assert expected.keys() == found.keys()
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame)
    tables = [sorted((out / "report" / "tables").glob("*.csv")) for out in (one, other)]
    assert len(tables[0]) > 8
    for first, second in zip(*tables, strict=True):
        assert first.name == second.name
        if first.name != "timings.csv":
            assert first.read_text() == second.read_text(), first.name
    verdicts = [(out / "report" / "verdict.txt").read_text() for out in (one, other)]
    assert verdicts[0] == verdicts[1]
