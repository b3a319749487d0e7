"""A small, plain set of features from candles, for research.

Each row knows its own candle and earlier ones, never a later one, and nothing before the last
`LOOKBACK` candles. A value is NaN until its whole span of candles is there: at the start, and after
a candle that is missing (a row of NaN). Prices and volumes count by their ratios alone, so the unit
of either changes nothing.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError

FloatSeries: TypeAlias = "pd.Series[float]"

RETURN_HORIZONS = (1, 3, 6, 12, 24, 48)
SPANS = (12, 48)
RSI_SPAN = 14
LOOKBACK = max(*RETURN_HORIZONS, *SPANS, RSI_SPAN) + 1
"""Candles that a row needs, its own among them."""

RETURNS = tuple(f"return_{horizon}" for horizon in RETURN_HORIZONS)
VOLATILITIES = tuple(f"volatility_{span}" for span in SPANS)
VOLUME_RATIOS = tuple(f"volume_ratio_{span}" for span in SPANS)
MEAN_DISTANCES = tuple(f"mean_distance_{span}" for span in SPANS)
CHANNEL_PLACES = tuple(f"channel_place_{span}" for span in SPANS)
RSI, RANGE, BODY, PLACE = f"rsi_{RSI_SPAN}", "range", "body", "place_in_range"
NAMES = (
    *RETURNS,
    *VOLATILITIES,
    *VOLUME_RATIOS,
    *MEAN_DISTANCES,
    *CHANNEL_PLACES,
    RSI,
    RANGE,
    BODY,
    PLACE,
)

_COLUMNS = ("open", "high", "low", "close", "volume")


def indicators(candles: pd.DataFrame) -> pd.DataFrame:
    """Compute the features `NAMES` in float64, index as the candles'.

    Where a ratio has nothing below the line (no volume in the whole span, all prices of it equal)
    it takes the value in the middle of its range: volume ratio 0, RSI and places 0.5.

    Args:
        candles: One symbol's candles, oldest first; a missing candle is a row of NaN.

    Raises:
        DataError: A column is missing, or holds something other than numbers.
    """
    frame = _numbers(candles)
    close = np.log(frame["close"])
    change = close.diff()
    features = {f"return_{horizon}": close.diff(horizon) for horizon in RETURN_HORIZONS}
    for span in SPANS:
        features[f"volatility_{span}"] = change.rolling(span).std()
        features[f"volume_ratio_{span}"] = _volume_ratio(frame["volume"], span)
        features[f"mean_distance_{span}"] = close - close.rolling(span).mean()
        features[f"channel_place_{span}"] = _place(
            close, close.rolling(span).min(), close.rolling(span).max()
        )
    high, low = np.log(frame["high"]), np.log(frame["low"])
    features[RSI] = _rsi(change, RSI_SPAN)
    features[RANGE] = high - low
    features[BODY] = close - np.log(frame["open"])
    features[PLACE] = _place(close, low, high)
    return pd.DataFrame(features)[list(NAMES)]


def _numbers(candles: pd.DataFrame) -> pd.DataFrame:
    lacking = [column for column in _COLUMNS if column not in candles.columns]
    if lacking:
        raise DataError(
            f"Indicators need the columns {', '.join(_COLUMNS)}; {', '.join(lacking)} is missing."
        )
    try:
        frame = candles[list(_COLUMNS)].astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"Indicators need columns of numbers ({error}).") from error
    # A price that is none is a missing one: its logarithm would be infinite.
    prices = frame.drop(columns="volume")
    frame[prices.columns] = prices.where((prices > 0) & np.isfinite(prices))
    return frame.assign(volume=frame["volume"].where(np.isfinite(frame["volume"])))


def _volume_ratio(volume: FloatSeries, span: int) -> FloatSeries:
    """Return log(1 + volume / mean of the span) - log 2, which is 0 at the mean."""
    mean = volume.rolling(span).mean()
    # Rolling sums leave dust of earlier, larger volumes where a span holds none.
    ratio = (volume / mean).where(volume.rolling(span).max() > 0, mean.where(mean.isna(), 1.0))
    return np.log1p(ratio) - np.log(2)


def _place(value: FloatSeries, low: FloatSeries, high: FloatSeries) -> FloatSeries:
    """Return where a value lies between two others, from 0 to 1; 0.5 where these are equal."""
    place = (value - low) / (high - low)
    return place.where(high != low, value.where(value.isna(), 0.5))


def _rsi(change: FloatSeries, span: int) -> FloatSeries:
    """Return the rising share of all movement of the span, from 0 to 1.

    Plain means, not Wilder's: a smoothed mean never forgets, and would differ with the history.
    """
    rising = change.clip(lower=0).rolling(span).sum()
    moved = change.abs().rolling(span).sum()
    still = change.abs().rolling(span).max() == 0
    return (rising / moved).where(~still, 0.5).clip(0, 1)
