"""Writes a model file of the present format and what it predicts; run once for each new format.

    python -m tests.trust.formats.make NAME [KIND]

KIND is the name of a net, or one of classifier, interval, panel and ensemble. A file that was
committed once is never written again: old files must keep loading as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor
from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor

Model = SequenceRegressor | SequenceClassifier | EnsembleRegressor

FOLDER = Path(__file__).parent
SMALL = {"window": 5, "hidden_size": 8, "max_epochs": 20, "progress": False}


def example_rows(n: int = 40) -> np.ndarray:
    """Return rows (N, 3) that need no random generator, so that they stay the same for ever."""
    row, column = np.arange(n)[:, None], np.arange(3)[None, :]
    return np.sin(0.3 * row + column) + 0.1 * ((7 * row + 3 * column) % 11)


MEMBERS = {
    "gru": {"hidden_size": 4, "num_layers": 1, "max_epochs": 5},
    "ridge": {"lags": [0, 1]},
    "lightgbm": {"n_estimators": 4, "num_leaves": 4},
    "xgboost": {"n_estimators": 4, "max_depth": 2, "loss": "quantile"},
}


def fitted_ensemble() -> EnsembleRegressor:
    """Return an ensemble of all kinds of members, on as many rows as its weights need."""
    rows = example_rows(160)
    targets = np.column_stack([rows[:, 0] - rows[:, 1], rows[:, 2]])
    data = prepare(rows, targets, DataConfig(window=5, label_period=2, scale=False))
    settings = {"combine": "dynamic", "interval": 0.5, "label_period": 2, "rates": [0.5]}
    model = EnsembleRegressor(MEMBERS, window=5, **settings)
    model.fit_windows(data, last_time=159).forget_optimizer()
    return model


def fitted(kind: str) -> Model:
    """Return a model of that kind, trained on the example."""
    if kind == "ensemble":
        return fitted_ensemble()
    rows = example_rows()
    targets = np.column_stack([rows[:, 0] - rows[:, 1], rows[:, 2]])
    if kind == "classifier":
        classes = np.where(targets[:, 0] > 0, "up", "down")
        return SequenceClassifier("gru", num_layers=1, class_weight="balanced", **SMALL).fit(
            rows, classes
        )
    if kind == "interval":
        model = SequenceRegressor("lstm", loss="quantile", interval=0.8, num_layers=1, **SMALL)
        return model.fit(rows, targets)
    if kind == "panel":
        model = SequenceRegressor("gru", symbol_embedding=2, num_layers=1, **SMALL)
        return model.fit({"A": rows, "B": rows[::-1]}, {"A": targets, "B": -targets})
    if kind == "tft":
        return SequenceRegressor(kind, **{**SMALL, "hidden_size": 4}).fit(rows, targets)
    return SequenceRegressor(kind, num_layers=2, **SMALL).fit(rows, targets)


def answers(model: Model) -> np.ndarray:
    """Return all that the model tells of the example: (parts, 40, numbers), or (40, numbers)."""
    rows = example_rows()
    if isinstance(model, EnsembleRegressor):
        said = model.predict_windows(rows.astype(np.float32), np.arange(40) >= 4)
        return np.stack([said.point, said.lower, said.upper])
    if isinstance(model, SequenceClassifier):
        return model.predict_proba(rows)
    if model.symbols_:
        return np.stack(list(model.predict({"A": rows, "B": rows[::-1]}).values()))
    if model.calibration is not None:
        return np.stack(model.predict_interval(rows))
    return model.predict(rows)


def main(name: str, kind: str = "lstm") -> None:
    path = FOLDER / f"{name}.zip"
    if path.exists():
        raise SystemExit(f"{path} exists, and committed files are never written again.")
    model = fitted(kind)
    model.save(path)
    told = np.nan_to_num(answers(model), nan=-999.0)
    path.with_suffix(".json").write_text(json.dumps(told.tolist()) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
