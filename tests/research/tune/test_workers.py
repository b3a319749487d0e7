"""Several workers on one study, some of which are killed: N trials are N trials."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins.research.tune import storage as storage_module
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.session import open_session
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished

from .studies import asked, search, work, write_candles

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.research.tune.studies", "optuna", "lightgbm"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"))


def begin(folder, out, n_trials, **others):
    process = PROCESSES.Process(target=work, args=(folder, out, n_trials, others))
    process.start()
    return process


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """PostgreSQL in a folder of its own, which refuses to run as root."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.bin = min(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), default=None)
        if self.bin is None:
            pytest.skip("PostgreSQL is not installed")
        self.user = {"user": "postgres"} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "postgres")
        initdb = self.bin.with_name("initdb")
        self._run(initdb, "-D", folder / "data", "-U", "tuner", "-A", "trust")
        self.start()

    def _run(self, *words):
        subprocess.run(
            list(map(str, words)),
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            **self.user,
        )

    def start(self):
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        log = self.folder / "log"
        self._run(self.bin, "-D", self.folder / "data", "-w", "-l", log, "-o", options, "start")

    def stop(self):
        self._run(self.bin, "-D", self.folder / "data", "-w", "-m", "immediate", "stop")

    @property
    def url(self):
        return f"postgresql+psycopg://tuner@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    found = Server(folder)
    yield found
    found.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def address(request, tmp_path):
    if request.param == "sqlite":
        return None
    if request.param == "journal":
        return f"journal:{tmp_path / 'journal.log'}"
    return request.getfixturevalue("server").url


def assert_exact(session, n_trials):
    """Check that so many trials are finished, and that each setting of a lost one was tried."""
    done = finished(session.study)
    assert len(done) == n_trials
    assert sum(bool(one.user_attrs.get("defaults")) for one in done) == 1
    running = optuna.trial.TrialState.RUNNING
    assert not session.study.get_trials(states=(running,))
    retried = [one.system_attrs.get("retry_history", [])[-1:] for one in done]
    lost = [number for numbers in retried for number in numbers]
    # Nobody tried a lost trial twice.
    assert len(lost) == len(set(lost))


def test_two_workers_make_as_many_trials_as_asked_for(folder, tmp_path, address):
    others = {"storage": address, "study": tmp_path.name}
    workers = [begin(folder, tmp_path, 12, **others) for _ in range(2)]
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0
    session = open_session(asked(folder, tmp_path, **others))
    assert_exact(session, 12)
    assert len(completed(session.study)) == 12
    drawn = [one.user_attrs[SETTINGS] for one in completed(session.study)]
    # Not two of the same draws.
    assert len({tuple(one.items()) for one in drawn}) >= 11


def test_a_killed_worker_loses_no_trial(folder, tmp_path, address):
    others = {"storage": address, "study": tmp_path.name}
    workers = [begin(folder, tmp_path, 12, **others) for _ in range(2)]
    time.sleep(4)
    workers[0].kill()
    for worker in workers:
        worker.join(300)
    assert workers[1].exitcode == 0
    assert_exact(open_session(asked(folder, tmp_path, **others)), 12)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_twenty_kills_lose_no_trial(folder, tmp_path, kind):
    address = None if kind == "sqlite" else f"journal:{tmp_path / 'journal.log'}"
    rng = np.random.default_rng(0)
    others = {"storage": address, "how": Search("random")}
    workers = [begin(folder, tmp_path, 60, **others) for _ in range(2)]
    for _ in range(20):
        time.sleep(rng.uniform(0.5, 3.0))
        place = int(rng.integers(2))
        workers[place].kill()
        workers[place].join()
        workers[place] = begin(folder, tmp_path, 60, **others)
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    assert_exact(search(folder, tmp_path, 60, **others), 60)


def stop_in_a_trial(pid, session, path):
    """Stop a process while it trains, and not while it holds the lock of its file."""
    for _ in range(100):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=0.1)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        except sqlite3.OperationalError:
            pass
        else:
            running = session.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
            if running and SETTINGS in running[0].user_attrs:
                return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.07)
    pytest.fail("never stopped in a trial")


def test_a_worker_that_sleeps_too_long_is_replaced(folder, tmp_path, monkeypatch):
    search(folder, tmp_path, 1)
    worker = begin(folder, tmp_path, 400)
    session = open_session(asked(folder, tmp_path))
    while len(finished(session.study)) < 3:
        time.sleep(0.2)
    stop_in_a_trial(worker.pid, session, tmp_path / "study.db")
    try:
        monkeypatch.setattr(storage_module, "GRACE_SECONDS", 6)
        n_trials = len(finished(session.study)) + 3
        search(folder, tmp_path, n_trials)
        assert_exact(session, n_trials)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
        # It finds that its trial is another's by now, and goes on.
        time.sleep(3)
        alive = worker.is_alive()
        worker.kill()
        worker.join()
    assert alive


def test_a_database_that_goes_away_for_a_while_loses_no_trial(folder, tmp_path, server):
    others = {"storage": server.url, "study": tmp_path.name}
    session = search(folder, tmp_path, 2, **others)
    worker = begin(folder, tmp_path, 30, **others)
    while len(finished(session.study)) < 5:
        time.sleep(0.2)
    server.stop()
    time.sleep(30)
    server.start()
    worker.join(300)
    assert worker.exitcode == 0
    assert_exact(open_session(asked(folder, tmp_path, **others)), 30)
