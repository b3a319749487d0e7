from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError, ReplayError
from freqai_lstm_plugins.replay import (
    Candles,
    ReplayExchange,
    aggregate,
    read_candles,
    relabel,
    shift_to_now,
    synthetic_market,
)

NOW = datetime(2026, 3, 4, 12, 7, 30, tzinfo=UTC)


@pytest.fixture
def datadir(tmp_path: Path, market: dict[str, Candles]) -> Path:
    for pair, candles in market.items():
        candles.to_feather(tmp_path / f"{pair.replace('/', '_')}-5m.feather")
    return tmp_path


def test_feather_files_are_read_as_they_were_written(
    datadir: Path, market: dict[str, Candles]
) -> None:
    candles = read_candles(datadir, ["BTC/USDT"], "5m")
    assert list(candles) == ["BTC/USDT"]
    pd.testing.assert_frame_equal(candles["BTC/USDT"], market["BTC/USDT"])


def test_every_pair_is_read_where_none_is_named(datadir: Path) -> None:
    (datadir / "ADA_USDT_USDT-5m-futures.feather").write_bytes(b"not asked for")
    assert sorted(read_candles(datadir, None, "5m")) == ["ADA/USDT", "BTC/USDT"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"no such data folder: .*nowhere"):
        read_candles(tmp_path / "nowhere", None, "5m")


def test_a_missing_file_is_named_beside_those_that_are_there(datadir: Path) -> None:
    with pytest.raises(ReplayError, match=r"has no BTC_USDT-1h\.feather; .* BTC_USDT-5m\.feather"):
        read_candles(datadir, ["BTC/USDT"], "1h")
    with pytest.raises(ReplayError, match=r"has no \*-1h\.feather"):
        read_candles(datadir, None, "1h")


def test_reading_no_pairs_is_refused(datadir: Path) -> None:
    with pytest.raises(ReplayError, match="no pair to read"):
        read_candles(datadir, [], "5m")


def test_a_damaged_file_is_named(datadir: Path) -> None:
    path = datadir / "BTC_USDT-5m.feather"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"BTC_USDT-5m\.feather cannot be read"):
        read_candles(datadir, ["BTC/USDT"], "5m")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda candles: candles.drop(columns="volume"), "no column volume"),
        (lambda candles: candles.iloc[:0], "holds no rows"),
        (lambda candles: candles.iloc[[0, 1, 1, 2]], "stands twice"),
        (lambda candles: candles.iloc[[0, 2, 1, 3]], "out of order"),
        (lambda candles: candles.iloc[::3], "not 5m candles"),
        (lambda candles: candles.assign(close=np.nan), "price or volume that is none"),
        (lambda candles: candles.assign(low=0.0), "price or volume that is none"),
        (lambda candles: candles.assign(volume="many"), "is 'many', no number"),
    ],
)
def test_candles_that_cannot_be_served_are_refused(
    datadir: Path,
    market: dict[str, Candles],
    spoil: object,
    message: str,
) -> None:
    assert callable(spoil)
    spoilt = spoil(market["BTC/USDT"]).reset_index(drop=True)
    spoilt.to_feather(datadir / "BTC_USDT-5m.feather")
    with pytest.raises((DataError, ReplayError), match=message):
        read_candles(datadir, ["BTC/USDT"], "5m")


def test_candles_that_say_no_time_zone_are_not_served(market: dict[str, Candles]) -> None:
    candles = market["BTC/USDT"]
    local = candles.assign(date=candles["date"].dt.tz_localize(None))
    with pytest.raises(ReplayError, match="not a date with a time zone"):
        ReplayExchange({"BTC/USDT": local}, "5m")


@pytest.mark.parametrize(("timeframe", "rule"), [("15m", "15min"), ("1h", "1h"), ("1d", "1D")])
def test_aggregation_equals_a_resample(
    market: dict[str, Candles], timeframe: str, rule: str
) -> None:
    candles = market["BTC/USDT"].drop(index=[100, 101, 102, 700])
    expected = (
        candles.set_index("date")
        .resample(rule)
        .agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
        .dropna()
        .reset_index()
    )
    longer = aggregate(candles, "5m", timeframe)
    pd.testing.assert_frame_equal(longer.drop(columns="volume"), expected.drop(columns="volume"))
    np.testing.assert_allclose(longer["volume"], expected["volume"], rtol=0, atol=1e-8)


def test_weeks_open_on_mondays(market: dict[str, Candles]) -> None:
    assert set(aggregate(market["BTC/USDT"], "5m", "1w")["date"].dt.day_name()) == {"Monday"}


def test_a_shorter_timeframe_cannot_be_made(market: dict[str, Candles]) -> None:
    with pytest.raises(ReplayError, match="1m candles cannot be made of 5m candles"):
        aggregate(market["BTC/USDT"], "5m", "1m")


@pytest.mark.parametrize("reserve", [0, 10])
def test_the_newest_past_candle_closes_last_before_now(
    market: dict[str, Candles], reserve: int
) -> None:
    shifted = shift_to_now(market, "5m", NOW, reserve)
    for pair, candles in shifted.items():
        assert candles["date"].iloc[-1 - reserve] == pd.Timestamp("2026-03-04 12:00", tz="UTC")
        assert candles.drop(columns="date").equals(market[pair].drop(columns="date"))


def test_a_shift_keeps_pairs_side_by_side(market: dict[str, Candles]) -> None:
    shifted = shift_to_now({**market, "ADA/USDT": market["ADA/USDT"].iloc[:-7]}, "5m", NOW)
    ends = [candles["date"].iloc[-1] for candles in shifted.values()]
    assert ends[0] - ends[1] == pd.Timedelta(minutes=35)


def test_a_reserve_that_leaves_no_past_is_refused(market: dict[str, Candles]) -> None:
    with pytest.raises(ReplayError, match="reserve of 2500 candles does not fit"):
        shift_to_now(market, "5m", NOW, 2500)


def test_relabelled_candles_follow_one_another_at_the_new_timeframe() -> None:
    market = synthetic_market(["BTC/USDT", "ADA/USDT"], "5m", 50, seed=1)
    market["ADA/USDT"] = market["ADA/USDT"].drop(index=[20, 21])
    fast = relabel(market, "1m")
    assert set(fast["BTC/USDT"]["date"].diff().dropna()) == {pd.Timedelta(minutes=1)}
    assert fast["BTC/USDT"]["close"].equals(market["BTC/USDT"]["close"])
    gone = fast["BTC/USDT"]["date"].iloc[20:22]
    assert not fast["ADA/USDT"]["date"].isin(gone).any()
    assert fast["ADA/USDT"]["date"].iloc[-1] == fast["BTC/USDT"]["date"].iloc[-1]
