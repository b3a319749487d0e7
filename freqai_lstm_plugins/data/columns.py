"""From what users hand over to arrays: numbers, and nothing that only looks like them."""

from __future__ import annotations

import numbers
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freqai_lstm_plugins.data.arrays import FloatArray

_KINDS = {"c": "complex numbers", "M": "dates", "m": "durations", "U": "text", "S": "text"}


def numbers_of(name: str, values: Any) -> FloatArray:
    """Return `values` as an array of floats, float32 where all of them are; NaN where masked.

    Raises:
        DataError: They hold more than numbers, such as text, dates or complex numbers.
    """
    if isinstance(values, pd.DataFrame):
        # A column that stands twice has no single dtype of its name.
        for place, (column, dtype) in enumerate(zip(values, values.dtypes, strict=True)):
            _require_real(f"{name}: column {str(column)!r}", values.iloc[:, place], dtype)
        is_float32 = all(dtype == np.float32 for dtype in values.dtypes)
        return _floats(values, is_float32, any(map(pd.api.types.is_object_dtype, values.dtypes)))
    if isinstance(values, pd.Series):
        _require_real(name, values, values.dtype)
        has_objects = pd.api.types.is_object_dtype(values.dtype)
        return _floats(values, values.dtype == np.float32, has_objects)
    try:
        array = _unmasked(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds more than numbers: {error}.") from error
    _require_real(name, array.ravel(), array.dtype)
    # Other floats as they are: a matrix of float32 may be most of the memory there is.
    return np.asarray(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)


def objects_of(values: Any) -> npt.NDArray[Any]:
    """Return `values` as an array of objects; None where masked."""
    if np.ma.isMaskedArray(values):
        plain = np.ma.getdata(values).astype(object)
        plain[np.ma.getmaskarray(values)] = None
        return np.asarray(plain)
    return np.asarray(values, dtype=object)


def _floats(values: Any, is_float32: bool, has_objects: bool) -> FloatArray:
    # Among objects, NumPy knows no missing value but NaN.
    values = values.where(values.notna(), np.nan) if has_objects else values
    return values.to_numpy(dtype=np.float32 if is_float32 else np.float64, na_value=np.nan)


def _unmasked(values: Any) -> npt.NDArray[Any]:
    if np.ma.isMaskedArray(values) and values.dtype.kind in "biufO":
        kind = np.float32 if values.dtype == np.float32 else np.float64
        return np.asarray(np.ma.filled(values.astype(kind), np.nan))
    return np.asarray(values)


def _require_real(what: str, values: Iterable[Any], dtype: Any) -> None:
    """Raise DataError where the values of one column are no real numbers."""
    if isinstance(dtype, pd.CategoricalDtype):
        values, dtype = dtype.categories, dtype.categories.dtype
    kind = _kind_of(dtype)
    if kind == "objects":
        wrong = next((value for value in values if not _is_real(value)), None)
        kind = None if wrong is None else _kind_of_value(wrong)
    elif kind == "text":
        wrong = next((value for value in values if isinstance(value, str)), None)
        kind = "text" if wrong is None else f"text ({str(wrong)[:30]!r})"
    if kind is not None:
        raise DataError(
            f"{what} holds {kind}, and a model takes real numbers alone. Leave it out, or make "
            f"numbers of it."
        )


def _kind_of(dtype: Any) -> str | None:
    """Return what values of a dtype are, None for real numbers."""
    if pd.api.types.is_object_dtype(dtype):
        return "objects"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    if isinstance(dtype, np.dtype):
        return _KINDS.get(dtype.kind)
    return None if pd.api.types.is_numeric_dtype(dtype) else f"{dtype} values"


def _is_real(value: Any) -> bool:
    if isinstance(value, str | date | timedelta | np.datetime64 | np.timedelta64):
        # A missing date is a missing value.
        return bool(pd.isna(value))
    return value is None or value is pd.NA or isinstance(value, numbers.Real | Decimal | np.bool_)


def _kind_of_value(value: Any) -> str:
    if isinstance(value, str):
        return f"text ({value[:30]!r})"
    if isinstance(value, date | np.datetime64):
        return f"dates ({value})"
    is_complex = isinstance(value, complex | np.complexfloating)
    return "complex numbers" if is_complex else f"a {type(value).__name__}"
