from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from freqai_lstm_plugins.data.candles import candle_rows, open_times
from freqai_lstm_plugins.errors import MissingExtraError, ReplayError
from freqai_lstm_plugins.replay import ApiError, Candles, ReplayExchange, aggregate

Get = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def exchange(market: dict[str, Candles]) -> Iterator[ReplayExchange]:
    with ReplayExchange(market, "5m") as running:
        yield running


def _candles_of(klines: list[list[Any]]) -> tuple[list[int], list[list[float]]]:
    return [line[0] for line in klines], [[float(text) for text in line[1:6]] for line in klines]


@pytest.mark.parametrize("interval", ["5m", "1h"])
@pytest.mark.parametrize("limit", [37, 1000])
def test_pages_put_together_are_exactly_the_candles(
    exchange: ReplayExchange, market: dict[str, Candles], get: Get, interval: str, limit: int
) -> None:
    candles = market["ADA/USDT"]
    if interval != "5m":
        candles = aggregate(candles, "5m", interval)
    times: list[int] = []
    rows: list[list[float]] = []
    start = 0
    while True:
        query = {"symbol": "ADAUSDT", "interval": interval, "startTime": start, "limit": limit}
        page_times, page_rows = _candles_of(get(exchange.url, "klines", **query)[1])
        if not page_times:
            break
        times, rows, start = times + page_times, rows + page_rows, page_times[-1] + 1
    # The flat candle that is forming comes on top, or stands in the newest hour.
    assert times[: len(candles)] == open_times(candles).tolist()
    assert rows[: len(candles)] == candle_rows(candles).tolist()
    assert len(times) - len(candles) in (0, 1)


def test_a_range_is_taken_from_its_start_and_includes_both_ends(
    exchange: ReplayExchange, market: dict[str, Candles], get: Get
) -> None:
    times = open_times(market["BTC/USDT"])
    query = {"symbol": "BTCUSDT", "interval": "5m"}
    inside = {"startTime": times[10], "endTime": times[20]}
    klines = get(exchange.url, "klines", **query, **inside)[1]
    assert [line[0] for line in klines] == times[10:21].tolist()
    klines = get(exchange.url, "klines", **query, **inside, limit=3)[1]
    assert [line[0] for line in klines] == times[10:13].tolist()
    klines = get(exchange.url, "klines", **query, endTime=times[20], limit=3)[1]
    assert [line[0] for line in klines] == times[18:21].tolist()


def test_limits_are_those_of_binance(exchange: ReplayExchange, get: Get) -> None:
    query = {"symbol": "BTCUSDT", "interval": "5m"}
    assert len(get(exchange.url, "klines", **query)[1]) == 500
    assert len(get(exchange.url, "klines", **query, limit=1000)[1]) == 1000
    assert len(get(exchange.url, "klines", **query, limit=1500)[1]) == 1000
    assert len(get(exchange.url, "depth", symbol="BTCUSDT", limit=20)[1]["asks"]) == 20


@pytest.mark.parametrize(
    ("endpoint", "query", "status", "code"),
    [
        ("klines", {"symbol": "NOUSDT", "interval": "5m"}, 400, -1121),
        ("ticker/24hr", {"symbol": "NOUSDT"}, 400, -1121),
        ("ticker/24hr", {"symbols": '["NOUSDT"]'}, 400, -1121),
        ("ticker/24hr", {"symbols": "BTCUSDT"}, 400, -1100),
        ("klines", {"interval": "5m"}, 400, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m"}, 400, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "5m", "limit": 0}, 400, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "5m", "limit": "x"}, 400, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "5m", "startTime": "x"}, 400, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "5m", "endTime": 10**30}, 400, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": -1}, 400, -1130),
        ("account", {}, 404, -1),
    ],
)
def test_wrong_requests_get_errors_in_the_form_of_binance(
    exchange: ReplayExchange,
    get: Get,
    endpoint: str,
    query: dict[str, object],
    status: int,
    code: int,
) -> None:
    got, body = get(exchange.url, endpoint, **query)
    assert (got, body["code"]) == (status, code)
    assert set(body) == {"code", "msg"}


