"""Reading candles of any bar size from folders of files, and the calendar they share.

Candles are a DataFrame with the columns date (UTC, when the bar opens), open, high, low, close and
volume. Reading refuses what is no table of candles and nothing else: rows in disorder, rows that
stand twice, prices of zero and NaN come through as they are, for a check of the data to report.

Files bear freqtrade's names (`BTC_USDT-1h.feather`, symbol `BTC/USDT`) or plain ones (`FPT.csv`,
symbol `FPT`).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api import types

from freqai_lstm_plugins.errors import DataError, MissingExtraError
from freqai_lstm_plugins.names import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray

Candles: TypeAlias = pd.DataFrame

PRICES = ("open", "high", "low", "close")
COLUMNS = ("date", *PRICES, "volume")
SUFFIXES = (".feather", ".parquet", ".csv")

_DAYS_PER_YEAR = 365.2425
# freqtrade: pair, timeframe, and for futures the kind of candle.
_FREQTRADE_NAME = re.compile(r"(?P<pair>.+)-(?P<timeframe>\d+[smhdwMy])(-(?P<kind>[a-z_]+))?")
_ISO_DATE = re.compile(r"\d{4}(-\d{2}){0,2}$|\d{4}-\d{2}-\d{2}[T ]")
# Milliseconds of 1973: numbers below are days such as 20120103, or seconds.
_LEAST_MILLISECONDS = 100_000_000_000


@dataclass(frozen=True)
class CandleFile:
    """A file of candles.

    Attributes:
        symbol: The pair, or for plain names what stands before the suffix.
        timeframe: Bar size as the file's name states it; None where it states none.
        path: Where it lies.
    """

    symbol: str
    timeframe: str | None
    path: Path


def open_times(candles: Candles) -> IntArray:
    """Give the candles' open times in milliseconds since the epoch, (N,)."""
    dates = candles["date"].dt.tz_convert("UTC").dt.as_unit("ms")
    return np.asarray(dates.astype("int64"), dtype=np.int64)


def candle_rows(candles: Candles) -> FloatArray:
    """Give open, high, low, close and volume as (N, 5)."""
    return candles[[*PRICES, "volume"]].to_numpy(dtype=np.float64)


def make_candles(times: IntArray, rows: FloatArray) -> Candles:
    """Build candles from open times in milliseconds (N,) and rows (N, 5)."""
    candles = pd.DataFrame(rows, columns=[*PRICES, "volume"])
    candles.insert(0, "date", pd.to_datetime(times, unit="ms", utc=True).as_unit("ms"))
    return candles


def file_stem(symbol: str) -> str:
    """Return `symbol` as it may stand in a file's name.

    >>> file_stem("BTC/USDT:USDT")
    'BTC_USDT_USDT'
    """
    return re.sub(r"[^\w.-]", "_", symbol)


def find_files(
    folder: Path, symbols: Sequence[str] | None = None, timeframe: str | None = None
) -> list[CandleFile]:
    """Find the candle files of a folder, one a symbol, in the order asked for, else by name.

    Args:
        folder: A folder of feather, parquet or CSV files.
        symbols: Symbols such as `BTC/USDT` or `FPT`; None takes all.
        timeframe: Bar size such as `1h`, needed where files of several lie side by side. Files
            whose names state no bar size are taken only where no name states one.

    Raises:
        DataError: The folder, a symbol or the timeframe is missing, or a symbol stands twice.
    """
    try:
        if not folder.is_dir():
            raise DataError(
                f"{folder} is no folder: give one that holds feather, parquet or CSV files."
            )
        files = _of_timeframe(folder, timeframe)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    _refuse_twice(folder, files)
    if symbols is None:
        return files
    twice = [symbol for symbol, count in Counter(map(file_stem, symbols)).items() if count > 1]
    if twice:
        raise DataError(f"The symbol {twice[0]} is asked for twice: name it once.")
    by_stem = {file_stem(file.symbol): file for file in files}
    return [_named(symbol, by_stem, folder) for symbol in symbols]


def _of_timeframe(folder: Path, timeframe: str | None) -> list[CandleFile]:
    candidates = (_described(path) for path in sorted(folder.iterdir()))
    files = [file for file in candidates if file is not None]
    named = sorted({file.timeframe for file in files if file.timeframe is not None})
    if timeframe is None and len(named) > 1:
        raise DataError(
            f"{folder} holds candles of several timeframes ({', '.join(named)}): name one of them."
        )
    if timeframe is not None and named:
        files = [file for file in files if file.timeframe == timeframe]
    if not files:
        there = f"; its timeframes are {', '.join(named)}" if named else ""
        wanted = f"candles of {timeframe}" if timeframe else "feather, parquet or CSV files"
        raise DataError(f"{folder} holds no {wanted}{there}.")
    return files


