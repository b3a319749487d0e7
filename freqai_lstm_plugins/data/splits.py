"""The one splitter: which rows train, which validate, which test, and none that knows too much.

A *fold* is made of dates of the calendar and is the same for all symbols; `fold_rows` tells which
rows of one symbol (or of a panel) belong to its parts. The rule: a row may train or validate only
if its label is known (`known_at`, the time of the last candle that the label uses) *before* the
first time of the part that comes next. A row whose label uses the first candle of that part is out.

`purged` is the same rule for rows without times: a label of row r is known at row
r + label_period, so the rows from first_later - label_period on are out. Where rows follow one
another without a gap both drop the same rows; across a halt the positions drop too few, and the
times are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.data.candles import as_utc, last_moment
from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqai_lstm_plugins.data.arrays import BoolArray, IntArray

Period: TypeAlias = tuple[str, str]
Times: TypeAlias = "pd.DatetimeIndex | pd.Series[pd.Timestamp]"


@dataclass(frozen=True)
class Span:
    """Time from a first to a last date, both included."""

    first: pd.Timestamp
    last: pd.Timestamp

    def holds(self, times: pd.DatetimeIndex) -> BoolArray:
        """Tell which times lie in the span, (N,)."""
        return np.asarray((times >= self.first) & (times <= self.last))


@dataclass(frozen=True)
class Fold:
    """One set of dates for all symbols.

    Attributes:
        number: From 0 on, in order of time.
        train: Dates of training rows.
        valid: Dates of validation rows; None without validation.
        test: Dates of test rows.
        train_known_before: Labels of training rows are known before this time. It is the first
            time of the next part, or with an embargo that of as many bars earlier.
        valid_known_before: The same for validation rows.
    """

    number: int
    train: Span
    valid: Span | None
    test: Span
    train_known_before: pd.Timestamp
    valid_known_before: pd.Timestamp


@dataclass(frozen=True)
class FoldRows:
    """The rows of a fold.

    Attributes:
        train: (N,) rows to train on.
        valid: (N,) rows to stop early by, and to choose by.
        test: (N,) rows to predict, also those whose label is not known.
        purged: Rows of the training and validation dates that are left out because their label is
            known too late.
        embargoed: Rows left out by the embargo on top of that.
        unlabelled: Rows of these dates that have no label at all.
    """

    train: BoolArray
    valid: BoolArray
    test: BoolArray
    purged: int
    embargoed: int
    unlabelled: int


def walk_forward(
    calendar: pd.DatetimeIndex,
    *,
    folds: int,
    test_bars: int,
    train_bars: int | None = None,
    valid_fraction: float = 0.15,
    embargo: int = 0,
) -> list[Fold]:
    """Cut test parts of equal length off the end of the calendar, each with its past to train on.

    Args:
        calendar: All dates, in order.
        folds: How many.
        test_bars: Bars of each test part; the last one ends with the calendar.
        train_bars: Bars before the test part that are trained on (a rolling window), validation
            among them. None takes all (an expanding window).
        valid_fraction: Share of the training bars, at their end, that become validation; 0 for
            none.
        embargo: Bars to leave out between two parts, beyond what the labels ask for.

    Raises:
        DataError: A count is out of range, or the calendar is too short.
    """
    _check_calendar(calendar)
    for name, value, least in (
        ("folds", folds, 1),
        ("test_bars", test_bars, 1),
        ("train_bars", train_bars, 1),
        ("embargo", embargo, 0),
    ):
        if value is not None and value < least:
            raise DataError(f"{name} must be at least {least}, not {value!r}.")
    first_test = len(calendar) - folds * test_bars
    needed = train_bars or 1
    if first_test < needed:
        raise DataError(
            f"{folds} folds with {test_bars} test bars each and {needed} bars before the first "
            f"need {folds * test_bars + needed} bars; the calendar has {len(calendar)}: take "
            "fewer or shorter folds."
        )
    starts = range(first_test, len(calendar), test_bars)
    return [
        _fold(
            calendar,
            number,
            slice(0 if train_bars is None else start - train_bars, start),
            slice(start, start + test_bars),
            valid_fraction,
            embargo,
        )
        for number, start in enumerate(starts)
    ]


def fixed_dates(
    calendar: pd.DatetimeIndex,
    *,
    train: Period,
    test: Period,
    valid: Period | None = None,
    valid_fraction: float = 0.15,
    embargo: int = 0,
) -> Fold:
    """Make one fold of given dates.

    Args:
        calendar: All dates, in order.
        train: First and last date, both included; an end such as `2020-12-31` includes the day.
        test: As `train`, later than it.
        valid: As `train`, between the two. None cuts validation from the end of the training dates.
        valid_fraction: Share of the training bars that become validation where `valid` is None.
        embargo: Bars to leave out between two parts, beyond what the labels ask for.

    Raises:
        DataError: Dates are out of order, overlap, or hold no bar of the calendar.
    """
    _check_calendar(calendar)
    if embargo < 0:
        raise DataError(f"embargo must be at least 0, not {embargo!r}.")
    train_bars = _bars(calendar, train, "train")
    test_bars = _bars(calendar, test, "test")
    if valid is None:
        _check_order(("train", train, train_bars), ("test", test, test_bars))
        return _fold(calendar, 0, train_bars, test_bars, valid_fraction, embargo)
    valid_bars = _bars(calendar, valid, "valid")
    _check_order(("train", train, train_bars), ("valid", valid, valid_bars))
    _check_order(("valid", valid, valid_bars), ("test", test, test_bars))
    return _fold_of(calendar, 0, train_bars, valid_bars, test_bars, embargo)


def _check_calendar(calendar: pd.DatetimeIndex) -> None:
    if not (calendar.is_monotonic_increasing and calendar.is_unique):
        raise DataError("A calendar holds its dates in order, each once; this one does not.")


def _bars(calendar: pd.DatetimeIndex, period: Period, part: str) -> slice:
    first = int(calendar.searchsorted(as_utc(period[0])))
    stop = int(calendar.searchsorted(last_moment(period[1]), side="right"))
    if first >= stop:
        raise DataError(
            f"The {part} dates {period[0]} to {period[1]} hold no bar; the data go from "
            f"{calendar[0]} to {calendar[-1]}."
        )
    return slice(first, stop)


def _check_order(earlier: tuple[str, Period, slice], later: tuple[str, Period, slice]) -> None:
    if earlier[2].stop > later[2].start:
        raise DataError(
            f"The {earlier[0]} dates end on {earlier[1][1]}, and the {later[0]} dates begin on "
            f"{later[1][0]}: they must not overlap."
        )


def _fold(
    calendar: pd.DatetimeIndex,
    number: int,
    train: slice,
    test: slice,
    valid_fraction: float,
    embargo: int,
) -> Fold:
    if not 0 <= valid_fraction < 1:
        raise DataError(f"valid_fraction must be at least 0 and below 1, not {valid_fraction!r}.")
    bars = train.stop - train.start
    n_valid = round(valid_fraction * bars)
    if n_valid >= bars or (valid_fraction and not n_valid):
        raise DataError(
            f"Fold {number} has {bars} bars to train on, too few for a validation part of "
            f"{valid_fraction:g} of them: take a later first fold, or valid_fraction = 0."
        )
    cut = train.stop - n_valid
    valid = slice(cut, train.stop) if n_valid else None
    return _fold_of(calendar, number, slice(train.start, cut), valid, test, embargo)


def _fold_of(
    calendar: pd.DatetimeIndex,
    number: int,
    train: slice,
    valid: slice | None,
    test: slice,
    embargo: int,
) -> Fold:
    def span(bars: slice) -> Span:
        return Span(calendar[bars.start], calendar[bars.stop - 1])

    def before(bars: slice) -> pd.Timestamp:
        return calendar[max(bars.start - embargo, 0)]

    return Fold(
        number=number,
        train=span(train),
        valid=None if valid is None else span(valid),
        test=span(test),
        train_known_before=before(test if valid is None else valid),
        valid_known_before=before(test),
    )


def fold_rows(fold: Fold, dates: Times, known_at: Times) -> FoldRows:
    """Tell which rows belong to the parts of a fold.

    Args:
        fold: The dates.
        dates: (N,) dates of the rows, of one symbol or of several one after the other.
        known_at: (N,) when the rows' labels are known; NaT where a row has no label.
    """
    dates, known_at = pd.DatetimeIndex(dates), pd.DatetimeIndex(known_at)
    parts = [(fold.train, fold.train_known_before, (fold.valid or fold.test).first)]
    if fold.valid is not None:
        parts.append((fold.valid, fold.valid_known_before, fold.test.first))
    masks, purged, embargoed, unlabelled = [], 0, 0, 0
    for span, before, next_first in parts:
        inside = span.holds(dates)
        kept = inside & known_before(known_at, before)
        in_time = inside & known_before(known_at, next_first)
        labelled = inside & np.asarray(known_at.notna())
        masks.append(kept)
        purged += int((labelled & ~in_time).sum())
        embargoed += int((in_time & ~kept).sum())
        unlabelled += int((inside & ~labelled).sum())
    valid = masks[1] if len(masks) > 1 else np.zeros(len(dates), dtype=bool)
    test = fold.test.holds(dates)
    return FoldRows(masks[0], valid, test, purged, embargoed, unlabelled)


def known_before(known_at: Any, moment: Any) -> BoolArray:
    """Tell which labels are known before a moment, (N,): the rule of the house.

    Times may be dates or row numbers; a label that is known never (NaT, NaN) is not known before.
    """
    return np.asarray(known_at < moment)


def assert_no_peeking(fold: Fold, rows: FoldRows, dates: Times, known_at: Times) -> None:
    """Check that no row of a part knows anything of the part that comes next.

    It takes the rows themselves, not the way they were chosen.

    Raises:
        DataError: A row does, or a part holds rows of another one.
    """
    dates, known_at = pd.DatetimeIndex(dates), pd.DatetimeIndex(known_at)
    test = _first(fold.test, dates[rows.test], fold.valid_known_before)
    _refuse_peeking(fold.number, "validation", rows.valid, dates, known_at, test)
    _refuse_peeking(fold.number, "training", rows.train, dates, known_at, test)
    if fold.valid is not None:
        valid = _first(fold.valid, dates[rows.valid], fold.train_known_before)
        _refuse_peeking(fold.number, "training", rows.train, dates, known_at, valid)


def _first(span: Span, dates: pd.DatetimeIndex, known_before: pd.Timestamp) -> pd.Timestamp:
    first = min(span.first, known_before)
    return min(first, dates.min()) if len(dates) else first


def _refuse_peeking(
    number: int,
    part: str,
    mask: BoolArray,
    dates: pd.DatetimeIndex,
    known_at: pd.DatetimeIndex,
    first: pd.Timestamp,
) -> None:
    peeking = mask & ~(known_before(known_at, first) & known_before(dates, first))
    if peeking.any():
        row = int(np.argmax(peeking))
        raise DataError(
            f"Fold {number}: the {part} row of {dates[row]} has a label that is known at "
            f"{known_at[row]}, which is not before {first}, where the next part begins."
        )


def why_unusable(fold: Fold, rows: FoldRows, least: int = 1) -> str | None:
    """Say in one line why a symbol has no training in a fold; None where it has.

    Args:
        fold: The dates.
        rows: The symbol's rows.
        least: Rows that each part needs.
    """
    parts = [("training", rows.train, fold.train), ("test", rows.test, fold.test)]
    if fold.valid is not None:
        parts.insert(1, ("validation", rows.valid, fold.valid))
    for name, mask, span in parts:
        if int(mask.sum()) < least:
            return (
                f"fold {fold.number} has {int(mask.sum())} {name} rows from {span.first} to "
                f"{span.last}, fewer than {least} ({rows.purged} rows purged, {rows.embargoed} "
                f"under the embargo, {rows.unlabelled} without a label)"
            )
    return None


@dataclass(frozen=True)
class InnerFold:
    """A fold inside training rows: positions of rows to train on and of rows to forecast."""

    train: IntArray
    test: IntArray


def inner_folds(
    times: Sequence[Any] | npt.NDArray[Any] | Times,
    known_at: Sequence[Any] | npt.NDArray[Any] | Times,
    *,
    folds: int = 3,
    first_fraction: float = 0.5,
) -> list[InnerFold]:
    """Make expanding folds inside training rows, for forecasts that no row was trained on.

    The times after the first `first_fraction` of them are cut into `folds` test parts of equal
    length; each is forecast from all rows before it whose labels are known before it begins.

    Args:
        times: (N,) times of the rows, dates or row numbers, in any order; symbols of a panel share
            times.
        known_at: (N,) when the rows' labels are known, of the same kind; NaT or NaN for no label.
        folds: How many.
        first_fraction: Share of the times that is only trained on.

    Raises:
        DataError: There are too few rows, or a fold has no row to train on or none to forecast.
    """
    if folds < 1 or not 0 < first_fraction < 1:
        raise DataError(
            f"Inner folds take folds >= 1 and a first_fraction between 0 and 1, not {folds!r} and "
            f"{first_fraction!r}."
        )
    rows, known = pd.Index(times), pd.Index(known_at)
    unique = rows.unique().sort_values()
    edges = np.linspace(round(first_fraction * len(unique)), len(unique), folds + 1).round()
    result = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        part = unique[int(start) : int(stop)]
        fold = _inner_fold(rows, known, part) if len(part) else None
        if fold is None or not len(fold.train) or not len(fold.test):
            raise DataError(
                f"Inner fold {number} of {folds} has no rows to train on or none to forecast: "
                f"there are {len(unique)} times; take fewer folds, or more rows."
            )
        result.append(fold)
    return result


def _inner_fold(rows: pd.Index[Any], known: pd.Index[Any], part: pd.Index[Any]) -> InnerFold:
    train = known_before(known, part[0]) & np.asarray(rows < part[0])
    test = np.asarray(rows.isin(part) & known.notna())
    return InnerFold(np.flatnonzero(train), np.flatnonzero(test))


def purged(earlier: BoolArray, later: BoolArray, label_period: int) -> BoolArray:
    """Drop the targets of `earlier` whose labels reach into `later`.

    A label at row r describes the candles up to r + `label_period`, so the targets of the last
    `label_period` rows before the later part know candles of that part.

    Args:
        earlier: (N,) target rows of the part that comes first.
        later: (N,) target rows of the part that comes after it.
        label_period: Rows that a label looks ahead.
    """
    if not later.any():
        return earlier
    first_later = int(np.flatnonzero(later)[0])
    kept = earlier.copy()
    kept[max(first_later - label_period, 0) :] = False
    return kept
