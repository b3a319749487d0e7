"""The strategy on Alpha158 in the real program."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange
from tests.e2e.bot import PAIRS, Bot, candles

pytestmark = pytest.mark.freqtrade

# Thresholds at their lowest, so that there are trades to look at.
EAGER = {"entry_z": 0.0, "cost_multiple": 0.0, "trend_floor": -20.0, "volume_floor": 0.0}


@pytest.fixture(scope="module")
def market():
    return candles()


@pytest.fixture(scope="module")
def timerange(market):
    days = market[PAIRS[0]]["date"].dt.floor("D")
    return f"{days.iloc[-1] - pd.Timedelta(days=2):%Y%m%d}-{days.iloc[-1]:%Y%m%d}"


@pytest.fixture
def bot(tmp_path, market, timerange):
    first = market[PAIRS[0]]["date"].iloc[0]
    changes = {
        "strategy": "LeaAlpha158Strategy",
        "timerange": f"{first:%Y%m%d}-{timerange.split('-')[1]}",
        "lea_strategy": {"backtest_timerange": timerange},
    }
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, changes)
        bot.run("download-data")
        yield bot


def test_every_candle_of_a_backtest_gets_a_prediction(bot):
    output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert output.count("Done training") == len(PAIRS)
    files = bot.userdir.glob("models/*/backtesting_predictions/cb_eth_*.feather")
    found = pd.concat([pd.read_feather(path) for path in files])
    # Features look back 60 hours, and the windows of the first candles further.
    assert len(found) == 2 * 288
    assert (found["do_predict"] == 1).all()


def test_no_signal_is_biased_by_a_look_ahead(bot, timerange, tmp_path):
    parameters = {"strategy_name": "LeaAlpha158Strategy", "params": {"buy": EAGER}}
    (bot.userdir / "strategies" / "LeaAlpha158Strategy.json").write_text(json.dumps(parameters))
    # The command deletes the identifier's models.
    bot.configure({"freqai": {"identifier": "look-ahead"}})
    table = tmp_path / "look_ahead.csv"
    amounts = ["--minimum-trade-amount", "2", "--targeted-trade-amount", "4"]
    bot.run(
        "lookahead-analysis",
        *("--freqaimodel", "LeaLSTMRegressor", "--timerange", timerange),
        *("--lookahead-analysis-exportfilename", str(table), *amounts),
    )
    found = pd.read_csv(table).iloc[0]
    # What it calls biased indicators are predictions that differ by round-off, and NaN.
    assert found["total_signals"] >= 2
    assert found["biased_entry_signals"] == found["biased_exit_signals"] == 0
