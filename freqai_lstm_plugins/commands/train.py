"""Trains one model on the candles of one symbol."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from freqai_lstm_plugins.commands.console import err, job_progress, out, say_stopped, stoppable
from freqai_lstm_plugins.errors import ConfigError

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.single import Outcome


def train(
    file: Annotated[
        Path,
        typer.Argument(
            help="Candles of one symbol (feather, parquet or CSV). Columns that begin with % are "
            "its features; without any, plain indicators are made of the candles."
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the model and its figures.")],
    model: Annotated[
        str,
        typer.Option(
            help="lstm, gru, alstm, tft, mlp, ridge, lightgbm, xgboost, naive_zero, naive_last, or "
            "ensemble with its members in --set."
        ),
    ] = "lstm",
    horizon: Annotated[int, typer.Option(min=1, help="Bars that the label looks ahead.")] = 1,
    window: Annotated[int, typer.Option(min=1, help="Rows that the model sees at once.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting: --set hidden_size=64.")
    ] = None,
) -> None:
    """Train one model, beside naive, linear and LightGBM forecasts.

    The last fifth of the candles is held back: nothing of the training sees it.
    """
    with stoppable() as stop:
        from freqai_lstm_plugins.research.single import single_experiment, summarize
        from freqai_lstm_plugins.research.started import start
        from freqai_lstm_plugins.research.started import train as do_jobs

        asked = single_experiment(
            file, model, _parse(settings or []), horizon=horizon, window=window, seed=seed
        )
        run = start(asked, folder)
        stop.say = lambda: say_stopped(run)
        with job_progress(run.n_left) as on_done:
            run = do_jobs(run, workers=1, on_done=on_done)
        _show(summarize(run, model))
    for failure in run.failures.itertuples():
        err.print(f"Failed: {failure.job}: {failure.reason}", markup=False)
    if len(run.failures):
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    names = ("model", *outcome.scores.columns)
    table = Table(*(Column(name, overflow="fold") for name in names))
    for name, row in outcome.scores.iterrows():
        table.add_row(str(name), *(f"{value:.4g}" for value in row))
    out.print(table)
    out.print(f"Model: {outcome.entry.model_file}", markup=False)
    if outcome.history is not None:
        out.print(f"Losses: {outcome.history}", markup=False)


def _parse(settings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write name=value, such as hidden_size=64.")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A shell eats quotes, so what is no number or list is a text.
            found[name.strip()] = value
    return found
