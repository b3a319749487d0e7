"""Frames, a data provider and the strategy, built the way freqtrade builds them."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode

ROOT = Path(__file__).resolve().parents[2]
USERDIR = ROOT / "freqai_lstm_plugins" / "userdir"
STRATEGY_FILE = USERDIR / "strategies" / "LeaFreqAIStrategy.py"
CONFIG_FILE = USERDIR / "config.json"


def make_candles(rows: int, freq: str = "5min", seed: int = 0) -> pd.DataFrame:
    """Return a random walk with sound highs, lows and volumes."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.002, rows)))
    before = np.concatenate([[100.0], close[:-1]])
    return pd.DataFrame(
        {
            "date": pd.date_range("2025-06-02", periods=rows, freq=freq, tz="UTC"),
            "open": before,
            "high": np.maximum(before, close) * (1 + rng.uniform(0, 0.001, rows)),
            "low": np.minimum(before, close) * (1 - rng.uniform(0, 0.001, rows)),
            "close": close,
            "volume": rng.uniform(1, 100, rows),
        }
    )


class FakeProvider:
    """Hands out frames by (pair, timeframe), and one analyzed frame."""

    def __init__(self, candles: dict[tuple[str, str], pd.DataFrame] | None = None) -> None:
        self.candles = candles or {}
        self.runmode = RunMode.BACKTEST
        self.analyzed = pd.DataFrame()

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return self.candles.get((pair, timeframe), pd.DataFrame()).copy()

    def get_analyzed_dataframe(self, pair: str, timeframe: str) -> tuple[pd.DataFrame, datetime]:
        return self.analyzed, datetime(2025, 6, 2, tzinfo=UTC)


def load_strategy(name: str) -> ModuleType:
    """Import a strategy's file with its folder among those of imports, as freqtrade does."""
    sys.path.insert(0, str(STRATEGY_FILE.parent))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(STRATEGY_FILE.parent))


@pytest.fixture(scope="session")
def module() -> ModuleType:
    return load_strategy("LeaFreqAIStrategy")


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """The shipped configuration as a strategy sees it."""
    written = json.loads(CONFIG_FILE.read_text(encoding="utf-8"))
    return {
        **copy.deepcopy(written),
        "original_config": written,
        "timerange": "20250602-20250701",
        "user_data_dir": tmp_path,
        "config_files": [str(CONFIG_FILE)],
    }


@pytest.fixture
def strategy(module: ModuleType, config: dict[str, Any]) -> Any:
    built = module.LeaFreqAIStrategy(config)
    built.dp = FakeProvider()
    built.ft_load_hyper_params(False)
    return built
