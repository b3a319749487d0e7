"""The whole search, once more inside each fold: what searching is worth, its own cost included.

A search ends where its fold's test rows begin, so they judge what they had no part in choosing.
The figure is that of the procedure; it chooses no settings, since each fold has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.started import Started, start
from freqai_lstm_plugins.research.tune.choice import Choice, choose
from freqai_lstm_plugins.research.tune.holdout import Verdict, compare_rivals, rivals
from freqai_lstm_plugins.research.tune.objective import Runner, with_settings
from freqai_lstm_plugins.research.tune.parts import TUNED, Cut, with_models
from freqai_lstm_plugins.research.tune.session import Asked, Session, open_session
from freqai_lstm_plugins.research.tune.study import OnTrial, run_trials

if TYPE_CHECKING:
    from collections.abc import Callable

    from freqai_lstm_plugins.data.splits import Fold
    from freqai_lstm_plugins.research.jobs import Job
    from freqai_lstm_plugins.research.tune.search import Search

NESTED_FOLDER, OUTER_FOLDER = "nested", "outer"


@dataclass(frozen=True)
class Nested:
    """What came of it.

    Attributes:
        choices: What the search of each fold chose, by the fold's number.
        verdict: These winners, defaults and LightGBM over all folds.
    """

    choices: dict[int, Choice]
    verdict: Verdict


def search_nested(
    asked: Asked,
    n_trials: int,
    search: Search,
    runner: Runner,
    *,
    on_fold: Callable[[int, Session], None] | None = None,
    on_trial: OnTrial | None = None,
) -> Nested:
    """Search inside each fold of the experiment, and judge the winners on the folds' test rows.

    Args:
        asked: The search.
        n_trials: Finished trials of each fold.
        search: How settings are drawn.
        runner: How jobs are done.
        on_fold: Called with a fold's number and its open search before that begins.
        on_trial: Called after each trial.

    Raises:
        ConfigError: The experiment has one fold of fixed dates; or see `open_session`.
        DataError: The first fold leaves too few rows to search on.
        TrainingError: A training failed.
    """
    experiment = asked.experiment
    if experiment.split.kind == "dates":
        raise ConfigError(
            '--nested repeats the search in each fold, and split.kind = "dates" has one: take '
            "--holdout, which does the same for its test dates."
        )
    started = _outer_run(asked)
    choices, jobs = {}, []
    for fold in started.plan.folds:
        session = open_session(_inside(asked, fold), cut=_cut_before(started, fold))
        if on_fold is not None:
            on_fold(fold.number, session)
        run_trials(
            session.study,
            session.task,
            session.ranges,
            n_trials,
            search=search,
            runner=runner,
            on_trial=on_trial,
        )
        choices[fold.number] = choose(session, runner)
        jobs += _of_winner(started, session, choices[fold.number], fold)
    others = [job for job in started.plan.jobs if job.model != TUNED]
    outer = replace(started, plan=replace(started.plan, jobs=[*jobs, *others]))
    return Nested(choices, compare_rivals(outer, runner))


def _outer_run(asked: Asked) -> Started:
    experiment = asked.experiment
    models = rivals(experiment, asked.model)
    title = f"{asked.model}, with a search in each fold"
    return start(with_models(experiment, models, title), asked.out / NESTED_FOLDER / OUTER_FOLDER)


def _inside(asked: Asked, fold: Fold) -> Asked:
    """Return the search of a fold, which has a folder and a study of its own."""
    name = f"{asked.study or asked.model}-fold{fold.number}"
    return replace(asked, out=asked.out / NESTED_FOLDER / f"fold{fold.number}", study=name)


def _cut_before(started: Started, fold: Fold) -> Cut:
    """Return the end of what a fold's search sees: the bar before the test, or the embargo."""
    calendar = started.dataset.calendar
    first = int(calendar.searchsorted(fold.test.first))
    last = first - 1 - started.experiment.split.embargo
    if last < 0:
        raise DataError(f"Fold {fold.number} has no rows before its test to search on.")
    return Cut(calendar[last].isoformat(), len(calendar) - last - 1)


def _of_winner(started: Started, session: Session, choice: Choice, fold: Fold) -> list[Job]:
    """Return the trainings of a fold's winner, of each seed: another fold's may depend on it."""
    bases = {
        job.tables: job
        for job in started.plan.jobs
        if job.model == TUNED and job.fold.number == fold.number
    }
    seeds = started.experiment.seeds
    return [
        replace(job, seed=seed)
        for base in bases.values()
        for job in with_settings(session.task, base, choice.winner.settings, seeds[:1])
        for seed in seeds
    ]
