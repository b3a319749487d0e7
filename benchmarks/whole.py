"""A whole `freqtrade backtesting`, in child processes, on a synthetic market."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.measure import Ratio, Row, Spread, alternate
from benchmarks.peak import ROOT
from benchmarks.sizes import Size, WholeSize
from benchmarks.timed_freqtrade import METHODS, RESULT
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.install import TEMPLATE_DIR, install
from freqai_lstm_plugins.replay import ReplayExchange, synthetic_market, write_overlay
from freqai_lstm_plugins.replay.demo import PAIRS, SYNTHETIC_SEED, merge
from freqai_lstm_plugins.training.devices import free_threads

OURS = "LeaLSTMRegressor"
MODELS = (OURS, "PyTorchTransformerRegressor", "PyTorchMLPRegressor", "LightGBMRegressor")


def whole(size: Size) -> Row:
    """Backtest the demonstration's config with our model and with the built-in ones."""
    shape = size.whole
    row = Row(
        "whole",
        "A whole backtest",
        "`freqtrade backtesting` of the demonstration's config on two pairs of a synthetic market, "
        f"start-up included: {shape.backtest_days} days in slices of {shape.slice_days}, trained "
        f"on {shape.train_days} days before each. The nets train {shape.epochs} epochs without "
        f"early stopping, in batches of 256, with {shape.hidden_size} hidden units and one layer "
        "of their kind; the trees have the config's settings. The same candles, features and "
        "label; the nets are different nets, so this is what a user waits, not a comparison of "
        "loops. `train` and `predict` are the model class's methods with FreqAI's pipelines in "
        "them, `fit` is the training of the net within `train`; the rest is freqtrade.",
    )
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in MODELS}
    with TemporaryDirectory() as folder, _bench(Path(folder), shape) as bench:
        sides = {name: partial(_backtest, bench, name, seconds[name]) for name in MODELS}
        times = alternate(sides, size.whole_rounds, warmups=0)
    row.compare("whole run", times, {})
    for name in MODELS:
        for method in METHODS:
            parts = [
                found[method] / whole_run
                for found, whole_run in zip(seconds[name], times[name], strict=True)
            ]
            row.ratios.append(Ratio(f"{name}: share of {method}", Spread.of(parts)))
    return row


@dataclass
class _Bench:
    """A freqtrade user directory with its candles, and the config of a run."""

    folder: Path
    overlay: Path
    config: dict[str, Any]
    runs: int = field(default=0)

    def freqtrade(self, command: str, changes: dict[str, Any], *more: str) -> dict[str, float]:
        """Run a command of freqtrade, and return the seconds in its model's methods."""
        self.runs += 1
        config, result = (self.folder / f"{kind}-{self.runs}.json" for kind in ("config", "result"))
        merge(self.config, changes)
        write_text(config, json.dumps(self.config))
        arguments = [command, "--userdir", str(self.folder / "user_data")]
        arguments += ["--datadir", str(self.folder / "candles")]
        arguments += ["--config", str(config), "--config", str(self.overlay), *more]
        log = self.folder / f"run-{self.runs}.log"
        with log.open("wb") as stream:
            status = subprocess.run(
                [sys.executable, "-m", "benchmarks.timed_freqtrade", *arguments],
                cwd=ROOT,
                env={**os.environ, RESULT: str(result), "OMP_NUM_THREADS": str(free_threads())},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"freqtrade {command} ended with status {status}:\n{tail}")
        seconds: dict[str, float] = json.loads(result.read_text())
        return seconds


@contextmanager
def _bench(folder: Path, shape: WholeSize) -> Iterator[_Bench]:
    # Indicators need candles before the first training: 4 days of them are plenty.
    days = shape.train_days + shape.backtest_days + 4
    candles = synthetic_market(PAIRS, "5m", days * 288, SYNTHETIC_SEED)
    with ReplayExchange(candles, "5m") as exchange:
        overlay = write_overlay(folder / "exchange.json", exchange.url, PAIRS)
        install(folder / "user_data")
        bench = _Bench(folder, overlay, _config(candles[PAIRS[0]]["date"], shape))
        bench.freqtrade("download-data", {})
        yield bench


def _config(dates: pd.Series, shape: WholeSize) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((TEMPLATE_DIR / "config.json").read_text("utf-8"))
    stop = dates.iloc[-1].floor("D")
    start = stop - pd.Timedelta(days=shape.backtest_days)
    parameters = {
        "model_kwargs": {"hidden_dim": shape.hidden_size, "n_layer": 1},
        "trainer_kwargs": {"n_epochs": shape.epochs, "early_stopping_patience": 0},
    }
    changes = {
        "lea_strategy": {"backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}"},
        "timerange": f"{dates.iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
        "freqai": {
            "train_period_days": shape.train_days,
            "backtest_period_days": shape.slice_days,
            "feature_parameters": {"indicator_periods_candles": [10, 20]},
            "model_training_parameters": parameters,
        },
    }
    merge(config, changes)
    return config


def _backtest(bench: _Bench, model: str, seconds: list[dict[str, float]]) -> None:
    # Under a name of its own, so that FreqAI finds no predictions of an earlier run.
    changes = {"freqai": {"identifier": f"run-{bench.runs}"}}
    seconds.append(
        bench.freqtrade("backtesting", changes, "--cache", "none", "--freqaimodel", model)
    )
