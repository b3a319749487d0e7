"""Timeframes of candles, as exchanges name them, in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.data.arrays import IntArray

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
TIMEFRAMES: Mapping[str, int] = {
    "1m": _MINUTE,
    "3m": 3 * _MINUTE,
    "5m": 5 * _MINUTE,
    "15m": 15 * _MINUTE,
    "30m": 30 * _MINUTE,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "6h": 6 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": _DAY,
    "1w": 7 * _DAY,
}
"""Timeframe -> milliseconds."""

# Weeks open on Mondays, and the epoch was a Thursday.
_WEEK_OFFSET = 4 * _DAY


def timeframe_ms(timeframe: str) -> int:
    """Give the length of a timeframe in milliseconds.

    Raises:
        DataError: It is none of `TIMEFRAMES`.

    >>> timeframe_ms("5m")
    300000
    """
    try:
        return TIMEFRAMES[timeframe]
    except KeyError:
        known = ", ".join(TIMEFRAMES)
        raise DataError(f"unknown timeframe {timeframe!r}: use one of {known}") from None


def bucket_starts(times: IntArray, step: int) -> IntArray:
    """Give, for each time (milliseconds), when the candle of length `step` around it opens."""
    offset = _WEEK_OFFSET if step == TIMEFRAMES["1w"] else 0
    return (times - offset) // step * step + offset
