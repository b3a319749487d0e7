"""qlib's Alpha158: nine shapes of the candle, four prices, and 29 statistics of each window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features.candles import Candles, Step, read_candles
from freqai_lstm_plugins.features.rolling import (
    Array,
    is_flat,
    rolling_argmax,
    rolling_argmin,
    rolling_corr,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_quantile,
    rolling_rank,
    rolling_regression,
    rolling_std,
    rolling_sum,
    shift,
)
from freqai_lstm_plugins.features.table import Missing, require_missing, to_table
from freqai_lstm_plugins.names import closest

if TYPE_CHECKING:
    import pandas as pd

Found = Mapping[str, Array]

WINDOWS = (5, 10, 20, 30, 60)
"""Candles of the windows that qlib takes."""

ALPHA158_20 = (
    *("RESI5", "WVMA5", "RSQR5", "KLEN", "RSQR10", "CORR5", "CORD5", "CORR10", "ROC60", "RESI10"),
    *("VSTD5", "RSQR60", "CORR60", "WVMA60", "STD5", "RSQR20", "CORD60", "CORD10", "CORR20"),
    "KLOW",
)
"""The 20 features that qlib's recurrent baselines are given."""

QLIB_FLAT = 2e-5
"""Standard deviation up to which qlib takes a window for constant, whatever its price."""

NEUTRAL = {
    # Changes, slopes and differences: nothing happens.
    **dict.fromkeys(
        ("KMID", "KLEN", "KMID2", "KUP", "KUP2", "KLOW", "KLOW2", "KSFT", "KSFT2"), 0.0
    ),
    **dict.fromkeys(("STD", "BETA", "RESI", "IMXD", "CNTD", "SUMD", "VSUMD"), 0.0),
    # Relations: none is seen.
    **dict.fromkeys(("RSQR", "CORR", "CORD"), 0.0),
    # Ratios to the close, to the volume, and of a deviation to its mean: both are the same.
    **dict.fromkeys(("OPEN0", "HIGH0", "LOW0", "VWAP0", "ROC", "MA", "MAX", "MIN"), 1.0),
    **dict.fromkeys(("QTLU", "QTLD", "VMA", "VSTD", "WVMA"), 1.0),
    # Places and shares: the middle.
    **dict.fromkeys(("RANK", "RSV", "IMAX", "IMIN"), 0.5),
    **dict.fromkeys(("CNTP", "CNTN", "SUMP", "SUMN", "VSUMP", "VSUMN"), 0.5),
}
"""What `missing="neutral"` puts for an unknown value, by the name without its window."""


def alpha158(
    frame: pd.DataFrame,
    windows: Sequence[int] = WINDOWS,
    names: Sequence[str] | None = None,
    qlib_compatible: bool = False,
    missing: Missing = "nan",
    *,
    step: Step | None = None,
) -> pd.DataFrame:
    """Compute qlib's Alpha158 of one symbol's candles, oldest first.

    Three things differ from qlib unless `qlib_compatible` is set: a window that is not full gives
    NaN, constant windows are judged beside their price, and a bar without volume gives NaN in VMA
    and VSTD. Nor is 1e-12 added to denominators; zero by zero is 0 all the same.

    Args:
        frame: Columns `open`, `high`, `low`, `close`, `volume`, and `vwap` where it is known.
            (high + low + close) / 3 stands in for it, and then VWAP0 says little. The column
            `date`, or an index of dates, is checked if it is there.
        windows: Candles of the windows, each at least 2.
        names: The features to compute, in this order, such as `ALPHA158_20`; None for all.
        qlib_compatible: Give what qlib 0.9.7 gives, from candles rounded to float32.
        missing: What stands for an unknown value: NaN, or the constant of `NEUTRAL`, which no
            statistic of the candles enters. The first `max(windows)` candles keep NaN in both.
        step: Time from candle to candle, such as "5m". A missing candle then counts as one with
            unknown values; with None, candles count as they follow each other.

    Returns:
        The features in float64, under the frame's index. Without `qlib_compatible` none is
        infinite, and a row depends on its last `max(windows) + 1` candles alone.

    Raises:
        DataError: The frame, a window or a name cannot be used.

    Source: qlib 0.9.7, qlib/contrib/data/loader.py.
    """
    require_missing(missing)
    windows = _valid_windows(windows)
    wanted = _wanted(names, windows)
    longest = max(windows)
    candles = read_candles(frame, longest=longest, step=step, partial=qlib_compatible)
    return to_table(
        candles,
        _columns(candles, windows, wanted),
        names=wanted,
        index=frame.index,
        longest=longest,
        neutral=neutral_value if missing == "neutral" else None,
    )


