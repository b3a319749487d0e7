"""The strategy on Alpha158 in the real program."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.names import CONFIG_NAME
from freqai_lstm_plugins.replay import ReplayExchange
from freqai_lstm_plugins.replay.demo import PREDICTED, predicted_candles
from tests.e2e.bot import LIVE, PAIRS, REPO, Bot, candles, live_exchange

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
        bot = Bot(tmp_path, exchange, {})
        bot.config = bot.userdir / CONFIG_NAME
        bot.configure(changes)
        bot.run("download-data")
        yield bot


def run_as_on_the_page(bot, command, timerange, *more):
    """Run a command of the page word for word, but for the days, on the replay exchange."""
    page = (REPO / "docs" / "alpha158.md").read_text(encoding="utf-8")
    (words,) = re.findall(rf"freqtrade ({command} .*?)(?= &&|$)", page, re.MULTILINE)
    words = shlex.split(words.replace("20250901-20250908", timerange))
    words += ["--config", str(bot.overlay), "--datadir", str(bot.datadir), *more]
    done = subprocess.run(
        [sys.executable, "-m", "freqtrade", *words],
        cwd=bot.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        env={**os.environ, "COLUMNS": "500"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_every_candle_of_a_backtest_gets_a_prediction(bot, timerange):
    output = run_as_on_the_page(bot, "backtesting", timerange)
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert output.count("Done training") == len(PAIRS)
    files = bot.userdir.glob("models/*/backtesting_predictions/cb_eth_*.feather")
    found = pd.concat([pd.read_feather(path) for path in files])
    # Features look back 60 hours, and the windows of the first candles further.
    assert len(found) == 2 * 288
    assert (found["do_predict"] == 1).all()


@pytest.mark.slow
def test_the_bias_checkers_find_nothing(bot, timerange, tmp_path):
    parameters = {"strategy_name": "LeaAlpha158Strategy", "params": {"buy": EAGER}}
    (bot.userdir / "strategies" / "LeaAlpha158Strategy.json").write_text(json.dumps(parameters))
    # Both commands delete the models of the identifier that they are given.
    of_the_bot = bot.userdir / "models" / "lea-LeaLSTMRegressor" / "kept"
    of_the_bot.parent.mkdir(parents=True)
    of_the_bot.touch()
    table = tmp_path / "look_ahead.csv"
    run_as_on_the_page(
        *(bot, "lookahead-analysis", timerange),
        *("--lookahead-analysis-exportfilename", str(table)),
        *("--minimum-trade-amount", "2", "--targeted-trade-amount", "4"),
    )
    found = pd.read_csv(table).iloc[0]
    # What it calls biased indicators are predictions that differ by round-off, and NaN.
    assert found["total_signals"] >= 2
    assert found["biased_entry_signals"] == found["biased_exit_signals"] == 0
    assert "%-" not in str(found["biased_indicators"])

    lengths = ["--startup-candle", "1100", "1300"]
    output = run_as_on_the_page(bot, "recursive-analysis", timerange, *lengths)
    assert "Start checking for recursive bias" in output
    # What differs at all differs by the rounding of sums that begin elsewhere.
    shown = "".join(line for line in output.splitlines() if line.startswith("│"))
    assert set(re.findall(r"-?\d+\.\d+%", shown)) <= {"0.000%", "-0.000%"}
    assert not re.search("found lookahead in indicator %", output)
    assert of_the_bot.exists()


# Keeps what it is asked to predict: live the newest candle, in a backtest those of a slice.
WATCHED = """
from pathlib import Path

from freqai_lstm_plugins.freqaimodels.LeaLSTMRegressor import LeaLSTMRegressor


class WatchedLSTM(LeaLSTMRegressor):
    def predict(self, unfiltered_df, dk, **kwargs):
        folder = Path(self.config["user_data_dir"]) / ("live" if self.live else "backtest")
        folder.mkdir(exist_ok=True)
        kept = unfiltered_df.tail(1) if self.live else unfiltered_df
        newest = unfiltered_df["date"].iloc[-1]
        kept.to_pickle(folder / f"{dk.pair.replace('/', '_')}-{newest:%Y%m%dT%H%M}.pkl")
        return super().predict(unfiltered_df, dk, **kwargs)
"""


def seen(bot, mode, pair):
    """Return every row of features that the model was asked to predict, by date."""
    paths = sorted((bot.userdir / mode).glob(f"{pair.replace('/', '_')}-*.pkl"))
    frame = pd.concat([pd.read_pickle(path) for path in paths]).set_index("date")
    return frame.filter(regex="^%").sort_index()


@pytest.mark.slow
def test_the_newest_candle_has_the_features_in_a_dry_run_that_it_has_in_a_backtest(tmp_path):
    changes = {
        **LIVE,
        "strategy": "LeaAlpha158Strategy",
        "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}",
        "freqai": {**LIVE["freqai"], "feature_parameters": {"include_timeframes": ["1m", "5m"]}},
    }
    with live_exchange() as exchange:
        bot = Bot(tmp_path, exchange, changes)
        (bot.userdir / "freqaimodels" / "WatchedLSTM.py").write_text(WATCHED)
        with bot.start("trade", "--freqaimodel", "WatchedLSTM") as child:
            output = child.wait_for(
                lambda text: predicted_candles(text) >= 3, "three predicted candles a pair", 400
            )
        assert "raised exception" not in output
        bot.configure({"freqai": {"identifier": "afterwards", "backtest_period_days": 1}})
        bot.run("download-data", "--timeframes", "1m", "5m", "--days", "3")
        newest = pd.Timestamp.now("UTC").floor("min")
        start = newest - pd.Timedelta(hours=1)
        arguments = ["--timerange", f"{start.timestamp():.0f}-{newest.timestamp():.0f}"]
        bot.run("backtesting", "--freqaimodel", "WatchedLSTM", *arguments)
    predicted = [(found["pair"], found["candle"]) for found in PREDICTED.finditer(output)]
    for pair in PAIRS:
        live, backtest = (seen(bot, mode, pair) for mode in ("live", "backtest"))
        dates = {pd.Timestamp(candle) for name, candle in predicted if name == pair}
        assert len(dates) >= 2
        # FreqAI does not predict the last candle of a backtest.
        live = live[live.index.isin(dates & set(backtest.index))]
        assert len(live) >= 2
        assert len(live.columns) >= 4 * 158
        assert np.isfinite(live).all(axis=None)
        expected = backtest.loc[live.index, live.columns]
        np.testing.assert_allclose(live, expected, rtol=1e-6, atol=1e-6)
