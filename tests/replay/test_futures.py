"""What the replay exchange answers about perpetual futures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins.errors import ReplayError
from freqai_lstm_plugins.replay import (
    ApiError,
    Candles,
    ReplayExchange,
    exchange_overlay,
    read_candles,
    synthetic_market,
)
from freqai_lstm_plugins.replay.futures import FuturesApi
from freqai_lstm_plugins.replay.series import PairSeries

PAIR = "BTC/USDT:USDT"
HOUR = 3_600_000
# 2026-01-01 00:00 UTC, when the newest candle of the market closes: a time of payment.
END = 1_767_225_600_000


@pytest.fixture(scope="module")
def candles() -> Candles:
    return synthetic_market([PAIR], "5m", 2 * 288, seed=3)[PAIR]


@pytest.fixture(scope="module")
def api(candles: Candles) -> FuturesApi:
    return FuturesApi({PAIR: PairSeries(candles, "5m", endless=False)}, lambda: END)


def test_the_market_is_a_perpetual_future_settled_in_its_quote(api: FuturesApi) -> None:
    (market,) = api.answer("exchangeInfo", {})["symbols"]
    assert market["contractType"] == "PERPETUAL"
    assert (market["symbol"], market["baseAsset"], market["marginAsset"]) == (
        "BTCUSDT",
        "BTC",
        "USDT",
    )
    steps = {item["filterType"]: item for item in market["filters"]}
    assert steps["PRICE_FILTER"]["tickSize"] == "0.01"
    assert float(steps["MIN_NOTIONAL"]["notional"]) == 5


def test_the_mark_price_follows_the_candles_and_has_no_volume(api: FuturesApi) -> None:
    query = {"symbol": "BTCUSDT", "interval": "1h", "limit": "5"}
    traded, marked = api.answer("klines", query), api.answer("markPriceKlines", query)
    assert [row[:5] for row in marked] == [row[:5] for row in traded]
    assert {row[5] for row in marked} == {"0"}


def payments(api: FuturesApi, **query: int) -> list[int]:
    sent = {name: str(value) for name, value in query.items()}
    rates = api.answer("fundingRate", {"symbol": "BTCUSDT", **sent})
    assert {rate["fundingRate"] for rate in rates} <= {"0.0001"}
    return [(rate["fundingTime"] - END) // HOUR for rate in rates]


def test_funding_is_paid_every_eight_hours_up_to_now(api: FuturesApi) -> None:
    assert payments(api) == [-48, -40, -32, -24, -16, -8, 0]
    assert payments(api, limit=2) == [-8, 0]
    assert payments(api, startTime=END - 24 * HOUR) == [-24, -16, -8, 0]
    assert payments(api, startTime=END - 24 * HOUR + 1, limit=2) == [-16, -8]
    assert payments(api, startTime=END - 24 * HOUR, endTime=END - 9 * HOUR) == [-24, -16]
    assert payments(api, startTime=END + 1) == []


def test_the_premium_index_names_the_next_payment(api: FuturesApi) -> None:
    (index,) = api.answer("premiumIndex", {})
    assert index == api.answer("premiumIndex", {"symbol": "BTCUSDT"})
    assert index["nextFundingTime"] == END + 8 * HOUR
    assert float(index["lastFundingRate"]) == 0.0001


def test_a_wrong_symbol_is_an_error_of_the_exchange(api: FuturesApi) -> None:
    with pytest.raises(ApiError, match="Invalid symbol"):
        api.answer("fundingRate", {"symbol": "XYZUSDT"})


def test_spot_and_futures_of_one_exchange_are_two_markets(get, candles: Candles) -> None:
    doubled = candles.assign(
        **{name: candles[name] * 2 for name in ("open", "high", "low", "close")}
    )
    with ReplayExchange({PAIR: candles, "BTC/USDT": doubled}, "5m") as exchange:
        _, spot = get(exchange.url, "ticker/price", symbol="BTCUSDT")
        _, future = get(exchange.url, "ticker/price", api="fapi/v1", symbol="BTCUSDT")
        status, _ = get(exchange.url, "fundingRate", symbol="BTCUSDT")
    assert float(spot["price"]) == pytest.approx(2 * float(future["price"]))
    assert status == 404


def test_the_overlay_of_futures_sends_their_requests_here_too() -> None:
    overlay = exchange_overlay("http://127.0.0.1:81", [PAIR])
    assert overlay["trading_mode"] == "futures"
    assert overlay["margin_mode"] == "isolated"
    ccxt = overlay["exchange"]["ccxt_config"]
    assert ccxt["urls"]["api"]["fapiPublic"] == "http://127.0.0.1:81/fapi/v1"
    assert ccxt["options"]["fetchMarkets"] == {"types": ["linear"]}
    with pytest.raises(ReplayError, match="spot pairs or futures, not both"):
        exchange_overlay("http://127.0.0.1:81", [PAIR, "BTC/USDT"])


def test_futures_are_read_from_where_freqtrade_keeps_them(tmp_path: Path, candles: Candles) -> None:
    (tmp_path / "futures").mkdir()
    candles.to_feather(tmp_path / "futures" / "BTC_USDT_USDT-5m-futures.feather")
    found = read_candles(tmp_path, [PAIR], "5m")[PAIR]
    assert np.array_equal(found["close"], candles["close"])
