"""What the README tells a newcomer to do with a bot, done as it stands there."""

from __future__ import annotations

import json
import re

import pytest

from freqai_lstm_plugins.install import install
from freqai_lstm_plugins.names import CONFIG_NAME
from freqai_lstm_plugins.replay import ReplayExchange, synthetic_market
from tests.e2e.bot import PAIRS, REPO, Bot, has_trained_all

pytestmark = pytest.mark.freqtrade

# Less of the same: neither the net's settings nor anything else of the config is touched.
LESS = {
    "freqai": {
        "train_period_days": 3,
        "model_training_parameters": {"trainer_kwargs": {"n_epochs": 1}},
    },
}


def own_net() -> str:
    page = (REPO / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (block,) = (block for block in blocks if "class MyOwnLSTM(" in block)
    return block


def test_the_readmes_own_net_trains_with_the_installed_config(tmp_path):
    market = synthetic_market(PAIRS, "5m", 16 * 288, seed=3)
    with ReplayExchange(market, "5m", live=True) as exchange:
        bot = Bot(tmp_path, exchange, {})
        bot.config = bot.userdir / CONFIG_NAME
        assert {file.state for file in install(bot.userdir)} == {"up to date"}
        (bot.userdir / "freqaimodels" / "MyOwnLSTM.py").write_text(own_net())
        less = tmp_path / "less.json"
        less.write_text(json.dumps({**LESS, "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}"}))
        arguments = ["--config", str(less), "--freqaimodel", "MyOwnLSTM"]
        with bot.start("trade", *arguments) as child:
            output = child.wait_for(has_trained_all, "the first training", 600)
    assert not re.search(r"raised exception|Traceback| - ERROR - ", output)
    assert len(bot.models()) == 2
