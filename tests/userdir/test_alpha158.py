"""The strategy on Alpha158: its features are those of `alpha158`, and it asks for their candles."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.features import ALPHA158_20, alpha158

from .conftest import FakeProvider, load_strategy, make_candles

METADATA = {"pair": "ETH/USDT", "tf": "5m"}


def build(config, **attributes):
    loaded = load_strategy("LeaAlpha158Strategy").LeaAlpha158Strategy
    return type("LeaAlpha158Strategy", (loaded,), attributes)(copy.deepcopy(config))


def kitchen_frame(config, frames, **attributes):
    """Return what FreqAI's own expansion makes of ETH's candles, and the features' names."""
    strategy = build(config, **attributes)
    strategy.dp = FakeProvider(frames)
    kitchen = FreqaiDataKitchen({**config, "runmode": RunMode.BACKTEST}, False, "ETH/USDT")
    frame = kitchen.use_strategy_to_populate_indicators(
        strategy, prediction_dataframe=frames["ETH/USDT", "5m"], pair="ETH/USDT"
    )
    kitchen.find_features(frame)
    return frame, kitchen.training_features_list


@pytest.fixture
def frames():
    return {
        (name, timeframe): make_candles(rows, freq, seed)
        for seed, name in enumerate(["BTC/USDT", "ETH/USDT"])
        for timeframe, freq, rows in [("5m", "5min", 1500), ("1h", "1h", 130)]
    }


def test_features_are_those_of_alpha158(config):
    candles = make_candles(200)
    candles.loc[150, "volume"] = 0.0
    frame = build(config).feature_engineering_expand_basic(candles.copy(), METADATA)
    pd.testing.assert_frame_equal(frame[list(candles)], candles)
    found = frame.filter(regex="^%-")
    found.columns = found.columns.str.removeprefix("%-")
    pd.testing.assert_frame_equal(found, alpha158(candles, missing="neutral"))
    assert frame.iloc[60:].notna().all().all()


def test_freqai_gets_each_feature_of_each_pair_and_timeframe_once(config, frames):
    frame, names = kitchen_frame(config, frames)
    # Two pairs on two timeframes, and four features of the clock.
    assert len(names) == len(set(names)) == 4 * 158 + 4
    hourly = [name for name in names if "KMID2" in name and "BTC" in name and name.endswith("1h")]
    assert len(hourly) == 1
    expected = alpha158(frames["BTC/USDT", "1h"])["KMID2"]
    assert set(frame[hourly[0]].dropna()) <= set(expected)


def test_a_derived_class_takes_fewer(config):
    strategy = build(config, alpha158_names=ALPHA158_20)
    frame = strategy.feature_engineering_expand_basic(make_candles(100), METADATA)
    assert list(frame.filter(regex="^%-")) == [f"%-{name}" for name in ALPHA158_20]


@pytest.mark.parametrize(
    ("timeframes", "window", "candles"),
    [(["5m", "1h"], 24, 84 * 12), (["5m", "15m", "4h"], 10, 70 * 48), (["5m"], 300, 360)],
)
def test_startup_candles_are_those_of_the_longest_timeframes_newest_window(
    config, timeframes, window, candles
):
    config["freqai"]["conv_width"] = window
    config["freqai"]["feature_parameters"]["include_timeframes"] = timeframes
    assert build(config).startup_candle_count == candles


def test_the_rules_for_trading_keep_the_candles_that_they_need(config):
    config["freqai"]["feature_parameters"]["include_timeframes"] = ["5m"]
    assert build(config).startup_candle_count == 200


def test_the_windows_candles_are_complete_after_the_startup_candles(config, frames):
    config["freqai"]["feature_parameters"]["include_timeframes"] = ["5m"]
    window = config["freqai"]["conv_width"]
    candles = make_candles(60 + window)
    frame = build(config).feature_engineering_expand_basic(candles, METADATA)
    assert frame.iloc[-window:].notna().all().all()
    assert frame.iloc[-window - 1].isna().any()


def test_the_newest_candle_of_a_bot_has_the_features_of_the_backtest(config):
    strategy, candles = build(config), make_candles(1000)
    backtest = strategy.feature_engineering_expand_basic(candles.copy(), METADATA).iloc[-1:]
    bot = strategy.feature_engineering_expand_basic(candles.tail(300).copy(), METADATA).iloc[-1:]
    pd.testing.assert_frame_equal(bot, backtest, check_exact=True)


@pytest.mark.parametrize("row", [100, 199])
def test_a_later_candle_changes_no_earlier_feature(config, row):
    strategy, candles = build(config), make_candles(200)
    changed = candles.copy()
    changed.loc[row:, ["open", "high", "low", "close", "volume"]] *= 7
    before, after = (
        strategy.feature_engineering_expand_basic(each.copy(), METADATA).iloc[:row]
        for each in (candles, changed)
    )
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_no_feature_is_infinite_where_the_market_stands_still(config):
    candles = make_candles(300)
    candles.loc[100:, ["open", "high", "low", "close"]] = 100.0
    candles.loc[200:, "volume"] = 0.0
    frame = build(config).feature_engineering_expand_basic(candles, METADATA)
    assert np.isfinite(frame.iloc[60:].drop(columns="date").to_numpy()).all()
