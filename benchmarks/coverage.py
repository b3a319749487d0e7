"""How often prediction intervals hold their targets, walking forward over real candles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks import candles
from benchmarks.candles import HORIZON, features_and_labels, walk_forward
from benchmarks.measure import Row, Spread
from benchmarks.sizes import CoverageSize, Size
from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.data.candles import read_candles

Array = npt.NDArray[np.float64]

# Kinds of intervals: those of nets by their settings, and that of the forecast without a net.
SETTINGS: dict[str, dict[str, Any]] = {
    "point net": {"loss": "mse"},
    "quantile net": {"loss": "quantile"},
}
BLANK = "training quantiles"
KINDS = (*SETTINGS, BLANK)
COVERED, WIDTH, SCORE = range(3)


@dataclass
class Walk:
    """What the tests of one timeframe and one nominal coverage found.

    Attributes:
        timeframe: Of the candles.
        interval: Nominal coverage.
        pairs: Names of P pairs.
        labels: Names of K labels.
        found: Kind of interval -> (P, folds, seeds, K, 3): the share of targets that it held, its
            mean width and its mean score, the latter two in deviations of the pair's targets.
    """

    timeframe: str
    interval: float
    pairs: list[str]
    labels: list[str]
    found: dict[str, Array]

    def of(self, kind: str, label: int, what: int) -> Array:
        """Return one of the three figures: (P, folds, seeds)."""
        return self.found[kind][..., label, what]


def coverage(size: Size) -> Row:
    """Measure how often intervals of nets hold the targets of rows after the training."""
    shape = size.coverage
    row = Row(
        "coverage",
        "Prediction intervals: coverage",
        f"Walk-forward on real candles: each of {shape.folds} folds trains on "
        f"{shape.train_rows:,} rows (the last 15 % decide when to stop, and calibrate the "
        f"interval) and is tested on the rows after them ({_listed(shape.test_rows)}), at whose "
        f"end the next test begins. LSTM 1 x {shape.hidden_size}, W {size.window}, 15 features, "
        f"{shape.seeds} seeds. One net forecasts two labels: the return over the next {HORIZON} "
        "candles as it is, and in volatilities of the last 48 candles. The point net is trained "
        "on the squared error, the quantile net on the pinball loss; training quantiles are the "
        "interval of the forecast that knows nothing. Widths are in standard deviations of the "
        "pair's label over all tests. The score is the width plus, for each target outside, its "
        "distance times 2 / (1 - nominal); the true interval makes it smallest, and it is shown "
        "as a multiple of that of the training quantiles.",
    )
    walks = list(_walks(row, size))
    if not walks:
        return row
    row.notes.append(_summary(walks))
    row.notes.append(_errors(walks, shape))
    row.notes += [_by_pair(walk) for walk in walks]
    for walk in walks:
        for kind in KINDS:
            for label, name in enumerate(walk.labels):
                tests = walk.of(kind, label, COVERED).mean(axis=2).ravel()
                what = f"{walk.timeframe}, {walk.interval:g}, {name}, {kind}: coverage of one test"
                row.absolute.append((what, Spread.of(tests.tolist()), ""))
    return row


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} of {timeframe}" for timeframe, count in counts.items())


def _walks(row: Row, size: Size) -> Iterator[Walk]:
    for timeframe, count in size.coverage.pairs.items():
        paths = candles.find(timeframe, count)
        if not paths:
            row.notes.append(candles.missing(timeframe))
            continue
        for interval in size.coverage.intervals:
            yield _walk(paths, timeframe, interval, size)


def _walk(paths: dict[str, Path], timeframe: str, interval: float, size: Size) -> Walk:
    tests = [_tested(read_candles(path), timeframe, interval, size) for path in paths.values()]
    found = {kind: np.stack([test[kind] for test in tests]) for kind in KINDS}
    return Walk(timeframe, interval, list(paths), [candles.RETURN, candles.IN_VOLATILITIES], found)


def _tested(frame: pd.DataFrame, timeframe: str, interval: float, size: Size) -> dict[str, Array]:
    """Return the figures of one pair's folds and seeds, (folds, seeds, K, 3), for each kind."""
    shape = size.coverage
    features, labels = features_and_labels(frame)
    n_test = shape.test_rows[timeframe]
    folds = list(walk_forward(len(features), shape.train_rows, n_test, shape.folds))
    deviations = labels.iloc[folds[0][1].start :].std().to_numpy()
    found = {kind: np.empty((shape.folds, shape.seeds, labels.shape[1], 3)) for kind in KINDS}
    for fold, (train, test) in enumerate(folds):
        targets = labels.iloc[test].to_numpy()
        # The first test row sees the rows before it, as it would live.
        rows = features.iloc[test.start - size.window + 1 : test.stop]
        tail = (1 - interval) / 2
        ends = labels.iloc[train].quantile([tail, 1 - tail]).to_numpy()
        found[BLANK][fold] = figures(ends[0], ends[1], targets, interval)
        for kind, settings in SETTINGS.items():
            for seed in range(shape.seeds):
                model = SequenceRegressor(
                    window=size.window,
                    hidden_size=shape.hidden_size,
                    num_layers=1,
                    max_epochs=shape.epochs,
                    patience=5,
                    label_period=HORIZON,
                    interval=interval,
                    seed=seed,
                    progress=False,
                    # A net this small gains nothing from a second one.
                    num_threads=1,
                    **settings,
                )
                model.fit(features.iloc[train], labels.iloc[train])
                _, lower, upper = model.predict_interval(rows)
                kept = slice(size.window - 1, None)
                found[kind][fold, seed] = figures(
                    lower.to_numpy()[kept], upper.to_numpy()[kept], targets, interval
                )
    for values in found.values():
        values[..., WIDTH:] /= deviations[:, None]
    return found