def test_filters_fit_the_prices(exchange: ReplayExchange, get: Get) -> None:
    for symbol in get(exchange.url, "exchangeInfo")[1]["symbols"]:
        filters = {entry["filterType"]: entry for entry in symbol["filters"]}
        price = float(get(exchange.url, "ticker/price", symbol=symbol["symbol"])[1]["price"])
        assert float(filters["PRICE_FILTER"]["tickSize"]) < 0.001 * price
        assert float(filters["LOT_SIZE"]["stepSize"]) * price < 10.0
        assert float(filters["NOTIONAL"]["minNotional"]) == 5.0


def test_the_order_book_stands_around_the_price(exchange: ReplayExchange, get: Get) -> None:
    price = float(get(exchange.url, "ticker/price", symbol="ADAUSDT")[1]["price"])
    book = get(exchange.url, "depth", symbol="ADAUSDT", limit=5)[1]
    bids, asks = ([float(level[0]) for level in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] <= price <= asks[0]
    assert bids[0] < asks[0] < 1.001 * bids[0]
    ticker = get(exchange.url, "ticker/bookTicker", symbol="ADAUSDT")[1]
    assert (float(ticker["bidPrice"]), float(ticker["askPrice"])) == (bids[0], asks[0])


def test_day_tickers_sum_up_the_last_day(
    exchange: ReplayExchange, market: dict[str, Candles], get: Get
) -> None:
    tickers = {entry["symbol"]: entry for entry in get(exchange.url, "ticker/24hr")[1]}
    day = market["BTC/USDT"].iloc[-288:]
    assert float(tickers["BTCUSDT"]["highPrice"]) == day["high"].max()
    assert float(tickers["BTCUSDT"]["volume"]) == pytest.approx(day["volume"].sum())
    assert float(tickers["ADAUSDT"]["lastPrice"]) == market["ADA/USDT"]["close"].iloc[-1]


def test_a_live_market_stands_at_the_clock_and_goes_on_with_it(
    market: dict[str, Candles], get: Get
) -> None:
    minute = 60.0
    clock = [1_790_000_000.0 // 300 * 300 + 2 * minute]
    query = {"symbol": "BTCUSDT", "interval": "5m", "limit": 2}
    closes = market["BTC/USDT"]["close"].to_numpy()
    with ReplayExchange(market, "5m", live=True, reserve=2, clock=lambda: clock[0]) as exchange:
        closed, forming = get(exchange.url, "klines", **query)[1]
        assert forming[0] <= clock[0] * 1000 < forming[6]
        assert float(closed[4]) == closes[-3]
        clock[0] += 5 * minute
        later = get(exchange.url, "klines", **query)[1]
        assert later[0][0] == forming[0]
        assert float(later[0][4]) == closes[-2]
        clock[0] += 1000 * minute
        newest = get(exchange.url, "klines", **query)[1][-1]
        assert newest[0] <= clock[0] * 1000 < newest[6]


def test_requests_are_counted_by_endpoint(market: dict[str, Candles], get: Get) -> None:
    with ReplayExchange(market, "5m") as exchange:
        get(exchange.url, "ping")
        get(exchange.url, "ping")
        get(exchange.url, "ticker/24hr")
        assert exchange.requests == {"ping": 2, "ticker/24hr": 1}


def test_an_interceptor_may_fail_or_change_an_answer(market: dict[str, Candles], get: Get) -> None:
    async def disturb(endpoint: str, query: Mapping[str, str], answer: Callable[[], Any]) -> Any:
        if endpoint == "ping":
            raise ApiError(429, -1003, "Too many requests.")
        return answer()[:-1]

    with ReplayExchange(market, "5m", intercept=disturb) as exchange:
        assert get(exchange.url, "ping") == (429, {"code": -1003, "msg": "Too many requests."})
        assert len(get(exchange.url, "ticker/24hr")[1]) == 1


def test_the_exchange_serves_inside_a_running_loop(market: dict[str, Candles]) -> None:
    import aiohttp

    async def ask() -> Any:
        async with (
            ReplayExchange(market, "5m") as exchange,
            aiohttp.ClientSession() as session,
            session.get(f"{exchange.url}/api/v3/time") as response,
        ):
            return await response.json()

    closed = open_times(market["BTC/USDT"])[-1] + 300_000
    assert asyncio.run(ask()) == {"serverTime": closed}


@pytest.mark.parametrize("seconds", [0, 0.2], ids=["while it starts", "while it serves"])
def test_serve_forever_ends_when_it_is_cancelled(
    market: dict[str, Candles], seconds: float
) -> None:
    exchange = ReplayExchange(market, "5m")

    async def serve_for_a_moment() -> None:
        async with asyncio.timeout(seconds):
            await exchange.serve_forever()

    with pytest.raises(TimeoutError):
        asyncio.run(serve_for_a_moment())
    with pytest.raises(ReplayError, match="no address yet"):
        _ = exchange.url


def test_leaving_the_exchange_frees_port_and_thread(market: dict[str, Candles], get: Get) -> None:
    before = set(threading.enumerate())
    exchange = ReplayExchange(market, "5m")
    with exchange:
        port = int(exchange.url.rsplit(":", 1)[1])
        get(exchange.url, "ping")
        with pytest.raises(ReplayError, match="already serving"):
            exchange.__enter__()
    # Those of other tests may end meanwhile.
    assert set(threading.enumerate()) <= before
    with ReplayExchange(market, "5m", port=port) as again:
        assert get(again.url, "ping") == (200, {})
    with exchange:
        assert get(exchange.url, "ping") == (200, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", ""])
def test_other_hosts_than_loopback_are_refused(market: dict[str, Candles], host: str) -> None:
    with pytest.raises(ReplayError, match=f"not '{host}'"):
        ReplayExchange(market, "5m", host=host)


def test_a_busy_port_is_named(market: dict[str, Candles]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ReplayError, match=rf"^port {port} of .* in use: [^\n]*$"):
            ReplayExchange(market, "5m", port=port).__enter__()


def test_an_impossible_port_is_named(market: dict[str, Candles]) -> None:
    with pytest.raises(ReplayError, match="port 70000"):
        ReplayExchange(market, "5m", port=70_000).__enter__()


@pytest.mark.parametrize("pair", ["BTCUSDT", "BTC/", "BTC/USD:BTC", "BTC/USDT:", "A/B/C"])
def test_what_is_no_pair_is_refused(market: dict[str, Candles], pair: str) -> None:
    with pytest.raises(ReplayError, match="is no pair: write it like BTC/USDT"):
        ReplayExchange({pair: market["BTC/USDT"]}, "5m")


def test_no_pair_at_all_is_refused() -> None:
    with pytest.raises(ReplayError, match="at least one pair"):
        ReplayExchange({}, "5m")


def test_the_missing_package_is_named(
    market: dict[str, Candles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingExtraError, match=r"'aiohttp'.*\[replay\]"):
        ReplayExchange(market, "5m")


def test_importing_the_package_imports_no_extra() -> None:
    code = "import sys, freqai_lstm_plugins.replay; print('aiohttp' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_a_thousand_candles_come_quickly(exchange: ReplayExchange, get: Get) -> None:
    query = {"symbol": "BTCUSDT", "interval": "5m", "limit": 1000}
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        rows = np.array(_candles_of(get(exchange.url, "klines", **query)[1])[1])
        seconds.append(time.monotonic() - began)
    assert rows.shape == (1000, 5)
    # Some 20 ms a request; on a machine that is busy one of several is soon answered too.
    assert min(seconds) < 1.0
    assert json.dumps(rows.tolist())
