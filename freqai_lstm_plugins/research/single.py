"""The short way for one model: candles of one symbol in, a model and honest figures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.data.candles import describe_file, read_table
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.research.experiment import parse_experiment
from freqai_lstm_plugins.research.jobs import is_done
from freqai_lstm_plugins.research.metrics import scores
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.started import writing_to
from freqai_lstm_plugins.research.store import Entry, load_predictions, read_entry
from freqai_lstm_plugins.training.history import History, plot_history

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from freqai_lstm_plugins.research.experiment_schema import Experiment
    from freqai_lstm_plugins.research.started import Started

# Share of the candles, at their end, that nothing of the training sees.
TEST_SHARE = 0.2
SHOWN = ("n_rows", "ts_rank_ic", "mse", "r2", "hit_rate", "majority")


@dataclass(frozen=True)
class Outcome:
    """A trained model beside what it has to beat.

    Attributes:
        entry: The model's folder.
        scores: A line a model, the new one first: figures on the untouched last part.
        history: Picture of the losses; None where the model made one pass, or none.
    """

    entry: Entry
    scores: pd.DataFrame
    history: Path | None


def single_experiment(
    file: Path,
    model: str,
    settings: Mapping[str, Any],
    *,
    horizon: int,
    window: int,
    seed: int,
    test_share: float = TEST_SHARE,
) -> Experiment:
    """Return the experiment of one model on one file.

    Args:
        file: Candles of one symbol; with columns that begin with `%`, these are the features.
        model: Name in the catalogue.
        settings: Its settings.
        horizon: Bars that the label looks ahead.
        window: W.
        seed: Seed of the training.
        test_share: Share of the candles that is held back.

    Raises:
        DataError: The file cannot be read, or holds too few candles.
        ConfigError: The model is unknown.
    """
    known, table = describe_file(file), read_table(file)
    test_bars = round(len(table) * test_share)
    if test_bars < 1:
        raise DataError(f"{file} holds {len(table)} candles, too few to hold {test_share:g} back.")
    has_features = any(str(name).startswith("%") for name in table.columns)
    data: dict[str, Any] = {"folder": str(file.parent), "symbols": [known.symbol]}
    if known.timeframe is not None:
        data["timeframe"] = known.timeframe
    return parse_experiment(
        {
            "seeds": [seed],
            "data": data,
            "features": {"sets": ["columns" if has_features else "indicators"], "window": window},
            "label": {"horizon": horizon},
            "split": {"folds": 1, "test_bars": test_bars},
            "models": {model: dict(settings)},
            "portfolio": {"k": 1},
        },
        "train",
    )


def summarize(run: Started, model: str) -> Outcome:
    """Return what a run of `single_experiment` gave, and draw its losses beside the model.

    Raises:
        DataError: The model could not be trained, or the picture cannot be written.
    """
    job = next(job for job in run.plan.jobs if job.model == model)
    if not is_done(job, run.out):
        rows = run.failures[run.failures["job"] == job.title]
        reason = rows["reason"].iloc[0] if len(rows) else "its job was not done"
        raise DataError(f"{model} could not be trained: {reason}")
    table = load_predictions(run.plan.jobs, run.out, run.experiment.seeds)
    found = scores(keep_common(check_predictions(table))).droplevel("seed")
    order = [model, *(name for name in found.index if name != model)]
    entry = read_entry(run.out / job.place)
    columns = [name for name in SHOWN if name in found]
    with writing_to(run.out):
        history = _draw(entry, model)
    return Outcome(entry, found.loc[order, columns], history)


def _draw(entry: Entry, model: str) -> Path | None:
    history = History.from_dict(entry.metadata["history"])
    if len(history.epochs) < 2:
        return None
    path = entry.folder / "history.png"
    with replacing(path) as stream:
        plot_history(history, model).savefig(stream, dpi=120, format="png")
    return path
