"""One net for all pairs in the real freqtrade."""

from __future__ import annotations

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange, synthetic_market
from tests.e2e.bot import Bot
from tests.e2e.test_backtesting import predictions

pytestmark = pytest.mark.freqtrade

PAIRS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")
PANEL = {"freqai": {"model_training_parameters": {"panel": {"pairs": "whitelist"}}}}


def test_backtesting_trains_one_net_a_slice_for_three_pairs(tmp_path):
    market = synthetic_market(PAIRS, "5m", 10 * 288, seed=3)
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, PANEL)
        bot.configure({"freqai": {"train_period_days": 3, "save_backtest_models": True}})
        bot.run("download-data", "--timerange", f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}")
        output = bot.run("backtesting", "--timerange", f"{start:%Y%m%d}-{stop:%Y%m%d}")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert output.count("Done training one net for 3 pairs") == len(bot.models()) == 2
    for coin in ("ada", "btc", "eth"):
        assert (predictions(bot, coin)["do_predict"] == 1).all()
