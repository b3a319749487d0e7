"""Chooses settings from a study's trials, and says whether the choice is luck.

The best of many trials looks better than it is. So the best five and the defaults are trained again
from seeds that chose nobody, these figures alone choose, and the cheapest within one standard error
of the best wins. What the winner is worth, the holdout says, which nothing has seen.

Source: the rule of one standard error as in Breiman, Friedman, Olshen and Stone, Classification and
Regression Trees, 1984; Bailey, Borwein, Lopez de Prado and Zhu, The probability of backtest
overfitting, 2017.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.errors import DataError, TrainingError
from freqai_lstm_plugins.research.extras import load_extra
from freqai_lstm_plugins.research.findings import TITLES, choose_measure
from freqai_lstm_plugins.research.inference import CHAMPION, Judgement, deflate_sharpe, judge
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.metrics import date_series
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import load_predictions
from freqai_lstm_plugins.research.tune.objective import Runner, Task, Worth, evaluate
from freqai_lstm_plugins.research.tune.parts import DEFAULTS, TUNED, holdout_part, section_of
from freqai_lstm_plugins.research.tune.ranges import WINDOW
from freqai_lstm_plugins.research.tune.storage import DEFAULT_TRIAL
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished, require_trials

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from freqai_lstm_plugins.research.tune.session import Session

HOLDOUT_FOLDER, OPENINGS = "holdout", "holdout openings"
N_BEST = 5
MOST_SPLITS, BARS_PER_SPLIT = 16, 4


@dataclass(frozen=True)
class Candidate:
    """A trial that was trained again.

    Attributes:
        number: Number of the trial.
        is_default: Whether its settings are the defaults.
        settings: What it drew.
        first: Its score in the search.
        worth: What it was worth with new seeds.
        cost: Bytes of the model times W, to two digits: what a forecast has to read.
    """

    number: int
    is_default: bool
    settings: dict[str, Any]
    first: float
    worth: Worth
    cost: float


@dataclass(frozen=True)
class Choice:
    """The winner, and whom it was chosen from, the best first."""

    winner: Candidate
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Opened:
    """What the holdout said.

    Attributes:
        judgement: Winner, defaults and LightGBM, compared pairwise.
        figure: What was compared.
        openings: Every opening so far: date, hash, n_trials.
        page: The report on the holdout.
    """

    judgement: Judgement
    figure: str
    openings: tuple[dict[str, Any], ...]
    page: Path


@dataclass(frozen=True)
class Luck:
    """Whether the winner's returns in the search may be those of the luckiest.

    Attributes:
        n_tried: Trials that were looked at: with a score, ended early, and failed.
        deflated_sharpe: Probability that the winner's Sharpe ratio beats the best of as many
            trials without skill; NaN where it never traded otherwise than equal weight.
        overfitting: Probability that the best trial of one half of the dates is below the median
            in the other half; NaN with fewer than two trials that differ.
    """

    n_tried: int
    deflated_sharpe: float
    overfitting: float


def choose(session: Session, runner: Runner) -> Choice:
    """Train the best five trials and the defaults from new seeds, and choose one.

    Raises:
        DataError: No trial has a score.
        TrainingError: A training failed.
    """
    require_trials(session.study)
    seeds = new_seeds(session.task.experiment.seeds)
    found = [_train_again(session.task, one, seeds, runner) for one in _best(session.study)]
    found.sort(key=lambda one: (-one.worth.score, one.number))
    return Choice(choose_cheapest(found), tuple(found))


def new_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return as many other seeds."""
    fresh = (seed % 2**32 for seed in range(max(seeds) + 1, max(seeds) + 2 + 2 * len(seeds)))
    return tuple(seed for seed in fresh if seed not in seeds)[: len(seeds)]


