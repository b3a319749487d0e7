"""Candles as arrays: what a frame must hold, and which of its values are unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features.rolling import Array, shift
from freqai_lstm_plugins.names import closest

PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
SYMBOLS = ("symbol", "pair", "instrument", "ticker")
EPSILON = 1e-12
"""What qlib adds to denominators."""

Step = str | timedelta | pd.Timedelta


@dataclass(frozen=True)
class Candles:
    """Prices and volumes (N,), and what features derive from them more than once.

    Attributes:
        open, high, low, close, vwap: Prices; NaN where unknown.
        volume: Volume; NaN where unknown.
        partial: Whether windows that are not full count, and everything else is as qlib does it.
        rows: Place of each of the frame's rows among the N, which also hold the missing candles.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    vwap: Array
    partial: bool
    rows: npt.NDArray[np.intp]

    @cached_property
    def change(self) -> Array:
        """Change of the close."""
        return self.close - shift(self.close, 1)

    @cached_property
    def growth(self) -> Array:
        """Close over the close before."""
        close = self._stored(self.close)
        return as_float64(close / shift(close, 1))

    @cached_property
    def log_volume(self) -> Array:
        """Logarithm of volume + 1."""
        return as_float64(np.log(self._stored(self.volume) + 1))

    @cached_property
    def log_volume_growth(self) -> Array:
        """Logarithm of volume over the volume before, + 1; NaN after a bar without volume."""
        volume = self._stored(self.volume)
        return finite(as_float64(np.log(volume / shift(volume, 1) + 1)))

    @cached_property
    def moved_volume(self) -> Array:
        """Volume, weighted by how far the close moved."""
        return np.abs(self.growth - 1) * self.volume

    def _stored(self, values: Array) -> npt.NDArray[Any]:
        return values.astype(np.float32) if self.partial else values

    def quotient(self, numerator: Array, denominator: Array) -> Array:
        """Divide; zero by zero is 0, and anything else by zero is unknown.

        qlib adds 1e-12 to the denominator, which gives the same 0 but disturbs the features of
        coins that cost little more than that.
        """
        if self.partial:
            return numerator / (denominator + EPSILON)
        result = finite(numerator / denominator)
        result[(numerator == 0) & (denominator == 0)] = 0.0
        return result

    def over_volume(self, numerator: Array) -> Array:
        """Divide by the volume; a bar without any gives no finite number, a huge one in qlib."""
        return numerator / (self.volume + EPSILON if self.partial else self.volume)


def read_candles(
    frame: pd.DataFrame, *, longest: int, step: Step | None = None, partial: bool = False
) -> Candles:
    """Check a frame of one symbol's candles, oldest first, and take its values.

    Args:
        frame: Columns `open`, `high`, `low`, `close`, `volume` of numbers, and `vwap` if known;
            without it (high + low + close) / 3 stands in. Dates are taken from the column `date`
            or from the index, if they are there.
        longest: The longest look back of any feature, in candles.
        step: Time from candle to candle; None takes rows as they follow each other.
        partial: Take values as qlib does: rounded to float32, and as they are. Otherwise what
            cannot be is unknown: infinities, prices that are not positive, negative volumes, and
            the prices of a candle whose high is below its low.

    Raises:
        DataError: A column is missing or holds no numbers, dates are unsorted, duplicate or off
            the step, or the frame holds several symbols.
    """
    _require_one_symbol(frame)
    values = {name: _numbers(frame, name) for name in COLUMNS}
    if "vwap" in frame:
        values["vwap"] = _numbers(frame, "vwap")
    if partial:
        values = {name: as_float64(column.astype(np.float32)) for name, column in values.items()}
    else:
        values = {name: _possible(name, column) for name, column in values.items()}
        upside_down = values["high"] < values["low"]
        for name in values.keys() - {"volume"}:
            values[name][upside_down] = np.nan
    if "vwap" not in values:
        values["vwap"] = (values["high"] + values["low"] + values["close"]) / 3
    rows = _places(frame, step, longest)
    return Candles(
        **{name: _spread(column, rows) for name, column in values.items()},
        partial=partial,
        rows=rows,
    )


def finite(values: Array) -> Array:
    """Return the values with NaN for infinity."""
    return np.where(np.isinf(values), np.nan, values)


def positive(values: Array) -> Array:
    """Return the values with NaN for what is not above zero."""
    return np.where(values > 0, values, np.nan)


def as_float64(values: npt.NDArray[Any]) -> Array:
    """Return the values in float64, without a copy where they are."""
    return values.astype(np.float64, copy=False)


def _possible(name: str, values: Array) -> Array:
    known = finite(values)
    return np.where(known >= 0, known, np.nan) if name == "volume" else positive(known)


