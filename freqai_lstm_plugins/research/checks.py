"""What is wrong with candles, row by row, and the candles without it.

Every row that a check finds is listed with its date, its figure and whether it became *missing*:
the row stays in the calendar with NaN, so that no window crosses it and its return is never
traded. What is only odd (a large move, a price that stands still) is listed and kept. Nothing is
cut that is not in the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import COLUMNS, PRICES, Candles, union_calendar
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The figure of each row that is wrong, NaN where nothing is; index as the candles'.
Figures: TypeAlias = "pd.Series[float]"

FOUND_COLUMNS = ("symbol", "date", "check", "value", "missing")
# Prices that went through float32 differ in the eighth digit.
_ROUND_OFF = 1e-6


@dataclass(frozen=True)
class CheckLimits:
    """From where on a row is wrong or odd.

    Attributes:
        no_volume_bars: From this bar without volume on, one after the other, bars count as no
            trading and become missing. Those before are listed and kept.
        stale_bars: From this bar on, one after the other, the close has not moved for long
            although there was volume.
        robust_multiple: A move is large from this multiple of the moves' robust deviation (median
            absolute deviation x 1.4826) on.
        price_limit: Largest move that the market allows, such as 0.07; None where it has no limit.
    """

    no_volume_bars: int = 20
    stale_bars: int = 10
    robust_multiple: float = 10.0
    price_limit: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("no_volume_bars", 2), ("stale_bars", 2), ("robust_multiple", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)!r}.")
        if self.price_limit is not None and not 0 < self.price_limit < 1:
            raise ConfigError(
                f"price_limit must be a share between 0 and 1 such as 0.07, not "
                f"{self.price_limit!r}."
            )


@dataclass(frozen=True)
class Checked:
    """Candles as they may be used, and what was found in them.

    Attributes:
        candles: By symbol, one row for each date of the calendar from the symbol's first usable
            row to its last; rows that are missing hold NaN. Symbols without a usable row are left
            out, and listed.
        calendar: All dates.
        found: A row for each finding: symbol, date, check (a key of `MEANINGS`), value (the figure
            that is wrong, see there) and missing (whether the row became missing).
    """

    candles: dict[str, Candles]
    calendar: pd.DatetimeIndex
    found: pd.DataFrame


class Meaning(NamedTuple):
    """What a check says of a row, and what its figure is."""

    text: str
    figure: str


MEANINGS = {
    "order": Meaning("comes after a later row", "days too late"),
    "repeated": Meaning("the same row stands there again", "copies in all"),
    "contradiction": Meaning("rows of one date differ", "rows"),
    "not_finite": Meaning("a price or the volume is empty or infinite", "cells"),
    "not_positive": Meaning("a price is zero or negative", "lowest price"),
    "negative_volume": Meaning("the volume is negative", "volume"),
    "high_below_low": Meaning("the high lies below the low", "distance in lows"),
    "close_outside": Meaning("the close lies outside low..high", "distance in lows"),
    "open_outside": Meaning("the open lies outside low..high", "distance in lows"),
    "infinite_return": Meaning("the close before is zero", "return"),
    "large_move": Meaning("a move above the robust limit", "return"),
    "price_limit": Meaning("a move above the market's limit", "return"),
    "stale": Meaning("the close stands still, the volume does not", "bars in a row"),
    "no_volume": Meaning("nothing was traded", "bars in a row"),
    "no_volume_stretch": Meaning("nothing was traded for long", "bars in a row"),
    "before_listing": Meaning("hardly a bar has volume up to here", "share without volume"),
    "gap": Meaning("the calendar has the date, the symbol has not", "bars in a row"),
    "late_start": Meaning("the first row comes after the calendar's", "bars later"),
    "early_end": Meaning("the last row comes before the calendar's", "bars earlier"),
    "nothing_left": Meaning("no row is usable", "rows in the file"),
}
"""Check -> what it says, and the figure in the column `value`."""

MAKES_MISSING = frozenset(
    {
        "contradiction",
        "not_finite",
        "not_positive",
        "negative_volume",
        "high_below_low",
        "close_outside",
        "open_outside",
        "no_volume_stretch",
        "before_listing",
        "gap",
    }
)
"""Checks whose rows cannot be used."""

HALTS = frozenset({"gap", "no_volume_stretch"})
"""Among these: nothing was traded, and what is held keeps its worth and its later jump."""


def check_candles(frames: Mapping[str, Candles], limits: CheckLimits | None = None) -> Checked:
    """Check the candles of all symbols against each other's calendar and in themselves.

    Args:
        frames: Candles by symbol, as they were read.
        limits: From where on a row is wrong; None takes the defaults.

    Raises:
        DataError: There is no candle at all.
    """
    limits = limits or CheckLimits()
    calendar = union_calendar(frames)
    found: list[pd.DataFrame] = []
    candles = {}
    for symbol, frame in frames.items():
        used, findings = _check_symbol(frame, calendar, limits)
        if len(used):
            candles[symbol] = used
        found.append(findings.assign(symbol=symbol))
    table = pd.concat(found, ignore_index=True)
    return Checked(candles, calendar, table[list(FOUND_COLUMNS)])


def _check_symbol(
    frame: Candles, calendar: pd.DatetimeIndex, limits: CheckLimits
) -> tuple[Candles, pd.DataFrame]:
    ordered, found = _in_order(frame[list(COLUMNS)])
    for name, check in _ROW_CHECKS.items():
        found[name] = check(ordered, limits).dropna()
    rows = _as_table(found)
    used = ordered[~ordered.index.isin(rows.loc[rows["missing"], "date"])]
    if used.empty:
        odd = {"nothing_left": pd.Series([float(len(frame))], index=ordered.index[:1])}
        return used.reset_index(), pd.concat([rows, _as_table(odd)])
    around = _as_table(_against_calendar(pd.DatetimeIndex(ordered.index), calendar))
    span = calendar[(calendar >= used.index[0]) & (calendar <= used.index[-1])]
    return used.reindex(span).reset_index(), pd.concat([rows, around])


def _as_table(found: Mapping[str, Figures]) -> pd.DataFrame:
    table = pd.concat(found, names=["check", "date"]).rename("value").reset_index()
    return table.assign(missing=table["check"].isin(MAKES_MISSING))


def _in_order(frame: Candles) -> tuple[pd.DataFrame, dict[str, Figures]]:
    """Return rows by date, each date once, and what stood in the way."""
    late = (frame["date"].cummax() - frame["date"]).dt.total_seconds() / 86_400
    order = _by_date(frame, late.where(late > 0))
    copies = frame.groupby(list(COLUMNS), dropna=False)["date"].transform("size").astype("float64")
    first = ~frame.duplicated()
    repeated = _by_date(frame, copies.where(first & (copies > 1)))
    rows = frame[first]
    versions = rows.groupby("date")["date"].transform("size").astype("float64")
    versions = versions.where((versions > 1) & ~rows.duplicated("date"))
    contradiction = _by_date(rows, versions)
    ordered = rows.drop_duplicates("date").sort_values("date").set_index("date")
    return ordered, {"order": order, "repeated": repeated, "contradiction": contradiction}


def _by_date(frame: Candles, figures: Figures) -> Figures:
    return figures.set_axis(pd.DatetimeIndex(frame["date"])).dropna()


def _against_calendar(dates: pd.DatetimeIndex, calendar: pd.DatetimeIndex) -> dict[str, Figures]:
    first, last = calendar.searchsorted(dates[0]), calendar.searchsorted(dates[-1])
    inside = calendar[first : last + 1]
    absent = pd.Series(~inside.isin(dates), index=inside)
    late, early = float(first), float(len(calendar) - 1 - last)
    return {
        "gap": _run_so_far(absent).dropna(),
        "late_start": pd.Series([late], index=dates[:1]).replace(0.0, np.nan).dropna(),
        "early_end": pd.Series([early], index=dates[-1:]).replace(0.0, np.nan).dropna(),
    }


def _run_so_far(flags: pd.Series[bool], least: int = 1) -> Figures:
    """Count the rows of each run of True up to a row; NaN elsewhere and below `least`.

    What comes later does not count: whether a row is usable is known at that row.
    """
    run = (flags != flags.shift()).cumsum()
    count = flags.groupby(run).cumcount().astype("float64") + 1
    return count.where(flags & (count >= least))


# Each check gives the figure of a row that is wrong, NaN elsewhere.


def _not_finite(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    cells = (~np.isfinite(frame)).sum(axis=1).astype("float64")
    return cells.where(cells > 0)


def _not_positive(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    lowest = frame[list(PRICES)].min(axis=1)
    return lowest.where(lowest <= 0)


def _negative_volume(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    return frame["volume"].where(frame["volume"] < 0)


def _high_below_low(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    return _beyond(frame["low"], frame["high"], frame)


def _close_outside(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    return _outside(frame, "close")


def _open_outside(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    return _outside(frame, "open")


def _outside(frame: pd.DataFrame, column: str) -> Figures:
    above = _beyond(frame[column], frame["high"], frame)
    return above.fillna(_beyond(frame["low"], frame[column], frame))


def _beyond(upper: Figures, lower: Figures, frame: pd.DataFrame) -> Figures:
    share = (upper - lower) / frame["low"].abs()
    return share.where(share > _ROUND_OFF)


def _returns(frame: pd.DataFrame) -> Figures:
    return frame["close"] / frame["close"].shift() - 1


def _infinite_return(frame: pd.DataFrame, _limits: CheckLimits) -> Figures:
    returns = _returns(frame)
    return returns.where(np.isinf(returns))


def _large_move(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    returns = _returns(frame)
    # Bars without trades do not move; with many of them the deviation would be zero.
    traded = returns[np.isfinite(returns) & (frame["volume"] > 0)]
    deviation = 1.4826 * (traded - traded.median()).abs().median()
    large = np.isfinite(returns) & (returns.abs() > limits.robust_multiple * deviation)
    return returns.where(large & (deviation > 0))


def _price_limit(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    returns = _returns(frame)
    if limits.price_limit is None:
        return pd.Series(np.nan, index=frame.index)
    before = frame["close"].shift()
    # Both closes are rounded, as are prices adjusted for dividends years later.
    allowed = limits.price_limit * before + _tick(frame["close"])
    return returns.where(np.isfinite(returns) & ((frame["close"] - before).abs() > allowed))


def _tick(prices: Figures) -> float:
    """Return the smallest step that the prices' decimals allow."""
    finite = prices[np.isfinite(prices)].to_numpy()
    decimals = (n for n in range(9) if np.allclose(finite, finite.round(n), rtol=1e-12, atol=0))
    return float(10.0 ** -next(decimals, 9))