def choose_cheapest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the cheapest within one standard error of the best."""
    best = max(candidates, key=lambda one: one.worth.score)
    least = best.worth.score - best.worth.error
    near = [one for one in candidates if one.worth.score >= least]
    return min(near, key=lambda one: (one.cost, -one.worth.score, one.number))


def _best(study: Any) -> list[Any]:
    """Return the trials with the highest scores, no settings twice, and the defaults."""
    ordered = sorted(completed(study), key=lambda one: (-one.value, one.number))
    by_settings: dict[str, Any] = {}
    for trial in ordered:
        by_settings.setdefault(json.dumps(trial.user_attrs[SETTINGS], sort_keys=True), trial)
    # Where a trial drew the defaults too, it is theirs.
    is_default = [one for one in ordered if one.user_attrs.get(DEFAULT_TRIAL)]
    defaults = {json.dumps(one.user_attrs[SETTINGS], sort_keys=True): one for one in is_default}
    kept = dict(list(by_settings.items())[:N_BEST]) | defaults
    return list(kept.values())


def _train_again(task: Task, trial: Any, seeds: Sequence[int], runner: Runner) -> Candidate:
    settings = dict(trial.user_attrs[SETTINGS])
    worth = evaluate(task, settings, seeds, runner=runner)
    cost = worth.size * int({**task.settings, **settings}[WINDOW])
    is_default = bool(trial.user_attrs.get(DEFAULT_TRIAL))
    # Two digits, for a model file of the same weights may differ by some bytes.
    return Candidate(trial.number, is_default, settings, trial.value, worth, float(f"{cost:.2g}"))


def open_holdout(session: Session, choice: Choice, runner: Runner) -> Opened:
    """Train winner, defaults and LightGBM on the tuning part, and judge them on the holdout.

    That it was opened is written into the study first.

    Raises:
        DataError: The holdout is too short to judge.
        TrainingError: A training failed.
    """
    asked, task = session.asked, session.task
    section = section_of(asked.experiment, task.model)
    fixed = {
        **task.settings,
        "kind": task.kind,
        "scope": section.get("scope", "symbol"),
        "symbol_embedding": section.get("symbol_embedding", 0),
    }
    baseline = {"kind": CHAMPION, "scope": fixed["scope"]}
    models = {TUNED: fixed | choice.winner.settings, DEFAULTS: fixed, CHAMPION: baseline}
    experiment = holdout_part(asked.experiment, models, session.cut)
    started = start(experiment, asked.out / HOLDOUT_FOLDER)
    openings = _note_opening(session, choice)
    started = train(started, workers=runner.workers, dask=runner.dask)
    if len(started.failures):
        first = started.failures.iloc[0]
        raise TrainingError(f"The holdout: {first['job']}: {first['reason']}")
    wanted = [job for job in started.plan.jobs if job.model in models]
    table = check_predictions(load_predictions(wanted, started.out, experiment.seeds))
    common = keep_common(table)
    if common.empty:
        raise DataError("The holdout has no row that all models have a prediction and a label for.")
    measure = choose_measure(common)
    judgement = judge(
        date_series(common, measure),
        horizon=experiment.label.horizon,
        dates_per_year=bars_per_year(started.dataset.calendar),
        baselines=(DEFAULTS, CHAMPION),
    )
    return Opened(judgement, TITLES[measure], openings, judge_run(started))


def settings_hash(settings: dict[str, Any]) -> str:
    """Return a hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _note_opening(session: Session, choice: Choice) -> tuple[dict[str, Any], ...]:
    openings = list(session.study.user_attrs.get(OPENINGS, []))
    now = {
        "hash": settings_hash(choice.winner.settings),
        "n_trials": len(finished(session.study)),
    }
    # To look at the same figures again is no second look.
    if not openings or any(openings[-1][key] != value for key, value in now.items()):
        date = datetime.now(UTC).isoformat(timespec="seconds")
        openings.append({"date": date, **now})
        session.study.set_user_attr(OPENINGS, openings)
    return tuple(openings)


