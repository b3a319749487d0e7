"""Searches for a model's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freqai_lstm_plugins.commands.console import err, out, stoppable
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.files import write_text

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.tune.objective import Runner
    from freqai_lstm_plugins.research.tune.search import Search
    from freqai_lstm_plugins.research.tune.session import Asked, Session

N_TRIALS = 30
STOPPED = "Stopped. What is finished stays finished: the same command goes on from there."

# What is searched.
File = Annotated[Path | None, typer.Argument(help="A TOML file, as of `freqai-lstm compare`.")]
Model = Annotated[
    str | None, typer.Option(help="Which model, such as lstm, gru, alstm, tft, lightgbm.")
]
RangesFile = Annotated[
    Path | None, typer.Option(help="JSON file of ranges; without it the built-in ones.")
]
Objective = Annotated[
    str | None, typer.Option(help="What is to be good: rank_ic (the default), loss or sharpe.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Replace a value: --set label.horizon=5.")
]
# How.
Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Finished trials the study is to have in the end; 30 by default."),
]
SamplerName = Annotated[str, typer.Option(help="tpe, gp, random or grid.")]
PrunerName = Annotated[
    str,
    typer.Option(
        help="End bad trials early: wilcoxon looks after each fold and symbol, median at the "
        "losses inside a training; none ends no trial."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is tried.")]
Workers = Annotated[int, typer.Option(min=1, help="Trainings of one trial beside each other.")]
Dask = Annotated[
    str | None, typer.Option(help="Address of a dask scheduler that does the trainings.")
]
# Where it is kept.
Folder = Annotated[Path | None, typer.Option("--out", help="Folder for study, models and figures.")]
Storage = Annotated[
    str | None,
    typer.Option(help="Address of the study: sqlite:///FILE, postgresql+psycopg://USER@HOST/DB."),
]
Study = Annotated[str | None, typer.Option(help="Name of the study; the model's by default.")]
# What comes of it.
Holdout = Annotated[
    bool, typer.Option("--holdout", help="Open the part of the data that was kept back.")
]
Share = Annotated[
    float | None,
    typer.Option("--holdout-share", help="Share of the dates kept back; 0.2 by default."),
]
Nested = Annotated[
    bool,
    typer.Option("--nested", help="Repeat the whole search in each fold, and judge searching."),
]
Config = Annotated[
    Path | None, typer.Option("--write-config", help="Write a freqtrade config of the winner.")
]
Init = Annotated[
    bool, typer.Option("--init", help="Write the built-in ranges to --ranges, and stop.")
]


def tune(
    experiment: File = None,
    model: Model = None,
    ranges: RangesFile = None,
    trials: Trials = None,
    folder: Folder = None,
    objective: Objective = None,
    sampler: SamplerName = "tpe",
    pruner: PrunerName = "none",
    seed: Seed = 0,
    holdout: Holdout = False,
    share: Share = None,
    nested: Nested = False,
    config: Config = None,
    storage: Storage = None,
    study: Study = None,
    overrides: Overrides = None,
    workers: Workers = 1,
    dask: Dask = None,
    init: Init = False,
) -> None:
    """Search for settings, and say whether what was found is luck.

    Run it in two terminals for two workers. What is finished stays finished: run it again, also
    with more trials, and only what is missing is done.
    """
    if init:
        _write_ranges(ranges or Path("ranges.json"))
        return
    if experiment is None or model is None:
        raise ConfigError(
            "Name an experiment and a model: freqai-lstm tune hourly.toml --model lstm."
        )
    with stoppable() as stop:
        stop.say = lambda: STOPPED
        from freqai_lstm_plugins.research.experiment import load_experiment
        from freqai_lstm_plugins.research.tune.objective import Runner
        from freqai_lstm_plugins.research.tune.search import make_search
        from freqai_lstm_plugins.research.tune.session import Asked

        read = load_experiment(experiment, overrides or [])
        place = folder or Path(read.output.folder or Path("out") / "tune")
        wanted: Any = Asked(read, model, place, ranges, objective, storage, study, share)  # type: ignore[arg-type]
        how, runner = make_search(sampler, pruner, seed), Runner(workers, dask)
        if nested:
            _refuse_beside_nested(holdout, config)
            _search_nested(wanted, trials or N_TRIALS, how, runner)
        else:
            _search_and_choose(wanted, trials, how, runner, holdout, config)


def _write_ranges(path: Path) -> None:
    from freqai_lstm_plugins.research.tune.ranges import write_ranges

    write_ranges(path)
    out.print(f"Wrote {path}. Edit it, then run:", markup=False)
    out.print(f"  freqai-lstm tune EXPERIMENT --model lstm --ranges {path}", markup=False)


def _refuse_beside_nested(holdout: bool, config: Path | None) -> None:
    option = "--holdout" if holdout else "--write-config" if config is not None else None
    if option is not None:
        raise ConfigError(
            f"--nested says what searching is worth, and chooses no settings for {option}: run the "
            f"command once with the one and once with the other."
        )


def _search_and_choose(
    wanted: Asked,
    trials: int | None,
    how: Search,
    runner: Runner,
    holdout: bool,
    config: Path | None,
) -> None:
    from freqai_lstm_plugins.research.tune.session import open_session

    is_last = holdout or config is not None
    session = open_session(wanted, may_create=trials is not None or not is_last)
    if trials is not None or not is_last:
        _search(session, trials or N_TRIALS, how, runner, goes_on=is_last)
    if is_last:
        _choose(session, runner, holdout, config)


def _tell_trial(trial: Any) -> None:
    from freqai_lstm_plugins.research.tune.study import REASON

    # Optuna keeps the last figure of a trial that ended early as its value, which is no score.
    is_whole = trial.state.name == "COMPLETE"
    value = f"{trial.value:+.4g}" if is_whole else "ended early"
    err.print(f"Trial {trial.number}: {trial.user_attrs.get(REASON) or value}", markup=False)


def _search(session: Session, n_trials: int, how: Search, runner: Runner, *, goes_on: bool) -> None:
    from freqai_lstm_plugins.research.started import writing_to
    from freqai_lstm_plugins.research.tune.page import write_page
    from freqai_lstm_plugins.research.tune.study import (
        best_of,
        finished,
        require_trials,
        run_trials,
    )

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
        search=how,
        runner=runner,
        on_trial=_tell_trial,
    )
    best = best_of(session.study)
    if best is not None:
        out.print(f"Best in the search: trial {best.number}, {best.value:+.4g}", markup=False)
        if not goes_on:
            out.print("It is not chosen yet: run again with --holdout.", markup=False)
    with writing_to(session.asked.out):
        page = write_page(session.study, session.asked.out)
    out.print(f"Plots: {page}", markup=False)
    require_trials(session.study)


def _search_nested(wanted: Asked, n_trials: int, how: Search, runner: Runner) -> None:
    from freqai_lstm_plugins.research.tune.nested import search_nested
    from freqai_lstm_plugins.research.tune.summary import nested_to_json, say_nested

    def on_fold(number: int, session: Session) -> None:
        err.print(f"Fold {number}: a search on the data up to {session.cut.end}", markup=False)

    found = search_nested(wanted, n_trials, how, runner, on_fold=on_fold, on_trial=_tell_trial)
    for line in say_nested(found):
        out.print(line, markup=False)
    path = wanted.out / f"{wanted.model}-nested.json"
    _write_json(path, nested_to_json(found))
    out.print(f"Figures: {path}", markup=False)
    out.print(f"Report: {found.verdict.page}", markup=False)


def _choose(session: Session, runner: Runner, holdout: bool, config: Path | None) -> None:
    from freqai_lstm_plugins.research.tune.choice import choose
    from freqai_lstm_plugins.research.tune.freqai_config import write_config
    from freqai_lstm_plugins.research.tune.holdout import open_holdout
    from freqai_lstm_plugins.research.tune.luck import ask_luck
    from freqai_lstm_plugins.research.tune.summary import say, to_json

    chosen = choose(session, runner)
    opened = open_holdout(session, chosen, runner) if holdout else None
    luck = ask_luck(session, chosen, runner) if holdout else None
    for line in say(chosen, opened, luck):
        out.print(line, markup=False)
    path = session.asked.out / f"{session.task.model}.json"
    _write_json(path, to_json(session, chosen, opened, luck))
    out.print(f"Settings: {path}", markup=False)
    if opened is not None:
        out.print(f"Report: {opened.page}", markup=False)
    if config is not None:
        write_config(session, chosen, config)
        out.print(f"Config: {config}", markup=False)


def _write_json(path: Path, found: dict[str, Any]) -> None:
    from freqai_lstm_plugins.research.started import writing_to

    with writing_to(path.parent):
        write_text(path, json.dumps(found, indent=2) + "\n")