def _described(path: Path) -> CandleFile | None:
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    match = _FREQTRADE_NAME.fullmatch(path.stem)
    if match is None:
        return CandleFile(path.stem, None, path)
    # Marks, indices and funding rates lie beside the candles of futures.
    if match["kind"] not in (None, "futures"):
        return None
    base, *rest = match["pair"].split("_", 2)
    pair = f"{base}/{':'.join(rest)}" if rest else base
    return CandleFile(pair, match["timeframe"], path)


def describe_file(path: Path) -> CandleFile:
    """Return what the name of a file of candles says.

    Raises:
        DataError: There is no such file, or its name is not that of candles.
    """
    try:
        found = _described(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if found is None:
        raise DataError(
            f"{path} is no file of candles: give a file that ends in {', '.join(SUFFIXES)}."
        )
    return found


def _refuse_twice(folder: Path, files: Iterable[CandleFile]) -> None:
    seen: dict[str, CandleFile] = {}
    for file in files:
        other = seen.setdefault(file_stem(file.symbol), file)
        if other is not file:
            raise DataError(
                f"{folder} holds {file.symbol} twice, as {other.path.name} and {file.path.name}: "
                "keep one of them."
            )


def _named(symbol: str, by_stem: Mapping[str, CandleFile], folder: Path) -> CandleFile:
    file = by_stem.get(file_stem(symbol))
    if file is not None:
        return file
    known = [file.symbol for file in by_stem.values()]
    meant = nearest(symbol, known)
    hint = f"it holds {', '.join(known)}." if meant is None else f"did you mean {meant}?"
    raise DataError(f"{folder} has no candles of {symbol}: {hint}")


def read_candles(path: Path) -> Candles:
    """Read one file of candles, rows as they stand, prices and volume as float64.

    Raises:
        DataError: The file is damaged or empty, lacks a column, or holds a date or a number that
            is none. An empty cell of a price is NaN.
        MissingExtraError: pyarrow is not installed and the file is no CSV.
    """
    table = _lower_case(read_table(path))
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise DataError(
            f"{path}: no column {', '.join(lacking)}. Candles need {', '.join(COLUMNS)}; "
            f"the file has {', '.join(map(str, table.columns))}."
        )
    numbers = {column: _numbers(table, column, path) for column in COLUMNS[1:]}
    return pd.DataFrame({"date": table["date"], **numbers})


def read_table(path: Path) -> pd.DataFrame:
    """Read a file with a column `date` (made UTC, milliseconds) and any other columns.

    Raises:
        DataError: The file is damaged or empty, or a date is none.
        MissingExtraError: pyarrow is not installed and the file is no CSV.
    """
    table = _read(path)
    if table.empty:
        raise DataError(f"{path} holds no rows.")
    names = [column for column in table.columns if str(column).lower() == "date"]
    if len(names) != 1:
        there = ", ".join(map(str, table.columns))
        raise DataError(f"{path}: needs one column named date; the file has {there}.")
    dates = _dates(table[names[0]], path)
    return table.drop(columns=names).assign(date=dates)[
        ["date", *(column for column in table.columns if column not in names)]
    ]


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path)
        return _read_arrow(path)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as {path.suffix[1:]} ({reason}).") from error


def _read_arrow(path: Path) -> pd.DataFrame:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", "research", f"Reading {path.suffix[1:]}") from error
    try:
        return pd.read_feather(path) if path.suffix == ".feather" else pd.read_parquet(path)
    except pyarrow.ArrowException as error:
        raise ValueError(error) from error


def _dates(values: pd.Series[Any], path: Path) -> pd.Series[pd.Timestamp]:
    if types.is_datetime64_any_dtype(values):
        dates = pd.to_datetime(values, utc=True)
    elif types.is_numeric_dtype(values):
        sound = values.where(values >= _LEAST_MILLISECONDS)
        dates = pd.to_datetime(sound, unit="ms", utc=True, errors="coerce")
    else:
        # Only ISO dates: nobody knows whether 03/01/2012 is in January.
        dates = pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")
    if dates.isna().any():
        row = int(np.argmax(dates.isna()))
        raise DataError(
            f"{path}: the date {values.iloc[row]!r} of row {row + 1} is none: "
            "write 2012-01-03, 2012-01-03 09:15, or milliseconds since 1970."
        )
    return dates.dt.tz_convert("UTC").dt.as_unit("ms").rename("date")


def _lower_case(table: pd.DataFrame) -> pd.DataFrame:
    lower = {
        column: str(column).lower() for column in table.columns if str(column).lower() in COLUMNS
    }
    # Where both Close and close stand there, the lower one is meant.
    return table.rename(
        columns={old: new for old, new in lower.items() if new not in table.columns}
    )