def ask_luck(session: Session, choice: Choice, runner: Runner) -> Luck:
    """Deflate the winner's Sharpe ratio by all trials, and ask how often their best disappoints."""
    task, n_tried = session.task, len(finished(session.study))
    returns = {
        trial.number: evaluate(
            task, dict(trial.user_attrs[SETTINGS]), task.experiment.seeds, runner=runner
        ).returns
        for trial in completed(session.study)
    }
    table = pd.DataFrame(returns).dropna()
    deflated = deflate_sharpe(table, max(n_tried, table.shape[1]))
    return Luck(
        n_tried,
        float(deflated.get(choice.winner.number, math.nan)),
        _overfitting(table),
    )


def _overfitting(returns: pd.DataFrame) -> float:
    moving = returns.loc[:, returns.std() > 1e-15].T.drop_duplicates()
    n_splits = min(MOST_SPLITS, moving.shape[1] // BARS_PER_SPLIT // 2 * 2)
    if len(moving) < 2 or n_splits < 2:
        return math.nan
    ask: Any = load_extra("purgedcv", "The probability of overfitting")
    found = ask.probability_of_backtest_overfitting(moving.to_numpy(), n_splits)
    return float(np.clip(found.pbo, 0, 1))


def say(choice: Choice, opened: Opened | None, luck: Luck | None) -> list[str]:
    """Say in sentences what was chosen, and what it is worth."""
    winner = choice.winner
    whose = "the defaults" if winner.is_default else f"trial {winner.number}"
    first = (
        f"Chosen: {whose}, {winner.worth.score:+.4g} with new seeds (standard error "
        f"{winner.worth.error:.2g}, {winner.first:+.4g} in the search)."
    )
    lines = [first]
    if opened is not None:
        lines += [_say_line(line, opened.figure) for line in _pairs(opened.judgement)]
        times = len(opened.openings)
        if times > 1:
            how = "twice" if times == 2 else f"{times} times"
            lines.append(f"The holdout was opened {how}, so its figures have chosen too.")
    if luck is not None:
        lines.append(
            f"Of {luck.n_tried} trials: deflated Sharpe ratio {_said(luck.deflated_sharpe)}, "
            f"probability of overfitting {_said(luck.overfitting)}."
        )
    return lines


def _said(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.2f}"


def _pairs(judgement: Judgement) -> list[dict[Any, Any]]:
    lines = judgement.comparisons.to_dict("records")
    wanted = [line for line in lines if line["model"] == TUNED]
    return wanted + [line for line in lines if line["model"] == DEFAULTS]


def _say_line(line: dict[Any, Any], figure: str) -> str:
    return (
        f"On the holdout, {line['model']} against {line['against']}: {line['verdict']} by {figure} "
        f"({line['difference']:+.3g}, 95 % {line['lower']:+.3g} to {line['upper']:+.3g})."
    )


def to_json(
    session: Session, choice: Choice, opened: Opened | None, luck: Luck | None
) -> dict[str, Any]:
    """Return everything that was found as plain data; NaN becomes None."""
    winner = choice.winner
    found: dict[str, Any] = {
        "model": session.task.model,
        "kind": session.task.kind,
        "objective": session.task.objective,
        "trial": winner.number,
        "is_default": winner.is_default,
        "settings": winner.settings,
        "tuning_part_ends": session.cut.end,
        "candidates": [
            {
                "trial": one.number,
                "is_default": one.is_default,
                "settings": one.settings,
                "score_in_search": one.first,
                "score": one.worth.score,
                "error": one.worth.error,
                "cost": one.cost,
            }
            for one in choice.candidates
        ],
    }
    if opened is not None:
        comparisons = opened.judgement.comparisons
        found["holdout"] = {
            "figure": opened.figure,
            "openings": list(opened.openings),
            "comparisons": json.loads(comparisons.to_json(orient="records")),
        }
    if luck is not None:
        numbers = {"deflated_sharpe": luck.deflated_sharpe, "overfitting": luck.overfitting}
        plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        found["luck"] = {"n_tried": luck.n_tried, **plain}
    return found