def _stale(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    still = (frame["close"] == frame["close"].shift()) & (frame["volume"] > 0)
    return _run_so_far(still, limits.stale_bars)


def _idle(frame: pd.DataFrame) -> pd.Series[bool]:
    # Where no row has volume, it is not known rather than zero (indices, currencies).
    return (frame["volume"] == 0) & bool((frame["volume"] > 0).any())


def _no_volume(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    bars = _run_so_far(_idle(frame))
    return bars.where(bars < limits.no_volume_bars)


def _no_volume_stretch(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    return _run_so_far(_idle(frame), limits.no_volume_bars)


def _before_listing(frame: pd.DataFrame, limits: CheckLimits) -> Figures:
    """Find a history up to a long stretch without volume that was hardly traded itself.

    Data vendors fill the years before a listing with a constant price and a few odd trades. Only
    here do later rows count: that the symbol is traded ever since.
    """
    idle = _idle(frame)
    nothing = pd.Series(np.nan, index=frame.index)
    stretch = np.flatnonzero(_run_so_far(idle, limits.no_volume_bars).notna())
    if not len(stretch):
        return nothing
    last = int(stretch[-1])
    before, after = idle.iloc[: last + 1].mean(), idle.iloc[last + 1 :].mean()
    if before > 0.5 and after < 0.1:
        nothing.iloc[: last + 1] = before
    return nothing


_ROW_CHECKS: Mapping[str, Callable[[pd.DataFrame, CheckLimits], Figures]] = {
    "not_finite": _not_finite,
    "not_positive": _not_positive,
    "negative_volume": _negative_volume,
    "high_below_low": _high_below_low,
    "close_outside": _close_outside,
    "open_outside": _open_outside,
    "infinite_return": _infinite_return,
    "large_move": _large_move,
    "price_limit": _price_limit,
    "stale": _stale,
    "no_volume": _no_volume,
    "no_volume_stretch": _no_volume_stretch,
    "before_listing": _before_listing,
}


def summary(checked: Checked) -> pd.DataFrame:
    """Return a row for each symbol and check: rows, first and last date, worst figure and its date.

    The worst figure is the largest one without its sign.
    """
    found = checked.found.assign(size=checked.found["value"].abs())
    columns = ["symbol", "check", "rows", "first", "last", "worst", "worst_date", "missing"]
    if found.empty:
        return pd.DataFrame(columns=columns)
    keys = ["symbol", "check"]
    groups = found.groupby(keys, sort=False)
    table = groups.agg(
        rows=("date", "size"),
        first=("date", "min"),
        last=("date", "max"),
        missing=("missing", "all"),
    )
    worst = found.loc[groups["size"].idxmax()].set_index(keys)
    return table.assign(worst=worst["value"], worst_date=worst["date"]).reset_index()[columns]


def missing_rows(checked: Checked) -> pd.DataFrame:
    """Return each date that became missing, once a symbol, with its reasons in one cell."""
    found = checked.found[checked.found["missing"]]
    reasons = found.groupby(["symbol", "date"], sort=False)["check"].agg("; ".join)
    return reasons.rename("reasons").reset_index()


def untrusted_rows(checked: Checked) -> pd.DataFrame:
    """Return symbol and date of each row that is missing because its prices cannot be right.

    A halt is not among them: whoever holds a share through it earns what the price did meanwhile.
    """
    found = checked.found
    wrong = found["missing"] & ~found["check"].isin(HALTS)
    return found.loc[wrong, ["symbol", "date"]].drop_duplicates(ignore_index=True)


def summary_lines(checked: Checked) -> list[str]:
    """Say what was found, one line for each symbol and check, for a log or a terminal.

    What became missing comes first.
    """
    found = summary(checked).sort_values("missing", ascending=False, kind="stable")
    return [_line(row) for row in found.itertuples()]


def _line(row: Any) -> str:
    meaning = MEANINGS[row.check]
    many = f"{row.rows:,} rows from {_date(row.first)} to {_date(row.last)}, worst "
    where = f"{many if row.rows > 1 else ''}{_date(row.worst_date)}"
    fate = ", now missing" if row.missing else ""
    return f"{row.symbol}: {meaning.text}: {where} ({meaning.figure} {row.worst:.4g}){fate}"


def _date(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%d %H:%M}"


def write_checks(checked: Checked, folder: Path) -> None:
    """Write what was found into a folder.

    `summary.csv` has a row for each symbol and check, `rows.csv` every finding, and `missing.csv`
    each date of a symbol that became missing, with its reasons.
    """
    for name, table in (
        ("summary", summary(checked)),
        ("rows", checked.found),
        ("missing", missing_rows(checked)),
    ):
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
