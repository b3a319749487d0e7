"""qlib's Alpha360: the last 60 candles beside the newest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.features.candles import Candles, Step, read_candles
from freqai_lstm_plugins.features.rolling import Array, shift
from freqai_lstm_plugins.features.table import Missing, require_missing, to_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

LAGS = 60
FIELDS = ("close", "open", "high", "low", "vwap", "volume")
NEUTRAL = 1.0
"""What `missing="neutral"` puts for an unknown ratio."""


def alpha360(
    frame: pd.DataFrame,
    qlib_compatible: bool = False,
    missing: Missing = "nan",
    *,
    step: Step | None = None,
) -> pd.DataFrame:
    """Return 60 lags each of close, open, high, low, vwap and volume of one symbol's candles.

    Prices are divided by the newest close, volumes by the newest volume; `CLOSE59` is the oldest
    and `CLOSE0` the newest. A net that reads windows of rows sees 60 lags in every one of them.

    Args:
        frame: As for `alpha158`.
        qlib_compatible: Give what qlib 0.9.7 gives, from candles rounded to float32. Otherwise the
            lags behind a bar without volume are NaN, and not 1e12 times too large.
        missing: What stands for an unknown value: NaN, or 1. The first 60 candles keep NaN.
        step: As for `alpha158`.

    Returns:
        The 360 features in float64, under the frame's index.

    Raises:
        DataError: The frame cannot be used.

    Source: qlib 0.9.7, qlib/contrib/data/loader.py.
    """
    require_missing(missing)
    candles = read_candles(frame, longest=LAGS, step=step, partial=qlib_compatible)
    return to_table(
        candles,
        _columns(candles),
        names=[f"{field.upper()}{lag}" for field in FIELDS for lag in _OLDEST_FIRST],
        index=frame.index,
        longest=LAGS,
        neutral=(lambda name: NEUTRAL) if missing == "neutral" else None,
    )


def _columns(candles: Candles) -> Iterator[tuple[str, Array]]:
    for field in FIELDS:
        values = getattr(candles, field)
        for lag in _OLDEST_FIRST:
            earlier = shift(values, lag)
            ratio = candles.over_volume(earlier) if field == "volume" else earlier / candles.close
            yield f"{field.upper()}{lag}", ratio


_OLDEST_FIRST = range(LAGS - 1, -1, -1)
