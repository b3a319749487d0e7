"""Prediction of a backtest slice."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import limit
from benchmarks.host import OURS, Ready, made_up_frame, ready
from benchmarks.measure import Row, alternate
from benchmarks.peers import builtin_trainer
from benchmarks.sizes import Size
from benchmarks.train import LIMIT
from freqai_lstm_plugins.training.prediction import PREDICT_BATCH

BUILTIN = "PyTorchTransformerRegressor.predict"
GOALS = {BUILTIN: "at least 8", LIMIT: "at least 0.71"}


def predict(size: Size) -> Row:
    """Compare our `predict` of a backtest slice with the built-in loop around the same net."""
    row = Row(
        "predict",
        "Prediction of a backtest slice",
        f"The FreqAI models' own `predict`, from a frame of {size.predict_rows:,} rows to one of "
        "predictions, with the same weights, the same fitted pipelines and windows of "
        f"{size.window} rows; the pipelines' time is in both. Without rows before the slice the "
        f"built-in loop predicts one window less. {LIMIT.capitalize()} are those of the net's "
        f"forward pass, {PREDICT_BATCH} windows at a time.",
    )
    frame = made_up_frame(size.predict_rows, size.predict_features)
    with TemporaryDirectory() as folder:
        ours, theirs = same_net(Path(folder), size)
        net, n_windows = ours.trained[0].model, size.predict_rows - size.window + 1
        sides = {
            OURS: lambda: ours.predict(frame),
            BUILTIN: lambda: theirs.predict(frame),
            LIMIT: limit.side(net, n_windows, PREDICT_BATCH, size.window, backward=False),
        }
        times = alternate(sides, size.rounds)
    row.compare(f"F {size.predict_features}", times, GOALS)
    return row


def same_net(folder: Path, size: Size) -> tuple[Ready, Ready]:
    """Return our model, and the built-in Transformer's class with our net and pipelines in it."""
    frame = made_up_frame(size.live_train_rows, size.predict_features)
    ours = ready(folder, OURS, frame, size, live=False)
    theirs = ready(folder, "PyTorchTransformerRegressor", frame, size, live=False)
    trainer = builtin_trainer(ours.trained[0].model, size.window)
    return ours, Ready(theirs.model, [trainer], ours.kitchens)
