"""What a training leaves behind of its epochs, as figures and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training windows gave.

    Losses are weighted means of the answer's loss, in scaled target units; `valid_loss` is None
    without validation windows.
    """

    number: int
    train_loss: float
    valid_loss: float | None
    learning_rate: float
    seconds: float


@dataclass
class History:
    """The epochs of a training, and which of them the weights are from."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    n_train_windows: int = 0
    n_valid_windows: int = 0
    # On the validation windows: the loss of a forecast that is the same for all, and Spearman's
    # correlation of forecasts with targets; None without validation, and in older files.
    constant_loss: float | None = None
    rank_correlation: float | None = None

    @property
    def best_loss(self) -> float:
        """Validation loss of the best epoch, or its training loss without validation."""
        best = self.epochs[self.best_epoch - 1]
        return best.train_loss if best.valid_loss is None else best.valid_loss

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file."""
        return {
            "epochs": [vars(epoch).copy() for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "n_train_windows": self.n_train_windows,
            "n_valid_windows": self.n_valid_windows,
            "constant_loss": self.constant_loss,
            "rank_correlation": self.rank_correlation,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> History:
        """Rebuild a history from `to_dict`."""
        return cls(**{**data, "epochs": [Epoch(**epoch) for epoch in data["epochs"]]})


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
    axes.set(title=name, xlabel="epoch", ylabel="weighted mean loss")
    axes.legend()
    return figure
