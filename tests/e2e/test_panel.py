"""One net for all pairs in the real freqtrade."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange, relabel, synthetic_market
from tests.e2e.bot import LIVE, Bot
from tests.e2e.test_backtesting import predictions

pytestmark = pytest.mark.freqtrade

PAIRS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")
PANEL = {"freqai": {"model_training_parameters": {"panel": {"pairs": "whitelist"}}}}


def test_backtesting_trains_one_net_a_slice_for_three_pairs(tmp_path):
    market = synthetic_market(PAIRS, "5m", 6 * 288, seed=3)
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=2), days.iloc[-1]
    quick = {
        "train_period_days": 2,
        "backtest_period_days": 1,
        "save_backtest_models": True,
        "feature_parameters": {"include_timeframes": ["5m"]},
    }
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, PANEL)
        bot.configure({"freqai": quick})
        bot.run("download-data", "--timerange", f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}")
        output = bot.run("backtesting", "--timerange", f"{start:%Y%m%d}-{stop:%Y%m%d}")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert output.count("Done training one net for 3 pairs") == len(bot.models()) == 2
    for coin in ("ada", "btc", "eth"):
        assert (predictions(bot, coin)["do_predict"] == 1).all()


COMING = "SOL/USDT"
TRAINED = re.compile(r"Done training one net for 3 pairs")


def predicts(*pairs: str):
    def condition(output: str) -> bool:
        return all(
            re.search(rf"{pair}: candle \S+ predicted .* do_predict 1", output) for pair in pairs
        )

    return condition


def follow_a_file(bot: Bot, pairs: Path) -> None:
    """Let the whitelist be what a file says at each moment, and the config name three pairs."""
    overlay = json.loads(bot.overlay.read_text())
    overlay["exchange"]["pair_whitelist"] = list(PAIRS)
    overlay["pairlists"] = [
        {
            "method": "RemotePairList",
            "mode": "whitelist",
            "pairlist_url": f"file:///{pairs}",
            "number_assets": 10,
            "refresh_period": 2,
        }
    ]
    bot.overlay.write_text(json.dumps(overlay))


@pytest.mark.slow
def test_a_bot_of_three_pairs_of_which_one_leaves_and_one_comes_is_killed_and_goes_on(tmp_path):
    market = synthetic_market((*PAIRS, COMING), "5m", 8 * 288, seed=3)
    listed = tmp_path / "pairs.json"
    listed.write_text(json.dumps({"pairs": list(PAIRS), "refresh_period": 2}))
    with ReplayExchange(relabel(market, "1m"), "1m", live=True) as exchange:
        bot = Bot(tmp_path, exchange, {**LIVE, "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}"})
        bot.configure(PANEL)
        bot.configure({"freqai": {"live_retrain_hours": 0.04}})
        follow_a_file(bot, listed)
        with bot.start("trade") as child:
            child.wait_for(predicts(*PAIRS), "a prediction of each pair", 300)
            rest = [*PAIRS[1:], COMING]
            listed.write_text(json.dumps({"pairs": rest, "refresh_period": 2}))
            child.wait_for(predicts(COMING), "a prediction of the pair that came", 300)
            output = child.wait_for(
                lambda text: (
                    "now trained without ADA/USDT and with SOL/USDT" in text
                    and len(TRAINED.findall(text)) > 1
                ),
                "a training with the pair that came",
                400,
            )
            assert "Traceback" not in output
            child.kill()
        bot.configure({"freqai": {"live_retrain_hours": 6}})
        with bot.start("trade") as child:
            output = child.wait_for(predicts(*rest), "predictions after the kill", 300)
    assert "is unusable" not in output
    assert "Starting training" not in output
