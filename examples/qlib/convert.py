"""Writes a folder of CSVs, one a stock, as the files that qlib reads.

    python examples/qlib/convert.py CSV_FOLDER QLIB_FOLDER

Each CSV is named after its stock and has the columns date, open, high, low, close and volume. What
is written: the calendar, the list of instruments, and one file of float32 numbers for each field.
Prices are taken as adjusted already, so `factor` is 1; `vwap` is (high + low + close) / 3.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError, FreqaiLSTMError
from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.names import closest

PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
FIELDS = (*COLUMNS, "vwap", "change", "factor")
MARKET = "all"


def read_stock(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return one stock's days by date, and what was found wrong with them.

    A day with a price at or below zero is no day of trading, and neither is one before the first
    volume: both are left out, so that qlib takes the stock for suspended.

    Raises:
        DataError: A column is missing or holds no numbers, or a date stands twice.
    """
    frame = pd.read_csv(path)
    missing = [name for name in ("date", *COLUMNS) if name not in frame]
    if missing:
        hint = closest(missing[0], map(str.lower, map(str, frame.columns)))
        raise DataError(f"{path.name}: there is no column {missing[0]!r}.{hint}")
    try:
        frame.index = pd.DatetimeIndex(pd.to_datetime(frame["date"]))
        frame = frame[list(COLUMNS)].astype(np.float64).sort_index()
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.name}: {error}") from error
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path.name}: the date {twice:%Y-%m-%d} stands there twice.")
    return _sound_days(frame)


def _sound_days(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    is_listed = np.asarray((frame["volume"] > 0).cummax())
    is_priced = np.asarray((frame[list(PRICES)] > 0).all(axis=1))
    notes = []
    if not is_listed.all():
        notes.append(f"{int((~is_listed).sum())} days before the first volume left out")
    if not is_priced[is_listed].all():
        notes.append(f"{int((is_listed & ~is_priced).sum())} days without a price left out")
    return frame[is_listed & is_priced], notes


def fields_of(stock: pd.DataFrame) -> pd.DataFrame:
    """Return every field that is written of a stock's days."""
    return stock.assign(
        vwap=(stock["high"] + stock["low"] + stock["close"]) / 3,
        change=stock["close"].pct_change(fill_method=None),
        factor=1.0,
    )[list(FIELDS)]


def write_qlib(stocks: dict[str, pd.DataFrame], folder: Path) -> pd.DatetimeIndex:
    """Write stocks' days in qlib's format, and return the calendar.

    A field's file begins with the number of the stock's first day in the calendar. Days of the
    calendar on which the stock was not traded hold NaN.

    Raises:
        DataError: There is no stock, or one without a day.
    """
    empty = next((name for name, stock in stocks.items() if stock.empty), None)
    if not stocks or empty is not None:
        raise DataError("There is no stock to write." if not stocks else f"{empty} has no day.")
    calendar = pd.DatetimeIndex(sorted(set().union(*(stock.index for stock in stocks.values()))))
    listed = []
    for name, stock in stocks.items():
        first, last = stock.index[0], stock.index[-1]
        days = calendar[calendar.get_loc(first) : calendar.get_loc(last) + 1]
        place = folder / "features" / name.lower()
        for field, values in fields_of(stock).reindex(days).items():
            numbers = np.array([calendar.get_loc(first), *values], dtype="<f4")
            with replacing(place / f"{field}.day.bin") as stream:
                stream.write(numbers.tobytes())
        listed.append(f"{name}\t{first:%Y-%m-%d}\t{last:%Y-%m-%d}\n")
    write_text(folder / "instruments" / f"{MARKET}.txt", "".join(listed))
    # Last, because qlib looks for the calendar first: without it there is no data set.
    days_text = "".join(f"{day:%Y-%m-%d}\n" for day in calendar)
    write_text(folder / "calendars" / "day.txt", days_text)
    return calendar


def read_back(folder: Path, names: list[str]) -> dict[str, pd.DataFrame]:
    """Return each stock's fields as qlib itself reads them."""
    import qlib
    from qlib.data import D

    qlib.init(provider_uri=str(folder), region="cn", logging_level=30)
    found = D.features(names, [f"${field}" for field in FIELDS], freq="day")
    found.columns = list(FIELDS)
    return {name: found.xs(name, level="instrument") for name in names}


def check(stocks: dict[str, pd.DataFrame], folder: Path) -> None:
    """Compare what qlib reads with what was written.

    Raises:
        DataError: They differ by more than float32 rounds.
    """
    read = read_back(folder, list(stocks))
    for name, stock in stocks.items():
        expected = fields_of(stock).astype(np.float32)
        found = read[name].reindex(expected.index)
        # A day that was left out must be unknown to qlib too.
        others = read[name].drop(expected.index)
        is_same = np.array_equal(found.to_numpy(np.float32), expected.to_numpy(), equal_nan=True)
        if not is_same or others.notna().to_numpy().any():
            raise DataError(f"{name}: qlib reads other numbers than were written to {folder}.")


def main() -> int:
    """Convert one folder; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv_folder", type=Path)
    parser.add_argument("qlib_folder", type=Path)
    arguments = parser.parse_args()
    try:
        paths = sorted(arguments.csv_folder.glob("*.csv"))
        if not paths:
            raise DataError(f"There is no CSV in {arguments.csv_folder}.")
        stocks = {}
        for path in paths:
            stocks[path.stem], notes = read_stock(path)
            for note in notes:
                print(f"{path.stem}: {note}")
        calendar = write_qlib(stocks, arguments.qlib_folder)
        check(stocks, arguments.qlib_folder)
    except (FreqaiLSTMError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(stocks)} stocks, {len(calendar)} days: qlib reads what was written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
