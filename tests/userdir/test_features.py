from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from .conftest import FakeProvider, make_candles

METADATA = {"pair": "ETH/USDT", "tf": "5m"}


def all_features(strategy, candles, period=10):
    """Return the features of one pair and timeframe and the target, by the strategy's methods."""
    frame = strategy.feature_engineering_expand_all(candles.copy(), period, METADATA)
    frame = strategy.feature_engineering_expand_basic(frame, METADATA)
    frame = strategy.feature_engineering_standard(frame, METADATA)
    return frame.filter(regex="^%")


def populate(strategy, config, pair):
    """Return the frame that FreqAI's own expansion makes for `pair`, and its feature names."""
    candles = {
        (name, timeframe): make_candles(rows, freq, seed)
        for seed, name in enumerate(["BTC/USDT", "ETH/USDT"])
        for timeframe, freq, rows in [("5m", "5min", 3600), ("1h", "1h", 300)]
    }
    strategy.dp = FakeProvider(candles)
    kitchen = FreqaiDataKitchen({**config, "runmode": RunMode.BACKTEST}, False, pair)
    frame = kitchen.use_strategy_to_populate_indicators(
        strategy, prediction_dataframe=candles[pair, "5m"], pair=pair
    )
    kitchen.find_features(frame)
    return frame, kitchen.training_features_list


@pytest.mark.parametrize("row", [150, 299])
def test_a_later_candle_changes_no_earlier_feature(strategy, row):
    candles = make_candles(300)
    changed = candles.copy()
    changed.loc[row:, ["open", "high", "low", "close", "volume"]] *= 7
    before = all_features(strategy, candles).iloc[:row]
    after = all_features(strategy, changed).iloc[:row]
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_features_do_not_depend_on_where_the_frame_begins(strategy):
    candles = make_candles(600)
    whole = all_features(strategy, candles).iloc[-50:]
    late = all_features(strategy, candles.iloc[300:].reset_index(drop=True)).iloc[-50:]
    np.testing.assert_allclose(whole.to_numpy(), late.to_numpy(), rtol=0, atol=1e-7)


def test_features_are_complete_after_the_startup_candles(strategy):
    candles = make_candles(strategy.startup_candle_count + 1)
    assert all_features(strategy, candles, period=50).iloc[-1].notna().all()


