"""Searches on made-up candles for tests."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from freqai_lstm_plugins.research.experiment import parse_experiment
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.session import Asked, open_session
from freqai_lstm_plugins.research.tune.study import run_trials

N = 420
TREES = {"n_estimators": 8}
RANGES = {
    "lightgbm": {
        "num_leaves": {"min": 2, "max": 8},
        "lr": {"min": 0.01, "max": 0.3, "log": True},
    }
}


def write_candles(folder, symbols="AB", n=N, seed=0, noise_after=None, signal=False, freq="B"):
    """Write random walks; from row `noise_after` on another one."""
    folder.mkdir(exist_ok=True)
    for number, symbol in enumerate(symbols):
        rng = np.random.default_rng([seed, number])
        steps = rng.normal(size=n) * 0.01
        if noise_after is not None:
            other = np.random.default_rng([seed, number, 1])
            steps[noise_after:] = other.normal(size=n - noise_after) * 0.03
        if signal:
            # What went up goes up again: a trend that any model of returns can see.
            for row in range(1, n):
                steps[row] += 0.8 * steps[row - 1]
        close = 100 * np.exp(np.cumsum(steps))
        opened = np.concatenate([[100], close[:-1]])
        frame = pd.DataFrame(
            {
                "date": pd.date_range("2020-01-01", periods=n, freq=freq).astype(str),
                "open": opened,
                "high": np.maximum(opened, close) * 1.001,
                "low": np.minimum(opened, close) * 0.999,
                "close": close,
                "volume": np.random.default_rng([seed, number, 2]).uniform(1e3, 2e3, n),
            }
        )
        frame.to_csv(folder / f"{symbol}.csv", index=False)
    return folder


def experiment(folder, **changes):
    values = {
        "seeds": [1, 2],
        "data": {"folder": str(folder)},
        "features": {"window": 5},
        "label": {"horizon": 2},
        "split": {"folds": 2, "test_bars": 40},
        "models": {"lightgbm": TREES},
        "portfolio": {"k": 1},
    }
    return parse_experiment({**values, **changes})


def write_ranges(path, values=RANGES):
    path.write_text(json.dumps(values))
    return path


def asked(folder, out, *, model="lightgbm", ranges=RANGES, changes=None, **others):
    out.mkdir(parents=True, exist_ok=True)
    place = write_ranges(out / "ranges.json", ranges)
    return Asked(experiment(folder, **(changes or {})), model, out, place, **others)


def search(folder, out, n_trials=4, *, how=None, runner=None, on_trial=None, **others):
    session = open_session(asked(folder, out, **others))
    run_trials(
        session.study,
        session.task,
        session.ranges,
        n_trials,
        search=how or Search(),
        runner=runner or Runner(),
        on_trial=on_trial,
    )
    return session


def work(folder, out, n_trials, others):
    """Be a worker in a process of its own."""
    search(folder, out, n_trials, **others)


def dead_process():
    """Return the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


PAGE = Path(__file__).parents[3] / "docs" / "tune.md"
COMMAND = [sys.executable, "-m", "freqai_lstm_plugins.cli"]
EXPERIMENT = """\
seeds = [1]

[data]
folder = "candles"

[features]
window = 5

[label]
horizon = 2

[split]
folds = 1
test_bars = 60

[models.lstm]
max_epochs = 1
hidden_size = 4
num_layers = 1

[portfolio]
k = 1
"""
LSTM_RANGES = {"lstm": {"lr": {"min": 0.001, "max": 0.01, "log": True}, "dropout": {"value": 0.0}}}


def write_place(folder):
    """Write what the commands of the page need: an experiment, ranges and candles."""
    write_candles(folder / "candles", n=300, freq="h")
    for name, pair in (("A", "BTC_USDT"), ("B", "ETH_USDT")):
        (folder / "candles" / f"{name}.csv").rename(folder / "candles" / f"{pair}-1h.csv")
    (folder / "hourly.toml").write_text(EXPERIMENT)
    (folder / "ranges.json").write_text(json.dumps(LSTM_RANGES))
    return folder


def documented():
    """Return the commands of the page that begin a search or choose from one."""
    lines = re.findall(r"^freqai-lstm tune .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def call(*arguments, cwd):
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
