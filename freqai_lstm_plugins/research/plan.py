"""From an experiment to its jobs: every model, symbol, fold and seed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.splits import Fold, fold_rows, why_unusable
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.features.labels import KNOWN_AT
from freqai_lstm_plugins.models.registry import (
    depends_on_seed,
    require_trainable,
    takes_symbols,
    takes_threads,
)
from freqai_lstm_plugins.research.dataset import Dataset, Table, read_features
from freqai_lstm_plugins.research.experiment import make_folds
from freqai_lstm_plugins.research.jobs import Job, make_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freqai_lstm_plugins.research.experiment_schema import Experiment, ModelSection


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what is left out.

    Attributes:
        folds: Dates of the parts, the same for all symbols.
        jobs: Every job.
        left_out: A row for each symbol and fold without a training: symbol, fold, reason.
        purged: A row for each symbol and fold: symbol, fold, train, valid, test, purged, embargoed
            and unlabelled rows.
    """

    folds: list[Fold]
    jobs: list[Job]
    left_out: pd.DataFrame
    purged: pd.DataFrame


def make_plan(experiment: Experiment, dataset: Dataset) -> Plan:
    """Return every job of an experiment.

    Raises:
        ConfigError: A model or one of its settings is unknown.
        DataError: No symbol has enough rows for any fold.
    """
    folds = make_folds(experiment.split, dataset.calendar)
    usable, left_out, purged = _usable(experiment, dataset, folds)
    if not any(usable.values()):
        reasons = "; ".join(f"{row.symbol}: {row.reason}" for row in left_out.head(3).itertuples())
        raise DataError(f"No symbol has enough rows for any fold ({reasons}).")
    jobs = [
        job
        for name, section in experiment.models.items()
        for fold in folds
        for job in _jobs(experiment, dataset, name, section, fold, usable[fold.number])
    ]
    _check(jobs, purged)
    return Plan(folds, jobs, left_out, purged)


def _check(jobs: list[Job], purged: pd.DataFrame) -> None:
    """Make one of each model, so that a wrong setting stops the run before the first training."""
    rows = purged.set_index(["symbol", "fold"])[["train", "valid"]]
    most: dict[str, Any] = {}
    for job in jobs:
        trained = [(name, job.fold.number) for name in job.symbols if name != job.left_out]
        counts = rows.loc[trained].sum()
        most[job.model] = np.maximum(counts, most.get(job.model, 0))
    for job in {job.model: job for job in jobs}.values():
        # What fails for want of rows in some folds or symbols alone is told when it does.
        n_train, n_valid = (int(n) for n in most[job.model])
        with _named(job.model):
            require_trainable(make_model(job), window=job.window, n_train=n_train, n_valid=n_valid)


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Let an error of a model's settings name the model."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"models.{model}: {error}") from error


def _jobs(
    experiment: Experiment,
    dataset: Dataset,
    name: str,
    section: ModelSection,
    fold: Fold,
    tables: list[Table],
) -> list[Job]:
    kind = section.kind or name
    settings = {key: value for key, value in section.settings.items() if key != "window"}
    window = _window_of(section, experiment)
    if takes_threads(kind):
        # Jobs run beside each other, and figures should not depend on how many cores there are.
        settings.setdefault("num_threads", 1)
    with _named(name):
        seeds = experiment.seeds if depends_on_seed(kind, settings) else experiment.seeds[:1]
    if section.leave_one_out and len(dataset.tables) < 2:
        raise ConfigError(
            f"models.{name}: leave_one_out = true forecasts each symbol by a training from all "
            f"others, and there is only {next(iter(dataset.tables))}. Give more symbols."
        )
    embedding = section.symbol_embedding if takes_symbols(kind) else 0
    return [
        Job(
            model=name,
            kind=kind,
            settings=settings,
            tables=group,
            is_panel=section.scope == "panel",
            symbol_embedding=embedding,
            feature_names=tuple(dataset.feature_names),
            fold=fold,
            seed=seed,
            window=window,
            label_period=experiment.label.reach,
            balance=section.balance,
            left_out=left_out,
        )
        for group, left_out in _groups(section, tables)
        for seed in seeds
    ]


def _groups(
    section: ModelSection, tables: list[Table]
) -> Iterator[tuple[tuple[Table, ...], str | None]]:
    """Yield the tables of each training of a fold, and the symbol that it leaves out."""
    if section.leave_one_out:
        yield from ((tuple(tables), table.symbol) for table in tables)
    elif section.scope == "panel":
        yield from [(tuple(tables), None)] * bool(tables)
    else:
        yield from (((table,), None) for table in tables)


def _window_of(section: ModelSection, experiment: Experiment) -> int:
    return int(section.settings.get("window", experiment.features.window))


def _never_known(features: pd.DataFrame) -> str:
    empty = features.columns[features.isna().all()]
    return f"; {empty[0]} never is" if len(empty) else ""


def _usable(
    experiment: Experiment, dataset: Dataset, folds: list[Fold]
) -> tuple[dict[int, list[Table]], pd.DataFrame, pd.DataFrame]:
    """Return the tables with enough rows for each fold, and what is left out or purged."""
    usable: dict[int, list[Table]] = {fold.number: [] for fold in folds}
    left_out, purged = [], []
    least = max(_window_of(model, experiment) for model in experiment.models.values())
    for symbol, table in dataset.tables.items():
        frame = read_features(table)
        known = frame[dataset.feature_names].notna().all(axis=1)
        for fold in folds:
            rows = fold_rows(fold, frame["date"], frame[KNOWN_AT])
            reason = why_unusable(fold, rows, least)
            if reason is None and not (rows.train & known).any():
                never = _never_known(frame.loc[rows.train, dataset.feature_names])
                reason = (
                    f"fold {fold.number} has no training row whose features are all known{never}"
                )
            if reason is None:
                usable[fold.number].append(table)
            else:
                left_out.append({"symbol": symbol, "fold": fold.number, "reason": reason})
            counts = {"purged": rows.purged, "embargoed": rows.embargoed}
            parts = {name: int(getattr(rows, name).sum()) for name in ("train", "valid", "test")}
            purged.append(
                {"symbol": symbol, "fold": fold.number}
                | parts
                | counts
                | {"unlabelled": rows.unlabelled}
            )
    columns = ["symbol", "fold", "reason"]
    return usable, pd.DataFrame(left_out, columns=columns), pd.DataFrame(purged)
