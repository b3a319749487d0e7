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
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.research.tune import storage as storage_module
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.session import open_session
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished

from .studies import COMMAND, asked, documented, search, work, write_candles, write_place

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


def wait_for_trials(worker, study, n_trials):
    while len(finished(study)) < n_trials:
        assert worker.is_alive()
        time.sleep(0.2)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Who has to tell a password.
LOCKED = "locked"


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
        rules = folder / "data" / "pg_hba.conf"
        # Of several rules the first that fits counts.
        rules.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
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

    def run_sql(self, text):
        where = ["-h", "127.0.0.1", "-p", self.port, "-U", "tuner", "postgres"]
        self._run(self.bin.with_name("psql"), *where, "-c", text)

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


def assert_exact(study, n_trials):
    """Check that so many trials are finished, and that each setting of a lost one was tried."""
    done = finished(study)
    assert len(done) == n_trials
    assert sum(bool(one.user_attrs.get("defaults")) for one in done) == 1
    running = optuna.trial.TrialState.RUNNING
    assert not study.get_trials(states=(running,))
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
    assert_exact(session.study, 12)
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
    assert_exact(open_session(asked(folder, tmp_path, **others)).study, 12)


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
    assert_exact(search(folder, tmp_path, 60, **others).study, 60)


def test_a_wrong_password_is_said_and_never_shown(server):
    server.run_sql(f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'right'")
    address = server.url.replace("tuner@", f"{LOCKED}:sesame@")
    with pytest.raises(ConfigError, match=r"cannot be reached .*password authentication") as caught:
        storage_module.open_storage(address)
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)
    # The right one opens the door; what lies behind it is another matter, and another message.
    with pytest.raises(ConfigError, match="permission denied"):
        storage_module.open_storage(address.replace("sesame", "right"))


def begin_dask(stack, *words):
    """Start a part of a dask cluster, which ends with the stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *words, "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def test_dask_workers_that_are_killed_lose_no_job(folder, tmp_path):
    pytest.importorskip("distributed")
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    rng, worker = np.random.default_rng(0), ("worker", address, "--nthreads", "1", "--no-nanny")
    with contextlib.ExitStack() as stack:
        begin_dask(stack, "scheduler", "--host", "127.0.0.1", "--port", port)
        workers = [begin_dask(stack, *worker) for _ in range(2)]

        def replace_one():
            workers[0].kill()
            workers[0].wait()
            workers[0] = begin_dask(stack, *worker)

        def on_trial(trial):
            # In the middle of the next one.
            if trial.number in (1, 3):
                threading.Timer(rng.uniform(0.05, 0.5), replace_one).start()

        session = search(folder, tmp_path, 6, runner=Runner(None, address), on_trial=on_trial)
    assert_exact(session.study, 6)
    assert len(completed(session.study)) == 6


def is_locked(path):
    """Whether somebody holds the lock of a study's file."""
    if path.suffix == ".log":
        return os.path.lexists(f"{path}.lock")
    with contextlib.closing(sqlite3.connect(path, timeout=0.1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.rollback()
    return False


def stop_in_a_trial(pid, session, path):
    """Stop a process while it trains, and not while it holds the lock of its file."""
    for _ in range(100):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        if not is_locked(path):
            running = session.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
            if running and SETTINGS in running[0].user_attrs:
                return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.07)
    pytest.fail("never stopped in a trial")


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_worker_that_sleeps_too_long_is_replaced(folder, tmp_path, monkeypatch, kind):
    path = tmp_path / ("study.db" if kind == "sqlite" else "journal.log")
    others = {} if kind == "sqlite" else {"storage": f"journal:{path}"}
    search(folder, tmp_path, 1, **others)
    worker = begin(folder, tmp_path, 400, **others)
    session = open_session(asked(folder, tmp_path, **others))
    wait_for_trials(worker, session.study, 3)
    stop_in_a_trial(worker.pid, session, path)
    try:
        monkeypatch.setattr(storage_module, "GRACE_SECONDS", 6)
        n_trials = len(finished(session.study)) + 3
        search(folder, tmp_path, n_trials, **others)
        assert_exact(session.study, n_trials)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
        # It finds that its trial is another's by now, and goes on.
        time.sleep(3)
        alive = worker.is_alive()
        worker.kill()
        worker.join()
    assert alive


def test_the_command_of_the_page_survives_a_kill_of_one_of_two_workers(tmp_path, server):
    place = write_place(tmp_path)
    words = next(one for one in documented() if any("postgresql" in word for word in one))
    # As the page has it, with this server's names in capitals' stead, and fewer trials.
    address = server.url.replace("/postgres", "/command")
    server.run_sql("CREATE DATABASE command")
    names = {"postgresql+psycopg://USER@HOST/DB": address, "30": "8"}
    command = [*COMMAND, *(names.get(word, word) for word in words)]
    workers = [
        subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    lines = iter(workers[0].stderr.readline, b"")
    assert any(b"Trial" in line for line in lines)
    workers[0].kill()
    workers[0].communicate()
    errors = workers[1].communicate(timeout=300)[1].decode()
    assert workers[1].returncode == 0, errors
    storage = storage_module.open_storage(address)
    study = optuna.load_study(study_name="lstm", storage=storage)
    assert_exact(study, 8)


def test_a_database_that_goes_away_for_a_while_loses_no_trial(folder, tmp_path, server):
    others = {"storage": server.url, "study": tmp_path.name}
    session = search(folder, tmp_path, 2, **others)
    worker = begin(folder, tmp_path, 30, **others)
    wait_for_trials(worker, session.study, 5)
    server.stop()
    time.sleep(30)
    server.start()
    worker.join(300)
    assert worker.exitcode == 0
    assert_exact(open_session(asked(folder, tmp_path, **others)).study, 30)
