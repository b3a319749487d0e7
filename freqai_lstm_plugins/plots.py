"""Pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from freqai_lstm_plugins.training import History


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that belongs to no window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as NewFigure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "Drawing a picture") from error
    return NewFigure(figsize=(width, height), layout="constrained")


def plot_history(history: History, name: str) -> Figure:
    """Draw training and validation loss over the epochs, and mark the epoch that was kept."""
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    numbers = [epoch.number for epoch in history.epochs]
    axes.plot(numbers, [epoch.train_loss for epoch in history.epochs], label="training")
    if history.n_valid_windows:
        axes.plot(
            numbers, [epoch.valid_loss or 0.0 for epoch in history.epochs], label="validation"
        )
    axes.axvline(history.best_epoch, color="grey", linestyle=":", label="weights kept")
    axes.set(title=name, xlabel="epoch", ylabel="weighted mean squared error (scaled targets)")
    axes.legend()
    return figure
