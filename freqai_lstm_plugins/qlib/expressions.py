"""How far the expressions of qlib's loaders look ahead, and who else has seen too much."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from qlib.data.data import ExpressionD
from qlib.data.dataset.loader import NestedDataLoader, QlibDataLoader

if TYPE_CHECKING:
    import pandas as pd


def qlib_loaders(handler: Any) -> list[QlibDataLoader]:
    """Return the loaders of a handler that compute expressions on qlib's own data."""
    loader = getattr(handler, "data_loader", None)
    parts = loader.data_loader_l if isinstance(loader, NestedDataLoader) else [loader]
    return [part for part in parts if isinstance(part, QlibDataLoader)]


def reach(handler: Any, group: str) -> dict[str, int]:
    """Return how many rows ahead each column of a group looks.

    Args:
        handler: The handler of a dataset.
        group: `feature` or `label`.

    Returns:
        Rows by the name of the column; nothing where no expression is known.
    """
    found: dict[str, int] = {}
    for loader in qlib_loaders(handler):
        expressions, names = loader.fields.get(group, ((), ())) if loader.is_group else ((), ())
        for expression, name in zip(expressions, names, strict=True):
            instance = ExpressionD.get_expression_instance(expression)
            found[str(name)] = instance.get_extended_window_size()[1]
    return found


def warn_of_peeking(handler: Any, calendar: pd.DatetimeIndex, train_stop: int) -> None:
    """Warn of features that look ahead, and of processors that were fitted beyond the training.

    Args:
        handler: The handler of a dataset.
        calendar: Its dates.
        train_stop: Position of the first date after the training.
    """
    for name, rows in reach(handler, "feature").items():
        if rows > 0:
            warnings.warn(
                f"The feature {name!r} looks {rows} rows ahead: what it says is not known yet when "
                f"a prediction is made. Take the negative Ref out of it.",
                stacklevel=2,
            )
    for processor in _processors(handler):
        end = getattr(processor, "fit_end_time", calendar[0])
        seen = int(calendar.slice_locs(None, end)[1])
        if seen > train_stop:
            warnings.warn(
                f"{type(processor).__name__} was fitted up to {calendar[seen - 1]:%Y-%m-%d}, and "
                f"the training ends at {calendar[train_stop - 1]:%Y-%m-%d}: set fit_end_time to "
                f"the end of the training.",
                stacklevel=2,
            )


def _processors(handler: Any) -> list[Any]:
    kinds = ("shared_processors", "infer_processors", "learn_processors")
    return [processor for kind in kinds for processor in getattr(handler, kind, [])]
