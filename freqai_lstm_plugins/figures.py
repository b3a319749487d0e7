"""An empty figure, or the error that names the extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
