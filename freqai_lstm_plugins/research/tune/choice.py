"""Chooses settings from a study's trials.

The best of many trials looks better than it is. So the best five and the defaults are trained again
from seeds that chose nobody, these figures alone choose, and the cheapest within one standard error
of the best wins. What the winner is worth, the holdout says, which nothing has seen.

Source: the rule of one standard error as in Breiman, Friedman, Olshen and Stone, Classification and
Regression Trees, 1984.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.research.tune.objective import Runner, Task, Worth, evaluate
from freqai_lstm_plugins.research.tune.ranges import WINDOW
from freqai_lstm_plugins.research.tune.storage import DEFAULT_TRIAL
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, require_trials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqai_lstm_plugins.research.tune.session import Session

N_BEST = 5


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


def settings_hash(settings: dict[str, Any]) -> str:
    """Return a hash of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
