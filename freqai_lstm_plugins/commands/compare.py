"""Compares models on one experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freqai_lstm_plugins.commands.console import err, job_progress, out, say_stopped, stoppable
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.names import counted

if TYPE_CHECKING:
    from freqai_lstm_plugins.commands.console import Stop
    from freqai_lstm_plugins.research.experiment_schema import Experiment
    from freqai_lstm_plugins.research.started import Started

# More lines of one kind than this are counted; files and report hold all.
MOST_LINES = 8


def compare(
    experiment: Annotated[Path, typer.Argument(help="A TOML file; --init writes one to edit.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for models, figures and report.")
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Write a commented file, and stop.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value: --set models.lstm.hidden_size=64."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs beside each other; one a core by default.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, such as tcp://127.0.0.1:8786.")
    ] = None,
) -> None:
    """Compare models, and say what beats what beyond luck.

    What is finished stays finished: run it again, and only what is missing is done.
    """
    with stoppable() as stop:
        from freqai_lstm_plugins.research.experiment import load_experiment, write_template

        if init:
            write_template(experiment)
            out.print(f"Wrote {experiment}. Set data.folder in it, then run:", markup=False)
            command = f"freqai-lstm compare {experiment} --out out/{experiment.stem}"
            out.print(f"  {command}", markup=False)
            return
        asked = load_experiment(experiment, overrides or [])
        place = folder or (None if asked.output.folder is None else Path(asked.output.folder))
        if place is None:
            raise ConfigError("Nobody says where results go: give --out, or set output.folder.")
        _run(asked, place, workers, dask, stop)


def _run(asked: Experiment, place: Path, workers: int | None, dask: str | None, stop: Stop) -> None:
    from freqai_lstm_plugins.research.judgement import (
        judge_run,
        require_judgeable,
        require_some_done,
    )
    from freqai_lstm_plugins.research.started import start, train

    run = start(asked, place)
    stop.say = lambda: say_stopped(run)
    _describe(run)
    require_judgeable(run)
    with job_progress(run.n_left) as on_done:
        run = train(run, workers=workers, dask=dask, on_done=on_done)
    # Before the judgement, which may fail for the same reason.
    _describe_failures(run)
    require_some_done(run)
    page = judge_run(run)
    for line in (page.parent / "verdict.txt").read_text(encoding="utf-8").splitlines():
        out.print(line, markup=False)
    out.print(f"Report: {page}", markup=False)
    _describe_absent(run)
    if len(run.failures) or len(run.absent):
        raise typer.Exit(1)


def _describe_failures(run: Started) -> None:
    if len(run.failures):
        first = run.failures.iloc[0]
        err.print(
            f"{len(run.failures)} of {run.n_left} jobs failed, the first is {first['job']}: "
            f"{first['reason']}",
            markup=False,
        )


def _describe_absent(run: Started) -> None:
    absent = run.absent
    if len(absent):
        first = absent.iloc[0]
        names = ", ".join(absent["symbol"])
        err.print(
            f"Not compared, as no fold has enough rows of them: {names}. {first['symbol']}: "
            f"{first['reason']}. Leave them out with data.symbols, or change [split].",
            markup=False,
        )


def _describe(run: Started) -> None:
    from freqai_lstm_plugins.research.checks import summary_lines
    from freqai_lstm_plugins.research.started import CHECKS_FOLDER

    plan = run.plan
    err.print(
        f"{counted(len(run.dataset.tables), 'symbol')}, {counted(len(plan.folds), 'fold')}, "
        f"{counted(len(plan.jobs), 'job')}, "
        f"{run.n_done} of them done",
        markup=False,
    )
    _list([f"Left out: {row.symbol}: {row.reason}" for row in plan.left_out.itertuples()])
    found = summary_lines(run.dataset.checked)
    _list([f"Data: {line}" for line in found], f" in {run.out / CHECKS_FOLDER}")


def _list(lines: list[str], where: str = "") -> None:
    for line in lines[:MOST_LINES]:
        err.print(line, markup=False)
    if len(lines) > MOST_LINES:
        err.print(f"and {len(lines) - MOST_LINES} more of these{where}", markup=False)
