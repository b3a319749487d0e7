"""Which columns features and predictions may have, so that none is lost or told the future."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

STATISTICS = ("mean", "std")

# What FreqAI puts beside every prediction, in a backtest or live.
_OF_THE_HOST = (
    "date",
    "do_predict",
    "DI_values",
    "date_pred",
    "high_price",
    "low_price",
    "close_price",
)


def refuse_unsound_columns(
    pair: str,
    frame_columns: pd.Index,
    labels: Sequence[str],
    extra_columns: Sequence[str],
    extra_returns: Iterable[str] = (),
) -> None:
    """Refuse labels that are features too, and columns of predictions that share a name.

    FreqAI takes every column with `%` for a feature and every one with `&` for a label, and writes
    the statistics of a prediction beside it; of two columns with one name the later one wins.

    Args:
        pair: For messages.
        frame_columns: Columns of the strategy's frame, labels included.
        labels: Columns that FreqAI takes for labels.
        extra_columns: Columns that predictions have beside the labels.
        extra_returns: Columns that a model adds by `extra_returns_per_train`.

    Raises:
        ConfigError: Names both columns, or the label that is a feature.
    """
    for name in labels:
        if "%" in name:
            raise ConfigError(
                f"{pair}: the column {name!r} is a label by its '&' and a feature by its '%', so "
                f"the model would be given what it is to predict. Rename the label without '%'."
            )
    for name in extra_columns:
        if name.startswith("%"):
            raise ConfigError(
                f"{pair}: {name!r} is to be a column of the predictions, but FreqAI takes names "
                f"with '%' for features. Rename it."
            )
    owners = dict.fromkeys(_OF_THE_HOST, "a column of FreqAI's own")
    for column, what in _brought(labels, extra_columns, extra_returns):
        other = owners.get(column)
        if other is None and column not in labels and column in frame_columns:
            other = "another column of the strategy's frame"
        if other is not None:
            raise ConfigError(
                f"{pair}: {what} and {other} are both named {column!r}, so one would overwrite the "
                f"other. Rename one of them."
            )
        owners[column] = what


def _brought(
    labels: Sequence[str], extra_columns: Sequence[str], extra_returns: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield each column that comes with a prediction, and what it is."""
    for name in labels:
        yield name, f"the label {name!r}"
    for name in extra_columns:
        yield name, f"the predicted column {name!r}"
    for name in (*labels, *extra_columns):
        for statistic in STATISTICS:
            yield f"{name}_{statistic}", f"the '{statistic}' that FreqAI keeps of {name!r}"
    for name in extra_returns:
        yield name, f"{name!r} of extra_returns_per_train"


def answer_columns(stored: pd.DataFrame, extra_returns: Mapping[str, Any]) -> list[str]:
    """Return the labels and extra columns of stored predictions, without what stands beside them.

    Args:
        stored: Predictions as FreqAI keeps them, of a backtest or of a bot.
        extra_returns: Columns that a model adds by `extra_returns_per_train`.
    """
    beside = {f"{name}_{statistic}" for name in stored for statistic in STATISTICS}
    beside |= {*_OF_THE_HOST, *extra_returns}
    names = map(str, stored.columns)
    return [name for name in names if name not in beside and not name.startswith("%%")]


def without_pair(name: str, pair: str) -> str:
    """Leave a pair out of the name of its feature, where FreqAI has put it.

    >>> without_pair("%-return_BTC/USDT_5m", "BTC/USDT")
    '%-return_5m'
    """
    # FreqAI takes colons out of the names of columns.
    return name.replace(f"_{pair.replace(':', '')}_", "_") if name.startswith("%") else name


def holds_no_prediction(stored: pd.DataFrame) -> bool:
    """Tell whether stored predictions are the zeros that stand for a training that failed.

    Without a window a model of ours predicts the mean label, or a class, and not zero.
    """
    if "do_predict" not in stored or stored["do_predict"].any():
        return False
    return bool((stored[answer_columns(stored, {})] == 0).all(axis=None))


def refuse_unusable_features(frame: pd.DataFrame, features: Sequence[str], pair: str) -> None:
    """Refuse a feature that holds no number at all, or something else than numbers.

    Raises:
        DataError: Names the pair, the column, what it holds and what to do.
    """
    for name in features:
        column = frame[name]
        kind = column.dtype
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
            values = column.to_numpy(dtype=float, na_value=np.nan)
        else:
            values = _as_numbers(column, pair)
        if len(values) and not np.isfinite(values).any():
            raise DataError(
                f"{pair}: the feature {name!r} is missing in {len(values)} of {len(values)} "
                f"candles. Check how it is computed, load more candles before the training "
                f"period, or leave it out."
            )


def _as_numbers(column: pd.Series, pair: str) -> npt.NDArray[np.floating]:
    numbers = (
        pd.to_numeric(column, errors="coerce")
        if column.dtype == object
        else pd.Series(np.nan, index=column.index)
    )
    foreign = column[column.notna() & numbers.isna()]
    if len(foreign):
        value = foreign.iloc[0]
        raise DataError(
            f"{pair}: the feature {column.name!r} holds {column.dtype} values such as "
            f"{str(value)!r}, and a net needs numbers. Turn it into numbers (a flag of 0 and 1 for "
            f"each text, a difference in seconds for dates), or name it without '%'."
        )
    return np.asarray(numbers, dtype=float)