def _require_one_symbol(frame: pd.DataFrame) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"Candles must be a pandas DataFrame, and {type(frame).__name__} was given."
        )
    found: dict[Any, pd.Index] = {
        name: pd.Index(frame[name].dropna().unique()) for name in SYMBOLS if name in frame
    }
    if isinstance(frame.index, pd.MultiIndex):
        levels = [frame.index.get_level_values(place) for place in range(frame.index.nlevels)]
        found |= {
            level.name: level.unique()
            for level in levels
            if not isinstance(level, pd.DatetimeIndex)
        }
    for name, symbols in found.items():
        if len(symbols) > 1:
            raise DataError(
                f"The frame holds {len(symbols)} symbols in {name!r} (first {symbols[0]!r}, "
                f"{symbols[1]!r}), and windows must not mix them: call once a symbol, for example "
                f"by groupby."
            )


def _numbers(frame: pd.DataFrame, name: str) -> Array:
    if name not in frame:
        hint = closest(name, (str(column) for column in frame.columns))
        upper = [column for column in frame.columns if str(column).lower() == name]
        if upper:
            hint = f" Rename {upper[0]!r} to lower case."
        raise DataError(f"Candles lack the column {name!r}; needed are {', '.join(COLUMNS)}.{hint}")
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise DataError(
            f"Candles have the column {name!r} {column.shape[1]} times; drop all but one."
        )
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not is_number and len(column):
        raise DataError(
            f"Column {name!r} holds {column.dtype} (first {column.iloc[0]!r}), not numbers: "
            f"convert it by pandas.to_numeric."
        )
    return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _dates(frame: pd.DataFrame) -> pd.DatetimeIndex | None:
    source: Any = None
    if "date" in frame:
        source = frame["date"]
        if pd.api.types.is_numeric_dtype(source):
            raise DataError(
                f"Column 'date' holds {source.dtype}, and numbers do not say whether they are "
                f"seconds or less: convert it, for example by pandas.to_datetime(date, unit='ms')."
            )
    elif isinstance(frame.index, pd.DatetimeIndex):
        source = frame.index
    elif isinstance(frame.index, pd.MultiIndex):
        levels = [frame.index.get_level_values(place) for place in range(frame.index.nlevels)]
        source = next((level for level in levels if isinstance(level, pd.DatetimeIndex)), None)
    if source is None:
        return None
    try:
        return pd.DatetimeIndex(pd.to_datetime(source, utc=True, format="ISO8601"))
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"Column 'date' is no ISO date in every row: {reason}") from error


def _places(frame: pd.DataFrame, step: Step | None, longest: int) -> npt.NDArray[np.intp]:
    """Return where each row lies among all candles, those that are missing included."""
    dates = _dates(frame)
    if dates is None:
        if step is not None:
            raise DataError("A step needs dates: add a column 'date' or an index of dates.")
        return np.arange(len(frame))
    gaps = np.diff(dates.tz_localize(None).to_numpy())
    if dates.hasnans or (gaps <= np.timedelta64(0)).any():
        _refuse_order(dates)
    if step is None:
        return np.arange(len(frame))
    candle = _timedelta(step)
    steps, rest = np.divmod(gaps, candle)
    if rest.astype(np.int64).any():
        later = int(rest.astype(np.int64).nonzero()[0][0]) + 1
        raise DataError(
            f"The candle at {dates[later]} comes {dates[later] - dates[later - 1]} after the one "
            f"before, which is no multiple of the step {step}. Give the candles' own timeframe."
        )
    # Beyond the longest look back a longer gap hides nothing more.
    return np.concatenate([[0], np.cumsum(np.minimum(steps, longest + 1))])[: len(frame)]


def _refuse_order(dates: pd.DatetimeIndex) -> None:
    if dates.hasnans:
        raise DataError(f"{np.count_nonzero(dates.isna())} candles have no date: drop them.")
    double = dates[dates.duplicated()]
    if len(double):
        raise DataError(
            f"{len(double)} dates stand twice (first {double[0]}): keep one candle a date, and one "
            f"symbol a frame."
        )
    raise DataError("Candles are not in the order of their dates: sort them by date.")


def _timedelta(step: Step) -> np.timedelta64:
    # freqtrade's month is a capital letter, which pandas reads as a minute, and no fixed time.
    is_month = isinstance(step, str) and step.strip().endswith("M")
    is_time = isinstance(step, (str, timedelta)) and not is_month
    try:
        candle = pd.Timedelta(step).to_timedelta64() if is_time else np.timedelta64(0)
    except ValueError:
        candle = np.timedelta64(0)
    if not candle > np.timedelta64(0):
        raise DataError(f"step is {step!r}; it must be a time above zero, such as '5m' or '1h'.")
    return candle


def _spread(values: Array, rows: npt.NDArray[np.intp]) -> Array:
    """Put the frame's values at their places; what lies between is unknown."""
    if not len(values) or rows[-1] == len(values) - 1:
        return values
    spread = np.full(rows[-1] + 1, np.nan)
    spread[rows] = values
    return spread
