"""What users hand over, as one table of rows: arrays and DataFrames of one or of many symbols.

Many symbols come as a list of frames or arrays, as a dictionary symbol -> frame, or as one
DataFrame with a column, or a level of its index, that names the symbol. Here they become one table,
symbol after symbol, and predictions go back in the shape in which the rows came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.data.columns import numbers_of
from freqai_lstm_plugins.data.windows import consecutive_in_time
from freqai_lstm_plugins.errors import DataError, MismatchError
from freqai_lstm_plugins.names import require_names

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray

Series = npt.NDArray[Any] | pd.DataFrame | pd.Series
Given = Series | Sequence[Series] | Mapping[str, Series]


@dataclass(frozen=True)
class Inputs:
    """Features, symbol after symbol, each in the order of time.

    Attributes:
        given: What the user gave.
        rows: (N, F) features.
        names: F names.
        times: (N,) time of each row; None where some have none.
        symbols: Names of the symbols, in the order of their first row; empty for a single series.
        codes: (N,) position in `symbols` of each row's symbol.
        order: (N,) where each row stands in the user's frame; None where it stands in that place.
    """

    given: Given
    rows: FloatArray
    names: list[str]
    times: npt.NDArray[np.datetime64] | None
    symbols: list[str]
    codes: IntArray
    order: IntArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_frame(self) -> bool:
        """Whether features have names that somebody gave them."""
        return all(isinstance(part, pd.DataFrame) for part in _parts(self.given))

    def follows(self, step: str | None) -> BoolArray | None:
        """Tell which rows come right after the row before them; None where all do.

        Raises:
            DataError: A step of time needs times, and there are none.
        """
        if step is not None and self.times is None:
            raise DataError(
                f"step = {step!r} needs a DataFrame with a DatetimeIndex, to see where time jumps."
            )
        if step is None and not self.symbols:
            return None
        follows = np.ones(len(self), dtype=bool)
        if step is not None and self.times is not None:
            follows = consecutive_in_time(self.times, pd.Timedelta(step).to_timedelta64())
        follows[1:] &= self.codes[1:] == self.codes[:-1]
        return follows

    def symbol_names(self, rows: IntArray) -> npt.NDArray[Any] | None:
        """Return the name of the symbol of each of some rows; None for a single series."""
        return np.array(self.symbols, dtype=object)[self.codes[rows]] if self.symbols else None

    def require_features(self, expected: list[str]) -> None:
        """Raise MismatchError where the features are not the expected ones."""
        # An array has no names to compare.
        if self.is_frame:
            require_names("features", self.names, expected)
        elif len(self.names) != len(expected):
            raise MismatchError(
                f"The model was trained on {len(expected)} features, {len(self.names)} are given."
            )

    def parts_of(self, values: Any, what: str) -> list[Any]:
        """Take targets or weights, given in the shape of the features, apart by symbol.

        Raises:
            DataError: They are not given for the same symbols.
        """
        if isinstance(self.given, Mapping):
            if not isinstance(values, Mapping) or set(values) != set(self.given):
                raise DataError(f"{what} must be a dictionary with the same symbols as X.")
            return [values[key] for key in self.given]
        if not _holds_several(self.given):
            return [values]
        n_parts = len(_parts(self.given))
        if not isinstance(values, list | tuple) or len(values) != n_parts:
            raise DataError(f"{what} must be a list of {n_parts} parts, one a part of X.")
        return list(values)

    def arrange(
        self, values: Any, what: str, convert: Callable[[Any], npt.NDArray[Any]]
    ) -> tuple[npt.NDArray[Any], list[str]]:
        """Bring targets or weights, given in the shape of the features, into the table's order.

        Args:
            values: One value, or K, a row.
            what: Name of the argument, for messages.
            convert: Makes an array of one symbol's values.

        Returns:
            values: (N, K).
            names: K names, none where they have none.

        Raises:
            DataError: The shape is another one than that of the features.
        """
        parts = self.parts_of(values, what)
        for part, given in zip(parts, _parts(self.given), strict=True):
            _require_same_index(part, given, what)
        arrays = [
            _columns(convert(part), len(given), what)
            for part, given in zip(parts, _parts(self.given), strict=True)
        ]
        columns = {
            tuple(part.columns) if isinstance(part, pd.DataFrame) else array.shape[1]
            for part, array in zip(parts, arrays, strict=True)
        }
        if len(columns) > 1:
            raise DataError(f"{what} must have the same columns for every symbol.")
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return joined if self.order is None else joined[self.order], _column_names(parts[0])

    def restore(self, values: npt.NDArray[Any], names: list[str], single: bool = False) -> Any:
        """Give predictions (N, K) the shape in which the features came.

        Args:
            values: (N, K).
            names: K column names for frames.
            single: Give vectors and Series where K is 1.
        """
        if self.order is not None:
            placed = np.empty_like(values)
            placed[self.order] = values
            values = placed
        givens = _parts(self.given)
        stops = np.cumsum([len(part) for part in givens])[:-1]
        parts = [
            _like(part, given, names, single)
            for part, given in zip(np.split(values, stops), givens, strict=True)
        ]
        if isinstance(self.given, Mapping):
            return dict(zip(self.given, parts, strict=True))
        return parts if _holds_several(self.given) else parts[0]


def read_inputs(X: Given, symbol: str | None = None) -> Inputs:
    """Read features.

    Args:
        X: A (N, F) array or DataFrame, a list of them or a dictionary symbol -> one of them. Of a
            DataFrame with an index of times and symbols the rows may stand in any order of symbols.
        symbol: Column of a DataFrame that names the symbol of each row.

    Raises:
        DataError: Values are no numbers, shapes or columns differ, or times run backwards.
    """
    parts = _parts(X)
    if isinstance(X, Mapping):
        symbols = _distinct(str(name) for name in X)
    else:
        symbols = [str(i) for i in range(len(parts))] if _holds_several(X) else []
    if not parts:
        raise DataError("X holds no symbol: give at least one frame.")
    if isinstance(X, pd.DataFrame) and isinstance(X.index, pd.MultiIndex):
        return _read_levels(X, symbol)
    if symbol is not None and not symbols:
        return _read_long_frame(X, symbol)
    read = [_read_one(part) for part in parts]
    names = read[0].names
    for part, name in zip(read, symbols, strict=False):
        if part.names != names:
            raise DataError(f"X: symbol {name!r} has other columns than {symbols[0]!r}.")
    times = [part.times for part in read if part.times is not None]
    codes = np.repeat(np.arange(len(read)), [len(part.rows) for part in read])
    inputs = Inputs(
        X,
        read[0].rows if len(read) == 1 else np.concatenate([part.rows for part in read]),
        names,
        np.concatenate(times) if len(times) == len(read) else None,
        symbols,
        codes,
    )
    _require_order(inputs)
    return inputs


def _holds_several(X: Given) -> bool:
    # A list of lists of numbers is one array, as everywhere in scikit-learn.
    return isinstance(X, Mapping) or (
        isinstance(X, list | tuple)
        and bool(X)
        and any(isinstance(part, pd.DataFrame | np.ndarray) and part.ndim > 1 for part in X)
    )


def _distinct(names: Iterable[str]) -> list[str]:
    """Return the names of symbols.

    Raises:
        DataError: Two are the same, as 1 and "1" are.
    """
    listed = list(names)
    twice = next((name for name in listed if listed.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"X: two symbols are called {twice!r}. Give each another name.")
    return listed


def _parts(X: Any) -> list[Any]:
    if isinstance(X, Mapping):
        return list(X.values())
    return list(X) if _holds_several(X) else [X]


def _read_one(X: Any) -> Inputs:
    rows = numbers_of("X", X)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(f"X must have shape (rows, features), not {rows.shape}.")
    is_frame = isinstance(X, pd.DataFrame)
    names = [str(name) for name in X.columns] if is_frame else [f"x{i}" for i in range(len(rows.T))]
    times = _times_of(X.index) if is_frame else None
    return Inputs(X, rows, names, times, [], np.zeros(len(rows), dtype=np.int64))


def _times_of(index: pd.Index) -> npt.NDArray[np.datetime64] | None:
    """Return the times of an index, in UTC; None where it holds none.

    Raises:
        DataError: It runs backwards, though it holds no times, or has levels.
    """
    if isinstance(index, pd.MultiIndex):
        raise DataError(_levels_message(index))
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if not isinstance(index, pd.DatetimeIndex):
        # Other indexes promise no order, but rows that were turned round keep their numbers.
        if len(index) > 1 and index.is_unique and index.is_monotonic_decreasing:
            raise DataError(
                f"X: the index runs backwards, from {index[0]} to {index[-1]}: rows must be in the "
                f"order of time. Sort them, or drop an index that means something else."
            )
        return None
    return _on_one_clock(index).to_numpy()


def _on_one_clock(index: pd.Index) -> pd.Index:
    # In UTC, so that symbols of several time zones have one clock.
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        return index
    return index.tz_convert(None)


def _read_long_frame(X: Given, symbol: str) -> Inputs:
    if not isinstance(X, pd.DataFrame) or list(X.columns).count(symbol) != 1:
        raise DataError(
            f"symbol = {symbol!r} needs a DataFrame with one such column, or X as a list of frames "
            f"or a dictionary of them."
        )
    # The order is that of each symbol's own rows.
    times = X.index if isinstance(X.index, pd.DatetimeIndex | pd.PeriodIndex) else None
    return _read_grouped(X, X.drop(columns=symbol), X[symbol], times, f"column {symbol!r}")


def _read_levels(X: pd.DataFrame, symbol: str | None) -> Inputs:
    """Read a frame whose index has a level of times and one of symbols, in either order."""
    index = X.index
    levels = [index.get_level_values(place) for place in range(index.nlevels)]
    times = [level for level in levels if isinstance(level, pd.DatetimeIndex)]
    others = [level for level in levels if not isinstance(level, pd.DatetimeIndex)]
    if len(times) != 1 or len(others) != 1 or symbol not in (None, others[0].name):
        raise DataError(_levels_message(index))
    name = f"index level {others[0].name!r}"
    return _read_grouped(X, X, pd.Series(others[0]), times[0], name)


def _levels_message(index: pd.Index) -> str:
    return (
        f"X has an index of the levels {', '.join(map(repr, index.names))}: rows of many symbols "
        f"need one level of times and one of symbols, or a column that symbol names."
    )


def _read_grouped(
    X: pd.DataFrame,
    features: pd.DataFrame,
    found: pd.Series,
    index: pd.Index | None,
    what: str,
) -> Inputs:
    """Read rows of many symbols in any order, each row's symbol in `found`."""
    if found.isna().any():
        raise DataError(f"X: {what} names no symbol in {found.isna().sum()} rows.")
    codes, names = pd.factorize(found)
    order = np.argsort(codes, kind="stable")
    one = _read_one(features.set_axis(pd.RangeIndex(len(features))))
    times = None if index is None else _times_of(index)
    inputs = Inputs(
        X,
        one.rows[order],
        one.names,
        None if times is None else times[order],
        _distinct(str(name) for name in names),
        codes[order].astype(np.int64),
        order,
    )
    _require_order(inputs)
    return inputs


