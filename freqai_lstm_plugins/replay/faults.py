"""Faults of an exchange that can be switched on and off while it serves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.replay.api import ApiError
from freqai_lstm_plugins.replay.exchange import DropConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODES = {418: -1003, 429: -1003}
"""HTTP status -> Binance's code; any other status is an unknown error."""

UNKNOWN_ERROR = -1000


@dataclass
class Faults:
    """Disturbs the answers of a `ReplayExchange`, as its `intercept`.

    Any thread may set the attributes while the exchange serves; the next request meets them.

    ```python
    faults = Faults()
    with ReplayExchange(candles, "1m", live=True, intercept=faults) as exchange:
        faults.status = 503
        ...
        faults.clear()
    ```

    Attributes:
        delay: Seconds that every answer takes longer.
        drops: Close the connection instead of answering.
        status: Answer with this error status, such as 429 or 503.
        twice: Send the newest closed candle twice.
        mixed: Send candles out of order.
        late: Seconds for which a candle is held back after its close.
        holes: (symbol, interval, open time in milliseconds) of candles that are never sent. They
            stay when the other faults are cleared: such a candle is missing for good.
        met: Answers that have been disturbed since the last `clear`.
        clock: Seconds since the epoch, which `late` goes by.
    """

    delay: float = 0.0
    drops: bool = False
    status: int | None = None
    twice: bool = False
    mixed: bool = False
    late: float = 0.0
    holes: set[tuple[str, str, int]] = field(default_factory=set)
    met: int = 0
    clock: Callable[[], float] = time.time

    def clear(self) -> None:
        """End every fault but the holes."""
        self.delay = self.late = 0.0
        self.drops = self.twice = self.mixed = False
        self.status = None
        self.met = 0

    async def __call__(
        self, endpoint: str, query: Mapping[str, str], answer: Callable[[], Any]
    ) -> Any:
        """Answer a request as the faults have it; see `Interceptor`."""
        if self.delay:
            self.met += 1
            await asyncio.sleep(self.delay)
        if self.drops:
            self.met += 1
            raise DropConnectionError
        if self.status is not None:
            self.met += 1
            code = CODES.get(self.status, UNKNOWN_ERROR)
            raise ApiError(self.status, code, f"The replay exchange fails with {self.status}.")
        if endpoint != "klines":
            return answer()
        whole = answer()
        sent = self._disturbed(whole, query)
        self.met += sent != whole
        return sent

    def _disturbed(self, klines: list[list[Any]], query: Mapping[str, str]) -> list[list[Any]]:
        sent = self._without_late(klines)
        if self.holes:
            symbol, interval = query["symbol"], query["interval"]
            sent = [kline for kline in sent if (symbol, interval, kline[0]) not in self.holes]
        if self.twice:
            sent = [*sent[:-1], *sent[-2:]]
        return [*sent[1::2], *sent[::2]] if self.mixed else sent

    def _without_late(self, klines: list[list[Any]]) -> list[list[Any]]:
        seconds = self.late
        if not seconds:
            return klines
        newest_close = (self.clock() - seconds) * 1000
        return [kline for kline in klines if kline[6] < newest_close]
