"""Statistics over the window that ends at each row, without a loop over rows.

Every function takes a float64 array (N,) and gives one. A window is full if its W rows all exist
and hold known values; any other gives NaN. With `partial` it gives what the known values tell, as
qlib and `min_periods=1` do: the first rows have shorter windows, and NaN is skipped.

Sums run over the W lags of the whole array and are not carried from row to row. So a row's value
depends on its window alone, to the last bit: neither where the data begin nor a spike that left
the window long ago is felt in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Array = npt.NDArray[np.float64]
"""One value a row."""

RELATIVE_FLATNESS = 1e-9
"""A window whose deviation is at most this share of its mean is constant but for round-off."""

# Windows without known values divide zero by zero, and NaN is what they should give.
_UNKNOWN_IS_NAN = np.errstate(divide="ignore", invalid="ignore")


class Regression(NamedTuple):
    """A line through each window, against the positions 1 (oldest) to W (newest).

    Attributes:
        slope: Change a row.
        rsquare: Share of the variance that the line explains; NaN or noise in a flat window.
        residual: Newest value less the line's.
    """

    slope: Array
    rsquare: Array
    residual: Array


def shift(values: Array, rows: int) -> Array:
    """Return the value `rows` earlier; NaN where there is none."""
    return _padded(values, rows)[: len(values)]


def rolling_sum(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the sum of each window."""
    total = _total(_lags(values, window), partial=partial)
    return np.where(_count(values, window) > 0, total, np.nan) if partial else total


@_UNKNOWN_IS_NAN
def rolling_mean(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the mean of each window; that of equal values is exactly their value."""
    anchor = pd.Series(values).ffill().to_numpy() if partial else values
    total = _total((lag - anchor for lag in _lags(values, window)), partial=partial)
    return anchor + total / _size(values, window, partial=partial)


@_UNKNOWN_IS_NAN
def rolling_std(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the sample standard deviation of each window; that of equal values is exactly 0."""
    mean = rolling_mean(values, window, partial=partial)
    squares = _squares(values, mean, window, partial=partial)
    freedom = _size(values, window, partial=partial) - 1
    return np.sqrt(squares / np.where(freedom > 0, freedom, np.nan))


@_UNKNOWN_IS_NAN
def rolling_corr(left: Array, right: Array, window: int, *, partial: bool = False) -> Array:
    """Return Pearson's correlation over the rows in which both values are known.

    It is noise where one side is constant but for round-off: ask `is_flat` or `rolling_std`.
    """
    if partial:
        left, right = left + 0 * right, right + 0 * left
    means = [rolling_mean(side, window, partial=partial) for side in (left, right)]
    products = _total(
        (
            (one - means[0]) * (other - means[1])
            for one, other in zip(_lags(left, window), _lags(right, window), strict=True)
        ),
        partial=partial,
    )
    squares = [
        _squares(side, mean, window, partial=partial)
        for side, mean in zip((left, right), means, strict=True)
    ]
    # Roots before the product, which is tiny for prices far below a cent.
    return products / (np.sqrt(squares[0]) * np.sqrt(squares[1]))


@_UNKNOWN_IS_NAN
def rolling_regression(values: Array, window: int, *, partial: bool = False) -> Regression:
    """Fit a line through each window; `partial` skips NaN but keeps the others' positions."""
    mean = rolling_mean(values, window, partial=partial)
    place, spread = _places(values, window, partial=partial)
    covered = _total(
        (
            (position - place) * (lag - mean)
            for position, lag in enumerate(_lags(values, window), start=1)
        ),
        partial=partial,
    )
    slope = covered / spread
    rsquare = slope * covered / _squares(values, mean, window, partial=partial)
    return Regression(slope, rsquare, values - (mean + slope * (window - place)))


def rolling_max(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the largest value of each window."""
    return _pandas(values, window, partial=partial).max().to_numpy()


def rolling_min(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the smallest value of each window."""
    return _pandas(values, window, partial=partial).min().to_numpy()


def rolling_quantile(values: Array, window: int, q: float, *, partial: bool = False) -> Array:
    """Return a quantile of each window, interpolated linearly."""
    return _pandas(values, window, partial=partial).quantile(q).to_numpy()


def rolling_rank(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the rank of the newest value in its window, in (0, 1]; ties share their mean rank."""
    return _pandas(values, window, partial=partial).rank(pct=True).to_numpy()


def rolling_argmax(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the position of the first largest value, 1 for the window's oldest row.

    With `partial`, the first NaN of a window that holds one counts as its largest, as it does in
    `numpy.argmax`, and so in qlib.
    """
    padded = _padded(values, window - 1, fill=-np.inf if partial else np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    position = windows.argmax(axis=1) + 1.0
    if not partial:
        return np.where(np.isnan(_total(_lags(values, window), partial=False)), np.nan, position)
    # A short window's oldest row is the first one of all.
    position -= np.maximum(window - 1 - np.arange(len(values)), 0)
    return np.where(_count(values, window) > 0, position, np.nan)


def rolling_argmin(values: Array, window: int, *, partial: bool = False) -> Array:
    """Return the position of the first smallest value, as `rolling_argmax` does."""
    return rolling_argmax(-values, window, partial=partial)


def is_flat(values: Array, window: int) -> npt.NDArray[np.bool_]:
    """Tell which full windows are constant but for round-off, judged beside their mean."""
    deviation = rolling_std(values, window)
    return deviation <= RELATIVE_FLATNESS * np.abs(rolling_mean(values, window))


def _padded(values: Array, rows: int, fill: float = np.nan) -> Array:
    return np.concatenate([np.full(rows, fill, values.dtype), values])


def _lags(values: Array, window: int) -> Iterator[Array]:
    """Yield views (N,) of each window's values, from the oldest to the newest."""
    padded = _padded(values, window - 1)
    return (padded[start : start + len(values)] for start in range(window))


def _total(terms: Iterable[Array], *, partial: bool) -> Array:
    """Add terms up; NaN adds nothing where `partial`, and makes the sum NaN where not."""
    terms = iter(terms)
    total = np.array(next(terms))
    if partial:
        np.nan_to_num(total, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    for term in terms:
        total += np.where(np.isnan(term), 0.0, term) if partial else term
    return total


def _count(values: Array, window: int) -> Array:
    known = (~np.isnan(values)).astype(float)
    return _total(_lags(known, window), partial=True)


def _size(values: Array, window: int, *, partial: bool) -> Any:
    """Return how many values each window has: a number, or an array (N,)."""
    return _count(values, window) if partial else float(window)


def _squares(values: Array, mean: Array, window: int, *, partial: bool) -> Array:
    return _total((np.square(lag - mean) for lag in _lags(values, window)), partial=partial)


def _places(values: Array, window: int, *, partial: bool) -> tuple[Any, Any]:
    """Return the mean position of the known values, and the sum of squares around it."""
    if not partial:
        return (window + 1) / 2, window * (window**2 - 1) / 12
    known = np.where(np.isnan(values), np.nan, 1.0)
    lags = list(enumerate(_lags(known, window), start=1))
    mean = _total((position * lag for position, lag in lags), partial=True)
    mean /= _count(values, window)
    return mean, _total((np.square(position - mean) * lag for position, lag in lags), partial=True)


def _pandas(values: Array, window: int, *, partial: bool) -> Any:
    return pd.Series(values).rolling(window, min_periods=1 if partial else window)
