"""Experiments on made-up candles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.research.experiment import parse_experiment
from freqai_lstm_plugins.research.experiment_schema import Experiment
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.started import start, train


def comparison(
    folder: Path,
    symbols: int,
    bars: int,
    folds: int,
    models: dict[str, Any],
    *,
    momentum: float = 0.0,
) -> Experiment:
    """Return an experiment on made-up candles, which are written.

    With momentum a return repeats that share of the one before.
    """
    folder.mkdir()
    for number in range(symbols):
        _made_up_candles(bars, number, momentum).to_parquet(folder / f"S{number:02d}.parquet")
    values = {
        "seeds": [1],
        "data": {"folder": str(folder)},
        "split": {"folds": folds, "test_bars": bars // (4 * folds)},
        "models": models,
        "portfolio": {"k": min(3, symbols)},
    }
    return parse_experiment(values)


def _made_up_candles(bars: int, seed: int, momentum: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    steps = 0.01 * rng.standard_normal(bars)
    for row in range(1, bars):
        steps[row] += momentum * steps[row - 1]
    close = 100 * np.exp(np.cumsum(steps))
    opened = np.concatenate([[100], close[:-1]])
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2000-01-03", periods=bars, tz="UTC"),
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": rng.uniform(1e3, 2e3, bars),
        }
    )


def compare_quickly(place: Path, symbols: int, bars: int, folds: int) -> None:
    """Compare quick models on made-up symbols, one job after the other in this process."""
    models = {"lightgbm": {"n_estimators": 10}}
    experiment = comparison(place / "candles", symbols, bars, folds, models)
    judge_run(train(start(experiment, place / "out"), workers=1))
