"""Alpha360: sixty lags of six fields."""

from __future__ import annotations

import numpy as np
import pytest

from freqai_lstm_plugins.features import alpha360
from tests.features.market import make_candles, with_warts


def test_names_are_qlibs_oldest_first():
    names = list(alpha360(make_candles(2)).columns)
    assert len(names) == 360
    assert names[:2] == ["CLOSE59", "CLOSE58"]
    assert names[59:61] == ["CLOSE0", "OPEN59"]
    assert names[::60] == ["CLOSE59", "OPEN59", "HIGH59", "LOW59", "VWAP59", "VOLUME59"]


def test_a_lag_is_the_candle_so_many_rows_before():
    candles = make_candles(80)
    found = alpha360(candles).iloc[-1]
    newest = candles.iloc[-1]
    assert found["HIGH7"] == candles["high"].iloc[-8] / newest["close"]
    assert found["VOLUME59"] == candles["volume"].iloc[-60] / newest["volume"]
    assert found["CLOSE0"] == found["VOLUME0"] == 1
    assert found.notna().all()


def test_lags_before_the_first_candle_are_unknown():
    found = alpha360(make_candles(61))
    assert np.isnan(found["LOW59"].iloc[58])
    assert np.isfinite(found["LOW59"].iloc[59])


def test_a_bar_without_volume_gives_nan_and_a_huge_number_in_qlib():
    candles = make_candles(70)
    candles.loc[69, "volume"] = 0.0
    assert np.isnan(alpha360(candles)["VOLUME3"].iloc[-1])
    assert alpha360(candles, qlib_compatible=True)["VOLUME3"].iloc[-1] > 1e12


@pytest.mark.parametrize("step", [None, "5m"])
def test_neutral_values_stand_inside_the_history_alone(step):
    candles = with_warts(make_candles(240))
    plain, neutral = (alpha360(candles, missing=each, step=step) for each in ("nan", "neutral"))
    assert neutral.iloc[60:].notna().all().all()
    assert neutral.iloc[:60].equals(plain.iloc[:60])
    assert set(neutral.iloc[60:].to_numpy()[plain.iloc[60:].isna()]) == {1.0}
