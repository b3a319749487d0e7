"""Where a study lies: a file of its own, a database, or, when asked for, Optuna's journal.

A worker that dies leaves its trial running for ever unless somebody notices. Databases have
Optuna's heartbeat. What it cannot see (a death before the first beat, any death with a journal) is
seen by the worker's name and process number, which each trial bears, and in a journal by the time
at which it last said that it is at it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import os
import random
import secrets
import socket
import sqlite3
import threading
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    MissingExtraError,
    UnwritableError,
    causes,
)
from freqai_lstm_plugins.files import is_unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5
GRACE_SECONDS = 30
OPENINGS = 10
JOURNAL = "journal:"
WORKER, LEASE, DEFAULT_TRIAL = "worker", "lease", "defaults"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log and what it says of methods that it calls experimental."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def load_optuna() -> Any:
    """Return the library.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune", "Tuning") from error
    return optuna


def default_url(out: Path) -> str:
    """Return the address of the file in an output folder."""
    return f"sqlite:///{out / 'study.db'}"


def shown(url: str) -> str:
    """Return an address without its password."""
    if url.startswith(JOURNAL):
        return url
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        # What cannot be read may still hold a password.
        scheme, colon, _ = url.partition(":")
        return f"{scheme}:..." if colon else repr(url)


def open_storage(url: str) -> Any:
    """Connect to a storage, and make its tables where it is new.

    Args:
        url: `sqlite:///FILE`, `postgresql+psycopg://USER@HOST/DB`, or `journal:FILE`.

    Raises:
        ConfigError: The address is none, nobody serves it, or it does not let us in.
        DataError: A file cannot be written.
        MissingExtraError: The driver of the database is not installed.
    """
    if url.startswith(JOURNAL):
        return _open_journal(Path(url.removeprefix(JOURNAL)))
    load_optuna()
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        _require_lasting(url)
        return _open_database(url)
    # A port that is no number is a ValueError.
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        if isinstance(error, FreqaiLSTMError):
            raise
        raise ConfigError(
            f"--storage {shown(url)} is no database address: write sqlite:///out/study.db or "
            f"postgresql+psycopg://USER@HOST/DB."
        ) from error
    except ImportError as error:
        raise _lacks_driver(url, error) from error
    except (SQLAlchemyError, OSError) as error:
        raise _unreachable(url, error) from error
    # Where the tables are there, but are not ours to write, Optuna hides why behind its own.
    except load_optuna().exceptions.StorageInternalError as error:
        cause = error.__cause__
        raise _unreachable(url, cause if isinstance(cause, Exception) else error) from error


def _require_lasting(url: str) -> None:
    from sqlalchemy.engine import make_url

    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        raise ConfigError(
            f"--storage {shown(url)} names no file, so nothing would be kept: write "
            f"sqlite:///out/study.db."
        )


def _lacks_driver(url: str, error: ImportError) -> FreqaiLSTMError:
    from sqlalchemy.engine import make_url

    if make_url(url).drivername == "postgresql+psycopg":
        return MissingExtraError("psycopg", "tune-server", "A study in PostgreSQL")
    # Optuna hides the module's name behind its own message.
    missing = getattr(error.__cause__ or error, "name", None) or "its driver"
    return ConfigError(
        f"--storage {shown(url)} needs {missing}, which is not installed: install it, or write "
        f"postgresql+psycopg://USER@HOST/DB."
    )


def _open_database(url: str) -> Any:
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    _make_file(url)
    for _ in range(OPENINGS):
        try:
            with quiet():
                return _steady_storage()(
                    url,
                    engine_kwargs=_engine_options(url),
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=requeue,
                )
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            # Another worker made the same tables at the same time, and now they are there.
            is_race = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not is_race:
                raise
            last = error
            time.sleep(random.uniform(0.1, 1.0))
    raise last


def _make_file(url: str) -> None:
    """Make a new SQLite file under another name, and give it its own once its tables are whole.

    Optuna would take one with some of them, as a full disk leaves it, for whole: without their
    indexes two studies may have one name, and then none can be read.
    """
    from sqlalchemy.engine import make_url

    address = make_url(url)
    path = Path(address.database or "")
    if address.get_backend_name() != "sqlite" or path.name.startswith("file:") or path.exists():
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        made = address.set(database=str(temporary)).render_as_string(hide_password=False)
        load_optuna().storages.RDBStorage(made).engine.dispose()
        _give_name(temporary, path)
    finally:
        for rest in (temporary, Path(f"{temporary}-journal")):
            rest.unlink(missing_ok=True)


def _give_name(temporary: Path, path: Path) -> None:
    try:
        # Unlike a renaming it takes no other worker's file away.
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:
        # Not every file system has links.
        temporary.rename(path)


def _steady_storage() -> Any:
    """Return Optuna's storage with a heartbeat that goes on after an outage.

    Optuna's would end with a traceback, and a trial that outlasts the outage be taken for lost.
    """
    base = load_optuna().storages.RDBStorage

    class Steady(base):  # type: ignore[misc, valid-type]
        def record_heartbeat(self, trial_id: int) -> None:
            with contextlib.suppress(*refusals()):
                super().record_heartbeat(trial_id)

    return Steady


def refusals() -> tuple[type[Exception], ...]:
    """Return the errors by which a database, or a journal, tells that it cannot be used now."""
    from sqlalchemy.exc import DBAPIError

    return (OSError, DBAPIError, load_optuna().exceptions.StorageInternalError)


