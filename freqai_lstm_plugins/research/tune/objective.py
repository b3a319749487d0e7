"""What settings are worth: a set of a comparison's jobs, and one figure made of their forecasts.

The figure is the mean over instances. An instance is a fold and a symbol; for the Sharpe ratio,
which is an account's, a fold. More is better: the squared error has its sign turned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import (
    FreqaiLSTMError,
    TrainingError,
    UnwritableError,
    WorkersLostError,
)
from freqai_lstm_plugins.models.registry import depends_on_seed
from freqai_lstm_plugins.research.jobs import MODEL_FILE, Done, Job, Shared, is_done, run_job
from freqai_lstm_plugins.research.judgement import trading_of
from freqai_lstm_plugins.research.metrics import ts_rank_ic
from freqai_lstm_plugins.research.portfolio import hold_equally, trade
from freqai_lstm_plugins.research.predictions import keep_common, pivot_forecasts
from freqai_lstm_plugins.research.runner import run_jobs
from freqai_lstm_plugins.research.started import Started, start
from freqai_lstm_plugins.research.store import load_predictions, read_entry
from freqai_lstm_plugins.research.tune.ranges import WINDOW, canonical_settings
from freqai_lstm_plugins.training.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from freqai_lstm_plugins.research.experiment_schema import Experiment
    from freqai_lstm_plugins.research.findings import Trading
    from freqai_lstm_plugins.training.history import Epoch

Objective: TypeAlias = Literal["rank_ic", "loss", "sharpe"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


@dataclass(frozen=True)
class Runner:
    """How jobs are done; see `research.runner.run_jobs`."""

    workers: int | None = 1
    dask: str | None = None

    @property
    def at_once(self) -> int | None:
        """Jobs that run beside each other; None where nobody here knows."""
        return None if self.dask else self.workers


@dataclass(frozen=True)
class Task:
    """What all trials of a search share.

    Attributes:
        started: The run of the tuning part.
        model: Name in the experiment.
        kind: Name in the catalogue.
        settings: What the experiment says of the model, under the package's names, W among them.
        base: A job for each fold and symbol, or for each fold of a panel.
        objective: The figure.
        trading: How predictions are traded.
        shared: Windows that trials have in common.
    """

    started: Started
    model: str
    kind: str
    settings: dict[str, Any]
    base: tuple[Job, ...]
    objective: Objective
    trading: Trading
    shared: Shared = field(default_factory=Shared, repr=False)

    @property
    def experiment(self) -> Experiment:
        """The experiment of the tuning part."""
        return self.started.experiment


@dataclass(frozen=True)
class Worth:
    """What settings were worth.

    Attributes:
        instances: The figure of each instance.
        seconds: What all trainings took, those found in the store too.
        size: Mean bytes of a model file.
        passes: Median number of passes, or trees, whose weights were kept.
    """

    instances: dict[str, float]
    seconds: float
    size: float
    passes: int

    @property
    def score(self) -> float:
        """Mean over instances."""
        return float(np.mean(list(self.instances.values())))

    @property
    def error(self) -> float:
        """Standard error of that mean; 0 of one instance."""
        values = list(self.instances.values())
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Watch:
    """Who looks on while settings are tried; each call may end that by raising StoppedError.

    Attributes:
        order: Order of the units that are done one after the other; None takes theirs.
        on_instance: Called after each of these units with its number and figure.
        on_pass: Called after each pass of each training with the number of the training, that of
            the pass, from 1, and the loss on validation windows. Trainings whose results are there
            already tell theirs too, so that a search goes on as if it had never been interrupted.
    """

    order: Sequence[int] | None = None
    on_instance: Callable[[int, float], None] | None = None
    on_pass: Callable[[int, int, float], None] | None = None


def make_task(experiment: Experiment, model: str, objective: Objective, out: Path) -> Task:
    """Read the data of the tuning part, and lay out what a trial has to do.

    Raises:
        ConfigError: The folder holds another experiment, or the model's settings are wrong.
        DataError: The data cannot be used.
    """
    started = start(experiment, out)
    section = experiment.models[model]
    kind = section.kind or model
    base = {(job.fold.number, job.tables): job for job in started.plan.jobs if job.model == model}
    settings = canonical_settings(section.settings, kind)
    settings.setdefault(WINDOW, experiment.features.window)
    return Task(
        started=started,
        model=model,
        kind=kind,
        settings=settings,
        base=tuple(base.values()),
        objective=objective,
        trading=trading_of(experiment, started),
    )


def evaluate(
    task: Task,
    settings: dict[str, Any],
    seeds: Sequence[int],
    *,
    runner: Runner,
    watch: Watch | None = None,
) -> Worth:
    """Train with settings wherever that was not done yet, and judge the forecasts.

    Args:
        task: What all trials share.
        settings: What replaces the experiment's settings.
        seeds: Seeds of the trainings.
        runner: How jobs are done.
        watch: Who looks on.

    Raises:
        StoppedError: Who looks on ended it.
        WorkersLostError: Nobody does jobs any more.
        UnwritableError: What was trained cannot be kept.
        TrainingError: A job failed, or nothing can be judged.
    """
    jobs = _jobs(task, settings, seeds)
    everything = [job for unit in jobs for job in unit]
    if watch is not None:
        _do_instances(task, jobs, seeds, runner, watch)
        _do_watched(task, everything, watch)
    _do(task, everything, runner)
    table = load_predictions(everything, task.started.out, seeds)
    found = _judge(task, table)
    if not found:
        raise TrainingError("no test row has both a prediction and a label, so there is no score")
    entries = [read_entry(task.started.out / job.place) for job in everything]
    return Worth(
        instances=found,
        seconds=sum(entry.metadata["seconds"] for entry in entries),
        size=float(np.mean([(entry.folder / MODEL_FILE).stat().st_size for entry in entries])),
        passes=round(np.median([entry.metadata["history"]["best_epoch"] for entry in entries])),
    )


def excess_returns(
    task: Task, settings: dict[str, Any], seeds: Sequence[int], *, runner: Runner
) -> pd.Series[float]:
    """Return the net return of each date less that of equal weight, mean over seeds.

    Args:
        task: What all trials share.
        settings: What replaces the experiment's settings.
        seeds: Seeds of the trainings.
        runner: How jobs are done whose results are not there.

    Raises:
        TrainingError: A job failed.
    """
    jobs = [job for unit in _jobs(task, settings, seeds) for job in unit]
    _do(task, jobs, runner)
    return _excess(task, load_predictions(jobs, task.started.out, seeds))


def _jobs(task: Task, settings: dict[str, Any], seeds: Sequence[int]) -> list[list[Job]]:
    """Return the jobs of each unit."""
    return [
        [job for base in unit for job in with_settings(task, base, settings, seeds)]
        for unit in _units(task)
    ]


def _units(task: Task) -> list[list[Job]]:
    """Return base jobs that are judged together: each alone, or those of a fold."""
    if task.objective != "sharpe":
        return [[job] for job in task.base]
    numbers = sorted({job.fold.number for job in task.base})
    return [[job for job in task.base if job.fold.number == number] for number in numbers]


def count_units(task: Task) -> int:
    """Return how many figures a watched trial reports."""
    return len(_units(task))


def with_settings(
    task: Task, base: Job, settings: dict[str, Any], seeds: Sequence[int]
) -> list[Job]:
    """Return a base job with a trial's settings, once for each seed that makes a difference."""
    chosen = {**task.settings, **settings}
    window = int(chosen.pop(WINDOW))
    chosen.setdefault("num_threads", 1)
    used = seeds if depends_on_seed(task.kind, chosen) else seeds[:1]
    return [replace(base, settings=chosen, window=window, seed=seed) for seed in used]


