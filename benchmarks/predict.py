"""Prediction of a backtest slice."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import limit
from benchmarks.host import OURS, Ready, made_up_frame, ready
from benchmarks.measure import Row, alternate
from benchmarks.peers import builtin_trainer
from benchmarks.sizes import Size
from benchmarks.train import LIMIT
from freqai_lstm_plugins.training import PREDICT_BATCH, torch_threads

BUILTIN = "PyTorchTransformerRegressor.predict"
GOALS = {BUILTIN: "at least 8", LIMIT: "at least 0.71"}


def predict(size: Size) -> Row:
    """Compare our `predict` of a backtest slice with the built-in loop around the same net."""
    row = Row(
        "predict",
        "Prediction of a backtest slice",
        f"The FreqAI models' own `predict`, from a frame of {size.predict_rows:,} rows to one of "
        f"predictions, with the same weights, the same fitted pipelines and windows of {size.window} "
        "rows; the pipelines' time is in both. Without rows before the slice the built-in loop "
        f"predicts one window less. {LIMIT.capitalize()} are those of the net's forward pass, "
        f"{PREDICT_BATCH} windows at a time.",
    )
    frame = made_up_frame(size.predict_rows, size.predict_features)
    with TemporaryDirectory() as folder:
        ours = ready(Path(folder), OURS, frame.head(size.live_train_rows), size, live=False)
        theirs = builtin_with(ours, Path(folder), size)
        net = ours.trained[0].model
        products = limit.products(net, PREDICT_BATCH, size.window, backward=False)
        n_batches = max(round((size.predict_rows - size.window + 1) / PREDICT_BATCH), 1)
        sides = {
            OURS: lambda: ours.predict(frame),
            BUILTIN: lambda: theirs.predict(frame),
            LIMIT: lambda: limit.run(products, n_batches),
        }
        with torch_threads(None):
            times = alternate(sides, size.rounds)
    row.compare(f"F {size.predict_features}", times, GOALS)
    return row


def builtin_with(ours: Ready, folder: Path, size: Size) -> Ready:
    """Return the built-in Transformer's class with our net and our pipelines in it."""
    frame = made_up_frame(size.live_train_rows, size.predict_features)
    theirs = ready(folder, "PyTorchTransformerRegressor", frame, size, live=False)
    trainer = builtin_trainer(ours.trained[0].model, size.window)
    return Ready(theirs.model, [trainer], ours.kitchens)
