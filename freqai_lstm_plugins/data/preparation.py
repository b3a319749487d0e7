"""What every model is trained on: windows with their targets, and what their columns are called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from freqai_lstm_plugins.data.arrays import IntArray
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.windows import WindowSet


@dataclass(frozen=True)
class Schema:
    """Names of what windows and targets hold.

    Attributes:
        feature_names: F names, in the order of the columns of rows.
        label_names: K names, in the order of the targets.
        classes: For each target the names of its classes; empty where targets are numbers.
        symbols: Names of the symbols that the model is told, in the order of the numbers in the
            rows' last column; empty where it is told none, and rows have F columns.
    """

    feature_names: list[str]
    label_names: list[str]
    classes: list[list[Any]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """Windows to train a model on, whatever the model is.

    Nets, trees and naive forecasts get the same rows, targets, weights and validation windows, so
    that a comparison between them is fair.

    Attributes:
        train: Windows to learn from.
        valid: Windows for early stopping; None where there are none.
        schema: What the columns are called.
        scaling: How rows and targets were standardized; None where they are as they were given, or
            where a host scales by itself.
        times: (N,) number of each row's candle in time, the same for rows of one time; None where
            rows are numbered so already.
    """

    train: WindowSet
    valid: WindowSet | None
    schema: Schema
    scaling: Scaling | None = None
    times: IntArray | None = None
