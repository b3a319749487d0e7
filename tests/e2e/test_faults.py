from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from freqai_lstm_plugins.replay import Faults
from freqai_lstm_plugins.replay.process import Freqtrade
from tests.e2e.bot import LIVE, PAIRS, Bot, has_trained_all, live_exchange

pytestmark = pytest.mark.freqtrade

CANDLE_MS = 60_000
PREDICTED = re.compile(r"(\S+/\S+): candle (\S+) predicted .*, do_predict (\d)$", re.MULTILINE)
TROUBLE = ("Unable to analyze candle", " raised exception ", "Stopping trader")

# Longer than a candle, so that the bot asks for a new one meanwhile.
FAULT_SECONDS = 80
# Two candles, freqtrade's longest pause after an error, and its longest wait between two tries.
RECOVERY_SECONDS = 180
WINDOW = 4

Predictions = dict[str, dict[int, int]]
"""Pair -> open time of a candle in milliseconds -> its `do_predict`."""


def predictions(output: str) -> Predictions:
    found: Predictions = {pair: {} for pair in PAIRS}
    for pair, date, do_predict in PREDICTED.findall(output):
        found[pair][int(pd.Timestamp(date).timestamp() * 1000)] = int(do_predict)
    return found


def newest_candle(found: Mapping[int, int]) -> int:
    return max(found, default=0)


def forming_candle() -> int:
    return int(time.time() * 1000) // CANDLE_MS * CANDLE_MS


@dataclass(frozen=True)
class Trading:
    """A bot that trades, and the faults of its exchange."""

    child: Freqtrade
    faults: Faults

    def predictions(self) -> Predictions:
        return predictions(self.child.output())

    def wait_for_candle(self, opened: int, timeout: float) -> None:
        """Wait until every pair has a prediction of the candle or of a later one."""
        self.child.wait_for(
            lambda output: min(map(newest_candle, predictions(output).values())) >= opened,
            "a prediction of a new candle",
            timeout,
        )

    def disturb(self, **fault: float) -> None:
        """Put one fault in place of those before."""
        self.faults.clear()
        for name, value in fault.items():
            setattr(self.faults, name, value)

    def wait_until_met(self, count: int, timeout: float) -> None:
        self.child.wait_for(lambda _: self.faults.met >= count, f"the {self.faults}", timeout)

    def hold(self, seconds: float) -> None:
        """Let time pass while the bot lives."""
        end = time.monotonic() + seconds
        self.child.wait_for(lambda _: time.monotonic() > end, "the end of the fault", 2 * seconds)

    def check_sound(self) -> None:
        assert self.child.process.poll() is None
        output = self.child.output()
        assert not [line for line in output.splitlines() if any(sign in line for sign in TROUBLE)]


@contextmanager
def trading(folder: Path, window: int, faults: Faults) -> Iterator[Trading]:
    """Run a bot whose first training is over."""
    changes = {
        **LIVE,
        "freqai": {**LIVE["freqai"], "conv_width": window},
        "db_url": f"sqlite:///{folder / 'trades.sqlite'}",
    }
    with live_exchange(faults) as exchange:
        bot = Bot(folder, exchange, changes)
        with bot.start("trade", "--freqaimodel", "LeaLSTMRegressor") as child:
            child.wait_for(has_trained_all, "the first training", 600)
            yield Trading(child, faults)


QUICK_FAULTS = ({"status": 503}, {"drops": True}, {"status": 429}, {"twice": True, "mixed": True})


def test_a_bot_outlives_the_quick_faults_and_trusts_no_window_with_a_hole(tmp_path):
    """Catches a fault that ends or blinds the bot, and a window that bridges a missing candle."""
    hole = forming_candle() - CANDLE_MS
    faults = Faults(holes={("ETHUSDT", "1m", hole)})
    with trading(tmp_path, 24, faults) as bot:
        newest = forming_candle()
        for fault in QUICK_FAULTS:
            bot.disturb(**fault)
            bot.wait_until_met(2, 300)
        bot.wait_for_candle(newest, 300)
        bot.check_sound()
        found = bot.predictions()
    assert set(found["BTC/USDT"].values()) == {1}
    assert set(found["ETH/USDT"].values()) == {0}


@pytest.fixture(scope="module")
def bot(tmp_path_factory):
    with trading(tmp_path_factory.mktemp("faults"), WINDOW, Faults()) as running:
        running.wait_for_candle(1, 400)
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "value", "is_harmless"),
    [
        ("delay", 3.0, True),
        ("delay", 12.0, False),
        ("drops", True, False),
        ("status", 503, False),
        ("status", 429, False),
        ("twice", True, True),
        ("mixed", True, True),
        ("late", 10.0, True),
        ("late", 40.0, False),
    ],
)
def test_a_bot_goes_on_after_a_fault(bot, fault, value, is_harmless, record_figure):
    """Catches a fault that ends the bot, keeps it from new candles, or spoils what they give."""
    bot.disturb(**{fault: value})
    began = forming_candle()
    try:
        bot.hold(FAULT_SECONDS)
        assert bot.faults.met
    finally:
        bot.faults.clear()
    if is_harmless:
        bot.wait_for_candle(began, 0)
    ended = time.monotonic()
    bot.wait_for_candle(forming_candle(), RECOVERY_SECONDS)
    record_figure(f"first new candle after {fault} {value}", f"{time.monotonic() - ended:.0f} s")
    bot.check_sound()
    for found in bot.predictions().values():
        assert {found[opened] for opened in found if opened >= began} == {1}


@pytest.mark.slow
def test_no_window_with_a_hole_is_trusted_and_the_next_one_is(bot):
    """Catches a window that bridges a missing candle, and a bot that one blinds for longer."""
    hole = forming_candle() + CANDLE_MS
    bot.faults.holes |= {(pair.replace("/", ""), "1m", hole) for pair in PAIRS}
    free = hole + WINDOW * CANDLE_MS
    bot.wait_for_candle(free, 60 * (WINDOW + 4))
    bot.check_sound()
    for found in bot.predictions().values():
        with_hole = [found[opened] for opened in found if hole <= opened < free]
        assert len(with_hole) >= WINDOW - 2
        assert set(with_hole) == {0}
        assert found[free] == 1