def lacks_room(error: BaseException) -> bool:
    """Whether a study cannot be written because its disk is full or may only be read."""
    codes = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
    # The lowest byte says what it is, those above it where it was found.
    return is_unwritable(error) or any(
        isinstance(one, sqlite3.Error) and (one.sqlite_errorcode or 0) & 0xFF in codes
        for one in causes(error)
    )


@contextlib.contextmanager
def writing_study() -> Iterator[None]:
    """Say in one line why a study cannot be written.

    Raises:
        UnwritableError: Its disk is full, or may only be read.
        DataError: It does not answer.
    """
    try:
        yield
    except refusals() as error:
        if lacks_room(error):
            raise UnwritableError(
                f"The study cannot be written ({_innermost(error)}). What is finished stays: make "
                "room, and run it again."
            ) from error
        if isinstance(error, OSError):
            raise
        raise DataError(
            f"The study's storage does not answer ({_innermost(error)}). Run the same command "
            "again when it does: all that is finished is kept."
        ) from error


def _innermost(error: BaseException) -> str:
    """Say what was the matter, without what Optuna and SQLAlchemy say around it."""
    *_, last = causes(error)
    return " ".join(str(last).split())[:120]


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        # Workers wait for each other's writes.
        return {"connect_args": {"timeout": 60}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def _unreachable(url: str, error: Exception) -> ConfigError | DataError:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
    from sqlalchemy.engine import make_url

    password = make_url(url).password
    if password:
        reason = reason.replace(str(password), "***")
    if url.startswith("sqlite"):
        more = ": make room, and run it again" if lacks_room(error) else ""
        return DataError(f"The study {shown(url)} cannot be opened ({reason}){more}.")
    return ConfigError(f"--storage {shown(url)} cannot be reached ({reason}).")


def _open_journal(path: Path) -> Any:
    optuna = load_optuna()
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _mending_lock(path)
        with quiet():
            lock.acquire()
            lock.release()
            _require_journal(path)
            return optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise DataError(f"The journal {path} cannot be opened ({error.strerror}).") from error
    # What a line lacks that Optuna wrote none of.
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no journal of Optuna's: name another file.") from error


def _require_journal(path: Path) -> None:
    """Refuse a file of something else, whose last line Optuna would take for one half-written."""
    if path.is_file():
        with path.open("rb") as stream:
            first = stream.readline()
        if first:
            json.loads(first)["op_code"]


def _mending_lock(path: Path) -> Any:
    """Return Optuna's lock of a journal, which takes a cut last line out of it.

    Each time, for a worker that dies while others go on would have them add to its half a line.
    """
    from optuna.storages.journal import JournalFileSymlinkLock

    class Mending(JournalFileSymlinkLock):
        def acquire(self) -> bool:
            is_ours = super().acquire()
            try:
                _set_cut_tail_aside(path)
            except BaseException:
                self.release()
                raise
            return is_ours

    return Mending(str(path))


def _set_cut_tail_aside(path: Path) -> None:
    """Take a last line that a crash cut off out of a journal, which nobody could read with it."""
    if not path.is_file() or _ends_whole(path):
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    aside = path.with_name(f"{path.name}.cut-{time.time_ns()}")
    aside.write_bytes(content[whole:])
    # In place, for others may hold the file open and add to it after us.
    os.truncate(path, whole)
    logger.warning("%s ended in the middle of a line, which now lies in %s.", path, aside)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


@contextlib.contextmanager
def leased(trial: Any) -> Iterator[None]:
    """Say again and again that somebody is at a trial, where the storage has no heartbeat.

    Args:
        trial: Optuna's trial.
    """
    optuna = load_optuna()
    if not isinstance(trial.storage, optuna.storages.JournalStorage):
        yield
        return
    over = threading.Event()
    trial.set_user_attr(LEASE, time.time())

    def renew() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            # The trial is another's by now, or the disk is full: it will hear of both itself.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                trial.set_user_attr(LEASE, time.time())

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def worker_name() -> list[Any]:
    """Return machine and process, which a trial bears while it runs."""
    return [socket.gethostname(), os.getpid()]


def requeue(study: Any, trial: Any) -> None:
    """Queue the settings of a trial that was lost, which then is nobody's."""
    optuna = load_optuna()
    kept = copy.deepcopy(trial)
    kept.user_attrs = {
        name: value for name, value in trial.user_attrs.items() if name == DEFAULT_TRIAL
    }
    with quiet():
        optuna.storages.RetryHeartbeatStaleTrialCallback()(study, kept)


def queue_lost_trials(study: Any) -> None:
    """Queue anew what dead workers left running, and this one where its database went away.

    To be called while this process runs no trial.
    """
    optuna = load_optuna()
    with quiet():
        optuna.storages.fail_stale_trials(study)
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    for trial in running:
        if not _is_lost(trial):
            continue
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
            with quiet():
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            requeue(study, trial)


def _is_lost(trial: Any) -> bool:
    worker = trial.user_attrs.get(WORKER)
    if worker is None:
        started = trial.datetime_start or datetime.now()  # noqa: DTZ005 - as Optuna writes it
        return time.time() - started.timestamp() > GRACE_SECONDS
    lease = trial.user_attrs.get(LEASE, math.inf)
    if worker == worker_name() or time.time() - lease > GRACE_SECONDS:
        return True
    host, process = worker
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
