"""Windows whose best members are known."""

from __future__ import annotations

import numpy as np
import torch

from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.windows import build_window_set

N, F, W, PERIOD = 600, 4, 4, 3
# One tree that knows every training row by heart.
MEMORY = {
    "kind": "lightgbm",
    "n_estimators": 1,
    "learning_rate": 1.0,
    "num_leaves": 2000,
    "min_child_samples": 1,
}
TREES = {"n_estimators": 15, "learning_rate": 0.2, "num_leaves": 7}
LSTM = {"hidden_size": 4, "num_layers": 1, "head_size": 4, "max_epochs": 2, "num_threads": 1}


def prepared(n=N, n_targets=1, *, n_valid=None, seed=0, noise=1.0, times=False, **changes):
    """Rows whose first feature tells the target, beside noise of a known size."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, F)).astype(np.float32)
    targets = np.column_stack(
        [(k + 1) * rows[:, 0] + noise * rng.normal(size=n) for k in range(n_targets)]
    )
    for change in changes.values():
        change(rows, targets)
    has_window = np.arange(n) >= W - 1
    n_valid = n // 6 if n_valid is None else n_valid
    is_valid = np.arange(n) >= n - n_valid
    is_train = ~is_valid & (np.arange(n) < n - n_valid - PERIOD)
    tensor = torch.from_numpy(rows)
    train, valid = (
        build_window_set(tensor, targets, np.ones(n), has_window & part, W)
        for part in (is_train, is_valid)
    )
    names = [f"x{k}" for k in range(F)], [f"y{k}" for k in range(n_targets)]
    numbers = 1000 + np.arange(n) if times else None
    return Prepared(train, valid, Schema(*names), times=numbers)


def everywhere(data):
    """Return rows, and that a window ends at each but the first."""
    rows = data.train.rows.numpy()
    return rows, np.arange(len(rows)) >= W - 1