def feature_names(windows: Sequence[int] = WINDOWS) -> list[str]:
    """Return the names of all features, in qlib's order."""
    rolling = (f"{stem}{window}" for stem in _STATISTICS for window in windows)
    return [*_SHAPES, *_PRICES, *rolling]


def neutral_value(name: str) -> float:
    """Return what `missing="neutral"` puts into a feature."""
    # The digit of KMID2 or OPEN0 is no window.
    return NEUTRAL[name if name in NEUTRAL else name.rstrip("0123456789")]


def _valid_windows(windows: Sequence[int]) -> list[int]:
    valid = _listed(windows)
    for window in valid:
        is_whole = isinstance(window, (int, np.integer)) and not isinstance(window, bool)
        if not is_whole or window < 2:
            raise DataError(
                f"windows holds {window!r}; a window is a whole number of at least 2 candles."
            )
    if len(set(valid)) < len(valid) or not valid:
        raise DataError(f"windows is {tuple(valid)}; give at least one, and each one once.")
    return [int(window) for window in valid]


def _listed(given: Any) -> list[Any]:
    """Return what a collection holds; a word or a number alone stands for itself."""
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    return [given] if is_one else list(given)


def _wanted(names: Sequence[str] | None, windows: Sequence[int]) -> list[str]:
    known = feature_names(windows)
    if names is None:
        return known
    wanted = _listed(names)
    for name in wanted:
        if name not in known:
            raise DataError(
                f"Alpha158 with the windows {', '.join(map(str, windows))} has no feature "
                f"{name!r}.{closest(name, known)}"
            )
        if wanted.count(name) > 1:
            raise DataError(f"names holds {name!r} {wanted.count(name)} times; give it once.")
    return wanted


def _columns(
    candles: Candles, windows: Sequence[int], wanted: Sequence[str]
) -> Iterator[tuple[str, Array]]:
    """Compute what is wanted, group by group, so that little is held at a time."""
    for names, group in ((_SHAPES, _shapes), (_PRICES, _prices)):
        if not set(names).isdisjoint(wanted):
            yield from ((name, column) for name, column in group(candles).items() if name in wanted)
    for window in windows:
        for stems, compute in _BY_WINDOW.items():
            if {f"{stem}{window}" for stem in stems}.isdisjoint(wanted):
                continue
            for stem, column in compute(candles, window).items():
                if f"{stem}{window}" in wanted:
                    yield f"{stem}{window}", column


def _shapes(candles: Candles) -> Found:
    open_, high, low, close = candles.open, candles.high, candles.low, candles.close
    parts = {
        "KMID": close - open_,
        "KLEN": high - low,
        "KUP": high - np.maximum(open_, close),
        "KLOW": np.minimum(open_, close) - low,
        "KSFT": 2 * close - high - low,
    }
    found = {name: part / open_ for name, part in parts.items()}
    span = parts.pop("KLEN")
    return found | {f"{name}2": candles.quotient(part, span) for name, part in parts.items()}


def _prices(candles: Candles) -> Found:
    prices = {"OPEN0": candles.open, "HIGH0": candles.high, "LOW0": candles.low}
    prices["VWAP0"] = candles.vwap
    return {name: price / candles.close for name, price in prices.items()}


def _levels(candles: Candles, window: int) -> Found:
    close, partial = candles.close, candles.partial
    return {
        "ROC": shift(close, window) / close,
        "MA": rolling_mean(close, window, partial=partial) / close,
        "STD": rolling_std(close, window, partial=partial) / close,
    }


def _lines(candles: Candles, window: int) -> Found:
    close = candles.close
    line = rolling_regression(close, window, partial=candles.partial)
    return {
        "BETA": line.slope / close,
        "RSQR": np.where(_is_flat(candles, close, window), np.nan, line.rsquare),
        "RESI": line.residual / close,
    }


def _extremes(candles: Candles, window: int) -> Found:
    partial = candles.partial
    highest = rolling_max(candles.high, window, partial=partial)
    lowest = rolling_min(candles.low, window, partial=partial)
    return {
        "MAX": highest / candles.close,
        "MIN": lowest / candles.close,
        "RSV": candles.quotient(candles.close - lowest, highest - lowest),
    }


def _extreme_places(candles: Candles, window: int) -> Found:
    highest = rolling_argmax(candles.high, window, partial=candles.partial)
    lowest = rolling_argmin(candles.low, window, partial=candles.partial)
    return {
        "IMAX": highest / window,
        "IMIN": lowest / window,
        "IMXD": (highest - lowest) / window,
    }


