"""What is to be predicted: returns of the future, and when they are known.

A label is a DataFrame of two columns with the index of the candles it was made of: `label` and
`known_at`, the time (opening) of the last candle that the label uses. Where the label is unknown
both are empty, as at the newest rows.

Bars are counted in the symbol's own candles: a candle whose close is NaN does not count, so in a
symbol that was halted h bars may be many days, and `known_at` says how many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LABEL, KNOWN_AT = "label", "known_at"
# Standard deviation of ranks spread evenly over an interval of length 1.
_RANK_DEVIATION = 12**-0.5


def future_return(candles: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Return close[t + horizon] / close[t] - 1.

    Raises:
        DataError: The horizon is no integer of at least 1, or columns or the order of dates do not
            serve.
    """
    return _forward(candles, 0, _count(horizon, "horizon", 1))


def volatility_scaled_return(
    candles: pd.DataFrame, horizon: int, volatility_window: int
) -> pd.DataFrame:
    """Return the future return in units of the trailing volatility.

    The volatility is the sample standard deviation of the last `volatility_window` returns of one
    bar, up to and with row t. Where it is zero, there is no label.

    Raises:
        DataError: As `future_return`, or fewer than two returns make the volatility.
    """
    label = future_return(candles, horizon)
    window = _count(volatility_window, "volatility_window", 2)
    close = candles["close"].dropna()
    volatility = (close / close.shift() - 1).rolling(window).std()
    label[LABEL] /= volatility.reindex(candles.index)
    return _known_only(label)


def qlib_return(candles: pd.DataFrame) -> pd.DataFrame:
    """Return qlib's `Ref($close, -2) / Ref($close, -1) - 1`: from the next close to that after.

    It is what a forecast made at the close of t earns that is traded at the next close.

    Raises:
        DataError: Columns or the order of dates do not serve.
    """
    return _forward(candles, 1, 2)


def given_label(table: pd.DataFrame, column: str, horizon: int) -> pd.DataFrame:
    """Take a column as the label, and say when it is known: `horizon` rows later.

    A row with less than `horizon` rows after it has no label: when it is known can't be told.

    Raises:
        DataError: The column or the date is missing, or the dates are not in order.
    """
    _require(table, ("date", column))
    later = table["date"].shift(-_count(horizon, "horizon", 1))
    label = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
    return _known_only(pd.DataFrame({LABEL: label.where(later.notna()), KNOWN_AT: later}))


def _forward(candles: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Return close[t + last] / close[t + first] - 1, known at t + last."""
    _check(candles)
    # Only where there is a price are there bars to count; an empty row has no label of its own.
    own = candles[candles["close"].notna()]
    label = own["close"].shift(-last) / own["close"].shift(-first) - 1
    table = pd.DataFrame({LABEL: label, KNOWN_AT: own["date"].shift(-last)})
    return _known_only(table.reindex(candles.index))


def _known_only(table: pd.DataFrame) -> pd.DataFrame:
    return table.where(np.isfinite(table[LABEL]))


def _require(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise DataError(
            f"A label of the columns {' and '.join(columns)} lacks {' and '.join(lacking)}."
        )
    dates = table["date"]
    if not (dates.is_monotonic_increasing and dates.is_unique):
        raise DataError(
            "Labels need candles in order of their dates, each date once: sort them, and drop "
            "what stands twice. Several symbols are labelled one by one."
        )


def _check(candles: pd.DataFrame) -> None:
    _require(candles, ("date", "close"))
    if (candles["close"] <= 0).any():
        date = candles.loc[candles["close"] <= 0, "date"].iloc[0]
        raise DataError(f"The close of {date} is not above 0: make it NaN, and it is left out.")


def _count(value: int, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(f"{name} must be an integer of at least {least}, not {value!r}.")
    return int(value)


def clipped(label: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Return the label with values beyond -limit..limit set to the nearer end."""
    if not limit > 0:
        raise DataError(f"A label is clipped at a number above 0, not {limit!r}.")
    return label.assign(**{LABEL: label[LABEL].clip(-limit, limit)})


def cross_sectional_rank(
    labels: Mapping[str, pd.DataFrame], dates: Mapping[str, pd.Series[pd.Timestamp]]
) -> dict[str, pd.DataFrame]:
    """Replace labels by their rank among the symbols of the same date, with deviation 1 around 0.

    Equal labels share the mean of their ranks. The n ranks of a date lie in equal steps on
    -1.73..1.73 (an even spread of deviation 1; qlib's CSRankNorm without its offset of 1 / 2n).

    Args:
        labels: Labels by symbol.
        dates: Dates of the labels' rows by symbol, same index.

    Returns:
        Labels by symbol. A date with one symbol only has none. A rank is known when the last of
        the labels that it compares is known.
    """
    return _across(labels, dates, _ranked)


def cross_sectional_zscore(
    labels: Mapping[str, pd.DataFrame], dates: Mapping[str, pd.Series[pd.Timestamp]]
) -> dict[str, pd.DataFrame]:
    """Replace labels by their distance from the date's mean in the date's sample deviations.

    Where all symbols of a date have the same label, it becomes 0. Arguments and what is returned
    are as of `cross_sectional_rank`.
    """
    return _across(labels, dates, _standardised)


def _ranked(wide: pd.DataFrame) -> pd.DataFrame:
    count = wide.notna().sum(axis=1)
    centred = wide.rank(axis=1).sub((count + 1) / 2, axis=0)
    return centred.div(count, axis=0) / _RANK_DEVIATION


def _standardised(wide: pd.DataFrame) -> pd.DataFrame:
    same = wide.max(axis=1) == wide.min(axis=1)
    deviation = wide.std(axis=1).mask(same, np.inf)
    return wide.sub(wide.mean(axis=1), axis=0).div(deviation, axis=0)


def _across(
    labels: Mapping[str, pd.DataFrame],
    dates: Mapping[str, pd.Series[pd.Timestamp]],
    compare: Callable[[pd.DataFrame], pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    by_date = {
        symbol: label.set_axis(pd.DatetimeIndex(dates[symbol]))[label[LABEL].notna().to_numpy()]
        for symbol, label in labels.items()
    }
    wide = pd.DataFrame({symbol: label[LABEL] for symbol, label in by_date.items()})
    wide = wide[wide.notna().sum(axis=1) > 1]
    compared = compare(wide)
    known_at = pd.DataFrame({symbol: label[KNOWN_AT] for symbol, label in by_date.items()})
    last = known_at.max(axis=1)
    result = {}
    for symbol, label in labels.items():
        rows = pd.DatetimeIndex(dates[symbol])
        table = pd.DataFrame({LABEL: compared[symbol].reindex(rows), KNOWN_AT: last.reindex(rows)})
        result[symbol] = _known_only(table.set_axis(label.index))
    return result
