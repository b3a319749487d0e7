"""What predictions would have earned: hand-made accounts, and what holds for all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.market import Rules, build_market
from freqai_lstm_plugins.research.portfolio import (
    Account,
    Costs,
    Plan,
    find_break_even,
    hold_equally,
    measure,
    trade,
    weigh,
)
from tests.research.candles import candles, forecasts_of, walk_of
from tests.research.markets import BINANCE_COSTS, VIETNAM_COSTS, VIETNAM_RULES

NAN = float("nan")
SHORT = Rules(can_short=True)
FREE = Costs()


def test_the_position_is_traded_at_the_open_after_the_prediction():
    # Only what happens between the open and the close of the second and third bar is earned.
    closes, opens = [[100.0, 1], [110.0, 1], [121.0, 1]], [[90.0, 1], [105.0, 1], [115.0, 1]]
    market = build_market(candles(closes, opens))
    account = trade(forecasts_of([[1.0, 0.0], [1.0, 0.0]]), market, Plan("top", k=1))
    assert account.gross.tolist() == pytest.approx([110 / 105 - 1, 121 / 110 - 1])
    assert account.bought.tolist() == [1.0, 0.0]
    assert account.dates[0] == market.dates[1]


def test_what_is_sold_earned_the_night_before():
    closes = [[100.0, 100], [100.0, 100], [130.0, 100]]
    opens = [[100.0, 100], [100.0, 100], [120.0, 100]]
    account = trade(
        forecasts_of([[1.0, 0.0], [0.0, 1.0]]), build_market(candles(closes, opens)), Plan(k=1)
    )
    assert account.gross.tolist() == pytest.approx([0.0, 0.2])
    assert account.sold.tolist() == pytest.approx([0.0, 1.0])


def test_costs_are_taken_from_what_is_traded():
    account = Account(None, np.array([0.1, 0.0]), np.array([1.0, 0.5]), np.array([0.0, 0.5]), 2.0)
    net = account.net(Costs(buy=0.01, sell=0.02, tax=0.03))
    assert net.tolist() == pytest.approx([1.1 * 0.99 - 1, -0.5 * 0.01 - 0.5 * 0.05])
    assert account.turnover == pytest.approx(2.0 / 2 / 2 * 2)
    assert VIETNAM_COSTS.times(2) == Costs(0.003, 0.003, 0.002)


def test_top_holds_the_highest_predictions_in_equal_parts():
    parts = weigh(np.array([[3.0, 1.0, NAN, 2.0], [NAN, NAN, NAN, 1.0]]), Plan("top", k=2))
    assert parts.tolist() == [[0.5, 0, 0, 0.5], [0, 0, 0, 1.0]]


def test_equal_predictions_share_what_is_left():
    parts = weigh(np.array([[5.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), Plan("top", k=2))
    assert parts[0] == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert parts[1] == pytest.approx([0.25] * 4)


def test_long_flat_holds_what_lies_above_the_threshold():
    parts = weigh(np.array([[0.2, 0.05, NAN, 0.1]]), Plan("long_flat", threshold=0.1))
    assert parts[0] == pytest.approx([1 / 3, 0, 0, 0])


def test_long_short_is_half_long_and_half_short():
    parts = weigh(np.array([[4.0, 3.0, 2.0, NAN, 1.0]]), Plan("long_short", k=2))
    assert parts.tolist() == [[0.25, 0.25, -0.25, 0, -0.25]]
    assert not weigh(np.array([[1.0, NAN]]), Plan("long_short", k=2)).any()


def test_a_short_position_earns_what_the_price_loses():
    market = build_market(candles([[100.0, 100], [110.0, 80]]))
    account = trade(forecasts_of([[1.0, 0.0]]), market, Plan("long_short", k=1), SHORT)
    assert account.gross.tolist() == pytest.approx([0.5 * 0.1 + 0.5 * 0.2])
    assert (account.bought.item(), account.sold.item()) == (0.5, 0.5)


def test_a_short_position_can_lose_all_but_no_more():
    market = build_market(candles([[1.0, 1], [1.0, 9], [1.0, 1.0]]))
    account = trade(forecasts_of([[1.0, 0.0]] * 2), market, Plan("long_short", k=1), SHORT)
    assert account.gross.tolist() == pytest.approx([-1.0, 0.0])
    assert measure(account, account, FREE)["annual_return"] == pytest.approx(-1.0)


def test_a_market_without_short_sales_refuses_them():
    market = build_market(candles([[1.0, 1], [1.0, 1]]))
    with pytest.raises(ConfigError, match="no short sales"):
        trade(forecasts_of([[1.0, 0.0]]), market, Plan("long_short"), VIETNAM_RULES)


def test_overlapping_positions_are_sleeves_that_take_turns():
    rng = np.random.default_rng(0)
    market = build_market(candles(walk_of(rng, 40, 6)))
    account = trade(forecasts_of(rng.normal(size=(38, 6))), market, Plan(k=2, horizon=5))
    # While the account fills, each bar buys with a fifth of the money.
    assert account.bought[:5] == pytest.approx([0.2] * 5, rel=0.1)
    assert account.sold[:5].tolist() == [0.0] * 5
    alone = trade(forecasts_of(rng.normal(size=(38, 6))), market, Plan(k=2))
    assert account.turnover < 0.3 * alone.turnover


def test_a_sleeve_holds_its_symbols_for_the_horizon():
    closes = [[1.0, 1], [1.0, 1], [2.0, 1], [2.0, 1], [4.0, 1]]
    market = build_market(candles(closes))
    # Bought at the second bar, it turns over at the fourth; the second sleeve never holds it.
    values = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    account = trade(forecasts_of(values), market, Plan(k=1, horizon=2))
    assert account.gross.tolist() == pytest.approx([0.0, 0.5, 0.0, 0.0])
    assert account.sold.tolist() == pytest.approx([0, 0, 1.0 / 1.5, 0])


def test_shares_are_sold_no_earlier_than_two_days_after_they_were_bought():
    market = build_market(candles(np.ones((6, 2))), VIETNAM_RULES)
    values = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    account = trade(forecasts_of(values), market, Plan(k=1), VIETNAM_RULES)
    assert account.bought.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert account.sold.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_what_cannot_be_sold_is_kept_and_not_spent():
    closes = [[1.0, 1], [1.0, 1], [1.0, 1], [1.5, 1]]
    volumes = [[1, 1], [1, 1], [0, 1], [1, 1]]
    market = build_market(candles(closes, volumes=volumes))
    values = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    account = trade(forecasts_of(values), market, Plan(k=1))
    assert account.bought.tolist() == [1.0, 0.0, 1.0]
    assert account.sold.tolist() == [0.0, 0.0, 1.0]


def test_a_date_without_predictions_trades_nothing():
    market = build_market(candles([[1.0, 1], [1.0, 1], [2.0, 1], [2.0, 1]]))
    values = [[1.0, 0.0], [NAN, NAN], [1.0, 0.0]]
    account = trade(forecasts_of(values), market, Plan(k=1))
    assert account.gross.tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert account.sold.tolist() == [0.0] * 3


def test_holding_equally_buys_once_and_lets_parts_drift():
    closes = [[100.0, 100], [100.0, 100], [200.0, 100], [200.0, 50]]
    market = build_market(candles(closes))
    equal = hold_equally(market, forecasts_of(np.ones((3, 2))))
    assert np.cumprod(1 + equal.gross).tolist() == pytest.approx([1.0, 1.5, 1.25])
    assert equal.bought.tolist() == [1.0, 0.0, 0.0]
    assert not equal.sold.any()


def test_a_symbol_that_is_listed_late_joins_in_an_equal_part():
    closes = [[100.0, NAN], [100.0, NAN], [100.0, 10.0], [100.0, 10.0], [100.0, 20.0]]
    equal = hold_equally(build_market(candles(closes)), forecasts_of(np.ones((4, 2))))
    assert equal.bought.tolist() == pytest.approx([1.0, 0.0, 0.5, 0.0])
    assert equal.gross.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.5])


def test_a_symbol_that_cannot_be_bought_at_first_joins_when_it_can():
    market = build_market(candles(np.ones((4, 2)), volumes=[[1, 1], [1, 0], [1, 1], [1, 1]]))
    equal = hold_equally(market, forecasts_of(np.ones((3, 2))))
    assert equal.bought.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_a_symbol_delisted_half_way_stays_in_the_average():
    closes = np.full((8, 2), 100.0)
    closes[2:4, 0] = 50.0
    closes[4:, 0] = NAN
    closes[6:, 1] = 200.0
    market = build_market(candles(closes))
    values = np.ones((7, 2))
    values[4:, 0] = NAN
    equal = hold_equally(market, forecasts_of(values))
    # Half of the money has halved and stays; the other half doubles.
    assert np.prod(1 + equal.gross) == pytest.approx(0.5 * 0.5 + 0.5 * 2)
    held = trade(forecasts_of(values), market, Plan("top", k=2))
    assert np.isfinite(held.gross).all()
    # The account was made equal once, at the loss, and what is left in the share stays there.
    assert np.prod(1 + held.gross) == pytest.approx(0.375 + 0.375 * 2)
    figures = measure(held, equal, BINANCE_COSTS)
    # It is behind even without costs, so no cost makes them end alike.
    assert [name for name, value in figures.items() if not np.isfinite(value)] == ["break_even"]


def made(seed, plan, rules=VIETNAM_RULES, n_dates=30):
    """Return an account of random predictions, among halts, limits and a delisting."""
    rng = np.random.default_rng(seed)
    closes = walk_of(rng, n_dates + 2, 6, scale=0.04)
    volumes = rng.random(closes.shape) > 0.1
    closes[20:, 1] = NAN
    closes[:9, 2] = NAN
    market = build_market(candles(closes, volumes=volumes), rules)
    forecasts = rng.normal(size=(n_dates, 6))
    forecasts[rng.random(forecasts.shape) < 0.1] = NAN
    frame = forecasts_of(forecasts)
    return trade(frame, market, plan, rules), hold_equally(market, frame, rules), market, frame


PLANS = st.builds(
    Plan,
    kind=st.sampled_from(["top", "long_flat", "long_short"]),
    horizon=st.integers(1, 7),
    k=st.integers(1, 4),
)


def rules_for(plan):
    return SHORT if plan.kind == "long_short" else VIETNAM_RULES


@settings(max_examples=30)
@given(seed=st.integers(0, 999), plan=PLANS)
def test_doubling_costs_never_raises_a_return(seed, plan):
    account = made(seed, plan, rules_for(plan))[0]
    once, twice = account.net(VIETNAM_COSTS), account.net(VIETNAM_COSTS.times(2))
    assert (twice <= once).all()
    assert (once <= account.gross).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 999), plan=PLANS, n=st.integers(3, 28))
def test_a_later_row_changes_no_earlier_figure(seed, plan, n):
    rules = rules_for(plan)
    account, equal, market, frame = made(seed, plan, rules)
    # Both later predictions and later candles are gone.
    rows = slice(n + 1)
    shorter = type(market)(
        market.dates[rows],
        market.symbols,
        *(
            values[rows]
            for values in (market.overnight, market.intraday, market.can_trade, market.has_bar)
        ),
        market.bars_per_year,
    )
    earlier = trade(frame[:n], shorter, plan, rules)
    assert len(earlier.gross) == n
    for name in ("gross", "bought", "sold"):
        np.testing.assert_array_equal(getattr(earlier, name), getattr(account, name)[:n])
    held = hold_equally(shorter, frame[:n], rules)
    np.testing.assert_array_equal(held.gross, equal.gross[:n])


@settings(max_examples=30)
@given(seed=st.integers(0, 999), plan=PLANS)
def test_a_long_account_never_buys_with_money_it_has_not(seed, plan):
    if plan.kind == "long_short":
        return
    account = made(seed, plan)[0]
    assert (account.bought <= 1 + 1e-12).all()
    assert (account.sold <= 1 + 1e-12).all()
    assert (account.bought.cumsum() - account.sold.cumsum() > -1e-9).all() or account.sold.any()
    assert (account.gross > -1).all()


def test_figures_of_a_year_by_hand():
    returns = np.array([0.1, -0.2, 0.05, 0.1])
    account = Account(None, returns, np.zeros(4), np.zeros(4), 2.0)
    equal = Account(None, np.array([0.0, 0.1, 0.0, 0.0]), np.zeros(4), np.zeros(4), 2.0)
    found = measure(account, equal, FREE)
    total = 1.1 * 0.8 * 1.05 * 1.1
    assert found["annual_return"] == pytest.approx(math.sqrt(total) - 1)
    assert found["annual_excess"] == pytest.approx(math.sqrt(total) - math.sqrt(1.1))
    assert found["volatility"] == pytest.approx(np.std(returns, ddof=1) * math.sqrt(2))
    assert found["sharpe"] == pytest.approx(0.0125 / np.std(returns, ddof=1) * math.sqrt(2))
    lead = returns - equal.gross
    assert found["information_ratio"] == pytest.approx(
        lead.mean() / lead.std(ddof=1) * math.sqrt(2)
    )
    assert found["drawdown"] == pytest.approx(-0.2)
    assert found["relative_drawdown"] == pytest.approx(0.8 / 1.1 - 1)


def test_a_loss_in_the_first_bar_is_a_drawdown():
    account = Account(None, np.array([-0.3, 0.1]), np.zeros(2), np.zeros(2), 1.0)
    assert measure(account, account, FREE)["drawdown"] == pytest.approx(-0.3)


def test_an_account_that_never_trades_has_no_ratio():
    idle = Account(None, np.zeros(5), np.zeros(5), np.zeros(5), 1.0)
    found = measure(idle, idle, FREE)
    assert math.isnan(found["sharpe"])
    assert math.isnan(found["information_ratio"])
    assert found["annual_return"] == 0.0


def test_break_even_is_the_cost_at_which_the_lead_is_gone():
    account = Account(None, np.array([0.01, 0.01]), np.array([1.0, 1.0]), np.array([0.0, 1.0]), 1.0)
    equal = Account(None, np.zeros(2), np.array([1.0, 0.0]), np.zeros(2), 1.0)
    cost = find_break_even(account, equal)
    ends = [np.prod(1 + each.net(Costs(cost, cost))) for each in (account, equal)]
    assert ends[0] == pytest.approx(ends[1])
    assert 0 < cost < 0.02
    assert math.isnan(find_break_even(equal, account))
    idle = Account(None, np.array([0.01, 0.0]), np.zeros(2), np.zeros(2), 1.0)
    assert math.isinf(find_break_even(idle, equal))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Costs(buy=-0.1), r"costs.buy is -0.1"),
        (lambda: Costs(tax=0.7), r"costs.tax is 0.7"),
        (lambda: Plan(horizon=0), r"portfolio.horizon is 0"),
        (lambda: Plan(k=0), r"portfolio.k is 0"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("forecasts", "message"),
    [
        (forecasts_of(np.ones((2, 3))), r"predictions for \['S02'\], but no candles"),
        (forecasts_of(np.ones((2, 2)), start="2023-12-31"), "no candle"),
        (forecasts_of(np.ones((1, 2)), start="2024-01-02"), "end with the first prediction"),
    ],
)
def test_predictions_without_candles_are_refused(forecasts, message):
    with pytest.raises(DataError, match=message):
        trade(forecasts, build_market(candles(np.ones((2, 2)))), Plan())
