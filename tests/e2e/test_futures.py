"""Both sides of perpetual futures, by the real program and the strategy installed for them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange, relabel, synthetic_market
from freqai_lstm_plugins.replay.demo import backtest_trades
from tests.e2e.bot import LIVE, Bot

pytestmark = pytest.mark.freqtrade

PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
DAYS = 14
# A prediction is compared with those before it, not with labels, which vary more than what a small
# net dares to say.
EAGER = {
    "freqai": {
        "fit_live_predictions_candles": 50,
        "model_training_parameters": {"trainer_kwargs": {"n_epochs": 6, "batch_size": 64}},
    },
    "lea_strategy": {"slippage": 0.0},
    "fee": 0.0001,
}


@pytest.fixture(scope="module")
def market():
    return synthetic_market(PAIRS, "5m", DAYS * 288, seed=7, signal=0.4)


def test_a_backtest_of_futures_trades_both_sides_and_pays_for_funding(tmp_path, market):
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, EAGER)
        bot.run("download-data", "--timerange", f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}")
        arguments = ["--timerange", f"{start:%Y%m%d}-{stop:%Y%m%d}"]
        output = bot.run("backtesting", "--export", "trades", *arguments)
        asked = set(exchange.requests)
    assert "BACKTESTING REPORT" in output
    assert "LeaLongShortStrategy" in output
    assert not re.search(r"raised exception| - (ERROR|CRITICAL) - |Traceback", output)
    assert {"klines", "markPriceKlines", "fundingRate"} <= asked
    stored = {path.name for path in (bot.datadir / "futures").iterdir()}
    assert {
        "BTC_USDT_USDT-5m-futures.feather",
        "BTC_USDT_USDT-1h-mark.feather",
        "BTC_USDT_USDT-1h-funding_rate.feather",
    } <= stored
    trades = backtest_trades(bot.userdir)
    assert set(trades["is_short"]) == {True, False}
    # Whoever holds over a payment has one, and shorts receive what longs pay.
    paid = trades[trades["funding_fees"] != 0]
    assert ((paid["funding_fees"] > 0) == paid["is_short"]).all()
    crosses = trades["open_date"].dt.floor("8h") != trades["close_date"].dt.floor("8h")
    assert set(paid.index) == set(trades.index[crosses])
    assert len(paid) > 0


@pytest.mark.slow
def test_a_dry_run_of_futures_trains_and_predicts(tmp_path, market):
    live = relabel(market, "1m")
    with ReplayExchange(live, "1m", live=True) as exchange:
        changes = {**LIVE, "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}"}
        bot = Bot(tmp_path, exchange, changes)
        with bot.start("trade") as child:
            output = child.wait_for(
                lambda text: text.count("predicted") >= 2, "a prediction a pair", 600
            )
    assert not re.search(r"raised exception| - (ERROR|CRITICAL) - |Traceback", output)
