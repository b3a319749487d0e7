"""What prices did between the moments at which one could trade, and what a market allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.predictions import FloatArray

BoolArray = npt.NDArray[np.bool_]
# Prices are rounded to ticks, so a bar at its limit has often moved by a little less.
LIMIT_SLACK = 0.003


@dataclass(frozen=True)
class Rules:
    """What a market allows.

    Attributes:
        can_short: Whether more may be sold than is held.
        settlement: Bars after a purchase at which it may first be sold; 0 in the same bar.
        limit: Largest move of a price against the last close, as a share; None without limit.
    """

    can_short: bool = False
    settlement: int = 0
    limit: float | None = None


@dataclass(frozen=True)
class Market:
    """Returns of all symbols on one calendar, and who could be traded when.

    Attributes:
        dates: (T,) times of the bars.
        symbols: (S,) names.
        overnight: (T, S) return from the last close before the bar to its open; 0 without bar.
        intraday: (T, S) return from the bar's open to its close; 0 without bar.
        can_trade: (T, S) whether the open of the bar could be had.
        has_bar: (T, S) whether there is a bar.
        bars_per_year: Bars of the calendar in a year.
    """

    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    overnight: FloatArray
    intraday: FloatArray
    can_trade: BoolArray
    has_bar: BoolArray
    bars_per_year: float


def build_market(
    candles: pd.DataFrame, rules: Rules | None = None, bad: pd.Series[bool] | None = None
) -> Market:
    """Lay candles side by side.

    Args:
        candles: Long table with `date`, `symbol`, `open`, `close` and `volume`.
        rules: What the market allows; by default all but selling short.
        bad: Rows of the table that can't be trusted. They count as missing, and the return across
            them is earned by nobody.

    Raises:
        DataError: A column is missing, a symbol has two candles at a date, or a price that is not
            marked as bad is not above zero.
    """
    rules = rules or Rules()
    missing = [
        name for name in ("date", "symbol", "open", "close", "volume") if name not in candles
    ]
    if missing:
        raise DataError(f"The candles lack the columns {missing}.")
    if candles.duplicated(["date", "symbol"]).any():
        raise DataError("A symbol has two candles at the same date.")
    is_bad = np.zeros(len(candles), dtype=bool) if bad is None else bad.to_numpy(dtype=bool)
    prices = candles.loc[~is_bad, ["open", "close"]]
    if not (np.isfinite(prices) & (prices > 0)).all(axis=None):
        raise DataError("A candle has a price that is not above zero: mark it as bad.")
    marked = candles.assign(bad=is_bad.astype(float))
    wide = marked.pivot(index="date", columns="symbol", values=["open", "close", "volume", "bad"])
    wide = wide.sort_index().astype(float)
    dates = wide.index
    assert isinstance(dates, pd.DatetimeIndex)
    good = wide["bad"].to_numpy() == 0
    opened, closed = (np.where(good, wide[name].to_numpy(), np.nan) for name in ("open", "close"))
    last = _last_close(closed)
    with np.errstate(invalid="ignore"):
        overnight = opened / last - 1
        # By the open alone: whether the *close* reached the limit nobody knew when he traded.
        free = True if rules.limit is None else np.abs(overnight) < rules.limit - LIMIT_SLACK
        can_trade = good & (wide["volume"].to_numpy() > 0) & (free | ~np.isfinite(overnight))
        overnight[_follows_bad(wide["bad"].to_numpy() == 1, good)] = 0.0
        intraday = closed / opened - 1
    return Market(
        dates=dates,
        symbols=tuple(str(name) for name in wide["open"].columns),
        overnight=np.nan_to_num(overnight),
        intraday=np.nan_to_num(intraday),
        can_trade=can_trade,
        has_bar=good,
        bars_per_year=count_bars_per_year(dates),
    )


def _last_close(closed: FloatArray) -> FloatArray:
    """Return each symbol's last known close before the bar."""
    filled = pd.DataFrame(closed).ffill().to_numpy()
    return np.vstack([np.full((1, closed.shape[1]), np.nan), filled[:-1]])


def _follows_bad(is_bad: BoolArray, good: BoolArray) -> BoolArray:
    """Say which good bars have a bad one between them and the last good one."""
    n = np.arange(1, len(good) + 1)[:, None]
    last_bad = np.maximum.accumulate(np.where(is_bad, n, 0))
    last_good = np.maximum.accumulate(np.where(good, n, 0))
    before = np.vstack([np.zeros((1, good.shape[1]), dtype=int), last_good[:-1]])
    after_bad: BoolArray = last_bad > before
    return good & after_bad


def count_bars_per_year(dates: pd.DatetimeIndex) -> float:
    """Return how many bars of this calendar a year has, from its own span."""
    years = (dates[-1] - dates[0]) / pd.Timedelta(days=365.25)
    if years <= 0:
        raise DataError("Bars of at least two times are needed to say how many a year has.")
    return (len(dates) - 1) / years
