"""The real freqtrade program against the replay exchange."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.candles import candle_rows, open_times
from freqai_lstm_plugins.replay import Candles, ReplayExchange, aggregate, relabel, write_overlay

pytestmark = pytest.mark.freqtrade

STRATEGY = """
from freqtrade.strategy import IStrategy


class EveryCandle(IStrategy):
    minimal_roi = {"0": 0.002}
    stoploss = -0.01
    # A limit order may wait long for the price to come back.
    order_types = {
        "entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False
    }

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""

# Python runs a module of this name at start: it notes every address that freqtrade connects to.
WATCH = """
import sys


def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open("connections.txt", "a") as file:
            print(arguments[1][0], arguments[1][1], file=file)
    elif event == "socket.getaddrinfo" and isinstance(arguments[0], str):
        with open("connections.txt", "a") as file:
            print(arguments[0], arguments[1], file=file)


sys.addaudithook(note)
"""

CONFIG = {
    "stake_currency": "USDT",
    "stake_amount": 100,
    "dry_run_wallet": 1000,
    "max_open_trades": 2,
    "initial_state": "running",
    "internals": {"process_throttle_secs": 1},
    "fiat_display_currency": "USD",
    "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    strategies = tmp_path / "user_data" / "strategies"
    strategies.mkdir(parents=True)
    (strategies / "every_candle.py").write_text(STRATEGY)
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    program = Path(sys.executable).parent / "freqtrade"
    command = [str(program), *arguments, "--userdir", "user_data"]
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [*command, "--config", "config.json", "--config", "replay.json"],
            cwd=folder,
            env={**environment, "COLUMNS": "500", "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _freqtrade(folder: Path, *arguments: str) -> str:
    with _start(folder, *arguments) as process:
        status = process.wait(timeout=600)
    log = (folder / "log.txt").read_text()
    assert status == 0, log
    return log


def _addresses(folder: Path) -> set[str]:
    return set((folder / "connections.txt").read_text().splitlines())


def _address(exchange: ReplayExchange) -> str:
    return exchange.url.removeprefix("http://").replace(":", " ")


def _downloaded(folder: Path, pair: str, timeframe: str) -> Candles:
    name = f"{pair.replace('/', '_')}-{timeframe}.feather"
    return pd.read_feather(folder / "user_data" / "data" / "binance" / name)


def test_a_download_gives_exactly_the_candles_and_a_backtest_runs_on_them(
    folder: Path, market: dict[str, Candles]
) -> None:
    served = {pair: candles.iloc[:-4] for pair, candles in market.items()}
    since = f"{market['BTC/USDT']['date'].iloc[0]:%Y%m%d}-"
    with ReplayExchange(served, "5m") as exchange:
        address = _address(exchange)
        write_overlay(folder / "replay.json", exchange.url, exchange.pairs)
        _freqtrade(folder, "download-data", "--timeframes", "5m", "1h", "--timerange", since)
        strategy = ("--strategy", "EveryCandle", "--timeframe", "5m")
        log = _freqtrade(folder, "backtesting", *strategy, "--cache", "none")
    for pair, candles in served.items():
        hours = aggregate(candles, "5m", "1h").iloc[:-1]  # freqtrade drops the incomplete hour
        for timeframe, expected in (("5m", candles), ("1h", hours)):
            downloaded = _downloaded(folder, pair, timeframe)
            assert np.array_equal(open_times(downloaded), open_times(expected))
            assert np.array_equal(candle_rows(downloaded), candle_rows(expected))
    trades = re.search(r"Total/Daily Avg Trades\W+(\d+)", log)
    assert trades, log
    assert int(trades.group(1)) > 10
    assert "Traceback" not in log
    assert _addresses(folder) == {address}
    assert set(exchange.requests) <= {"exchangeInfo", "klines", "ticker/24hr"}


def test_a_dry_run_trades_on_the_live_market_and_reaches_nothing_else(
    folder: Path, market: dict[str, Candles]
) -> None:
    log = folder / "log.txt"
    (folder / "config.json").write_text(json.dumps({**CONFIG, "timeframe": "1m"}))
    with ReplayExchange(relabel(market, "1m"), "1m", live=True) as exchange:
        address = _address(exchange)
        write_overlay(folder / "replay.json", exchange.url, exchange.pairs)
        bot = _start(folder, "trade", "--strategy", "EveryCandle", "--db-url", "sqlite://")
        try:
            deadline = time.monotonic() + 400
            while log.read_text().count("MARKET_BUY has been fulfilled") < len(market):
                assert bot.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        finally:
            bot.send_signal(signal.SIGINT)
            bot.wait(timeout=120)
    text = log.read_text()
    assert not re.search(r" - (WARNING|ERROR|CRITICAL) - |Traceback", text), text
    assert _addresses(folder) == {address}
