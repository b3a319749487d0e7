"""From an experiment to its jobs: every model, symbol, fold and seed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from freqai_lstm_plugins.data.splits import Fold, fold_rows, why_unusable
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.features.labels import KNOWN_AT
from freqai_lstm_plugins.models.registry import depends_on_seed, takes_symbols, takes_threads
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
    # One of each model, so that a wrong setting stops the run before the first training.
    for job in {job.model: job for job in jobs}.values():
        _check(job)
    return Plan(folds, jobs, left_out, purged)


def _check(job: Job) -> None:
    with _named(job.model):
        make_model(job)


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
    settings = dict(section.settings)
    window = settings.pop("window", experiment.features.window)
    if takes_threads(kind):
        # Jobs run beside each other, and figures should not depend on how many cores there are.
        settings.setdefault("num_threads", 1)
    with _named(name):
        seeds = experiment.seeds if depends_on_seed(kind, settings) else experiment.seeds[:1]
    is_panel = section.scope == "panel"
    groups = [tuple(tables)] if is_panel else [(table,) for table in tables]
    embedding = section.symbol_embedding if takes_symbols(kind) else 0
    return [
        Job(
            model=name,
            kind=kind,
            settings=settings,
            tables=group,
            is_panel=is_panel,
            symbol_embedding=embedding,
            feature_names=tuple(dataset.feature_names),
            fold=fold,
            seed=seed,
            window=window,
            label_period=experiment.label.reach,
        )
        for group in groups
        if group
        for seed in seeds
    ]


def _never_known(features: pd.DataFrame) -> str:
    empty = features.columns[features.isna().all()]
    return f"; {empty[0]} never is" if len(empty) else ""


def _usable(
    experiment: Experiment, dataset: Dataset, folds: list[Fold]
) -> tuple[dict[int, list[Table]], pd.DataFrame, pd.DataFrame]:
    """Return the tables with enough rows for each fold, and what is left out or purged."""
    usable: dict[int, list[Table]] = {fold.number: [] for fold in folds}
    left_out, purged = [], []
    for symbol, table in dataset.tables.items():
        frame = read_features(table)
        known = frame[dataset.feature_names].notna().all(axis=1)
        for fold in folds:
            rows = fold_rows(fold, frame["date"], frame[KNOWN_AT])
            reason = why_unusable(fold, rows, experiment.features.window)
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
