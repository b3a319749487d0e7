"""Searches for a model's settings."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freqai_lstm_plugins.commands.console import err, out
from freqai_lstm_plugins.errors import ConfigError

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.tune.objective import Runner
    from freqai_lstm_plugins.research.tune.session import Session

N_TRIALS = 30


def tune(
    experiment: Annotated[
        Path | None, typer.Argument(help="A TOML file, as of `freqai-lstm compare`.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Which model, such as lstm, gru, alstm, tft, lightgbm.")
    ] = None,
    ranges: Annotated[
        Path | None, typer.Option(help="JSON file of ranges; without it the built-in ones.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Finished trials the study is to have in the end.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for study, models and figures.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="What is to be good: rank_ic, loss or sharpe.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp, random or grid.")] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="End bad trials early by wilcoxon, or none of them.")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is tried.")] = 0,
    holdout: Annotated[
        bool, typer.Option("--holdout", help="Open the part of the data that was kept back.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option("--holdout-share", help="Share of the dates kept back; 0.2 by default."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--write-config", help="Write a freqtrade config of the winner.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Address of the study: sqlite:///FILE, postgresql+psycopg://USER@HOST/DB."
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; the model's by default.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a value: --set label.horizon=5.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Trainings of one trial beside each other.")
    ] = 1,
    dask: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler that does the trainings.")
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write the built-in ranges to --ranges, and stop.")
    ] = False,
) -> None:
    """Search for settings, and say whether what was found is luck.

    Run it in two terminals for two workers. What is finished stays finished: run it again, also
    with more trials, and only what is missing is done.
    """
    from freqai_lstm_plugins.research.tune.ranges import write_ranges

    if init:
        path = ranges or Path("ranges.json")
        write_ranges(path)
        out.print(f"Wrote {path}. Edit it, then run:", markup=False)
        out.print(f"  freqai-lstm tune EXPERIMENT --model lstm --ranges {path}", markup=False)
        return
    from freqai_lstm_plugins.research.experiment import load_experiment
    from freqai_lstm_plugins.research.tune.objective import Runner
    from freqai_lstm_plugins.research.tune.session import Asked, open_session

    if experiment is None or model is None:
        raise ConfigError(
            "Name an experiment and a model: freqai-lstm tune hourly.toml --model lstm."
        )
    asked = load_experiment(experiment, overrides or [])
    place = folder or Path(asked.output.folder or Path("out") / "tune")
    is_last = holdout or config is not None
    wanted: Any = Asked(asked, model, place, ranges, objective, storage, study, share)  # type: ignore[arg-type]
    session = open_session(wanted, may_create=trials is not None or not is_last)
    runner = Runner(workers, dask)
    if trials is not None or not is_last:
        with _stopped_by_term():
            _search(session, trials or N_TRIALS, (sampler, pruner, seed), runner)
    if is_last:
        _choose(session, runner, holdout, config)


def _search(session: Session, n_trials: int, how: tuple[str, str, int], runner: Runner) -> None:
    from freqai_lstm_plugins.research.tune.page import write_page
    from freqai_lstm_plugins.research.tune.study import (
        REASON,
        best_of,
        finished,
        make_search,
        run_trials,
    )

    def on_trial(trial: Any) -> None:
        value = "ended early" if trial.value is None else f"{trial.value:+.4g}"
        ended = trial.user_attrs.get(REASON) or value
        err.print(f"Trial {trial.number}: {ended}", markup=False)

    search = make_search(*how)
    err.print(
        f"{len(finished(session.study))} of {n_trials} trials are done; the holdout begins after "
        f"{session.cut.end}",
        markup=False,
    )
    run_trials(
        session.study,
        session.task,
        session.ranges,
        n_trials,
        search=search,
        runner=runner,
        on_trial=on_trial,
    )
    best = best_of(session.study)
    if best is not None:
        out.print(f"Best in the search: trial {best.number}, {best.value:+.4g}", markup=False)
        out.print("It is not chosen yet: run again with --holdout.", markup=False)
    out.print(f"Plots: {write_page(session.study, session.asked.out)}", markup=False)


def _choose(session: Session, runner: Runner, holdout: bool, config: Path | None) -> None:
    from freqai_lstm_plugins.files import write_text
    from freqai_lstm_plugins.research.tune import choice as choices
    from freqai_lstm_plugins.research.tune.freqai_config import write_config

    chosen = choices.choose(session, runner)
    opened = choices.open_holdout(session, chosen, runner) if holdout else None
    luck = choices.ask_luck(session, chosen, runner) if holdout else None
    for line in choices.say(chosen, opened, luck):
        out.print(line, markup=False)
    found = choices.to_json(session, chosen, opened, luck)
    path = session.asked.out / f"{session.task.model}.json"
    write_text(path, json.dumps(found, indent=2) + "\n")
    out.print(f"Settings: {path}", markup=False)
    if opened is not None:
        out.print(f"Report: {opened.page}", markup=False)
    if config is not None:
        write_config(session, chosen, config)
        out.print(f"Config: {config}", markup=False)


@contextmanager
def _stopped_by_term() -> Iterator[None]:
    """Let SIGTERM end the search as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
