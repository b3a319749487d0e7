"""A study: exactly so many trials, whoever makes them and however often he has to begin again.

Trials are numbered by the storage, each number once. A worker that has got a number counts the
trials before it that are finished or running; where they are as many as wanted, it withdraws. So
workers need to agree on nothing, and N trials are N.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    StoppedError,
    TrainingError,
    UnwritableError,
    WorkersLostError,
)
from freqai_lstm_plugins.research.started import differences
from freqai_lstm_plugins.research.tune.objective import Runner, Task, evaluate
from freqai_lstm_plugins.research.tune.ranges import (
    Ranges,
    contains,
    default_settings,
    draw,
    grid,
)
from freqai_lstm_plugins.research.tune.search import (
    Search,
    make_pruner,
    make_sampler,
    require_watchable,
    watch_trial,
)
from freqai_lstm_plugins.research.tune.storage import (
    DEFAULT_TRIAL,
    WORKER,
    lacks_room,
    leased,
    load_optuna,
    queue_lost_trials,
    quiet,
    refusals,
    requeue,
    worker_name,
    writing_study,
)

BELONGS, SETTINGS, REASON, PRUNER = "belongs to", "settings", "reason", "pruner"
FIRST_FAILURES = 5
POLL_SECONDS = 0.5
RETRY_SECONDS, OUTAGE_SECONDS = 2, 120
# What ends a trial and says nothing against its settings.
INTERRUPTIONS = (KeyboardInterrupt, WorkersLostError, UnwritableError)

OnTrial = Callable[[Any], None]


class _WithdrawnError(Exception):
    """There are enough trials without this one."""


class _FailedError(Exception):
    """A trial failed, and bears the reason."""


def find_study(storage: Any, name: str) -> Any | None:
    """Return the study of that name; None where the storage has none."""
    optuna = load_optuna()
    with quiet():
        try:
            return optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            return None


def claim_study(storage: Any, name: str, belongs: dict[str, Any]) -> Any:
    """Return the study of that name, which is made where there is none.

    Args:
        storage: See `storage.open_storage`.
        name: Its name in the storage.
        belongs: What its trials have in common, by section.

    Raises:
        ConfigError: The study is another's.
        DataError: The study cannot be written.
    """
    with quiet(), writing_study():
        study = load_optuna().create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
        theirs = study.user_attrs.get(BELONGS)
        if theirs is None:
            study.set_user_attr(BELONGS, belongs)
            return study
    if theirs != belongs:
        raise ConfigError(
            f"The study {name!r} is another's: {differences(theirs, belongs)}. Choose another "
            f"--study, or another --out."
        )
    return study


def finished(study: Any) -> list[Any]:
    """Return trials that count: those with a score, those that ended early, those that failed."""
    return [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]


def _counts(trial: Any) -> bool:
    states = load_optuna().trial.TrialState
    failed = trial.state == states.FAIL and REASON in trial.user_attrs
    return failed or trial.state in (states.COMPLETE, states.PRUNED)


def completed(study: Any) -> list[Any]:
    """Return trials with a score."""
    state = load_optuna().trial.TrialState.COMPLETE
    return study.get_trials(deepcopy=False, states=(state,))


def best_of(study: Any) -> Any | None:
    """Return the trial with the highest score; None where none has any."""
    return max(completed(study), key=lambda one: (one.value, -one.number), default=None)


def run_trials(
    study: Any,
    task: Task,
    ranges: Ranges,
    n_trials: int,
    *,
    search: Search,
    runner: Runner,
    on_trial: OnTrial | None = None,
) -> None:
    """Make trials until the study has `n_trials`, beside any other workers.

    Raises:
        ConfigError: The pruner cannot compare what is tried, or cannot see it.
        DataError: The storage stopped answering.
        UnwritableError: There is no room for results; the trial that ran is queued again.
        TrainingError: The first five trials all failed.
        WorkersLostError: Nobody does trainings any more; the trial that ran is queued again.
        KeyboardInterrupt: Somebody stopped it; the trial that ran is queued again.
    """
    require_watchable(search, task.kind, ranges, runner)
    with writing_study():
        _claim_pruner(study, search)
    worker = _Worker(study, task, ranges, n_trials, search, runner)
    with quiet():
        study.sampler = make_sampler(ranges, search)
        study.pruner = make_pruner(search)
    answered = time.monotonic()
    while True:
        try:
            if _step(worker, on_trial):
                return
            answered = time.monotonic()
        except refusals() as error:
            if worker.interruption is not None:
                # It could not be told to the study, which sees it by the process that is gone.
                raise worker.interruption from None
            if isinstance(error, OSError) or lacks_room(error):
                with writing_study():
                    raise
            if time.monotonic() - answered > OUTAGE_SECONDS + worker.seconds:
                reason = " ".join(str(error).split())[:120]
                raise DataError(
                    f"The study's storage has not answered for {OUTAGE_SECONDS} seconds "
                    f"({reason}). Run the same command again when it does: all that is finished "
                    f"is kept."
                ) from error
            time.sleep(RETRY_SECONDS)


def _claim_pruner(study: Any, search: Search) -> None:
    """Refuse to hold one pruner's figures against another's."""
    if search.pruner == "none":
        return
    theirs = study.user_attrs.get(PRUNER, search.pruner)
    if theirs != search.pruner:
        raise ConfigError(
            f"The study's trials were watched by --pruner {theirs}, whose figures mean something "
            f"else than those of {search.pruner}: go on with {theirs}, or with none."
        )
    study.set_user_attr(PRUNER, search.pruner)


def _step(worker: _Worker, on_trial: OnTrial | None) -> bool:
    """Make a trial, or wait for others to make theirs.

    Returns:
        Whether there is nothing left to do.
    """
    study, search = worker.study, worker.search
    queue_lost_trials(study)
    n_finished, n_running = worker.count()
    if n_finished >= worker.n_trials:
        return True
    if n_finished + n_running >= worker.n_trials:
        # One of those that run may die, and then this worker is needed.
        time.sleep(POLL_SECONDS)
        return False
    _queue_defaults(study, worker.task, worker.ranges)
    worker.number = -1
    with quiet():
        if search.sampler == "grid" and _is_exhausted(study, worker):
            return True
        try:
            study.optimize(worker, n_trials=1, catch=(_FailedError, _WithdrawnError))
        except INTERRUPTIONS:
            worker.give_back()
            raise
        except (load_optuna().exceptions.UpdateFinishedTrialError, ValueError):
            # This process slept so long that another one took over.
            if worker.is_taken():
                return False
            raise
        except (UnboundLocalError, AssertionError) as error:
            # Optuna stumbles in its clean-up where the storage is gone, or full.
            if isinstance(error.__context__, refusals()):
                raise error.__context__ from None
            raise
    _tell(study, worker, on_trial)
    return False


def _tell(study: Any, worker: _Worker, on_trial: OnTrial | None) -> None:
    done = finished(study)
    ended = next((one for one in done if one.number == worker.number), None)
    if ended is None:
        return
    if on_trial is not None:
        on_trial(ended)
    failures = [one.user_attrs[REASON] for one in done if REASON in one.user_attrs]
    if len(done) >= FIRST_FAILURES and len(failures) == len(done):
        raise TrainingError(
            f"The first {len(done)} trials all failed, the last one: {failures[-1]}"
        )


class _Worker:
    """The objective function of one process."""

    def __init__(
        self,
        study: Any,
        task: Task,
        ranges: Ranges,
        n_trials: int,
        search: Search,
        runner: Runner,
    ) -> None:
        self.study, self.task, self.ranges = study, task, ranges
        self.n_trials, self.search, self.runner = n_trials, search, runner
        self.number = -1
        self.seconds = 0.0
        self.interruption: BaseException | None = None

    def count(self, below: int | None = None) -> tuple[int, int]:
        """Return how many trials are finished and how many run, of those with lower numbers."""
        running = load_optuna().trial.TrialState.RUNNING
        # Read once: a trial that ends meanwhile is one of both, and not none or two.
        trials = self.study.get_trials(deepcopy=False)
        before = [one for one in trials if below is None or one.number < below]
        return sum(map(_counts, before)), sum(one.state == running for one in before)

    def __call__(self, trial: Any) -> float:
        """Do one trial, or withdraw from it."""
        self.number = trial.number
        try:
            trial.set_user_attr(WORKER, worker_name())
            with leased(trial):
                return self._do(trial)
        except INTERRUPTIONS as error:
            # Optuna loses it where it cannot tell the study.
            self.interruption = error
            raise

    def _do(self, trial: Any) -> float:
        is_default = bool(trial.user_attrs.get(DEFAULT_TRIAL))
        if sum(self.count(trial.number)) >= self.n_trials:
            raise _WithdrawnError
        if is_default and any(one.number < trial.number for one in _defaults(self.study)):
            raise _WithdrawnError
        settings = self._default_settings(trial) if is_default else draw(trial, self.ranges)
        trial.set_user_attr(SETTINGS, settings)
        try:
            worth = evaluate(
                self.task,
                settings,
                self.task.experiment.seeds,
                runner=self.runner,
                watch=watch_trial(trial, self.task, self.search, is_default=is_default),
            )
        except StoppedError:
            raise load_optuna().TrialPruned from None
        except INTERRUPTIONS:
            raise
        except FreqaiLSTMError as error:
            trial.set_user_attr(REASON, str(error))
            raise _FailedError from error
        # What a trial takes is no silence of the storage.
        self.seconds = max(self.seconds, worth.seconds)
        trial.set_user_attr("seconds", worth.seconds)
        return worth.score

    def _default_settings(self, trial: Any) -> dict[str, Any]:
        # Drawn where the ranges hold them, so that the sampler learns from them.
        defaults = tuned_defaults(self.task, self.ranges)
        inside = _inside(defaults, self.ranges)
        return defaults | draw(trial, {name: self.ranges[name] for name in inside})

    def is_taken(self) -> bool:
        """Whether somebody else ended the trial that this process was at."""
        trials = self.study.get_trials(deepcopy=False)
        mine = next((one for one in trials if one.number == self.number), None)
        return mine is not None and mine.state.is_finished() and REASON not in mine.user_attrs

    def give_back(self) -> None:
        """Queue the trial that was interrupted, which its study was told to have failed."""
        states = load_optuna().trial.TrialState
        for trial in self.study.get_trials(deepcopy=False, states=(states.FAIL,)):
            if trial.number == self.number and REASON not in trial.user_attrs:
                requeue(self.study, trial)


def tuned_defaults(task: Task, ranges: Ranges) -> dict[str, Any]:
    """Return what the settings of a search are without one: the experiment's, else the model's."""
    everything = {**default_settings(task.kind), **task.settings}
    return {name: everything[name] for name in ranges}


def _defaults(study: Any) -> list[Any]:
    states = load_optuna().trial.TrialState
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.user_attrs.get(DEFAULT_TRIAL)
        and (trial.state != states.FAIL or REASON in trial.user_attrs)
    ]


def _queue_defaults(study: Any, task: Task, ranges: Ranges) -> None:
    if _defaults(study):
        return
    inside = _inside(tuned_defaults(task, ranges), ranges)
    study.enqueue_trial(inside, user_attrs={DEFAULT_TRIAL: True})


def _inside(defaults: dict[str, Any], ranges: Ranges) -> dict[str, Any]:
    """Return the defaults that a trial could have drawn."""
    return {
        name: value
        for name, value in defaults.items()
        if isinstance(value, (str, int, float)) and contains(ranges[name], value)
    }


def _is_exhausted(study: Any, worker: _Worker) -> bool:
    sampler = load_optuna().samplers.GridSampler(grid(worker.ranges))
    return bool(sampler.is_exhausted(study))


def require_trials(study: Any) -> None:
    """Raise DataError where no trial has a score."""
    if not completed(study):
        raise DataError("No trial of the study has a score, so there is nothing to choose from.")
