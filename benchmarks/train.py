"""Training: rows per second of one epoch, the same net in every loop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import limit
from benchmarks.data import FloatArray, made_up, new_net
from benchmarks.measure import Row, Side, alternate
from benchmarks.peers import LEARNING_RATE, builtin_trainer, has_qlib, train_builtin, train_qlib
from benchmarks.sizes import Size
from freqai_lstm_plugins import SequenceRegressor

BUILTIN = "PyTorchTransformerTrainer"
QLIB = "qlib's TSDataSampler"
LIMIT = "the bare matrix products"

# Ways to train: name -> settings of `SequenceRegressor`. Each is compared with every peer.
WAYS: dict[str, dict[str, Any]] = {
    "exact windows": {},
    "dense supervision": {"supervision": "dense"},
}
GOALS: dict[str, dict[int, dict[str, str]]] = {
    "exact windows": {
        80: {BUILTIN: "at least 1.3", LIMIT: "at least 0.7"},
        500: {BUILTIN: "at least 2", LIMIT: "at least 0.7"},
    },
    "dense supervision": {
        80: {BUILTIN: "at least 8"},
        500: {BUILTIN: "at least 8"},
    },
}


def train(size: Size, ways: Mapping[str, Mapping[str, Any]] = WAYS) -> Row:
    """Compare ways to train with freqtrade's loop, with qlib's, and with the arithmetic alone."""
    row = Row(
        "train",
        "Training",
        f"One epoch of {size.batches} steps of {size.batch_size} windows of {size.window} rows: "
        "the same net with the same settings (the peers' with torch's layers), the same rows and "
        "as many targets, mean squared error, AdamW with the same settings, dropout on, neither "
        "gradient clipping nor validation. Each side starts from an array or a frame in memory "
        f"and ends with trained weights, its own set-up included. {LIMIT.capitalize()} are those "
        "of the forward and "
        "backward pass, with operands in place, and nothing else.",
    )
    if not has_qlib():
        row.notes.append(f"{QLIB}: qlib is not installed.")
    for n_features in size.features:
        peers = peer_sides(size, n_features)
        ours = our_sides(size, n_features, ways)
        times = alternate(ours | peers, size.rounds)
        for way in ours:
            kept = {name: times[name] for name in (way, *peers)}
            goals = GOALS.get(way, {}).get(n_features, {})
            row.compare(f"F {n_features}", kept, goals)
    return row


def our_sides(
    size: Size, n_features: int, ways: Mapping[str, Mapping[str, Any]]
) -> dict[str, Side]:
    """Return a side for each way to train."""
    rows, targets = _data(size, n_features)
    # The built-in loop leaves the newest row out, so it is no target here either.
    targets = np.concatenate([targets[:-1], np.full((1, 1), np.nan, dtype=np.float32)])
    return {name: partial(fit_ours, size, rows, targets, **way) for name, way in ways.items()}


def fit_ours(size: Size, rows: FloatArray, targets: FloatArray, **changes: Any) -> None:
    """Train a fresh model of ours."""
    our_model(size, **changes).fit(rows, targets)


def our_model(size: Size, **changes: Any) -> SequenceRegressor:
    """Return a regressor that does what the peers' loops do, and no more."""
    return SequenceRegressor("lstm", size.window, **{**size.net, **bare_loop(size), **changes})


def bare_loop(size: Size) -> dict[str, Any]:
    """Return settings that leave nothing of a training but its steps."""
    return {
        "max_epochs": 1,
        "batch_size": size.batch_size,
        "learning_rate": LEARNING_RATE,
        "gradient_clip": 0,
        "lr_schedule": "none",
        "patience": 0,
        "valid_size": 0,
        "scale": False,
        "progress": False,
        "device": "cpu",
    }


def peer_sides(size: Size, n_features: int) -> dict[str, Side]:
    """Return the peers that are at hand, and the limit."""
    rows, targets = _data(size, n_features)

    def builtin() -> None:
        net = new_net(n_features, size.net)
        trainer = builtin_trainer(net, size.window, n_epochs=1, batch_size=size.batch_size)
        train_builtin(trainer, rows, targets)

    def qlib() -> None:
        train_qlib(new_net(n_features, size.net), rows, targets, size.window, size.batch_size)

    n_windows = size.batches * size.batch_size
    net = new_net(n_features, size.net)
    sides: dict[str, Side] = {BUILTIN: builtin}
    if has_qlib():
        sides[QLIB] = qlib
    return {**sides, LIMIT: limit.side(net, n_windows, size.batch_size, size.window, backward=True)}


def _data(size: Size, n_features: int) -> tuple[FloatArray, FloatArray]:
    return made_up(size.batches * size.batch_size + size.window, n_features)
