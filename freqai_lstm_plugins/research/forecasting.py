"""Forecasts of the test rows of a job, in the label's own units.

Rows of all symbols come as one table. What an ensemble's weights may see of labels is told symbol
by symbol, by the time at which each is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.features.labels import KNOWN_AT, LABEL
from freqai_lstm_plugins.models.contract import Model, Predictions
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor, KnownLabels

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.assembly import Assembled
    from freqai_lstm_plugins.data.scaling import Scaling
    from freqai_lstm_plugins.data.splits import FoldRows

# Share of the labels' deviation that a forecast differs from zero by only in floating point.
ROUND_OFF = 1e-12


def predict_test(
    model: Model,
    assembled: Assembled,
    split: FoldRows,
    frame: pd.DataFrame,
    symbols: np.ndarray[Any, Any],
) -> pd.DataFrame:
    """Return forecasts of the test rows at which a window ends, in the label's own units."""
    wanted = assembled.has_window & split.test
    scaling = assembled.data.scaling
    assert scaling is not None
    found = forecast(model, assembled.rows, wanted, frame, symbols, scaling)
    table = pd.DataFrame(
        {
            "date": frame["date"],
            "symbol": symbols,
            "prediction": in_label_units(scaling, found.point),
            "label": frame[LABEL],
            "known_at": frame[KNOWN_AT],
            **_ends(scaling, found),
        }
    )
    return table[wanted].reset_index(drop=True)


def forecast(
    model: Model,
    rows: np.ndarray[Any, Any],
    wanted: np.ndarray[Any, Any],
    frame: pd.DataFrame,
    symbols: np.ndarray[Any, Any],
    scaling: Scaling,
) -> Predictions:
    """Forecast test rows; weights that follow labels see those that are known by each row's time.

    Args:
        model: A fitted model.
        rows: (N, F) scaled rows.
        wanted: (N,) test rows at which a window ends.
        frame: N rows with dates, labels and when these are known.
        symbols: (N,) name of each row's symbol; losses of one symbol are no evidence for another.
        scaling: What the training rows told.
    """
    if not isinstance(model, EnsembleRegressor) or not model.follows_labels:
        return model.predict_windows(rows, wanted)
    said = model.forecast_members(rows, wanted)
    found = model.combined(said)
    point = found.point.copy()
    lower, upper = (None if end is None else end.copy() for end in (found.lower, found.upper))
    for symbol in np.unique(symbols[wanted]):
        own = np.flatnonzero(symbols == symbol)
        part = model.combined(said[:, own], _known_labels(frame.iloc[own], wanted[own], scaling))
        point[own] = part.point
        for end, of_part in ((lower, part.lower), (upper, part.upper)):
            if end is not None:
                end[own] = of_part
    return Predictions(point, lower, upper)


def _known_labels(
    frame: pd.DataFrame, is_test: np.ndarray[Any, Any], scaling: Scaling
) -> KnownLabels:
    known_at = known_at_dates(moments(frame["date"]), frame)
    targets = scaling.scale_targets(frame[[LABEL]].to_numpy(dtype=np.float64))
    return KnownLabels(targets, np.arange(len(frame)), is_test, known_at)


def moments(dates: pd.Series) -> np.ndarray[Any, Any]:
    """Return dates as numpy's moments, which compare fast."""
    return dates.to_numpy(dtype="datetime64[ns]")


def known_at_dates(dates: np.ndarray[Any, Any], frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return the number of the first of the dates by which each row's label is known."""
    known = moments(frame[KNOWN_AT])
    found = np.searchsorted(dates, known, side="left").astype(np.int64)
    # A label that is never known lies beyond all dates.
    found[np.isnat(known)] = len(dates)
    return found


def _ends(scaling: Scaling | None, found: Predictions) -> dict[str, Any]:
    if found.lower is None or found.upper is None:
        return {}
    return {
        "lower": in_label_units(scaling, found.lower),
        "upper": in_label_units(scaling, found.upper),
    }


def in_label_units(scaling: Scaling | None, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return forecasts (N, 1) of standardized labels as (N,) labels.

    What differs from zero by round-off alone is zero: `naive_zero` says the same of every symbol,
    and crumbs of floating point must not put symbols in an order.
    """
    assert scaling is not None
    found = scaling.unscale_targets(values)[:, 0]
    return np.where(np.abs(found) < ROUND_OFF * scaling.target_std[0], 0.0, found)
