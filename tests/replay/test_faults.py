from __future__ import annotations

import http.client
import time
import urllib.error
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from freqai_lstm_plugins.data.candles import open_times
from freqai_lstm_plugins.replay import Candles, Faults, ReplayExchange

Get = Callable[..., tuple[int, Any]]
BTC = {"symbol": "BTCUSDT", "interval": "5m", "limit": 14}


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def url(market: dict[str, Candles], faults: Faults) -> Iterator[str]:
    with ReplayExchange(market, "5m", intercept=faults) as exchange:
        yield exchange.url


@pytest.fixture
def whole(url: str, get: Get) -> list[list[Any]]:
    """More than an hour of BTC's newest candles, as an exchange without faults sends them."""
    return get(url, "klines", **BTC)[1]


def test_without_a_fault_every_answer_is_left_alone(
    url: str, faults: Faults, get: Get, market: dict[str, Candles], whole: list[list[Any]]
) -> None:
    """Catches a disturbance that is there although nobody asked for it."""
    assert [kline[0] for kline in whole[:-1]] == open_times(market["BTC/USDT"])[-13:].tolist()
    assert get(url, "ping") == (200, {})
    assert faults.met == 0


@pytest.mark.parametrize(
    ("status", "code"), [(418, -1003), (429, -1003), (500, -1000), (503, -1000)]
)
def test_an_error_status_comes_in_the_form_of_binance(
    url: str, faults: Faults, get: Get, status: int, code: int
) -> None:
    """Catches an error that freqtrade would read as another one than its status says."""
    faults.status = status
    for endpoint, query in (("klines", BTC), ("ticker/24hr", {})):
        got, body = get(url, endpoint, **query)
        assert (got, body["code"]) == (status, code)
        assert set(body) == {"code", "msg"}
    assert faults.met == 2


def test_a_delayed_answer_is_late_and_whole(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches a delay that is not waited for, or that costs the answer."""
    faults.delay = 0.3
    began = time.monotonic()
    assert get(url, "klines", **BTC)[1] == whole
    assert time.monotonic() - began >= 0.3
    assert faults.met == 1


def test_a_dropped_connection_gives_no_answer_and_leaves_the_server_up(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches a drop that still answers, or that takes the exchange down with it."""
    faults.drops = True
    for _ in range(2):
        with pytest.raises((http.client.HTTPException, urllib.error.URLError, ConnectionError)):
            get(url, "ping")
    assert faults.met == 2
    faults.clear()
    assert get(url, "klines", **BTC)[1] == whole


def test_the_newest_closed_candle_comes_twice(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches candles that are lost or changed instead of being sent twice."""
    faults.twice = True
    assert get(url, "klines", **BTC)[1] == [*whole[:-1], *whole[-2:]]
    assert faults.met == 1


def test_candles_out_of_order_are_all_there(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches an order that sorting by one end, or turning round, would mend."""
    faults.mixed = True
    mixed = get(url, "klines", **BTC)[1]
    assert mixed not in (whole, whole[::-1])
    assert sorted(mixed) == whole


def test_a_late_candle_comes_so_many_seconds_after_its_close(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches a candle that comes with its close, too long after it, or never."""
    closed = whole[-2][6] / 1000
    faults.late = 10.0
    for seconds, expected in ((9.0, whole[:-2]), (11.0, whole[:-1])):
        faults.clock = lambda seconds=seconds: closed + seconds
        assert get(url, "klines", **BTC)[1] == expected
    assert faults.met == 2


def test_a_hole_is_of_one_pair_and_timeframe_and_stays(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches a missing candle that comes back, or that takes another candle with it."""
    others = [{**BTC, "symbol": "ADAUSDT"}, {**BTC, "interval": "1h"}]
    before = [get(url, "klines", **query)[1] for query in others]
    opens_an_hour = next(kline for kline in whole[:-1] if kline[0] % 3_600_000 == 0)
    faults.holes.add(("BTCUSDT", "5m", opens_an_hour[0]))
    for _ in range(2):
        sent = get(url, "klines", **BTC)[1]
        assert sent == [kline for kline in whole if kline is not opens_an_hour]
        assert [get(url, "klines", **query)[1] for query in others] == before
        assert faults.met == 1
        faults.clear()


def test_faults_meet_the_error_of_a_wrong_request_unchanged(
    url: str, faults: Faults, get: Get
) -> None:
    """Catches a fault that hides the exchange's own error, or fails on it."""
    faults.twice, faults.late = True, 5.0
    assert get(url, "klines", symbol="NOUSDT", interval="5m")[0] == 400
    assert get(url, "klines")[0] == 400


def test_clearing_ends_every_fault(
    url: str, faults: Faults, get: Get, whole: list[list[Any]]
) -> None:
    """Catches a fault that is forgotten when all are ended."""
    faults.delay, faults.drops, faults.status = 0.1, True, 503
    faults.twice, faults.mixed, faults.late = True, True, 1e9
    faults.clear()
    assert faults == Faults()
    assert get(url, "klines", **BTC)[1] == whole