def figures(lower: Array, upper: Array, targets: Array, interval: float) -> Array:
    """Return the share of targets (N, K) that intervals hold, their mean width and score: (K, 3).

    Source of the score: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and
    Estimation, JASA 102, 2007.
    """
    outside = np.maximum(lower - targets, 0) + np.maximum(targets - upper, 0)
    width = np.broadcast_to(upper - lower, targets.shape)
    score = width + 2 / (1 - interval) * outside
    return np.stack([(outside == 0).mean(axis=0), width.mean(axis=0), score.mean(axis=0)], axis=1)


def with_error(values: Array) -> tuple[float, float]:
    """Return the mean of tests and its standard error."""
    if len(values) == 1:
        return float(values[0]), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _by_time(walk: Walk, kind: str, label: int) -> Array:
    """Return the coverage of each fold: (folds,), all pairs' at the same time being one value."""
    return walk.of(kind, label, COVERED).mean(axis=(0, 2))


def _summary(walks: list[Walk]) -> str:
    lines = [
        "| candles | label | nominal | interval | coverage | of one test | width | score |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for walk in walks:
        for label, name in enumerate(walk.labels):
            for kind in KINDS:
                mean, error = with_error(_by_time(walk, kind, label))
                tests = walk.of(kind, label, COVERED)
                score, blank = (walk.of(side, label, SCORE).mean() for side in (kind, BLANK))
                lines.append(
                    f"| {walk.timeframe} | {name} | {walk.interval:g} | {kind} | "
                    f"{mean:.3f} ± {error:.3f} | {tests.min():.2f} to {tests.max():.2f} | "
                    f"{walk.of(kind, label, WIDTH).mean():.2f} | {score / blank:.3f} |"
                )
    return "\n".join(lines)


def _errors(walks: list[Walk], shape: CoverageSize) -> str:
    """Say what ± is, and where the coverage misses the nominal value."""
    missed, seeds = [], []
    for walk in walks:
        for label, name in enumerate(walk.labels):
            for kind in SETTINGS:
                mean, error = with_error(_by_time(walk, kind, label))
                seeds.append(np.ptp(walk.of(kind, label, COVERED).mean(axis=(0, 1))))
                if abs(mean - walk.interval) > 2 * error:
                    missed.append(f"{walk.timeframe}, {name}, {kind} ({mean:.3f})")
    where = "; ".join(missed) if missed else "none"
    return (
        f"± is the standard error over {shape.folds} folds: neighbouring labels overlap and pairs "
        "move together, so all rows of a fold are one value, and all pairs of it where no pair is "
        "named. Folds count as independent; as calm and wild weeks follow each other in groups, "
        "the true error may be larger. Nets further than two errors from the nominal value: "
        f"{where}. Between seeds the coverage of all tests differs by at most {max(seeds):.3f}."
    )


def _by_pair(walk: Walk) -> str:
    """Return a folded table of the pairs."""
    heads = [f"{kind}: {what}" for kind in KINDS for what in ("coverage", "width")]
    lines = [
        f"<details><summary>{walk.timeframe}, nominal {walk.interval:g}: each pair</summary>",
        "",
        f"| pair | label | {' | '.join(heads)} |",
        f"| --- | --- |{' ---: |' * len(heads)}",
    ]
    for number, pair in enumerate(walk.pairs):
        for label, name in enumerate(walk.labels):
            cells = []
            for kind in KINDS:
                tests = walk.of(kind, label, COVERED)[number].mean(axis=1)
                mean, error = with_error(tests)
                width = walk.of(kind, label, WIDTH)[number].mean()
                cells.append(f"{mean:.3f} ± {error:.3f} | {width:.2f}")
            lines.append(f"| {pair} | {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "</details>"])
