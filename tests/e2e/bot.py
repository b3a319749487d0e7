"""A freqtrade user directory, candles and the replay exchange, for runs of the real program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freqai_lstm_plugins.install import install
from freqai_lstm_plugins.names import CONFIG_NAME, MODEL_SUFFIX
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
PAIRS = ("BTC/USDT", "ETH/USDT")
DAYS = 16


def real_candles() -> Path | None:
    """Return the folder of real candles that the caller names, or None.

    Nothing is looked for, so that the tests do the same on every machine; a folder that is named
    and missing fails where it is read, rather than letting made-up candles pass for real ones.
    """
    named = os.environ.get("FREQAI_LSTM_CANDLES")
    return Path(named) if named else None


def candles() -> dict[str, Candles]:
    """Return 16 days of 5m candles: real ones where the caller names some, made-up ones else."""
    folder = real_candles()
    if folder is not None:
        stored = read_candles(folder, PAIRS, "5m")
        return {
            pair: frame.tail(DAYS * 288).reset_index(drop=True) for pair, frame in stored.items()
        }
    return synthetic_market(PAIRS, "5m", DAYS * 288, seed=3)


class Bot:
    """Runs freqtrade's commands in one user directory against one exchange, on its pairs."""

    def __init__(self, folder: Path, exchange: ReplayExchange, changes: Mapping[str, Any]) -> None:
        self.folder = folder
        self.userdir = folder / "user_data"
        self.log = folder / "freqtrade.log"
        self.datadir = folder / "candles"
        self.overlay = write_overlay(folder / "replay.json", exchange.url, exchange.pairs)
        self.config = folder / "config.json"
        install(self.userdir, pairs=exchange.pairs)
        self.settings: dict[str, Any] = json.loads((self.userdir / CONFIG_NAME).read_text())
        merge(self.settings, SMALL)
        self.configure(changes)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Write the package's own config, made small, with these changes and all before them."""
        merge(self.settings, dict(changes))
        self.config.write_text(json.dumps(self.settings))

    def start(self, command: str, *more: str) -> Freqtrade:
        arguments = [command, "--userdir", str(self.userdir), "--datadir", str(self.datadir)]
        arguments += ["--config", str(self.config), "--config", str(self.overlay), *more]
        return Freqtrade(arguments, self.log, threads=1)

    def run(self, command: str, *more: str, timeout: float = 600) -> str:
        with self.start(command, *more) as child:
            return child.wait(timeout)

    def models(self) -> list[Path]:
        return sorted(self.userdir.glob(f"models/*/sub-train-*/*{MODEL_SUFFIX}"))


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
