"""The two parts of the data: what a search sees, and the holdout that it does not.

The cut is a date. The part before it is an experiment of its own whose data end there, so candles
after the cut reach no table, no label and no scaling of the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqai_lstm_plugins.data.candles import as_utc, between, find_files, last_moment, read_table
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.experiment import parse_experiment, resolved

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.experiment_schema import Experiment

TUNED, DEFAULTS = "tuned", "defaults"


@dataclass(frozen=True)
class Cut:
    """Where the holdout begins.

    Attributes:
        end: Last date that the search sees, with its time.
        n_bars: Dates of the holdout, when the cut was made.
    """

    end: str
    n_bars: int


def section_of(experiment: Experiment, model: str) -> dict[str, Any]:
    """Return what an experiment says of a model, which it need not name."""
    if model in experiment.models:
        return dict(experiment.models[model].model_dump())
    return {"kind": model}


def make_cut(experiment: Experiment, share: float, window: int) -> Cut:
    """Cut the holdout off the end of the data.

    Args:
        experiment: The experiment; with fixed dates its test dates are the holdout.
        share: Share of the dates that are held out.
        window: Largest W of the search.

    Raises:
        ConfigError: The share is none, or fixed dates lack validation dates to tune on.
        DataError: The holdout is shorter than a label and a window.
    """
    dates = _dates(experiment)
    if experiment.split.kind == "dates":
        if experiment.split.valid is None or experiment.split.test is None:
            raise ConfigError(
                'split.kind = "dates" needs split.valid to tune on: its test dates are the holdout.'
            )
        n_bars = int((dates >= as_utc(experiment.split.test[0])).sum())
    else:
        if not 0 < share < 1:
            raise ConfigError(f"The share of the holdout must lie between 0 and 1, not {share:g}.")
        n_bars = round(share * len(dates))
    least = experiment.label.reach + window
    if n_bars < least:
        raise DataError(
            f"The holdout has {n_bars} of {len(dates)} dates, fewer than a label and a window need "
            f"({experiment.label.reach} + {window}): give a larger --holdout-share."
        )
    if n_bars >= len(dates):
        raise DataError(f"The holdout takes all {len(dates)} dates, and leaves none to tune on.")
    return Cut(dates[len(dates) - n_bars - 1].isoformat(), n_bars)


def _dates(experiment: Experiment) -> pd.DatetimeIndex:
    data = experiment.data
    files = find_files(Path(data.folder), data.symbols, data.timeframe)
    found = pd.DatetimeIndex([], tz="UTC")
    for file in files:
        dates = between(read_table(file.path)[["date"]], data.start, data.end)["date"]
        found = found.union(pd.DatetimeIndex(dates.drop_duplicates()))
    return found.sort_values()


def with_models(experiment: Experiment, models: dict[str, Any], title: str) -> Experiment:
    """Return the same experiment for other models, whose report says what it is about."""
    values = resolved(experiment)
    named = ": ".join(part for part in (experiment.output.title, title) if part)
    values["output"] = {**values["output"], "title": named}
    return parse_experiment({**values, "models": models})


def tuning_part(experiment: Experiment, model: str, cut: Cut) -> Experiment:
    """Return the experiment of a search: one model, on the data before the cut."""
    values = resolved(experiment)
    values["models"] = {model: section_of(experiment, model)}
    values["data"]["end"] = cut.end
    if experiment.split.kind == "dates":
        values["split"]["test"] = values["split"].pop("valid")
    return parse_experiment(values)


def holdout_part(experiment: Experiment, cut: Cut) -> Experiment:
    """Return the experiment whose test folds lie in the holdout.

    Folds are as long as the experiment's, as far as they fit.
    """
    values = resolved(experiment)
    if experiment.split.kind == "walk_forward":
        dates = _dates(experiment)
        n_bars = int((dates > last_moment(cut.end)).sum())
        folds = max(1, n_bars // experiment.split.test_bars)
        values["split"] |= {"folds": folds, "test_bars": n_bars // folds}
    return parse_experiment(values)
