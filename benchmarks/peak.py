"""Peak memory of one action, measured in a process of its own: `python -m benchmarks.peak JSON`."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import mmap
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.comparison import compare_quickly
from benchmarks.data import made_up, new_net
from benchmarks.host import made_up_frame
from benchmarks.peers import builtin_trainer, train_builtin
from benchmarks.predict import same_net
from benchmarks.sizes import Size
from benchmarks.train import fit_ours, our_model
from freqai_lstm_plugins import SequenceRegressor, features
from freqai_lstm_plugins.replay import synthetic_market
from freqai_lstm_plugins.training.prediction import PREDICT_BATCH

STATUS = Path("/proc/self/status")
ROOT = Path(__file__).parents[1]
Net = dict[str, Any]
# More than one batch of a prediction, so that all threads have run everything once.
WARM_UP_ROWS = 3 * PREDICT_BATCH


@dataclass(frozen=True)
class Peak:
    """What one action took.

    Attributes:
        bytes: Most memory at any moment above what was in use before, which holds the raw matrix.
        seconds: Median time of the action's repetitions.
    """

    bytes: int
    seconds: float


def is_measurable() -> bool:
    """Tell whether this system says how much memory a process had at most."""
    return STATUS.exists()


def in_child(action: str, **arguments: Any) -> Peak:
    """Run one of `ACTIONS` in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak", json.dumps([action, arguments])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Peak(**json.loads(result.stdout.splitlines()[-1]))


def measure(action: Callable[[], object], repeats: int = 1) -> Peak:
    """Run an action in this process."""
    gc.collect()
    # What was freed but kept for reuse would hide what the action takes; glibc alone can return it.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    # Makes the peak so far forgotten.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    # An action within what is in use anyway counts as a page, so that ratios exist.
    return Peak(max(_status("VmHWM") - before, mmap.PAGESIZE), statistics.median(seconds))


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def fit(
    rows: int,
    features: int,
    window: int,
    net: Net,
    batch_size: int,
    *,
    steps: int | None = None,
    repeats: int = 1,
) -> Peak:
    """Train ours for an epoch, on every window or on `steps` batches of them from all over."""
    X, y = made_up(rows, features)
    n_windows = rows - window + 1
    n_targets = n_windows if steps is None else min(steps * batch_size, n_windows)
    kept = np.linspace(window - 1, rows - 1, n_targets).astype(int)
    y[np.setdiff1d(np.arange(rows), kept)] = np.nan
    train_small(features, window, net)
    size = Size(window=window, net=net, batch_size=batch_size)
    return measure(lambda: fit_ours(size, X, y), repeats)


def fit_builtin(
    rows: int, features: int, window: int, net: Net, batch_size: int, *, steps: int
) -> Peak:
    """Train `steps` steps in freqtrade's loop."""
    X, y = made_up(rows, features)

    def action() -> None:
        trainer = builtin_trainer(
            new_net(features, net),
            window,
            n_epochs=1,
            batch_size=batch_size,
            tb_logger=Steps(steps),
        )
        with suppress(EnoughSteps):
            train_builtin(trainer, X, y)

    train_small(features, window, net)
    return measure(action)


class EnoughSteps(Exception):  # noqa: N818
    """The steps that were asked for are done."""


@dataclass
class Steps:
    """A logger, called after every step, that ends a training of freqtrade's loop early."""

    count: int

    def log_scalar(self, tag: str, value: float, step: int) -> None:
        """End the training after the last step."""
        if step + 1 == self.count:
            raise EnoughSteps


def predict(rows: int, features: int, window: int, net: Net) -> Peak:
    """Predict every row with ours."""
    X, _ = made_up(rows, features)
    model = train_small(features, window, net)
    model.predict(X[:WARM_UP_ROWS])
    return measure(lambda: model.predict(X))


def train_small(features: int, window: int, net: Net) -> SequenceRegressor:
    """Train on some rows, so that what torch and numba set up once is not measured."""
    X, y = made_up(WARM_UP_ROWS, features)
    return our_model(Size(window=window, net=net, batch_size=64)).fit(X, y)


def predict_slice(rows: int, features: int, window: int, net: Net, side: int) -> Peak:
    """Predict a frame through FreqAI: `side` 0 is ours, 1 the built-in loop with the same net."""
    size = Size(predict_rows=rows, predict_features=features, window=window, net=net)
    frame = made_up_frame(rows, features)
    with TemporaryDirectory() as folder:
        model = same_net(Path(folder), size)[side]
        model.predict(frame.head(WARM_UP_ROWS))
        return measure(lambda: model.predict(frame))


def alpha158(rows: int) -> Peak:
    """Compute all features of made-up candles."""
    frame = synthetic_market(["A/USDT"], "5m", rows, seed=1)["A/USDT"]
    features.alpha158(frame.tail(100))
    return measure(lambda: features.alpha158(frame))


def compare(symbols: int, bars: int, folds: int) -> Peak:
    """Compare models, and tell all that the process had in use at most, as a user sees it."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "first").mkdir()
        compare_quickly(place / "first", 2, bars, folds)
        found = measure(lambda: compare_quickly(place, symbols, bars, folds))
    return replace(found, bytes=_status("VmHWM"))


def tune(trials: int, bars: int) -> Peak:
    """Make trials of a search, and tell all that the process had in use at most."""
    from benchmarks.tune import search_quickly

    with TemporaryDirectory() as folder:
        found = measure(lambda: search_quickly(Path(folder), trials, bars))
    return replace(found, bytes=_status("VmHWM"))


def ensemble(
    rows: int, features: int, window: int, members: dict[str, Any], folds: bool = True
) -> Peak:
    """Train an ensemble with its folds, or a member by itself."""
    from benchmarks.ensemble import made_up_data, new_ensemble
    from freqai_lstm_plugins.models.catalogue import new_model

    def new_one() -> Any:
        if folds:
            return new_ensemble(members, window)
        ((name, settings),) = members.items()
        return new_model(name, settings, window=window, seed=1)

    data = made_up_data(rows, features, window)
    new_one().fit_windows(made_up_data(WARM_UP_ROWS, features, window))
    return measure(lambda: new_one().fit_windows(data))


def panel(**shape: int) -> Peak:
    """Train one net for all pairs, above the features of all pairs that are made already."""
    from benchmarks.panel import peak_of_training

    with TemporaryDirectory() as folder:
        return measure(peak_of_training(Path(folder), **shape))


ACTIONS: dict[str, Callable[..., Peak]] = {
    "fit": fit,
    "fit_builtin": fit_builtin,
    "predict": predict,
    "predict_slice": predict_slice,
    "ensemble": ensemble,
    "alpha158": alpha158,
    "compare": compare,
    "tune": tune,
    "panel": panel,
}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    name, arguments = json.loads(sys.argv[1])
    print(json.dumps(vars(ACTIONS[name](**arguments))))
