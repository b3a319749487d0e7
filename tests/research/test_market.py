"""Candles laid side by side: who has a price when, and who could be traded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.market import (
    Rules,
    build_market,
    count_bars_per_year,
)
from tests.research.candles import candles
from tests.research.markets import VIETNAM_RULES

NAN = float("nan")


def test_a_bar_earns_overnight_and_within():
    market = build_market(candles([[10.0], [12.0]], [[8.0], [11.0]]))
    assert market.overnight[:, 0].tolist() == [0.0, 11 / 10 - 1]
    assert market.intraday[:, 0].tolist() == [10 / 8 - 1, 12 / 11 - 1]
    assert market.can_trade.all()


def test_a_symbol_without_a_bar_stands_still_and_jumps_when_it_is_back():
    market = build_market(
        candles([[10.0, 1], [NAN, 1], [12.0, 1]], [[10.0, 1], [10, 1], [11.0, 1]])
    )
    assert market.has_bar[:, 0].tolist() == market.can_trade[:, 0].tolist() == [True, False, True]
    assert market.overnight[:, 0].tolist() == [0.0, 0.0, 11 / 10 - 1]
    assert market.intraday[1, 0] == 0.0


def test_the_return_across_a_bad_row_is_earned_by_nobody():
    frame = candles([[10.0], [50.0], [60.0], [66.0]])
    market = build_market(frame, bad=frame["close"] == 50.0)
    assert market.overnight[:, 0].tolist() == [0.0] * 4
    assert market.intraday[:, 0].tolist() == pytest.approx([0.0, 0.0, 60 / 50 - 1, 0.1])
    assert market.has_bar[:, 0].tolist() == [True, False, True, True]


def test_a_halt_after_a_bad_row_does_not_bring_its_return_back():
    frame = candles([[10.0, 1], [50.0, 1], [NAN, 1], [60.0, 1], [60.0, 1]])
    market = build_market(frame, bad=frame["close"] == 50.0)
    assert market.overnight[:, 0].tolist() == [0.0] * 5


def test_a_bar_without_volume_cannot_be_traded():
    market = build_market(candles([[1.0], [1.1]], volumes=[1, 0]))
    assert market.can_trade[:, 0].tolist() == [True, False]
    assert market.intraday[1, 0] == pytest.approx(0.1)


def test_a_bar_that_opens_at_the_limit_cannot_be_traded():
    closes, opens = [[100.0]] * 4, [[100.0], [106.9], [93.2], [106.0]]
    market = build_market(candles(closes, opens), VIETNAM_RULES)
    assert market.can_trade[:, 0].tolist() == [True, False, False, True]
    assert build_market(candles(closes, opens), Rules()).can_trade.all()


def test_a_close_at_the_limit_does_not_stop_a_trade_at_the_open():
    assert build_market(candles([[100.0], [107.0]]), VIETNAM_RULES).can_trade.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="open"), r"lack the columns \['open'\]"),
        (lambda frame: pd.concat([frame, frame[:1]]), "two candles at the same date"),
        (lambda frame: frame.assign(open=0.0), "not above zero"),
        (lambda frame: frame[:1], "at least two times"),
    ],
)
def test_candles_that_are_wrong_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        build_market(change(candles([[1.0], [1.0]])))


def test_bars_per_year_come_from_the_calendar_itself():
    hours = pd.date_range("2024-01-01", periods=24 * 366, freq="h", tz="UTC")
    assert count_bars_per_year(hours) == pytest.approx(24 * 365.25)
    weekdays = pd.bdate_range("2020-01-01", "2024-01-01")
    assert count_bars_per_year(weekdays) == pytest.approx(261, abs=1)


def test_symbols_are_in_order_however_the_rows_stand():
    frame = candles([[1.0, 2.0], [3.0, 4.0]]).sample(frac=1, random_state=0)
    market = build_market(frame)
    assert market.symbols == ("S00", "S01")
    assert np.allclose(market.intraday[1], [2.0, 1.0])
