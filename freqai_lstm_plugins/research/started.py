"""An output folder and the run that works in it: tables and jobs, then trainings."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.research.checks import write_checks
from freqai_lstm_plugins.research.dataset import Dataset, build_dataset
from freqai_lstm_plugins.research.experiment import resolved, save_experiment
from freqai_lstm_plugins.research.jobs import MODELS_FOLDER, Done, is_done, sweep
from freqai_lstm_plugins.research.plan import Plan, make_plan
from freqai_lstm_plugins.research.runner import OnDone, run_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from freqai_lstm_plugins.research.experiment_schema import Experiment

DATA_FOLDER, CHECKS_FOLDER = "data", "checks"
FAILURES_FILE, EXPERIMENT_FILE = "failures.json", "experiment.toml"
IDENTITY_FILE = "identity.json"
# What results of one folder have in common; models, seeds and costs may change from run to run.
IDENTITY = ("data", "features", "label", "split")


@dataclass(frozen=True)
class Started:
    """A run in its output folder.

    Attributes:
        experiment: What is compared.
        dataset: Its tables.
        plan: Its jobs.
        out: The output folder.
        n_done: Jobs whose results were there when the run began.
        failures: A row for each job that failed: job, reason.
    """

    experiment: Experiment
    dataset: Dataset
    plan: Plan
    out: Path
    n_done: int
    failures: pd.DataFrame

    @property
    def absent(self) -> pd.DataFrame:
        """A row for each symbol that takes part in no fold: symbol, reason."""
        used = {table.symbol for job in self.plan.jobs for table in job.tables}
        nothing = [
            {"symbol": symbol, "reason": "no row is usable"} for symbol in self.dataset.unusable
        ]
        found = pd.DataFrame([*nothing, *self.plan.left_out.to_dict("records")])
        found = found.reindex(columns=["symbol", "reason"]).drop_duplicates("symbol")
        return found[~found["symbol"].isin(used)].reset_index(drop=True)

    def count_done(self) -> int:
        """Return how many jobs have their results now."""
        return sum(is_done(job, self.out) for job in self.plan.jobs)

    @property
    def n_left(self) -> int:
        """Jobs that were still to do when the run began."""
        return len(self.plan.jobs) - self.n_done


def start(experiment: Experiment, out: Path) -> Started:
    """Read the data, lay out the jobs, and claim the output folder.

    Raises:
        ConfigError: The folder holds another experiment, or a model's settings are wrong.
        DataError: The data cannot be used, or the folder cannot be written.
    """
    with writing_to(out):
        _refuse_another(experiment, out)
        out.mkdir(parents=True, exist_ok=True)
        sweep(out)
        dataset = build_dataset(experiment, out / DATA_FOLDER)
        plan = make_plan(experiment, dataset)
        # Last, so that an experiment that cannot run claims nothing: a slip can be mended.
        _claim(experiment, out)
        write_checks(dataset.checked, out / CHECKS_FOLDER)
    n_done = sum(is_done(job, out) for job in plan.jobs)
    nothing = pd.DataFrame(columns=["job", "reason"])
    return Started(experiment, dataset, plan, out, n_done, nothing)


def train(
    started: Started,
    *,
    workers: int | None = None,
    dask: str | None = None,
    on_done: OnDone | None = None,
) -> Started:
    """Do the jobs that are missing, and write down those that failed.

    Returns:
        The run, with its failures.
    """
    ended = run_jobs(started.plan.jobs, started.out, workers=workers, dask=dask, on_done=on_done)
    failed = [_described(done) for done in ended if done.failure is not None]
    with writing_to(started.out, failed[0]["reason"] if failed else ""):
        write_text(started.out / FAILURES_FILE, json.dumps(failed, indent=1) + "\n")
    return replace(started, failures=pd.DataFrame(failed, columns=["job", "reason"]))


def _described(done: Done) -> dict[str, str]:
    return {"job": done.job.title, "reason": str(done.failure)}


@contextmanager
def writing_to(out: Path, reason: str = "") -> Iterator[None]:
    """Say in one line that a folder cannot be written, because of a full disk or of rights.

    Args:
        out: The output folder.
        reason: What went wrong before, which may be the same in other words.

    Raises:
        DataError: Something cannot be written.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or " ".join(str(error).split())
        before = f" Before that: {reason}." if reason else ""
        raise DataError(
            f"The output folder {out} cannot be written: {why}.{before} What is finished stays: "
            "make room or name another --out, and run it again."
        ) from error


def _identity(experiment: Experiment) -> dict[str, Any]:
    values = resolved(experiment)
    found: dict[str, Any] = json.loads(json.dumps({name: values[name] for name in IDENTITY}))
    return found


def _refuse_another(experiment: Experiment, out: Path) -> None:
    """Refuse the folder of another experiment."""
    mine, path = _identity(experiment), out / IDENTITY_FILE
    try:
        theirs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        theirs = None
    # Where nothing was trained yet there is nothing to mix up, as after a mistake in the file.
    if isinstance(theirs, dict) and theirs != mine and (out / MODELS_FOLDER).is_dir():
        raise ConfigError(
            f"{out} holds another experiment: {differences(theirs, mine)}. Choose another --out."
        )


def _claim(experiment: Experiment, out: Path) -> None:
    """Note whose folder this is."""
    write_text(out / IDENTITY_FILE, json.dumps(_identity(experiment), indent=1) + "\n")
    save_experiment(experiment, out / EXPERIMENT_FILE)


def differences(theirs: dict[str, Any], mine: dict[str, Any], most: int = 3) -> str:
    """Say which values of sections were others before."""
    found = []
    for section, now in mine.items():
        before = theirs.get(section, {})
        found += [
            f"{section}.{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
    more = f", and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more