def test_features_keep_their_scale_when_prices_are_a_thousand_times_higher(strategy):
    candles = make_candles(300)
    scaled = candles.copy()
    scaled[["open", "high", "low", "close"]] *= 1000
    scaled["volume"] *= 10
    np.testing.assert_allclose(
        all_features(strategy, candles), all_features(strategy, scaled), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("defect", ["flat", "no volume", "zero price", "one jump"])
def test_degenerate_candles_give_no_infinity(strategy, defect):
    candles = make_candles(400)
    prices = ["open", "high", "low", "close"]
    if defect == "flat":
        candles.loc[100:, prices] = 100.0
    elif defect == "no volume":
        candles["volume"] = 0.0
    elif defect == "zero price":
        candles.loc[200, prices] = 0.0
    else:
        candles.loc[200:, prices] *= 1000
    frame = all_features(strategy, candles)
    target = strategy.set_freqai_targets(candles, METADATA)["&-forward_return"]
    assert not np.isinf(frame.to_numpy()).any()
    assert not np.isinf(target).any()
    if defect == "flat":
        assert frame.iloc[-1].notna().all()
        assert target.iloc[250:].isna().all()
    if defect == "no volume":
        assert (frame["%-volume-zscore-period"].dropna() == 0).all()


def test_the_target_is_the_coming_return_in_known_volatilities(strategy):
    horizon = strategy.horizon
    # Returns of +1 % and -1 % in turns: 100 of them have a known standard deviation.
    close = np.resize([100.0, 101.0], 200)
    candles = make_candles(200)
    candles["close"] = close
    target = strategy.set_freqai_targets(candles, METADATA)["&-forward_return"]
    seen = [0.01 if i % 2 == 0 else 100 / 101 - 1 for i in range(100)]
    volatility = np.std(seen, ddof=1) * np.sqrt(horizon)
    assert target.iloc[150] == pytest.approx(0.0, abs=1e-12)
    candles.loc[150 + horizon, "close"] = 102.0
    target = strategy.set_freqai_targets(candles, METADATA)["&-forward_return"]
    assert target.iloc[150] == pytest.approx(0.02 / volatility, rel=1e-9)


def test_the_last_rows_have_no_target(strategy):
    target = strategy.set_freqai_targets(make_candles(300), METADATA)["&-forward_return"]
    horizon = strategy.horizon
    assert target.iloc[-horizon:].isna().all()
    assert target.iloc[100:-horizon].notna().all()


def test_the_target_is_clipped(module, strategy):
    candles = make_candles(300)
    candles.loc[200:, "close"] *= 10
    target = strategy.set_freqai_targets(candles, METADATA)["&-forward_return"]
    assert target.max() == module.LABEL_CLIP


def test_the_target_uses_the_volatility_that_entries_multiply_with(module, strategy):
    candles = make_candles(300)
    target = strategy.set_freqai_targets(candles, METADATA)["&-forward_return"]
    volatility = module.volatility(candles, strategy.horizon)
    horizon = strategy.horizon
    coming = candles["close"].shift(-horizon) / candles["close"] - 1
    kept = target.abs() < module.LABEL_CLIP
    np.testing.assert_allclose((target * volatility)[kept], coming[kept], rtol=1e-9)


@pytest.mark.parametrize("pair", ["BTC/USDT", "ETH/USDT"])
def test_freqai_expands_the_features_without_duplicates(strategy, config, pair):
    frame, names = populate(strategy, config, pair)
    # 7 a period and 4 without, for 3 periods, 2 timeframes and 2 pairs, and 4 of the calendar.
    assert len(names) == (7 * 3 + 4) * 2 * 2 + 4
    assert len(set(names)) == len(names)
    values = frame[names].dropna()
    assert len(values) > 100
    assert not values.T.duplicated().any()


def test_the_trend_of_btc_reaches_other_pairs_aligned_by_date(module, strategy, config):
    frame, _ = populate(strategy, config, "ETH/USDT")
    btc = strategy.dp.get_pair_dataframe("BTC/USDT", "5m")
    expected = module.trend(btc)
    np.testing.assert_allclose(frame["%-trend_gen_BTC/USDT_5m"], expected, rtol=1e-12)
    # An hourly candle is known when it closes, an hour after the date that it bears.
    hourly = strategy.dp.get_pair_dataframe("BTC/USDT", "1h")
    of_hour = pd.Series(module.trend(hourly).to_numpy(), index=hourly["date"])
    row = frame[frame["date"] == datetime.fromisoformat("2025-06-10T05:55Z")].iloc[0]
    assert row["%-trend_gen_BTC/USDT_1h"] == of_hour[datetime.fromisoformat("2025-06-10T05:00Z")]
    row = frame[frame["date"] == datetime.fromisoformat("2025-06-10T05:50Z")].iloc[0]
    assert row["%-trend_gen_BTC/USDT_1h"] == of_hour[datetime.fromisoformat("2025-06-10T04:00Z")]


def test_the_calendar_is_cyclic(strategy):
    frame = all_features(strategy, make_candles(24 * 8, freq="1h"))
    calendar = frame[["%-hour-sin", "%-hour-cos", "%-weekday-sin", "%-weekday-cos"]].to_numpy()
    np.testing.assert_allclose(calendar[0], calendar[24 * 7], atol=1e-12)
    np.testing.assert_allclose(calendar[0, :2], calendar[24, :2], atol=1e-12)
    assert not np.allclose(calendar[0, 2:], calendar[24, 2:])
