"""Runs jobs beside each other, on this machine or on a dask cluster.

Finished work is on disk, so whatever ends a run, the next one does what is missing.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import ConfigError, MissingExtraError, TrainingError
from freqai_lstm_plugins.research.jobs import Done, Job, is_done, run_job

if TYPE_CHECKING:
    from pathlib import Path

DASK_SECONDS = 10.0
# A worker that was started a moment ago is still importing.
WORKER_SECONDS = 30.0
# How long a worker whose run was killed may go on.
ORPHAN_SECONDS = 0.2
# Workers that die again and again are not started for ever.
MOST_DEATHS = 3

OnDone = Callable[[Done], None]


def count_workers() -> int:
    """Return how many jobs run beside each other where nobody says: one a core."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    *,
    workers: int | None = None,
    dask: str | None = None,
    on_done: OnDone | None = None,
) -> list[Done]:
    """Do the jobs whose results are not there yet.

    Args:
        jobs: All jobs.
        out: The output folder, which every worker must see under this path.
        workers: Processes; None takes one a core.
        dask: Address of a dask scheduler, such as `tcp://127.0.0.1:8786`, in place of processes.
        on_done: Called after each job, also after one that failed.

    Returns:
        How each job that was not done before ended.

    Raises:
        ConfigError: Nobody listens at the address.
        TrainingError: The dask scheduler went away.
        MissingExtraError: joblib or dask is not installed.
    """
    # By place: two models of an experiment may be the same but for their names.
    left = {job.place: job for job in jobs if not is_done(job, out)}
    results: list[Done] = []
    deaths = 0
    while left:
        try:
            for ended in _each(list(left.values()), out, workers, dask):
                done = _seen(ended, out)
                left.pop(done.job.place, None)
                results.append(done)
                if on_done is not None:
                    on_done(done)
        except Exception as error:
            if not _is_death(error):
                raise
            deaths += 1
            # What was finished meanwhile is there; what a worker took with it is tried again.
            left = {place: job for place, job in left.items() if not is_done(job, out)}
            if deaths >= MOST_DEATHS:
                reason = "a worker process died, for example for want of memory: run it again"
                results += [Done(job, 0.0, reason) for job in left.values()]
                left = {}
    return results


def _seen(done: Done, out: Path) -> Done:
    """Let a job count as failed whose result cannot be found here."""
    if done.failure is not None or is_done(done.job, out):
        return done
    return replace(
        done,
        failure=f"its worker was done, but {out / done.job.place} is not there: all workers must "
        "see the output folder under the same path, and have the same versions of the packages",
    )


def _each(jobs: Sequence[Job], out: Path, workers: int | None, dask: str | None) -> Iterator[Done]:
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise MissingExtraError("joblib", "research", "A comparison") from error
    n_workers = workers or count_workers()
    if dask is None and (n_workers == 1 or len(jobs) == 1):
        yield from (run_job(job, out) for job in jobs)
        return
    with _cluster(dask):
        # One job at a time a worker: they take seconds, and a batch would be lost as a whole.
        parallel: Any = Parallel(
            n_jobs=-1 if dask else n_workers, return_as="generator_unordered", batch_size=1
        )
        with contextlib.nullcontext() if dask else _ctrl_c_ignored():
            results = parallel(delayed(run_job)(job, out) for job in jobs)
        yield from results


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C.

    A terminal sends it to all of a run's processes, and it is the first one that ends the others
    and says so in one line: a worker that was only just importing would tell its own story.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def follow(parent: int) -> None:
    """Let this worker end with the process that started it.

    A run that was killed ends no worker of its own: they would go on with the jobs that they had
    been handed, and beside the run that takes up the work do them a second time.

    Args:
        parent: Id of the process that started this one.
    """
    # Workers that take the place of others later on start without being told so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Let joblib hand jobs to the dask scheduler at `address`, or to processes of its own."""
    from joblib import parallel_config

    if address is None:
        with parallel_config(
            backend="loky", inner_max_num_threads=1, initializer=follow, initargs=(os.getpid(),)
        ):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError("dask", "cluster", "A run on a dask cluster") from error
    from freqai_lstm_plugins.research.dask_workers import undisturbed

    # A client that failed stops its thread when it is collected, under a lock that the next client
    # holds while it starts: collected at that moment, it would block the new one for good.
    gc.collect()
    try:
        client: Any = Client(address, timeout=DASK_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"--dask {address}: no dask scheduler answers there ({type(error).__name__}). Start "
            f"one with `dask scheduler --host 127.0.0.1`, or leave --dask out."
        ) from error
    _hush_dask()
    with client, parallel_config(backend="dask"):
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise ConfigError(
                f"--dask {address}: the scheduler has no worker. Start one with `dask worker "
                f"{address} --nthreads 1`."
            ) from error
        try:
            with undisturbed(client, address):
                yield
        except Exception as error:
            if client.status == "running" and not _is_cancelled(error):
                raise
            raise TrainingError(
                f"--dask {address}: the dask scheduler is lost. What is finished stays: start a "
                f"scheduler and its workers, and run it again."
            ) from error


def _hush_dask() -> None:
    """Keep threads of dask, which outlive a lost scheduler, from tracebacks beside our one line."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        return
    for name in list(logging.getLogger().manager.loggerDict):
        if name.partition(".")[0] in {"distributed", "tornado", "asyncio"}:
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _is_cancelled(error: Exception) -> bool:
    """Whether dask gave a task up; joblib takes that for a result, and stumbles over it."""
    return "Cancelled" in f"{type(error).__name__} {error}"


def _is_death(error: Exception) -> bool:
    """Whether an error says that a worker is gone, by the libraries' own classes."""
    return type(error).__name__ in {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker"}
