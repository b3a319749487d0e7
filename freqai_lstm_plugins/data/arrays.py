"""Arrays of rows: their types, and what counts as finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

BoolArray = npt.NDArray[np.bool_]  # (N,)
IntArray = npt.NDArray[np.int64]


def chunks(n_rows: int, size: int = 4096) -> Iterator[slice]:
    """Cut rows into slices, so that what is computed of them needs little memory at once."""
    return (slice(start, start + size) for start in range(0, n_rows, size))


def to_float32(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Round to the float32 that nets compute in; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def finite_rows(values: npt.NDArray[np.floating]) -> BoolArray:
    """Tell which rows of (N, F) hold neither NaN nor infinity, also once they are float32."""
    finite = np.empty(len(values), dtype=bool)
    for part in chunks(len(values)):
        finite[part] = np.isfinite(to_float32(values[part])).all(axis=1)
    return finite


FloatArray = npt.NDArray[np.floating[Any]]
