"""The strategy on Alpha158 in the real program."""

from __future__ import annotations

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange
from tests.e2e.bot import PAIRS, Bot, candles

pytestmark = pytest.mark.freqtrade


def test_the_strategy_on_alpha158_is_backtested(tmp_path):
    market = candles()
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=2), days.iloc[-1]
    changes = {
        "strategy": "LeaAlpha158Strategy",
        "timerange": f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
        "lea_strategy": {"backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}"},
    }
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, changes)
        bot.run("download-data")
        output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert output.count("Done training") == len(PAIRS)
    files = bot.userdir.glob("models/*/backtesting_predictions/cb_eth_*.feather")
    found = pd.concat([pd.read_feather(path) for path in files])
    # No candle of the backtest is without a prediction, though features look back 60 hours.
    assert len(found) == 2 * 288
    assert (found["do_predict"] == 1).all()
