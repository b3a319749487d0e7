"""Forecasts of models trained densely and exactly, walking forward over real candles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks import candles
from benchmarks.candles import HORIZON, IN_VOLATILITIES, features_and_labels, walk_forward
from benchmarks.measure import Row, Spread
from benchmarks.sizes import Size
from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.data.candles import read_candles

WAYS = ("exact", "dense")


def supervision(size: Size) -> Row:
    """Compare the rank correlation of forecasts and labels after both ways of training."""
    walk = size.supervision
    row = Row(
        "supervision",
        "Dense supervision: quality of forecasts",
        f"Walk-forward on real hourly candles: each of {walk.folds} folds trains on "
        f"{walk.train_rows:,} rows (the last 15 % decide when to stop) and is tested on the "
        f"{walk.test_rows:,} rows after them. LSTM 1 x 64, W {size.window}, 15 features, the label "
        f"is the return over the next {HORIZON} hours in volatilities, {walk.seeds} seeds. Shown "
        "is the rank correlation of forecast and label in the test rows, a mean over seeds and "
        "folds. Both ways predict from the same exact windows.",
    )
    paths = candles.find("1h", walk.pairs)
    if not paths:
        row.notes.append(candles.missing("1h"))
        return row
    found = {pair: _walk(read_candles(path), size) for pair, path in paths.items()}
    row.notes.append(_table(found))
    difference = np.concatenate(
        [(cells["dense"] - cells["exact"]).mean(axis=1) for cells in found.values()]
    )
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    row.notes.append(
        f"Dense minus exact, over {len(difference)} pairs and folds: {difference.mean():+.4f} "
        f"± {error:.4f} (standard error; pairs move together, so the true one is larger)."
    )
    for way in WAYS:
        every = np.concatenate([cells[way].ravel() for cells in found.values()])
        row.absolute.append((f"rank correlation of one model, {way}", _middle_half(every), ""))
    return row


def _middle_half(values: np.ndarray) -> Spread:
    return Spread(float(np.median(values)), *(float(q) for q in np.quantile(values, (0.25, 0.75))))


def _table(found: dict[str, dict[str, np.ndarray]]) -> str:
    lines = ["| pair | exact | dense | dense - exact |", "| --- | ---: | ---: | ---: |"]
    for pair, cells in found.items():
        exact, dense = (cells[way].mean() for way in WAYS)
        lines.append(f"| {pair} | {exact:+.3f} | {dense:+.3f} | {dense - exact:+.3f} |")
    means = [np.mean([cells[way].mean() for cells in found.values()]) for way in WAYS]
    lines.append(f"| mean | {means[0]:+.3f} | {means[1]:+.3f} | {means[1] - means[0]:+.3f} |")
    return "\n".join(lines)


def _walk(frame: pd.DataFrame, size: Size) -> dict[str, np.ndarray]:
    """Return the rank correlation of each fold and seed, (folds, seeds), after each way."""
    walk = size.supervision
    features, labels = features_and_labels(frame)
    label = labels[IN_VOLATILITIES]
    folds = walk_forward(len(features), walk.train_rows, walk.test_rows, walk.folds)
    found = {way: np.empty((walk.folds, walk.seeds)) for way in WAYS}
    for fold, (train, test) in enumerate(folds):
        for way in WAYS:
            for seed in range(walk.seeds):
                model = SequenceRegressor(
                    window=size.window,
                    hidden_size=64,
                    num_layers=1,
                    max_epochs=walk.epochs,
                    patience=6,
                    label_period=HORIZON,
                    supervision=way,
                    seed=seed,
                    progress=False,
                )
                model.fit(features.iloc[train], label.iloc[train])
                # The first test row sees the rows before it, as it would live.
                forecast = model.predict(features.iloc[test.start - size.window + 1 : test.stop])
                pairs = pd.concat([forecast, label.iloc[test]], axis=1).dropna()
                ranks = pairs.rank().to_numpy()
                found[way][fold, seed] = np.corrcoef(ranks.T)[0, 1]
    return found
