"""Memory of training and prediction, and model files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import peak
from benchmarks.data import made_up, new_net
from benchmarks.measure import Ratio, Row, Spread, alternate
from benchmarks.peers import builtin_trainer, train_builtin
from benchmarks.sizes import Size
from benchmarks.train import our_model

GOAL = "at most 3"


def memory(size: Size) -> Row:
    """Measure peaks in processes of their own, and compare model files."""
    shape = size.memory
    row = Row(
        "memory",
        "Memory and model files",
        "The most memory in use at any moment, above what was in use before, as a multiple of the "
        f"raw float32 matrix of {shape.rows:,} rows and {shape.features} features, which was in "
        f"use before and does not count; windows of {shape.window} rows, the training row's net. "
        f"Training takes {shape.steps} steps of {size.batch_size} windows from all over the rows, "
        "on both sides; prediction predicts every row. Each is one run in a process of its own. "
        "Model files hold the same net after one short training, and FreqAI's way to load them is "
        "timed: `torch.load`, then `load_from_checkpoint`.",
    )
    if peak.is_measurable():
        _add_peaks(row, size)
        _add_slices(row, size)
    else:
        row.notes.append("Peak memory is measured on Linux only.")
    _add_files(row, size)
    return row


def _add_peaks(row: Row, size: Size) -> None:
    shape = size.memory
    raw = 4 * shape.rows * shape.features
    common: dict[str, Any] = {
        "rows": shape.rows,
        "features": shape.features,
        "window": shape.window,
        "net": size.net,
    }
    training = {**common, "batch_size": size.batch_size, "steps": shape.steps}
    peaks = {
        "fit, ours": peak.in_child("fit", **training),
        "fit, PyTorchTransformerTrainer": peak.in_child("fit_builtin", **training),
        "predict, ours": peak.in_child("predict", **common),
    }
    for what, found in peaks.items():
        goal = GOAL if what.endswith("ours") else ""
        row.ratios.append(Ratio(f"{what}: peak / raw", Spread.of([found.bytes / raw]), goal))
        row.absolute.append((f"{what}: peak", Spread.of([found.bytes]), "B"))
    row.absolute.append(("raw matrix", Spread.of([raw]), "B"))


def _add_slices(row: Row, size: Size) -> None:
    arguments = {
        "rows": size.predict_rows,
        "features": size.predict_features,
        "window": size.window,
        "net": size.net,
    }
    ours, theirs = (peak.in_child("predict_slice", side=side, **arguments) for side in (0, 1))
    what = f"FreqAI's predict of {size.predict_rows:,} rows x {size.predict_features} features"
    ratio = Spread.of([theirs.bytes / ours.bytes])
    row.ratios.append(Ratio(f"{what}: peak of the built-in loop / ours", ratio, "above 1"))
    for name, found in (("ours", ours), ("the built-in loop", theirs)):
        row.absolute.append((f"{what}, {name}: peak", Spread.of([found.bytes]), "B"))


def _add_files(row: Row, size: Size) -> None:
    features, window = size.memory.features, size.memory.window
    rows, targets = made_up(window + size.batch_size, features)
    ours = our_model(size, batch_size=size.batch_size).fit(rows, targets)
    ours.forget_optimizer()
    net = new_net(features, size.net)
    theirs = builtin_trainer(net, window, n_epochs=1, batch_size=size.batch_size)
    train_builtin(theirs, rows, targets)
    with TemporaryDirectory() as folder:
        paths = {"ours": Path(folder, "ours.zip"), "the built-in's": Path(folder, "theirs.zip")}
        for model, path in zip((ours, theirs), paths.values(), strict=True):
            model.save(path)
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        times = alternate({name: partial(_load, path) for name, path in paths.items()}, size.rounds)
    row.compare("load a model file", times, {})
    smaller = Spread.of([sizes["the built-in's"] / sizes["ours"]])
    row.ratios.append(Ratio("size of a model file: the built-in's / ours", smaller))
    for name, found in sizes.items():
        row.absolute.append((f"model file, {name}", Spread.of([found]), "B"))


def _load(path: Path) -> Any:
    # The same call as FreqAI's, which executes what the file holds: it was written just before.
    content = torch.load(path, weights_only=False)
    return content["pytrainer"].load_from_checkpoint(content)
