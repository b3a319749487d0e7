"""A freqtrade user directory, candles and the replay exchange, for runs of the real program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freqai_lstm_plugins.install import TEMPLATE_DIR, install
from freqai_lstm_plugins.replay import (
    Candles,
    Interceptor,
    ReplayExchange,
    read_candles,
    relabel,
    synthetic_market,
    write_overlay,
)
from freqai_lstm_plugins.replay.demo import merge
from freqai_lstm_plugins.replay.process import Freqtrade

REPO = Path(__file__).parents[2]
REAL_CANDLES = Path(
    os.environ.get("FREQAI_LSTM_CANDLES", REPO.parent / "shared" / "data" / "binance")
)
PAIRS = ("BTC/USDT", "ETH/USDT")
DAYS = 16


def candles() -> dict[str, Candles]:
    """Return 16 days of 5m candles: real ones where they are at hand, made-up ones elsewhere."""
    if REAL_CANDLES.is_dir():
        stored = read_candles(REAL_CANDLES, PAIRS, "5m")
        return {
            pair: frame.tail(DAYS * 288).reset_index(drop=True) for pair, frame in stored.items()
        }
    return synthetic_market(PAIRS, "5m", DAYS * 288, seed=3)


class Bot:
    """Runs freqtrade's commands in one user directory against one exchange."""

    def __init__(self, folder: Path, exchange: ReplayExchange, changes: Mapping[str, Any]) -> None:
        self.folder = folder
        self.userdir = folder / "user_data"
        self.log = folder / "freqtrade.log"
        self.datadir = folder / "candles"
        self.overlay = write_overlay(folder / "replay.json", exchange.url, PAIRS)
        self.config = folder / "config.json"
        install(self.userdir)
        self.configure(changes)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Write the package's own config, made small, with `changes`."""
        config = json.loads((TEMPLATE_DIR / "config.json").read_text())
        merge(config, SMALL)
        merge(config, dict(changes))
        self.config.write_text(json.dumps(config))

    def start(self, command: str, *more: str) -> Freqtrade:
        arguments = [command, "--userdir", str(self.userdir), "--datadir", str(self.datadir)]
        arguments += ["--config", str(self.config), "--config", str(self.overlay), *more]
        return Freqtrade(arguments, self.log, threads=1)

    def run(self, command: str, *more: str, timeout: float = 300) -> str:
        with self.start(command, *more) as child:
            return child.wait(timeout)

    def models(self) -> list[Path]:
        return sorted(self.userdir.glob("models/*/sub-train-*/*_model.zip"))


SMALL: dict[str, Any] = {
    "freqai": {
        "train_period_days": 5,
        "backtest_period_days": 2,
        "fit_live_predictions_candles": 0,
        "feature_parameters": {"indicator_periods_candles": [10]},
        "model_training_parameters": {
            "model_kwargs": {"hidden_dim": 16, "n_layer": 1},
            "trainer_kwargs": {"n_epochs": 3},
        },
    },
}

LIVE: dict[str, Any] = {
    "timeframe": "1m",
    "internals": {"process_throttle_secs": 1},
    "freqai": {
        "train_period_days": 1,
        "live_retrain_hours": 6,
        "feature_parameters": {"include_timeframes": ["1m"]},
    },
}


def live_exchange(intercept: Interceptor | None = None) -> ReplayExchange:
    """Return an exchange that serves 5m candles as 1m candles, the newest of them now."""
    return ReplayExchange(relabel(candles(), "1m"), "1m", live=True, intercept=intercept)


def has_trained_all(output: str) -> bool:
    """Tell whether every pair has been trained and saved once."""
    return "Total time spent training pairlist" in output
