"""The installed config of the ensemble, word for word as the docs say."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.names import ENSEMBLE_CONFIG_NAME
from freqai_lstm_plugins.replay import ReplayExchange
from freqai_lstm_plugins.replay.demo import merge
from tests.e2e.bot import PAIRS, SMALL, Bot, candles
from tests.e2e.test_backtesting import predictions

pytestmark = pytest.mark.freqtrade
pytest.importorskip("lightgbm")

LABEL = "&-forward_return"
MEMBERS = ("lstm", "lightgbm", "ridge")


def shrink(bot: Bot) -> None:
    """Take the installed config of the ensemble, with members that are trained fast."""
    settings = json.loads((bot.userdir / ENSEMBLE_CONFIG_NAME).read_text())
    small = {name: value for name, value in SMALL["freqai"].items() if "model" not in name}
    merge(settings, {"freqai": small})
    given = settings["freqai"]["model_training_parameters"]
    given["model_kwargs"]["members"]["lstm"]["hidden_dim"] = 8
    given["model_kwargs"]["members"]["lightgbm"]["n_estimators"] = 20
    given["trainer_kwargs"]["n_epochs"] = 2
    bot.settings = settings


def test_backtesting_with_the_installed_config_weighs_and_shows_the_members(tmp_path):
    market = candles()
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, {})
        shrink(bot)
        bot.configure(
            {
                "timerange": f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
                "lea_strategy": {
                    "backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}",
                    "max_disagreement": 5.0,
                },
            }
        )
        bot.run("download-data")
        output = bot.run("backtesting", "--freqaimodel", "LeaEnsembleRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert "shows no disagreement" not in output
    assert output.count("Done training") == len(bot.models()) == 4
    first = predictions(bot, "eth")
    assert (first["do_predict"] == 1).all()
    weights = first[[f"{LABEL}_w_{member}" for member in MEMBERS]]
    assert ((weights.sum(axis=1) - 1).abs() < 1e-9).all()
    assert first[f"{LABEL}_disagreement"].gt(0).any()
    fitted = load_model(bot.models()[0]).require_fitted()
    assert [member.name for member in fitted.members] == list(MEMBERS)
    assert fitted.weighed[0].n_rows > 100