def _quantiles(candles: Candles, window: int) -> Found:
    close, partial = candles.close, candles.partial
    return {
        "QTLU": rolling_quantile(close, window, 0.8, partial=partial) / close,
        "QTLD": rolling_quantile(close, window, 0.2, partial=partial) / close,
    }


def _ranks(candles: Candles, window: int) -> Found:
    return {"RANK": rolling_rank(candles.close, window, partial=candles.partial)}


def _price_and_volume(candles: Candles, window: int) -> Found:
    return {"CORR": _correlation(candles, candles.close, candles.log_volume, window)}


def _changes_of_both(candles: Candles, window: int) -> Found:
    return {"CORD": _correlation(candles, candles.growth, candles.log_volume_growth, window)}


def _correlation(candles: Candles, left: Array, right: Array, window: int) -> Array:
    flat = _is_flat(candles, left, window) | _is_flat(candles, right, window)
    return np.where(flat, np.nan, rolling_corr(left, right, window, partial=candles.partial))


def _is_flat(candles: Candles, values: Array, window: int) -> npt.NDArray[np.bool_]:
    if candles.partial:
        return rolling_std(values, window, partial=True) <= QLIB_FLAT
    return is_flat(values, window)


def _counts(candles: Candles, window: int) -> Found:
    change, partial = candles.change, candles.partial
    # A comparison with NaN is false in qlib, and unknown here.
    known = np.where(np.isnan(change) & (not partial), np.nan, 1.0)
    size, up, down = (
        rolling_sum(known * held, window, partial=partial)
        for held in (True, change > 0, change < 0)
    )
    return {"CNTP": up / size, "CNTN": down / size, "CNTD": (up - down) / size}


def _close_moves(candles: Candles, window: int) -> Found:
    return _moves(candles, candles.change, window, "SUM")


def _volume_moves(candles: Candles, window: int) -> Found:
    return _moves(candles, candles.volume - shift(candles.volume, 1), window, "VSUM")


def _moves(candles: Candles, change: Array, window: int, stem: str) -> Found:
    up, down, whole = (
        rolling_sum(part, window, partial=candles.partial)
        for part in (np.maximum(change, 0), np.maximum(-change, 0), np.abs(change))
    )
    return {
        f"{stem}P": candles.quotient(up, whole),
        f"{stem}N": candles.quotient(down, whole),
        f"{stem}D": candles.quotient(up - down, whole),
    }


def _volumes(candles: Candles, window: int) -> Found:
    mean = rolling_mean(candles.volume, window, partial=candles.partial)
    deviation = rolling_std(candles.volume, window, partial=candles.partial)
    return {"VMA": candles.over_volume(mean), "VSTD": candles.over_volume(deviation)}


def _moved_volumes(candles: Candles, window: int) -> Found:
    moved, partial = candles.moved_volume, candles.partial
    mean = rolling_mean(moved, window, partial=partial)
    return {"WVMA": candles.quotient(rolling_std(moved, window, partial=partial), mean)}


_SHAPES = ("KMID", "KLEN", "KMID2", "KUP", "KUP2", "KLOW", "KLOW2", "KSFT", "KSFT2")
_PRICES = ("OPEN0", "HIGH0", "LOW0", "VWAP0")
_STATISTICS = (
    *("ROC", "MA", "STD", "BETA", "RSQR", "RESI", "MAX", "MIN", "QTLU", "QTLD", "RANK", "RSV"),
    *("IMAX", "IMIN", "IMXD", "CORR", "CORD", "CNTP", "CNTN", "CNTD", "SUMP", "SUMN", "SUMD"),
    *("VMA", "VSTD", "WVMA", "VSUMP", "VSUMN", "VSUMD"),
)
# What one call computes together, so that nothing is computed twice and no more than is wanted.
_BY_WINDOW: dict[tuple[str, ...], Callable[[Candles, int], Found]] = {
    ("ROC", "MA", "STD"): _levels,
    ("BETA", "RSQR", "RESI"): _lines,
    ("MAX", "MIN", "RSV"): _extremes,
    ("IMAX", "IMIN", "IMXD"): _extreme_places,
    ("QTLU", "QTLD"): _quantiles,
    ("RANK",): _ranks,
    ("CORR",): _price_and_volume,
    ("CORD",): _changes_of_both,
    ("CNTP", "CNTN", "CNTD"): _counts,
    ("SUMP", "SUMN", "SUMD"): _close_moves,
    ("VMA", "VSTD"): _volumes,
    ("WVMA",): _moved_volumes,
    ("VSUMP", "VSUMN", "VSUMD"): _volume_moves,
}
