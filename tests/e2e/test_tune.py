"""From a search to a bot: the tuned config is backtested, and trades on paper."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.replay import ReplayExchange
from freqai_lstm_plugins.replay.demo import merge, predicted_candles
from tests.e2e.bot import LIVE, PAIRS, SMALL, Bot, candles, live_exchange
from tests.e2e.test_backtesting import predictions

pytestmark = [pytest.mark.freqtrade, pytest.mark.slow]
for needed in ("optuna", "arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2"):
    pytest.importorskip(needed)

EXPERIMENT = """\
seeds = [1]
[data]
folder = "candles"
timeframe = "5m"
[features]
window = 8
[label]
horizon = 6
[split]
folds = 1
test_bars = 300
[models.lstm]
max_epochs = 1
num_layers = 1
[portfolio]
k = 1
"""
RANGES = {"lstm": {"hidden_size": {"choices": [5, 6]}, "lr": {"min": 0.001, "max": 0.01}}}


def tune(folder, *words):
    found = subprocess.run(
        [sys.executable, "-m", "freqai_lstm_plugins.cli", "tune", "hourly.toml", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A user directory with candles, and the config that a search wrote into it."""
    folder, market = tmp_path_factory.mktemp("tuned"), candles()
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(folder, exchange, {})
        days = market[PAIRS[0]]["date"].dt.floor("D")
        start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
        bot.configure({"timerange": f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}"})
        bot.run("download-data")
        (folder / "hourly.toml").write_text(EXPERIMENT)
        (folder / "ranges.json").write_text(json.dumps(RANGES))
        words = ["--model", "lstm", "--out", "out/tune"]
        tune(folder, *words, "--ranges", "ranges.json", "--trials", "2")
        tune(folder, *words, "--write-config", "user_data/config_tuned.json")
        bot.settings = json.loads((bot.userdir / "config_tuned.json").read_text())
        chosen = json.loads((folder / "out" / "tune" / "lstm.json").read_text())
        yield bot, chosen["settings"], f"{start:%Y%m%d}-{stop:%Y%m%d}"


def small(settings):
    """Take less data and fewer indicators; what was tuned stays."""
    left = {name: value for name, value in SMALL["freqai"].items() if "model" not in name}
    return merge_into(settings, {"freqai": left})


def merge_into(settings, changes):
    merge(settings, changes)
    return settings


def assert_models_are_the_tuned(bot, chosen, n_models):
    assert len(bot.models()) == n_models
    model = SequenceRegressor.load(bot.models()[0])
    assert model.net_name == "lstm"
    assert model.window == 8
    known = model.get_params()
    assert known["max_epochs"] == 1
    assert {name: known[name] for name in chosen} == chosen
    identifier = bot.settings["freqai"]["identifier"]
    assert bot.models()[0].relative_to(bot.userdir / "models").parts[0] == identifier


def test_a_tuned_config_is_backtested_with_the_settings_that_were_chosen(tuned):
    bot, chosen, timerange = tuned
    small(bot.settings)
    bot.configure({"timerange": timerange})
    output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert_models_are_the_tuned(bot, chosen, 4)
    assert (predictions(bot, "eth")["do_predict"] == 1).all()


def test_a_tuned_config_trades_on_paper(tuned, tmp_path):
    before, chosen, _ = tuned
    with live_exchange() as exchange:
        bot = Bot(tmp_path, exchange, {})
        bot.settings = small(json.loads((before.userdir / "config_tuned.json").read_text()))
        bot.configure({**LIVE, "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}"})
        with bot.start("trade", "--dry-run", "--freqaimodel", "LeaLSTMRegressor") as child:
            output = child.wait_for(
                lambda text: predicted_candles(text) >= 1, "a predicted candle of each pair", 600
            )
    assert "raised exception" not in output
    assert_models_are_the_tuned(bot, chosen, 2)
