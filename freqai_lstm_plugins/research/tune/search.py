"""How settings are drawn, and when a trial that does badly ends before its last training.

Both are Optuna's. What stands here is what they are asked: a figure an instance, or the loss after
a pass of a training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from freqai_lstm_plugins.errors import ConfigError, StoppedError
from freqai_lstm_plugins.models.registry import ENSEMBLE
from freqai_lstm_plugins.research.tune.objective import Runner, Task, Watch, count_units
from freqai_lstm_plugins.research.tune.ranges import Choices, Ranges, grid
from freqai_lstm_plugins.research.tune.storage import load_optuna, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

SamplerName: TypeAlias = Literal["tpe", "gp", "random", "grid"]
PrunerName: TypeAlias = Literal["none", "wilcoxon", "median"]

# Settings that give losses another unit, so that those of two trials cannot be compared.
UNITS = ("loss", "interval")
# Passes of one training are steps 1, 2, 4, .. after so many of the training before.
MOST_PASSES = 100_000
# Before it losses tell of the starting weights, or of the learning rate alone.
FIRST_JUDGED = 4


@dataclass(frozen=True)
class Search:
    """How settings are drawn, and when a trial that does badly ends early.

    Attributes:
        sampler: Optuna's sampler.
        pruner: Optuna's pruner.
        seed: Seed of the draws.
    """

    sampler: SamplerName = "tpe"
    pruner: PrunerName = "none"
    seed: int = 0


def make_search(sampler: Any, pruner: Any, seed: int) -> Search:
    """Check the words of a command.

    Raises:
        ConfigError: There is no such sampler or pruner.
    """
    for option, word, known in (
        ("--sampler", sampler, get_args(SamplerName)),
        ("--pruner", pruner, get_args(PrunerName)),
    ):
        if word not in known:
            raise ConfigError(f"{option} {word!r} is none of {', '.join(known)}.")
    return Search(sampler, pruner, seed)


def require_watchable(search: Search, kind: str, ranges: Ranges, runner: Runner) -> None:
    """Refuse to end trainings early by losses that differ in kind, or that nobody here sees.

    Raises:
        ConfigError: One of both is so.
    """
    if search.pruner != "median":
        return
    if kind == ENSEMBLE:
        raise ConfigError(
            "--pruner median compares the passes of one training, and an ensemble has one a "
            "member and fold: take --pruner wilcoxon."
        )
    unit = next((name for name in UNITS if _varies(ranges, name)), None)
    if unit is not None:
        raise ConfigError(
            f"--pruner median compares validation losses, and {unit} has a range that changes what "
            f"they mean: fix it, or take --pruner wilcoxon."
        )
    if runner.at_once != 1:
        raise ConfigError(
            "--pruner median watches each training in this process: leave --workers and --dask "
            "out and run the command in several terminals, or take --pruner wilcoxon."
        )


def _varies(ranges: Ranges, name: str) -> bool:
    one = ranges.get(name)
    return one is not None and not (isinstance(one, Choices) and len(one.values) == 1)


def make_sampler(ranges: Ranges, search: Search) -> Any:
    """Return Optuna's sampler of a search; what it draws depends on the trial's number."""
    samplers = load_optuna().samplers

    def make(number: int) -> Any:
        seed = int(np.random.default_rng([search.seed, number]).integers(2**31))
        if search.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        if search.sampler == "gp":
            return samplers.GPSampler(seed=seed)
        if search.sampler == "grid":
            return samplers.GridSampler(grid(ranges), seed=search.seed)
        return samplers.TPESampler(multivariate=True, group=True, seed=seed)

    return _numbered(make)


def _numbered(make: Callable[[int], Any]) -> Any:
    """Return a sampler whose draws depend on the trial's number and what was found before alone.

    Optuna's samplers draw from one stream a process: after a restart they would repeat it, and two
    workers would draw the same.
    """
    base = load_optuna().samplers.BaseSampler

    class Numbered(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.inner = make(0)

        def before_trial(self, study: Any, trial: Any) -> None:
            with quiet():
                self.inner = make(trial.number)
            self.inner.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self.inner.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, space: Any) -> Any:
            return self.inner.sample_relative(study, trial, space)

        def sample_independent(self, study: Any, trial: Any, name: str, one: Any) -> Any:
            return self.inner.sample_independent(study, trial, name, one)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self.inner.after_trial(study, trial, state, values)

    return Numbered()


def make_pruner(search: Search) -> Any:
    """Return Optuna's pruner of a search."""
    pruners = load_optuna().pruners
    if search.pruner == "none":
        return pruners.NopPruner()
    return pruners.WilcoxonPruner() if search.pruner == "wilcoxon" else _median_of_a_training()


def _median_of_a_training() -> Any:
    """Return a pruner that takes the losses of a trial's newest training alone.

    Optuna takes a trial's best figure so far, and a fold whose labels are calm would have it for
    all folds after it.
    """
    base = load_optuna().pruners.MedianPruner

    class OneTraining(base):  # type: ignore[misc, valid-type]
        def prune(self, study: Any, trial: Any) -> bool:
            seen = copy.copy(trial)
            first = trial.last_step // MOST_PASSES * MOST_PASSES
            if trial.last_step - first < FIRST_JUDGED:
                return False
            values = trial.intermediate_values.items()
            seen.intermediate_values = {step: value for step, value in values if step >= first}
            return bool(super().prune(study, seen))

    return OneTraining()


def watch_trial(trial: Any, task: Task, search: Search, *, is_default: bool) -> Watch | None:
    """Return who looks on while a trial is made: its pruner, or nobody.

    Args:
        trial: Optuna's trial.
        task: What trials do.
        search: Which pruner.
        is_default: Whether the trial is that of the defaults: others are compared with it, so it is
            never ended.
    """

    def judge(figure: float, step: int) -> None:
        trial.report(figure, step)
        if not is_default and trial.should_prune():
            raise StoppedError("the trial does worse than those before it")

    def on_pass(training: int, number: int, loss: float) -> None:
        # So many figures as are worth a write: a forest grows hundreds of trees in a second.
        if number & (number - 1) == 0 and number < MOST_PASSES:
            judge(-loss, training * MOST_PASSES + number)

    if search.pruner == "none":
        return None
    if search.pruner == "median":
        return Watch(on_pass=on_pass)
    rng = np.random.default_rng([search.seed, trial.number])
    order = rng.permutation(count_units(task)).tolist()
    return Watch(order, lambda number, figure: judge(figure, number))
