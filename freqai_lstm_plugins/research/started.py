"""An output folder and the run that works in it: tables and jobs, then trainings."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.research.dataset import Dataset, build_dataset
from freqai_lstm_plugins.research.experiment import resolved, save_experiment
from freqai_lstm_plugins.research.experiment_schema import Experiment
from freqai_lstm_plugins.research.jobs import MODELS_FOLDER, Done, is_done
from freqai_lstm_plugins.research.plan import Plan, make_plan
from freqai_lstm_plugins.research.runner import OnDone, run_jobs

DATA_FOLDER, FAILURES_FILE, EXPERIMENT_FILE = "data", "failures.json", "experiment.toml"
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
    def n_left(self) -> int:
        """Jobs that were still to do when the run began."""
        return len(self.plan.jobs) - self.n_done


def start(experiment: Experiment, out: Path) -> Started:
    """Read the data, lay out the jobs, and claim the output folder.

    Raises:
        ConfigError: The folder holds another experiment, or a model's settings are wrong.
        DataError: The data cannot be used, or the folder cannot be written.
    """
    _claim(experiment, out)
    dataset = build_dataset(experiment, out / DATA_FOLDER)
    plan = make_plan(experiment, dataset)
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
    write_text(started.out / FAILURES_FILE, json.dumps(failed, indent=1) + "\n")
    return replace(started, failures=pd.DataFrame(failed, columns=["job", "reason"]))


def _described(done: Done) -> dict[str, str]:
    return {"job": done.job.title, "reason": str(done.failure)}


def _claim(experiment: Experiment, out: Path) -> None:
    """Note whose folder this is, or refuse the folder of another experiment."""
    values = resolved(experiment)
    mine = json.loads(json.dumps({name: values[name] for name in IDENTITY}))
    path = out / IDENTITY_FILE
    try:
        theirs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        theirs = None
    # Where nothing was trained yet there is nothing to mix up, as after a mistake in the file.
    if theirs is not None and theirs != mine and (out / MODELS_FOLDER).is_dir():
        raise ConfigError(
            f"{out} holds another experiment: {_differences(theirs, mine)}. Choose another --out."
        )
    try:
        write_text(path, json.dumps(mine, indent=1) + "\n")
        save_experiment(experiment, out / EXPERIMENT_FILE)
    except OSError as error:
        raise DataError(f"The output folder {out} cannot be written: {error.strerror}.") from error


def _differences(theirs: dict[str, Any], mine: dict[str, Any], most: int = 3) -> str:
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
