"""Where commands print: answers to the standard output, progress and errors beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.runner import OnDone

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

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


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
