"""What predictions would have earned, after costs, beside holding all symbols equally.

A prediction of bar t is known once t has closed. It is traded at the *open* of bar t + 1, the first
price anybody could have had, and held for `horizon` bars. Where that is more than one, the account
is `horizon` sleeves of equal size, one of which is traded anew at each bar; between its turns a
sleeve drifts with its prices and costs nothing.

What is earned is what stood in the account: overnight (close to open) by what was held before the
trade, within the bar (open to close) by what is held after it. A symbol that has no bar, or whose
bar has no volume, keeps its last value and can't be traded: it stays in the account, as a share
that was taken off the exchange does, and in the average of all symbols too.

Positions are worked out without costs, and costs then taken off each bar's return. So the same
trades are judged at any cost, and greater costs never earn more. Absolute returns of symbols that
were chosen with hindsight, such as today's members of an index, are too good: the difference
against holding all of them equally is the figure that counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.market import BoolArray, Market, Rules

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.predictions import FloatArray

HIGHEST_COST = 0.5
# Where the search for the cost that eats up a lead ends.
DEAREST = 0.45
# Short sales can lose all there is; the bars after it earn nothing.
RUIN = -1 + 1e-9


@dataclass(frozen=True)
class Costs:
    """Shares of the traded value that are lost: `buy`, `sell`, and `tax` on what is sold.

    Slippage belongs into `buy` and `sell`.
    """

    buy: float = 0.0
    sell: float = 0.0
    tax: float = 0.0

    def __post_init__(self) -> None:
        for name in ("buy", "sell", "tax"):
            value = getattr(self, name)
            if not 0 <= value < HIGHEST_COST:
                raise ConfigError(f"costs.{name} is {value}: it must lie in [0, {HIGHEST_COST}).")

    def times(self, factor: float) -> Costs:
        """Return costs that are that many times as high."""
        return Costs(factor * self.buy, factor * self.sell, factor * self.tax)


@dataclass(frozen=True)
class Plan:
    """How predictions become positions.

    Attributes:
        kind: `top`: equal parts of the `k` symbols with the highest predictions. `long_flat`: each
            symbol has an equal part, held while its prediction lies above `threshold`.
            `long_short`: half of the account in the `k` highest, half sold short in the `k` lowest.
        horizon: Bars that a position is held.
        k: Number of symbols.
        threshold: In units of the prediction, fixed before any test row was seen.
    """

    kind: Literal["top", "long_flat", "long_short"] = "top"
    horizon: int = 1
    k: int = 5
    threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizon", "k"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"portfolio.{name} is {getattr(self, name)}: it must be 1 or more."
                )


def weigh(forecasts: FloatArray, plan: Plan) -> FloatArray:
    """Return the parts (T, S) of the account that predictions (T, S) call for.

    NaN is no prediction. Equal predictions at the edge share what is left, so that the order of
    symbols decides nothing.
    """
    known = np.isfinite(forecasts)
    if plan.kind == "long_flat":
        n = np.maximum(known.sum(axis=1, keepdims=True), 1)
        with np.errstate(invalid="ignore"):
            return (forecasts > plan.threshold) / n
    if plan.kind == "top":
        return _pick_top(forecasts, np.minimum(plan.k, known.sum(axis=1)))
    k = np.minimum(plan.k, known.sum(axis=1) // 2)
    return (_pick_top(forecasts, k) - _pick_top(-forecasts, k)) / 2


def _pick_top(forecasts: FloatArray, k: npt.NDArray[np.int_]) -> FloatArray:
    filled = np.where(np.isfinite(forecasts), forecasts, -np.inf)
    # The k-th highest value of each line; k may be 0 where nothing is known.
    ordered = -np.sort(-filled, axis=1)
    edge = np.take_along_axis(ordered, np.maximum(k - 1, 0)[:, None], axis=1)
    above, level = filled > edge, (filled == edge) & np.isfinite(filled)
    left = k[:, None] - above.sum(axis=1, keepdims=True)
    shared = left / np.maximum(level.sum(axis=1, keepdims=True), 1)
    return np.where(k[:, None] > 0, above + level * shared, 0.0) / np.maximum(k, 1)[:, None]


@dataclass(frozen=True)
class Account:
    """What positions earned without costs, and what was traded for it.

    Attributes:
        dates: (T,) times of the bars.
        gross: (T,) return of each bar.
        bought: (T,) value bought at the open, as a share of the account.
        sold: (T,) value sold.
        bars_per_year: Bars in a year.
    """

    dates: pd.DatetimeIndex
    gross: FloatArray
    bought: FloatArray
    sold: FloatArray
    bars_per_year: float

    def net(self, costs: Costs) -> FloatArray:
        """Return (T,) what each bar earned after costs."""
        lost = self.bought * costs.buy + self.sold * (costs.sell + costs.tax)
        return (1 + self.gross) * (1 - lost) - 1

    @property
    def turnover(self) -> float:
        """How many times a year the account is turned over, a purchase and its sale being one."""
        return float((self.bought + self.sold).mean() / 2 * self.bars_per_year)


def trade(
    forecasts: pd.DataFrame, market: Market, plan: Plan, rules: Rules | None = None
) -> Account:
    """Trade predictions bar by bar.

    Args:
        forecasts: A line a date, a column a symbol; NaN where there is no prediction.
        market: Must have every date and symbol of the predictions.
        plan: How predictions become positions.
        rules: What the market allows; by default all but selling short.

    Returns:
        Bars from the first one after the first prediction to the one after the last, so that a
        later prediction changes none of them. Where a date has no prediction at all, its sleeve
        stays as it is.

    Raises:
        ConfigError: The plan sells short where the market does not allow it.
        DataError: The market lacks a date or symbol, or ends with the first prediction.
    """
    rules = rules or Rules()
    if plan.kind == "long_short" and not rules.can_short:
        raise ConfigError("portfolio.kind is 'long_short', but this market has no short sales.")
    lacking = [str(name) for name in forecasts.columns if name not in market.symbols]
    if lacking:
        raise DataError(f"There are predictions for {lacking[:5]}, but no candles.")
    if not forecasts.index.isin(market.dates).all():
        raise DataError("Some predictions have a date at which there is no candle.")
    first, last = market.dates.searchsorted(forecasts.index[[0, -1]])
    span = slice(int(first), int(last) + 2)
    dates = market.dates[span]
    if len(dates) < 2:
        raise DataError("The candles end with the first prediction, so nothing can be traded.")
    laid = forecasts.reindex(index=dates, columns=list(market.symbols)).to_numpy(dtype=float)
    return _walk(laid, market, span, plan, rules.settlement)


def hold_equally(market: Market, forecasts: pd.DataFrame, rules: Rules | None = None) -> Account:
    """Hold the symbols of the predictions equally over the same bars.

    Parts are made equal when a symbol joins, which is once it can be bought, and drift until the
    next one does: holding is not trading. One that has left the exchange keeps its place with the
    value it had.
    """
    places = [market.symbols.index(str(name)) for name in forecasts.columns]
    at = market.dates.searchsorted(forecasts.index)
    following = np.minimum(at + 1, len(market.dates) - 1)
    has_bar = market.has_bar[at][:, places]
    could_join = has_bar & market.can_trade[following][:, places]
    joined = np.greater(np.cumsum(could_join, axis=0), 0)
    joins = joined & ~np.vstack([np.zeros((1, len(places)), dtype=bool), joined[:-1]])
    is_held = joined & has_bar & joins.any(axis=1, keepdims=True)
    alike = pd.DataFrame(
        np.where(is_held, 1.0, np.nan), index=forecasts.index, columns=forecasts.columns
    )
    return trade(alike, market, Plan("long_flat"), rules)


def _walk(
    forecasts: FloatArray, market: Market, span: slice, plan: Plan, settlement: int
) -> Account:
    """Walk an account of 1 over the bars of `span`, whose predictions (T, S) are given."""
    n_bars, n_symbols = forecasts.shape
    target, is_due = weigh(forecasts, plan), np.isfinite(forecasts).sum(axis=1) > 0
    before, within = 1 + market.overnight[span], 1 + market.intraday[span]
    can_trade, is_long = market.can_trade[span], plan.kind != "long_short"
    held, cash = np.zeros((plan.horizon, n_symbols)), np.full(plan.horizon, 1.0 / plan.horizon)
    # What was bought in each of the last bars, the newest first: not yet to be sold.
    locked = np.zeros((settlement, *held.shape))
    gross, bought, sold = np.zeros((3, n_bars - 1))
    for bar in range(1, n_bars):
        start = held.sum() + cash.sum()
        held, locked = held * before[bar], np.roll(locked * before[bar], 1, axis=0)
        locked[:1] = 0.0
        if is_due[bar - 1]:
            sleeve, wealth = bar % plan.horizon, held.sum() + cash.sum()
            free = held[sleeve] - locked[:, sleeve].sum(axis=0)
            moved = _choose_trades(
                held[sleeve], cash[sleeve], target[bar - 1], free, can_trade[bar], is_long
            )
            held[sleeve] += moved
            cash[sleeve] -= moved.sum()
            locked[:1, sleeve] = np.maximum(moved, 0.0)
            bought[bar - 1] = np.maximum(moved, 0.0).sum() / wealth
            sold[bar - 1] = np.maximum(-moved, 0.0).sum() / wealth
        held, locked = held * within[bar], locked * within[bar]
        gross[bar - 1] = max((held.sum() + cash.sum()) / start - 1, RUIN)
        if gross[bar - 1] == RUIN:
            break
    return Account(market.dates[span][1:], gross, bought, sold, market.bars_per_year)


def _choose_trades(
    held: FloatArray,
    cash: float,
    target: FloatArray,
    free: FloatArray,
    can_trade: BoolArray,
    is_long: bool,
) -> FloatArray:
    """Return the value (S,) to buy (above 0) or sell of one sleeve, as far as the market allows."""
    wanted = np.where(can_trade, (held.sum() + cash) * target - held, 0.0)
    if not is_long:
        return wanted
    sales = np.minimum(np.maximum(-wanted, 0.0), np.maximum(free, 0.0))
    purchases = np.maximum(wanted, 0.0)
    # What could not be sold can't be spent.
    money = max(cash + sales.sum(), 0.0)
    needed = purchases.sum()
    return purchases * min(1.0, money / needed if needed else 1.0) - sales


def measure(account: Account, equal: Account, costs: Costs) -> dict[str, float]:
    """Return the usual figures of an account after costs, beside holding all symbols equally.

    Rates are a year's: `annual_return` compounded, `volatility`, `sharpe` (no interest on cash) and
    `information_ratio` (of the difference) from the bars' returns. `drawdown` is the largest loss
    from a height; `relative_drawdown` that of the account in units of the equal one. `break_even`
    is the cost of each side at which account and equal one end alike; NaN where the account
    has no lead even without costs. NaN also where a spread to divide by is zero.
    """
    net, base = account.net(costs), equal.net(costs)
    bars = account.bars_per_year
    grown, grown_base = np.log1p(net).sum(), np.log1p(base).sum()
    years = len(net) / bars
    wealth, wealth_base = np.cumprod(1 + net), np.cumprod(1 + base)
    return {
        "annual_return": math.expm1(grown / years),
        "annual_excess": math.expm1(grown / years) - math.expm1(grown_base / years),
        "volatility": float(net.std(ddof=1)) * math.sqrt(bars),
        "sharpe": _ratio(net) * math.sqrt(bars),
        "information_ratio": _ratio(net - base) * math.sqrt(bars),
        "drawdown": _drawdown(wealth),
        "relative_drawdown": _drawdown(wealth / wealth_base),
        "turnover": account.turnover,
        "break_even": find_break_even(account, equal),
    }


def _ratio(returns: FloatArray) -> float:
    spread = float(returns.std(ddof=1))
    # Returns that are all the same leave a rounding error behind.
    return float(returns.mean()) / spread if spread > 1e-15 else math.nan


def _drawdown(wealth: npt.NDArray[np.floating[Any]]) -> float:
    height = np.maximum.accumulate(np.concatenate([[1.0], wealth]))[1:]
    return float((wealth / height - 1).min())


def find_break_even(account: Account, equal: Account) -> float:
    """Return the cost of each side at which both accounts end alike; infinite if none is too high.

    NaN where the account has no lead even without costs.
    """
    from scipy.optimize import brentq

    def lead(cost: float) -> float:
        costs = Costs(cost, cost)
        return float(np.log1p(account.net(costs)).sum() - np.log1p(equal.net(costs)).sum())

    if lead(0.0) <= 0:
        return math.nan
    return math.inf if lead(DEAREST) > 0 else float(brentq(lead, 0.0, DEAREST, xtol=1e-9))