def _do_instances(
    task: Task, jobs: list[list[Job]], seeds: Sequence[int], runner: Runner, watch: Watch
) -> None:
    if watch.on_instance is None:
        return
    for number in range(len(jobs)) if watch.order is None else watch.order:
        _do(task, jobs[number], runner)
        table = load_predictions(jobs[number], task.started.out, seeds)
        figures = list(_judge(task, table).values())
        if figures:
            watch.on_instance(number, float(np.mean(figures)))


def _do_watched(task: Task, jobs: list[Job], watch: Watch) -> None:
    if watch.on_pass is None:
        return
    out = task.started.out
    for number, job in enumerate(jobs):
        tell = _telling(watch.on_pass, number)
        if is_done(job, out):
            history = History.from_dict(read_entry(out / job.place).metadata["history"])
            for epoch in history.epochs:
                tell(epoch)
        else:
            _require_success(run_job(job, out, task.shared, tell))


def _telling(on_pass: Callable[[int, int, float], None], training: int) -> Callable[[Epoch], None]:
    last = 0

    def tell(epoch: Epoch) -> None:
        nonlocal last
        # A tree grows its quantiles one after the other, and each begins with pass 1.
        if epoch.valid_loss is not None and epoch.number > last:
            last = epoch.number
            on_pass(training, epoch.number, epoch.valid_loss)

    return tell