def _numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series[float]:
    values = table[column]
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    wrong = numbers.isna() & values.notna()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}: {column} of {table['date'].iloc[row]} is {values.iloc[row]!r}, no number."
        )
    return numbers


def last_moment(text: str) -> pd.Timestamp:
    """Return the last moment that an end such as `2024-12-31` includes: that of the whole day.

    >>> last_moment("2024-12-31")
    Timestamp('2024-12-31 23:59:59.999000+0000', tz='UTC')
    >>> last_moment("2024-12-31T12:00")
    Timestamp('2024-12-31 12:00:00+0000', tz='UTC')
    """
    moment = as_utc(text)
    if ":" in text:
        return moment
    return moment + pd.Timedelta(days=1) - pd.Timedelta(milliseconds=1)


def as_utc(text: str) -> pd.Timestamp:
    """Return a date as a UTC timestamp; without a zone it is taken for UTC.

    Raises:
        DataError: `text` is no date.
    """
    wrong = f"{text!r} is no date: write 2024-12-31 or 2024-12-31T12:00."
    # pandas takes 12:00 for today's and `now` for this very moment: another one in each run.
    if not _ISO_DATE.match(text):
        raise DataError(wrong)
    try:
        moment = pd.Timestamp(text)
    except ValueError as error:
        raise DataError(wrong) from error
    return moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")


def between(candles: Candles, start: str | None, end: str | None) -> Candles:
    """Return the candles from `start` to `end`, both included."""
    kept = pd.Series(True, index=candles.index)
    if start is not None:
        kept &= candles["date"] >= as_utc(start)
    if end is not None:
        kept &= candles["date"] <= last_moment(end)
    return candles[kept].reset_index(drop=True)


def union_calendar(frames: Mapping[str, Candles]) -> pd.DatetimeIndex:
    """Return the dates that at least one symbol has, in order, each once.

    In a market that never closes (bars on Saturdays and Sundays as on other days) the bars that no
    symbol has belong to the calendar too: rows on both sides of an outage do not follow one
    another. When other markets are closed is known from their dates alone.

    Raises:
        DataError: There is no candle.
    """
    dates = [frame["date"] for frame in frames.values() if len(frame)]
    if not dates:
        raise DataError("There are no candles to make a calendar of.")
    calendar = pd.DatetimeIndex(pd.concat(dates).unique(), name="date").sort_values()
    if not _never_closes(calendar):
        return calendar
    step = bar_length(calendar)
    return calendar.union(
        pd.date_range(calendar[0], calendar[-1], freq=step, unit="ms", name="date")
    )


def _never_closes(calendar: pd.DatetimeIndex) -> bool:
    # Months open on any day of the week; a few days tell nothing.
    if len(calendar) < 15 or bar_length(calendar) > pd.Timedelta(days=1):
        return False
    # Two of seven days are 0.29; closed on Fridays alone, a market has weekends of one day in six.
    return bool((calendar.day_of_week >= 5).mean() > 0.25)


def bar_length(calendar: pd.DatetimeIndex) -> pd.Timedelta:
    """Return the most frequent distance between two dates, the shorter one of two.

    Raises:
        DataError: There are fewer than two dates.
    """
    if len(calendar) < 2:
        raise DataError(f"The length of a bar takes two dates at least; there are {len(calendar)}.")
    distances, counts = np.unique(np.diff(calendar.as_unit("ms").asi8), return_counts=True)
    return pd.Timedelta(int(distances[np.argmax(counts)]), unit="ms")


def bars_per_year(calendar: pd.DatetimeIndex) -> float:
    """Return how many bars of the calendar a year has, from its first to its last date.

    >>> days = pd.date_range("2020-01-01", "2023-12-31", freq="D", tz="UTC")
    >>> round(bars_per_year(days), 4)
    365.2425

    Raises:
        DataError: There are fewer than two dates.
    """
    if len(calendar) < 2:
        raise DataError(f"Bars per year take two dates at least; there are {len(calendar)}.")
    years = (calendar[-1] - calendar[0]) / pd.Timedelta(days=_DAYS_PER_YEAR)
    return float((len(calendar) - 1) / years)


def content_hash(frame: pd.DataFrame) -> str:
    """Return a SHA-256 of a frame's dates, column names and numbers, whatever file they were in.

    The order of columns does not count, that of rows does; all NaNs are one.
    """
    digest = hashlib.sha256()
    dates = pd.DatetimeIndex(frame["date"]).tz_convert("UTC").as_unit("ms")
    digest.update(dates.asi8.astype("<i8").tobytes())
    for column in sorted(map(str, frame.columns.drop("date"))):
        values = frame[column].to_numpy(dtype="<f8", na_value=np.nan)
        # Minus zero becomes zero, and every NaN the same one.
        values = np.where(np.isnan(values), np.nan, values) + 0.0
        digest.update(f"\0{column}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