def _require_order(inputs: Inputs) -> None:
    """Raise DataError where times are missing, stand twice or run backwards."""
    if inputs.times is None:
        return
    missing = np.flatnonzero(np.isnat(inputs.times))
    if len(missing):
        whose = _whose(inputs, int(missing[0]))
        raise DataError(
            f"X: {len(missing)} rows have no time, the first of them one of {whose}. Drop them, or "
            f"date them."
        )
    backwards = (np.diff(inputs.times) <= np.timedelta64(0)) & (np.diff(inputs.codes) == 0)
    if backwards.any():
        at = int(np.flatnonzero(backwards)[0])
        whose, (before, time) = _whose(inputs, at), inputs.times[at : at + 2]
        if before == time:
            raise DataError(f"X: {whose} has two rows of {time}. Keep one of them.")
        raise DataError(
            f"X: the rows of {whose} are not in the order of time: {time} comes after {before}. "
            f"Sort them."
        )


def _whose(inputs: Inputs, row: int) -> str:
    return f"symbol {inputs.symbols[inputs.codes[row]]!r}" if inputs.symbols else "the frame"


def _require_same_index(values: Any, given: Any, what: str) -> None:
    """Raise DataError where values of pandas belong to other rows than their features."""
    are_both = isinstance(values, pd.Series | pd.DataFrame) and isinstance(given, pd.DataFrame)
    if not are_both or len(values) != len(given):
        return
    mine, theirs = _on_one_clock(values.index), _on_one_clock(given.index)
    if mine.equals(theirs):
        return
    differing = (i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    # The same labels of two types, such as int64 and Int64, are no difference.
    if (at := next(differing, None)) is None:
        return
    raise DataError(
        f"{what} has another index than X: row {at} is {values.index[at]}, and {given.index[at]} "
        f"in X. Give both the same index, or {what} as an array in the order of X."
    )


def _columns(values: npt.NDArray[Any], n_rows: int, what: str) -> npt.NDArray[Any]:
    columns = values.reshape(-1, 1) if values.ndim == 1 else values
    if columns.ndim != 2 or len(columns) != n_rows or columns.shape[1] == 0:
        raise DataError(
            f"{what} must have one row a row of X ({n_rows}), its shape is {values.shape}."
        )
    return columns


def _column_names(values: Any) -> list[str]:
    if isinstance(values, pd.DataFrame):
        return [str(name) for name in values.columns]
    if isinstance(values, pd.Series) and values.name is not None:
        return [str(values.name)]
    return []


def _like(values: npt.NDArray[Any], given: Any, names: list[str], single: bool) -> Any:
    if isinstance(given, pd.DataFrame):
        frame = pd.DataFrame(values, index=given.index, columns=names)
        return frame.iloc[:, 0] if single else frame
    return values[:, 0] if single else values