def _require_success(done: Done) -> None:
    if done.lacks_room:
        raise UnwritableError(
            f"{done.job.title}: {str(done.failure).rstrip('.')}. What is finished stays: make "
            "room, and run it again."
        )
    if done.failure is not None:
        raise TrainingError(f"{done.job.title}: {done.failure}")


def _do(task: Task, jobs: list[Job], runner: Runner) -> None:
    out = task.started.out
    ended: Iterable[Done] = (run_job(job, out, task.shared) for job in jobs)
    # In this process it ends with the first failure, which decides.
    if runner.at_once != 1:
        try:
            ended = run_jobs(jobs, out, workers=runner.workers, dask=runner.dask)
        # A training that fails is told, so what is raised is about those who do them.
        except FreqaiLSTMError as error:
            raise WorkersLostError(str(error)) from error
    for done in ended:
        _require_success(done)


def _judge(task: Task, table: pd.DataFrame) -> dict[str, float]:
    """Return the figure of each instance that has one."""
    found: dict[str, float] = {}
    for fold, rows in table.groupby("fold", sort=True):
        if task.objective == "sharpe":
            found[f"fold {fold}"] = _sharpe(_net(task, rows)[0], task.trading.market.bars_per_year)
            continue
        by_symbol = _rank_ic(rows) if task.objective == "rank_ic" else _negative_loss(rows)
        found |= {f"fold {fold}, {symbol}": value for symbol, value in by_symbol.items()}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _rank_ic(rows: pd.DataFrame) -> pd.Series[float]:
    if not np.isfinite(rows["prediction"] * rows["label"]).any():
        return pd.Series(dtype=float)
    return ts_rank_ic(rows).mean(axis=1)


def _negative_loss(rows: pd.DataFrame) -> pd.Series[float]:
    """Return squared error as a share of that of the forecast zero, sign turned."""
    usable = keep_common(rows)
    squares = ((usable["prediction"] - usable["label"]) ** 2).groupby(usable["symbol"]).sum()
    return -squares / (usable["label"] ** 2).groupby(usable["symbol"]).sum()


def _sharpe(returns: pd.Series[float], bars_per_year: float) -> float:
    spread = float(returns.std(ddof=1))
    # An account that never trades has earned nothing at no risk.
    return float(returns.mean()) / spread * np.sqrt(bars_per_year) if spread > 1e-15 else 0.0


def _net(task: Task, rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return net returns of a fold's account, mean over seeds, and those of equal weight."""
    trading = task.trading
    accounts = {}
    for seed in sorted(rows["seed"].unique()):
        forecasts = pivot_forecasts(rows, task.model, int(seed))
        account = trade(forecasts, trading.market, trading.plan, trading.rules)
        accounts[seed] = pd.Series(account.net(trading.costs), account.dates)
    equal = hold_equally(trading.market, forecasts, trading.rules)
    held = pd.Series(equal.net(trading.costs), equal.dates)
    return pd.DataFrame(accounts).mean(axis=1), held


def _excess(task: Task, table: pd.DataFrame) -> pd.Series[float]:
    parts = []
    for _, rows in table.groupby("fold", sort=True):
        net, held = _net(task, rows)
        parts.append(net - held)
    joined = pd.concat(parts)
    # The last bar of a fold is the first of the next one's account.
    return joined[~joined.index.duplicated()]
