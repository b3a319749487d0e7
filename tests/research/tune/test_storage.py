"""Where a study lies: addresses, files that are whole, and who is at a trial."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from datetime import timedelta

import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.tune import storage as storage_module
from freqai_lstm_plugins.research.tune.storage import (
    LEASE,
    WORKER,
    leased,
    open_storage,
    requeue,
    shown,
    worker_name,
)

from .studies import dead_process

optuna = pytest.importorskip("optuna")
pytest.importorskip("sqlalchemy")


def test_a_queued_trial_is_nobodys():
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr(WORKER, ["elsewhere", 1])
    trial.set_user_attr("defaults", True)
    requeue(study, study.get_trials()[0])
    assert study.get_trials()[1].user_attrs == {"defaults": True}


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("nonsense", ConfigError, "no database address"),
        ("nosuch://user:secret@host/db", ConfigError, "no database address"),
        ("sqlite:////proc/no/study.db", DataError, "cannot be opened"),
        ("", ConfigError, "no database address"),
        ("sqlite://", ConfigError, "names no file, so nothing would be kept"),
        ("sqlite:///:memory:", ConfigError, "names no file"),
        ("postgresql+psycopg://user:secret@host:port/db", ConfigError, "no database address"),
        ("mysql+nosuch://user:secret@host/db", ConfigError, "no database address"),
        ("oracle://user:secret@host/db", ConfigError, "needs .*, which is not installed"),
    ],
)
def test_a_storage_that_is_none_is_said_in_one_line(url, error, said):
    with pytest.raises(error, match=said) as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown():
    assert shown("postgresql+psycopg://me:secret@host/db") == "postgresql+psycopg://me:***@host/db"


@pytest.mark.parametrize("address", ["postgresql://me:se%40cret@host/db", "sqlite:///x.db"])
def test_what_a_database_says_is_told_without_the_password(address):
    error = storage_module._unreachable(address, ValueError("no entry for\nme:se@cret"))
    assert "(no entry for me:" in str(error)
    assert ("cret" in str(error)) == address.startswith("sqlite")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("worker", "age", "is_lost"),
    [
        (worker_name(), 0, True),
        ([socket.gethostname(), "dead"], 0, True),
        ([socket.gethostname(), os.getppid()], 9999, False),
        # What happens on other machines only a heartbeat tells.
        (["elsewhere", "dead"], 9999, False),
        # A death between the trial's begin and its worker's name.
        (None, 9999, True),
        (None, 0, False),
        # A journal's worker that sleeps, or died elsewhere: it said nothing for too long.
        (["elsewhere", "dead", 31], 0, True),
        (["elsewhere", "dead", 20], 9999, False),
        ([socket.gethostname(), os.getppid(), 31], 0, True),
    ],
)
def test_a_trial_is_lost_where_nobody_is_at_it(worker, age, is_lost):
    trial = optuna.create_study().ask()
    worker, silent = (worker[:2], worker[2:]) if worker else (None, [])
    if silent:
        trial.set_user_attr(LEASE, time.time() - silent[0])
    if worker is not None:
        named = dead_process() if worker[1] == "dead" else worker[1]
        trial.set_user_attr(WORKER, [worker[0], named])
    frozen = trial.study.get_trials()[0]
    frozen.datetime_start -= timedelta(seconds=age)
    assert storage_module._is_lost(frozen) is is_lost


def test_nobody_listening_is_said_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="cannot be reached") as caught:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value)


def test_who_is_at_a_trial_of_a_journal_says_so_until_it_ends(tmp_path, monkeypatch):
    told = threading.Event()
    real = optuna.storages.JournalStorage.set_trial_user_attr

    def telling(self, number, key, value):
        real(self, number, key, value)
        if key == LEASE and threading.current_thread() is not threading.main_thread():
            told.set()

    monkeypatch.setattr(optuna.storages.JournalStorage, "set_trial_user_attr", telling)
    monkeypatch.setattr(storage_module, "HEARTBEAT_SECONDS", 0.01)
    study = optuna.create_study(storage=open_storage(f"journal:{tmp_path / 'journal.log'}"))
    trial, n_threads = study.ask(), threading.active_count()
    with leased(trial):
        first = study.trials[0].user_attrs[LEASE]
        assert told.wait(60)
    assert threading.active_count() == n_threads
    assert study.trials[0].user_attrs[LEASE] > first
    # Databases have Optuna's own.
    trial = optuna.create_study().ask()
    with leased(trial):
        assert LEASE not in trial.user_attrs


def test_half_a_line_of_a_worker_that_died_does_not_spoil_the_next_one(tmp_path):
    path = tmp_path / "journal.log"
    study = optuna.create_study(storage=open_storage(f"journal:{path}"))
    with path.open("ab") as stream:
        stream.write(b'{"op_code":5,"work')
    # This one holds the journal open all the time.
    study.set_user_attr("known", True)
    again = optuna.load_study(study_name=None, storage=open_storage(f"journal:{path}"))
    assert again.user_attrs == {"known": True}
    assert len(list(tmp_path.glob("journal.log.cut-*"))) == 1


def test_a_file_of_sqlite_is_there_with_all_its_tables_or_not_at_all(tmp_path, monkeypatch):
    from optuna.storages import RDBStorage

    path, real = tmp_path / "study.db", RDBStorage.__init__

    def half(self, *arguments, **others):
        real(self, *arguments, **others)
        assert not path.exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RDBStorage, "__init__", half)
    with pytest.raises(DataError, match=r"cannot be opened .*No space left.*: make room") as caught:
        open_storage(f"sqlite:///{path}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    open_storage(f"sqlite:///{path}")
    assert [one.name for one in tmp_path.iterdir()] == ["study.db"]


@pytest.mark.parametrize("error", [FileExistsError, PermissionError])
def test_another_workers_file_is_not_taken_away(tmp_path, monkeypatch, error):
    def link(*_):
        raise error

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "study.db").write_text("theirs")
    storage_module._give_name(tmp_path / "mine", tmp_path / "study.db")
    # Where there are no links the later one stays.
    left = "theirs" if error is FileExistsError else "mine"
    assert (tmp_path / "study.db").read_text() == left


@pytest.mark.parametrize("text", ["garbage\n", '{"a": 1}\n', "[1]\n", "\xff\n"])
def test_a_file_that_is_no_journal_is_said_in_one_line(tmp_path, text):
    path = tmp_path / "journal.log"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"journal\.log is no journal of Optuna's") as caught:
        open_storage(f"journal:{path}")
    assert "\n" not in str(caught.value)


def test_a_heartbeat_goes_on_after_an_outage(tmp_path, monkeypatch):
    def gone(*_):
        raise optuna.exceptions.StorageInternalError("gone")

    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", gone)
    # Optuna's thread would end with a traceback.
    storage.record_heartbeat(0)
