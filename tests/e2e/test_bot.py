"""The helper that the runs of the real program rest on."""

from __future__ import annotations

import json

import pytest

from freqai_lstm_plugins.errors import ReplayError
from freqai_lstm_plugins.replay import ReplayExchange, synthetic_market
from tests.e2e.bot import PAIRS, Bot, candles, real_candles


@pytest.fixture
def bot(tmp_path):
    with ReplayExchange(synthetic_market(PAIRS, "5m", 50, seed=1), "5m") as exchange:
        yield Bot(tmp_path, exchange, {"timerange": "20200101-20200102"})


def test_a_second_change_keeps_the_first(bot):
    bot.configure({"freqai": {"identifier": "mine"}})
    written = json.loads(bot.config.read_text())
    assert written["timerange"] == "20200101-20200102"
    assert written["freqai"]["identifier"] == "mine"
    assert written["freqai"]["train_period_days"] == 5


def test_without_the_variable_candles_are_made_up_whatever_stands_beside(monkeypatch):
    monkeypatch.delenv("FREQAI_LSTM_CANDLES", raising=False)
    assert real_candles() is None
    assert candles()["BTC/USDT"]["date"].iloc[-1].year == 2025


def test_a_named_folder_that_is_missing_is_not_replaced_by_made_up_candles(monkeypatch, tmp_path):
    monkeypatch.setenv("FREQAI_LSTM_CANDLES", str(tmp_path / "gone"))
    with pytest.raises(ReplayError, match="no such data folder"):
        candles()
