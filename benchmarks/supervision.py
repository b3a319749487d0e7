"""Forecasts of models trained densely and exactly, walking forward over real candles."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import Row, Spread
from benchmarks.sizes import Size
from freqai_lstm_plugins import SequenceRegressor

CANDLES = Path(
    os.environ.get("FREQAI_LSTM_CANDLES", Path(__file__).parents[2] / "shared" / "data" / "binance")
)
HORIZON = 12
WAYS = ("exact", "dense")


def supervision(size: Size) -> Row:
    """Compare the rank correlation of forecasts and labels after both ways of training."""
    walk = size.supervision
    row = Row(
        "supervision",
        "Dense supervision: quality of forecasts",
        f"Walk-forward on real hourly candles: each of {walk.folds} folds trains on "
        f"{walk.train_rows:,} rows (the last tenth decides when to stop) and is tested on the "
        f"{walk.test_rows:,} rows after them. LSTM 1 x 64, W {size.window}, 15 features, the label "
        f"is the return over the next {HORIZON} hours in volatilities, {walk.seeds} seeds. Shown "
        "is the rank correlation of forecast and label in the test rows, a mean over seeds and "
        "folds. Both ways predict from the same exact windows.",
    )
    paths = sorted(CANDLES.glob("*-1h.feather"))[: walk.pairs]
    if not paths:
        row.notes.append(f"No hourly candles at FREQAI_LSTM_CANDLES ({CANDLES.name}).")
        return row
    found = {path.name.split("-")[0]: _walk(pd.read_feather(path), size) for path in paths}
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


def _walk(candles: pd.DataFrame, size: Size) -> dict[str, np.ndarray]:
    """Return the rank correlation of each fold and seed, (folds, seeds), after each way."""
    walk = size.supervision
    features, label = _features(candles)
    first = len(features) - walk.folds * walk.test_rows - walk.train_rows
    found = {way: np.empty((walk.folds, walk.seeds)) for way in WAYS}
    for fold in range(walk.folds):
        start = first + fold * walk.test_rows
        stop = start + walk.train_rows
        # The labels of the last rows reach into the test.
        train = slice(start, stop - HORIZON)
        test = slice(stop - size.window + 1, stop + walk.test_rows)
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
                forecast = model.predict(features.iloc[test])
                pairs = pd.concat([forecast, label.iloc[test]], axis=1).dropna()
                ranks = pairs.rank().to_numpy()
                found[way][fold, seed] = np.corrcoef(ranks.T)[0, 1]
    return found


def _features(candles: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    close = np.log(candles["close"])
    change = close.diff()
    volatility = change.rolling(48).std()
    volume = np.log1p(candles["volume"])
    hour = candles["date"].dt.hour * (2 * np.pi / 24)
    span = np.log(candles["high"] / candles["low"])
    place = (candles["close"] - candles["low"]) / (candles["high"] - candles["low"])
    features = {f"change {lag}": close.diff(lag) / volatility for lag in (1, 3, 6, 12, 24, 48, 96)}
    features |= {
        "volume": (volume - volume.rolling(96).mean()) / volume.rolling(96).std(),
        "range": span / volatility,
        "place in range": place.fillna(0.5),
        "volatility": np.log(volatility / change.rolling(336).std()),
        "up share": (change > 0).rolling(14).mean(),
        "hour, sine": np.sin(hour),
        "hour, cosine": np.cos(hour),
        "weekday": candles["date"].dt.weekday / 6,
    }
    label = ((close.shift(-HORIZON) - close) / volatility).clip(-20, 20).rename("return")
    known = pd.DataFrame(features).replace([np.inf, -np.inf], np.nan)
    kept = slice(340, -HORIZON)
    return known.iloc[kept].reset_index(drop=True), label.iloc[kept].reset_index(drop=True)
