"""The one table that every figure of a comparison is made of.

A row is one prediction of one model, trained from one seed, for one symbol and candle:

| column | type | meaning |
|---|---|---|
| `date` | time | the candle the window ends at |
| `symbol` | text | pair or share |
| `model` | text | its name in the experiment |
| `seed` | integer | seed of the training |
| `fold` | integer | test fold the candle belongs to |
| `prediction` | float | in units of the label; NaN where the model has none |
| `label` | float | what came true; NaN where nobody knows yet |
| `known_at` | time | time of the last candle the label uses |
| `lower`, `upper` | float | ends of a prediction interval, where the models have any |

No two rows share `date`, `symbol`, `model` and `seed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError

KEY = ["model", "seed", "symbol", "date"]
TEXTS = ("symbol", "model")
WHOLES = ("seed", "fold")
TIMES = ("date", "known_at")
NUMBERS = ("prediction", "label")
ENDS = ("lower", "upper")
COLUMNS = ("date", "symbol", "model", "seed", "fold", "prediction", "label", "known_at")

FloatArray = npt.NDArray[np.float64]
Across = Literal["symbol", "date"]


def check_predictions(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of the table in order of model, seed, symbol and date.

    Raises:
        DataError: A column is missing or of a wrong type, a number is infinite, a row stands twice,
            a label is known before its candle, or the table is empty.
    """
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise DataError(f"The predictions lack the columns {missing}: they need {list(COLUMNS)}.")
    if table.empty:
        raise DataError("The table of predictions is empty, so there is nothing to judge.")
    ends = [name for name in ENDS if name in table]
    if len(ends) == 1:
        raise DataError(f"The predictions have {ends[0]!r} alone: an interval needs {list(ENDS)}.")
    _check_types(table, [*NUMBERS, *ends])
    ordered = table.loc[:, [*COLUMNS, *ends]].sort_values(KEY, ignore_index=True)
    twice = ordered.duplicated(KEY)
    if twice.any():
        raise DataError(f"{twice.sum()} predictions stand twice: {_name(ordered[twice])}.")
    early = ordered["label"].notna() & ~(ordered["known_at"] >= ordered["date"])
    if early.any():
        raise DataError(f"A label is known before its candle: {_name(ordered[early])}.")
    return ordered


def _check_types(table: pd.DataFrame, numbers: list[str]) -> None:
    for name in TIMES:
        if not pd.api.types.is_datetime64_any_dtype(table[name]):
            raise DataError(f"The column {name!r} holds {table[name].dtype}, not times.")
    for name in WHOLES:
        if not pd.api.types.is_integer_dtype(table[name]):
            raise DataError(f"The column {name!r} holds {table[name].dtype}, not whole numbers.")
    for name in numbers:
        if not pd.api.types.is_float_dtype(table[name]):
            raise DataError(f"The column {name!r} holds {table[name].dtype}, not floats.")
        infinite = np.isinf(table[name].to_numpy())
        if infinite.any():
            raise DataError(f"The {name} is infinite in {_name(table[infinite])}.")
    for name in (*TEXTS, *TIMES[:1]):
        if table[name].isna().any():
            raise DataError(f"The column {name!r} is empty in some rows.")


def _name(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['model']}, seed {first['seed']}, {first['symbol']} at {first['date']}"


def keep_common(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose candle every model and seed has a prediction and a label for.

    Only these compare models fairly: one that stays silent where it is hard would look better.
    """
    usable = table[np.isfinite(table["prediction"]) & np.isfinite(table["label"])]
    n_runs = len(table[["model", "seed"]].drop_duplicates())
    n_present = usable.groupby(["symbol", "date"], sort=False)["prediction"].transform("size")
    return usable[n_present == n_runs].reset_index(drop=True)


def pivot_forecasts(table: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    """Return one run's predictions, a line a date and a column a symbol, labelled or not."""
    rows = table[(table["model"] == model) & (table["seed"] == seed)]
    return rows.pivot(index="date", columns="symbol", values="prediction").sort_index()


@dataclass(frozen=True)
class Wide:
    """Predictions and labels side by side, to be compared line by line.

    Attributes:
        index: (N,) what a line belongs to: model, seed, and date or symbol.
        columns: (M,) what stands side by side: symbols or dates, in order.
        prediction: (N, M), NaN where prediction or label is missing.
        label: (N, M), NaN in the same places.
    """

    index: pd.MultiIndex
    columns: pd.Index[Any]
    prediction: FloatArray
    label: FloatArray


def widen(table: pd.DataFrame, across: Across) -> Wide:
    """Lay the rows that have prediction and label side by side; lines without any are left out.

    Args:
        table: Predictions, checked.
        across: What stands side by side: the symbols of each date, or the dates of each symbol.
    """
    usable = np.isfinite(table["prediction"].to_numpy()) & np.isfinite(table["label"].to_numpy())
    rows = table if usable.all() else table[usable]
    if rows.empty:
        raise DataError("No row has both a prediction and a label, so there is nothing to judge.")
    names = ["model", "seed", "date" if across == "symbol" else "symbol"]
    columns, side = pd.factorize(rows[across], sort=True)
    # One number for each line is much faster to group by than three columns.
    codes = [pd.factorize(rows[name], sort=True) for name in names]
    sizes = tuple(len(values) for _, values in codes)
    flat = np.ravel_multi_index(tuple(code for code, _ in codes), sizes)
    is_used = np.zeros(math.prod(sizes), dtype=bool)
    is_used[flat] = True
    found = np.flatnonzero(is_used)
    lines = (np.cumsum(is_used) - 1)[flat]
    prediction = np.full((len(found), len(side)), np.nan)
    label = prediction.copy()
    prediction[lines, columns] = rows["prediction"].to_numpy()
    label[lines, columns] = rows["label"].to_numpy()
    # From codes: made from values, the index would sort them all again.
    levels: list[Any] = [values for _, values in codes]
    places: list[Any] = list(np.unravel_index(found, sizes))
    index = pd.MultiIndex(levels=levels, codes=places, names=names)
    return Wide(index, pd.Index(side), prediction, label)
