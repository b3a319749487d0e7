"""Where commands print: answers to the standard output, progress and errors beside it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.runner import OnDone
    from freqai_lstm_plugins.research.started import Started

# Options that several commands have, in the same words.
UserDir = Annotated[Path, typer.Option(help="The freqtrade user directory.")]
Configs = Annotated[
    list[Path] | None,
    typer.Option(help="Config, once or more; by default config-lea.json of the userdir."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of candles; by default data/EXCHANGE of the userdir."),
]

# Seconds from which on a second Ctrl-C is another one than the first.
SECOND_THOUGHT = 1.0

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class Stopped(KeyboardInterrupt):
    """Somebody ends the command.

    Python ends a process by SIGINT after a plain KeyboardInterrupt, even one that was caught, where
    it came out of a text that was being executed, as those of which dataclasses are made.
    """


@dataclass
class Stop:
    """What a command says when it is stopped."""

    say: Callable[[], str] = lambda: "Stopped."


@contextmanager
def stoppable() -> Iterator[Stop]:
    """End with one line and the status that shells expect of Ctrl-C (130) or SIGTERM (143).

    A second signal ends the process at once, should the first one's tidying up take too long.
    """
    told = Stop()
    received: list[tuple[int, float]] = []

    def stop(number: int, _frame: object) -> None:
        received.append((number, time.monotonic()))
        if len(received) == 1:
            raise Stopped
        # `timeout` sends its signal twice; nobody's second thought comes as fast.
        if received[-1][1] - received[0][1] > SECOND_THOUGHT:
            os._exit(128 + number)

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    except Stopped:
        err.print(told.say(), markup=False)
        raise typer.Exit(128 + received[0][0]) from None
    finally:
        for name, handler in before.items():
            signal.signal(name, handler or signal.SIG_DFL)


def say_stopped(run: Started) -> str:
    """Say what of a run stays, and how to go on."""
    return (
        f"Stopped. {run.count_done()} of {len(run.plan.jobs)} jobs are done and stay done: the "
        f"same command goes on from there."
    )


@contextmanager
def job_progress(n_jobs: int) -> Iterator[OnDone | None]:
    """Show a bar with the time left where a terminal watches, else a line a tenth of the jobs."""
    if not n_jobs:
        yield None
        return
    if not err.is_terminal:
        yield _lines(n_jobs)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=err) as bar:
        task = bar.add_task("jobs", total=n_jobs)
        yield lambda done: bar.update(task, advance=1, description=done.job.title[:50])


def _lines(n_jobs: int) -> OnDone:
    n_done = 0

    def on_done(_done: object) -> None:
        nonlocal n_done
        n_done += 1
        if n_done == n_jobs or n_done % max(n_jobs // 10, 1) == 0:
            err.print(f"{n_done} of {n_jobs} jobs", markup=False)

    return on_done
