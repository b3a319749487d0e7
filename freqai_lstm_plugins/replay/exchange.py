"""The replay exchange: a server on the loopback interface that stands in for Binance."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from freqai_lstm_plugins.data.candles import Candles, open_times
from freqai_lstm_plugins.data.timeframes import timeframe_ms
from freqai_lstm_plugins.errors import MissingExtraError, ReplayError
from freqai_lstm_plugins.replay.api import ApiError, BinanceApi
from freqai_lstm_plugins.replay.futures import FuturesApi
from freqai_lstm_plugins.replay.market import check_candles, shift_to_now
from freqai_lstm_plugins.replay.series import PairSeries

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import web

Interceptor: TypeAlias = Callable[[str, Mapping[str, str], Callable[[], Any]], Awaitable[Any]]
"""Stands between a request and its answer: (endpoint, query, answer) -> data for JSON.

It awaits to delay, raises `ApiError` to fail or `DropConnectionError` to break off, and changes
what `answer()` gives to corrupt.
"""

SPOT_PREFIX, FUTURES_PREFIX = "/api/v3/", "/fapi/v1/"
SHUTDOWN_SECONDS = 1.0


class DropConnectionError(Exception):
    """Raised by an interceptor, it closes the connection of a request without an answer."""


class ReplayExchange:
    """Serves candles through the part of Binance's API that freqtrade uses.

    Pairs such as `BTC/USDT` are spot markets, pairs such as `BTC/USDT:USDT` perpetual futures.

    Works as a context manager (in a thread of its own) and as an asynchronous one (in the running
    loop). A live market is shifted to now when the exchange is made, and goes on with the clock; it
    never ends. A market that is not live stands still at the close of its newest candle, so that a
    download gives exactly the candles that were put in.

    Args:
        candles: Pair -> candles, all of one timeframe.
        timeframe: The candles' timeframe; its multiples are served too.
        live: Whether the newest candle is to be now.
        reserve: Candles kept for the future of a live market; a tenth by default. After them the
            market goes on from its first candle, scaled to the last price.
        host: A loopback address.
        port: 0 takes a free one.
        clock: Gives seconds since the epoch to a live market.
        intercept: See `Interceptor`.

    Raises:
        ReplayError: if the candles cannot be served, or the host is not a loopback address.
        MissingExtraError: if aiohttp is not installed.
    """

    def __init__(
        self,
        candles: Mapping[str, Candles],
        timeframe: str,
        *,
        live: bool = False,
        reserve: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
        intercept: Interceptor | None = None,
    ) -> None:
        _aiohttp_web()
        self._host = _loopback_address(host)
        self._port = port
        if not candles:
            raise ReplayError("the replay exchange needs the candles of at least one pair")
        for pair, frame in candles.items():
            check_candles(frame, timeframe, pair)
        if live:
            longest = max(len(frame) for frame in candles.values())
            kept = longest // 10 if reserve is None else reserve
            now = datetime.fromtimestamp(clock(), tz=UTC)
            candles = shift_to_now(candles, timeframe, now, kept)
        newest = max(int(open_times(frame)[-1]) for frame in candles.values())
        closed = newest + timeframe_ms(timeframe)
        self.pairs = tuple(candles)
        self.requests: Counter[str] = Counter()
        series = {
            pair: PairSeries(frame, timeframe, endless=live) for pair, frame in candles.items()
        }
        time_ms = (lambda: int(clock() * 1000)) if live else (lambda: closed)
        spot = {pair: series[pair] for pair in series if ":" not in pair}
        futures = {pair: series[pair] for pair in series if ":" in pair}
        self._apis: dict[str, BinanceApi] = {
            SPOT_PREFIX: BinanceApi(spot, time_ms),
            FUTURES_PREFIX: FuturesApi(futures, time_ms),
        }
        self._intercept = intercept or _answer_at_once
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], None] | None = None

    @property
    def url(self) -> str:
        """The address to give to freqtrade, such as `http://127.0.0.1:8000`."""
        if self._socket is None:
            raise ReplayError("the replay exchange has no address yet: start it with `with`")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._socket.getsockname()[1]}"

    async def __aenter__(self) -> Self:
        listening = self._listen()
        try:
            await self._start(listening)
        except BaseException:
            # Whoever is cancelled here is never left by `__aexit__`.
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def serve_forever(self) -> None:
        """Serve until the task is cancelled, as Ctrl-C does under `asyncio.run`."""
        async with self:
            await asyncio.Event().wait()

    def __enter__(self) -> Self:
        listening = self._listen()
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve_until_stopped(listening, started)),
            name="replay exchange",
            daemon=True,
        )
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stop is not None:
            self._stop()
        if self._thread is not None:
            self._thread.join()
        self._thread = self._stop = None

    async def _start(self, listening: socket.socket) -> None:
        web = _aiohttp_web()
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._runner = runner
        await runner.setup()
        await web.SockSite(runner, listening).start()

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        listening, self._socket = self._socket, None
        if runner is not None:
            await runner.cleanup()
        if listening is not None:
            listening.close()

    async def _serve_until_stopped(self, listening: socket.socket, started: Future[None]) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            loop.call_soon_threadsafe(stopped.set)

        self._stop = stop
        try:
            await self._start(listening)
            started.set_result(None)
            await stopped.wait()
        except Exception as error:
            started.set_exception(error)
        finally:
            await self._close()

    def _listen(self) -> socket.socket:
        if self._socket is not None:
            raise ReplayError(f"this replay exchange is already serving at {self.url}")
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Elsewhere the option lets two programs take one port.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._host, self._port))
            # Only listening makes sure that the port is not taken.
            listening.listen(128)
        except (OSError, OverflowError) as error:
            listening.close()
            raise _cannot_listen(self._host, self._port, error) from error
        self._socket = listening
        return listening

    async def _handle(self, request: web.Request) -> web.Response:
        prefix = next((known for known in self._apis if request.path.startswith(known)), "")
        endpoint = request.path.removeprefix(prefix)
        self.requests[endpoint] += 1
        try:
            if request.method != "GET" or not prefix:
                asked = f"{request.method} {request.path}"
                raise ApiError(404, -1, f"The replay exchange does not know {asked}.")
            api, query = self._apis[prefix], dict(request.query)
            data = await self._intercept(endpoint, query, lambda: api.answer(endpoint, query))
        except ApiError as error:
            return _json_response({"code": error.code, "msg": str(error)}, error.status)
        except DropConnectionError:
            if request.transport is not None:
                request.transport.abort()
            # Goes nowhere, but aiohttp expects one.
            return _json_response(None)
        return _json_response(data)


async def _answer_at_once(
    _endpoint: str, _query: Mapping[str, str], answer: Callable[[], Any]
) -> Any:
    return answer()


def _json_response(data: Any, status: int = 200) -> web.Response:
    response: web.Response = _aiohttp_web().json_response(data, status=status)
    return response


def _aiohttp_web() -> Any:
    try:
        from aiohttp import web
    except ImportError as error:
        raise MissingExtraError("aiohttp", "replay", "the replay exchange") from error
    return web


def _loopback_address(host: str) -> str:
    """Give the address to listen at; a market without any authentication stays on this machine."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ReplayError(
            f"the replay exchange serves this machine only, not {host!r}: use 127.0.0.1"
        )
    return address


def _cannot_listen(host: str, port: int, error: Exception) -> ReplayError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return ReplayError(
            f"port {port} of {host} is in use: stop the program that uses it, "
            "or choose another port (0 takes a free one)"
        )
    return ReplayError(
        f"cannot listen on port {port} of {host} ({error}): "
        "choose another port (0 takes a free one)"
    )
