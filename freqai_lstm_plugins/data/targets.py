"""Targets as models are trained on them: numbers, or numbers of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.data.columns import numbers_of, objects_of
from freqai_lstm_plugins.data.panel import Inputs
from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import FloatArray


@dataclass(frozen=True)
class Targets:
    """Targets in the order of the features' rows.

    Attributes:
        values: (N, K) numbers, or numbers of classes; NaN where a row has none.
        names: K names.
        classes: For each target the names of its classes; empty for numbers.
        single: Whether they were given as a vector.
    """

    values: FloatArray
    names: list[str]
    classes: list[list[Any]]
    single: bool


# Reads targets in the shape of the features; the classes are those that are known already.
TargetReader = Callable[[Any, Inputs, list[list[Any]]], Targets]


def read_numbers(
    y: Any,
    inputs: Inputs,
    classes: list[list[Any]],  # noqa: ARG001 - a `TargetReader`
) -> Targets:
    """Read targets that are numbers; they have no classes, whatever is known.

    Raises:
        DataError: They are no numbers, or their shape is not that of the features.
    """
    values, names = inputs.arrange(y, "y", lambda part: numbers_of("y", part))
    return Targets(values, names or _numbered(values), [], _is_single(y, inputs))


def read_classes(y: Any, inputs: Inputs, classes: list[list[Any]]) -> Targets:
    """Read targets that are classes, as their numbers in the order of the classes.

    Raises:
        DataError: A value is no class or none of `classes`, or the shape is not that of the
            features.
    """
    values, names = inputs.arrange(y, "y", objects_of)
    names = names or _numbered(values)
    if classes and len(classes) != values.shape[1]:
        raise DataError(f"eval_set has {values.shape[1]} targets, y has {len(classes)}.")
    known = classes or [_found_classes(column) for column in values.T]
    numbers = [
        class_numbers(column, found, name)
        for column, found, name in zip(values.T, known, names, strict=True)
    ]
    return Targets(np.column_stack(numbers), names, known, _is_single(y, inputs))


def _numbered(values: npt.NDArray[Any]) -> list[str]:
    return [f"y{i}" for i in range(values.shape[1])]


def _is_single(y: Any, inputs: Inputs) -> bool:
    return np.ndim(inputs.parts_of(y, "y")[0]) == 1


def _found_classes(column: npt.NDArray[Any]) -> list[Any]:
    """Return the classes of a column in their order, as plain Python values."""
    values = [plain(value) for value in column[~pd.isna(column)]]
    wrong = next((value for value in values if not _is_class(value)), None)
    if wrong is not None:
        raise DataError(
            f"y: classes must be strings, whole numbers or booleans, not {wrong!r}. For other "
            f"numbers take a SequenceRegressor."
        )
    found = set(values)
    try:
        return sorted(found)
    except TypeError as error:
        raise DataError("y: classes of one target must be all strings, or all numbers.") from error


def plain(value: Any) -> Any:
    """Return a scalar of NumPy's as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_class(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def class_numbers(column: npt.NDArray[Any], names: list[Any], target: str) -> FloatArray:
    """Return the number of each row's class, NaN where a row has none.

    Raises:
        DataError: A class is none of `names`.
    """
    numbers = {name: number for number, name in enumerate(names)}
    is_missing = pd.isna(column)
    present = map(plain, column[~is_missing])
    unknown = sorted({str(value) for value in present if value not in names})
    if unknown:
        raise DataError(
            f"{target!r} holds the class {', '.join(map(repr, unknown))}; the classes are "
            f"{', '.join(map(repr, names))}."
        )
    return np.array(
        [
            np.nan if missing else numbers[value]
            for value, missing in zip(column, is_missing, strict=True)
        ],
        dtype=float,
    )
