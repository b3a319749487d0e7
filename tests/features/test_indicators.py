from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features.indicators import LOOKBACK, NAMES, indicators


def candles(count=200, seed=0):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(rng.normal(0, 0.01, count).cumsum())
    opened = close * np.exp(rng.normal(0, 0.003, count))
    spread = np.exp(np.abs(rng.normal(0, 0.004, count)))
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * spread,
            "low": np.minimum(opened, close) / spread,
            "close": close,
            "volume": rng.lognormal(3, 1, count),
        }
    )


def test_a_row_is_whole_once_its_lookback_is_there():
    table = indicators(candles())
    assert tuple(table.columns) == NAMES
    assert (table.dtypes == np.float64).all()
    assert table[: LOOKBACK - 1].isna().any(axis=1).all()
    assert np.isfinite(table[LOOKBACK - 1 :]).all(axis=None)


def test_the_values_are_those_of_their_definition():
    frame = candles()
    row = indicators(frame).iloc[-1]
    close = np.log(frame["close"].to_numpy())
    change = np.diff(close)
    last = frame.iloc[-1]
    assert row["return_6"] == pytest.approx(close[-1] - close[-7])
    assert row["volatility_12"] == pytest.approx(change[-12:].std(ddof=1))
    ratio = last["volume"] / frame["volume"][-48:].mean()
    assert row["volume_ratio_48"] == pytest.approx(np.log((1 + ratio) / 2))
    assert row["mean_distance_12"] == pytest.approx(close[-1] - close[-12:].mean())
    low, high = close[-48:].min(), close[-48:].max()
    assert row["channel_place_48"] == pytest.approx((close[-1] - low) / (high - low))
    rising = change[-14:]
    assert row["rsi_14"] == pytest.approx(rising[rising > 0].sum() / np.abs(rising).sum())
    assert row["range"] == pytest.approx(np.log(last["high"] / last["low"]))
    assert row["body"] == pytest.approx(np.log(last["close"] / last["open"]))
    place = np.log(last["close"] / last["low"]) / np.log(last["high"] / last["low"])
    assert row["place_in_range"] == pytest.approx(place)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), row=st.integers(0, 199))
def test_a_later_candle_changes_no_earlier_row(seed, row):
    frame = candles(seed=seed)
    changed = frame.copy()
    changed.loc[row + 1 :] *= 3.7
    pd.testing.assert_frame_equal(indicators(frame)[: row + 1], indicators(changed)[: row + 1])


def test_the_newest_row_needs_its_lookback_alone():
    frame = candles(1000)
    pd.testing.assert_series_equal(
        indicators(frame[-LOOKBACK:]).iloc[-1], indicators(frame).iloc[-1], rtol=1e-9, atol=1e-12
    )


def test_units_of_price_and_volume_change_nothing():
    frame = candles()
    scaled = frame.copy()
    scaled[["open", "high", "low", "close"]] /= 10_000
    scaled["volume"] *= 1e6
    pd.testing.assert_frame_equal(indicators(frame), indicators(scaled), rtol=1e-7, atol=1e-9)


def test_a_missing_candle_is_in_no_value():
    frame = candles()
    frame.loc[100] = np.nan
    table = indicators(frame)
    assert table.loc[100].isna().all()
    assert np.isnan(table.loc[101, "return_1"])
    assert np.isnan(table.loc[100 + 48, "volatility_48"])
    assert np.isfinite(table.loc[100 + LOOKBACK :]).all(axis=None)


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_price_that_is_none_counts_as_missing(column):
    frame = candles()
    for price in (0.0, -1.0, np.inf):
        frame.loc[150, column] = price
        table = indicators(frame)
        assert not np.isinf(table).any(axis=None)
        assert table.loc[150].isna().any()


def test_a_market_that_stands_still_has_middle_values():
    frame = candles()
    frame.loc[100:, ["open", "high", "low", "close"]] = 5.0
    frame.loc[100:, "volume"] = 0.0
    last = indicators(frame).iloc[-1]
    halves = ["rsi_14", "place_in_range", "channel_place_12", "channel_place_48"]
    assert last[halves].tolist() == [0.5] * 4
    np.testing.assert_allclose(last.drop(halves), 0, atol=1e-9)


def test_columns_that_do_not_serve_are_refused():
    with pytest.raises(DataError, match="volume is missing"):
        indicators(candles().drop(columns="volume"))
    with pytest.raises(DataError, match="columns of numbers"):
        indicators(candles(60).assign(close="much"))
