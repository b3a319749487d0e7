"""freqtrade's other tools on the shipped strategy, as `docs/other-tools.md` tells of them."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import ReplayExchange
from tests.e2e.bot import PAIRS, Bot, candles

pytestmark = [pytest.mark.freqtrade, pytest.mark.slow]

# Gates that are nearly always open, so that a few days hold some trades.
EAGER = {
    "strategy_name": "LeaFreqAIStrategy",
    "params": {
        "buy": {"entry_z": 0.0, "cost_multiple": 0.0, "trend_floor": -20.0, "volume_floor": 0.0},
        "sell": {"exit_z": 1.0, "hold_multiple": 1, "stop_multiple": 2.0, "target_multiple": 3.0},
    },
    "ft_stratparam_v": 1,
}


def test_the_bias_checkers_find_no_biased_signal_and_leave_the_bots_models_alone(tmp_path):
    market = candles()
    days = market[PAIRS[0]]["date"].dt.floor("D")
    stop = days.iloc[-1]
    changes = {
        "dry_run_wallet": 1_000_000_000,
        "lea_strategy": {"fee": 0.0, "slippage": 0.0},
        "freqai": {"model_training_parameters": {"trainer_kwargs": {"n_epochs": 2}}},
    }
    start = stop - pd.Timedelta(days=4)
    tested = ["--freqaimodel", "LeaLSTMRegressor", "--timerange", f"{start:%Y%m%d}-{stop:%Y%m%d}"]
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, changes)
        bot.run("download-data", "--timerange", f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}")
        (bot.userdir / "strategies" / "LeaFreqAIStrategy.json").write_text(json.dumps(EAGER))
        bot.run("backtesting", *tested)
        before = {path: path.stat().st_mtime_ns for path in bot.models()}
        assert before

        for _ in range(2):
            # A second run finds nothing of the first.
            output = bot.run("recursive-analysis", *tested, "--startup-candle", "200", "400")
            assert "Found backtesting prediction file" not in output
            assert "Start checking for recursive bias" in output
            # What differs at all differs by the rounding of sums that begin elsewhere.
            table = [line for line in output.splitlines() if line.startswith("│")]
            assert set(re.findall(r"-?\d+\.\d+%", "".join(table))) <= {"0.000%", "-0.000%"}
        amounts = ["--minimum-trade-amount", "1", "--targeted-trade-amount", "2"]
        output = bot.run("lookahead-analysis", *tested, *amounts)
        (row,) = re.findall(r"│ LeaFreqAIStrategy\.py │ LeaFreqAIStrategy │(.*)", output)
        _, signals, entries, exits, *_ = (cell.strip() for cell in row.split("│"))
        assert int(signals) >= 1
        assert (entries, exits) == ("0", "0")
        kept = {path: path.stat().st_mtime_ns for path in before if path.is_file()}
    assert kept == before
