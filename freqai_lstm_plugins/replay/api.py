"""The answers of Binance's public spot REST API, as far as freqtrade asks for them.

Those of its futures differ in little; see `futures`.

Pure computation: an endpoint's name and its query go in, data ready for JSON comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from freqai_lstm_plugins.data.timeframes import TIMEFRAMES
from freqai_lstm_plugins.errors import ReplayError

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import FloatArray
    from freqai_lstm_plugins.replay.series import PairSeries

Query = Mapping[str, str]

DAY_MS = 86_400_000
KLINES_LIMIT = 1000
DEPTH_LIMIT = 5000
MIN_NOTIONAL = 5.0
SPREAD = 0.0001
"""Distance of the best ask from the best bid, as a share of the price; one tick at least."""

MIN_LEVEL_VALUE = 1000.0
"""Least value that stands at each level of the order book, in the quote currency."""


class ApiError(Exception):
    """An answer with an error status, in Binance's form."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Listing:
    """One pair with its names, its steps of price and amount, and its candles."""

    def __init__(self, pair: str, series: PairSeries) -> None:
        base, _, quoted = pair.partition("/")
        quote, colon, settled = quoted.partition(":")
        # Perpetual futures that are settled in another currency live on another API.
        is_settled = settled == quote if colon else True
        if not (base and quote and is_settled) or "/" in quoted:
            raise ReplayError(
                f"{pair!r} is no pair: write it like BTC/USDT, or BTC/USDT:USDT for a future"
            )
        self.base, self.quote, self.symbol = base, quote, base + quote
        self.series = series
        magnitude = np.floor(np.log10(series.typical_price()))
        self.amount_decimals = int(np.clip(magnitude + 1, 0, 8))

    @property
    def lot(self) -> float:
        """The smallest step of an amount."""
        return float(10.0**-self.amount_decimals)


class BinanceApi:
    """Answers the requests for a market.

    Args:
        series: Pair -> its candles.
        clock: Gives the market's time in milliseconds since the epoch.
    """

    def __init__(self, series: Mapping[str, PairSeries], clock: Callable[[], int]) -> None:
        listings = [Listing(pair, candles) for pair, candles in series.items()]
        self._listings = {listing.symbol: listing for listing in listings}
        self._clock = clock
        self.endpoints: dict[str, Callable[[Query], Any]] = {
            "ping": lambda _: {},
            "time": lambda _: {"serverTime": self._clock()},
            "exchangeInfo": self._exchange_info,
            "klines": self.klines,
            "depth": self._depth,
            "ticker/24hr": lambda query: self.each(query, self._day_ticker),
            "ticker/price": lambda query: self.each(query, self._price_ticker),
            "ticker/bookTicker": lambda query: self.each(query, self._book_ticker),
        }

    def answer(self, endpoint: str, query: Query) -> Any:
        """Answer one request.

        Args:
            endpoint: What stands after `/api/v3/` or `/fapi/v1/`, for example `klines`.
            query: The request's parameters.

        Raises:
            ApiError: if the endpoint is unknown or a parameter is missing or wrong.
        """
        if endpoint not in self.endpoints:
            raise ApiError(404, -1, f"The replay exchange has no endpoint {endpoint!r}.")
        return self.endpoints[endpoint](query)

    def now(self) -> int:
        """Return the market's time in milliseconds since the epoch."""
        return self._clock()

    def listing(self, query: Query) -> Listing:
        """Return the listing that a request asks for by `symbol`."""
        if not query.get("symbol"):
            raise ApiError(400, -1102, "Mandatory parameter 'symbol' was not sent.")
        return self._listed(query["symbol"])

    def _listed(self, symbol: str) -> Listing:
        if symbol not in self._listings:
            raise ApiError(400, -1121, "Invalid symbol.")
        return self._listings[symbol]

    def each(self, query: Query, ticker: Callable[[Listing, int], Any]) -> Any:
        """Give one ticker for `symbol`, or a list of those for `symbols`, or of all."""
        now = self._clock()
        if "symbol" in query:
            return ticker(self.listing(query), now)
        return [ticker(listing, now) for listing in self._chosen(query)]

    def _chosen(self, query: Query) -> list[Listing]:
        if "symbol" in query:
            return [self.listing(query)]
        if "symbols" not in query:
            return list(self._listings.values())
        try:
            symbols = json.loads(query["symbols"])
        except json.JSONDecodeError:
            symbols = None
        if not isinstance(symbols, list) or not all(isinstance(name, str) for name in symbols):
            raise ApiError(400, -1100, "Illegal characters found in parameter 'symbols'.")
        return [self._listed(symbol) for symbol in symbols]

    def _exchange_info(self, query: Query) -> dict[str, Any]:
        return {
            "timezone": "UTC",
            "serverTime": self._clock(),
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [self.symbol_info(listing) for listing in self._chosen(query)],
        }

    def symbol_info(self, listing: Listing) -> dict[str, Any]:
        """Describe one market as `exchangeInfo` does."""
        tick, lot = decimal(listing.series.tick), decimal(listing.lot)
        return {
            "symbol": listing.symbol,
            "status": "TRADING",
            "baseAsset": listing.base,
            "baseAssetPrecision": 8,
            "quoteAsset": listing.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": [
                "LIMIT",
                "LIMIT_MAKER",
                "MARKET",
                "STOP_LOSS_LIMIT",
                "TAKE_PROFIT_LIMIT",
            ],
            "icebergAllowed": True,
            "ocoAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "filters": [
                *step_filters(tick, lot),
                {
                    "filterType": "NOTIONAL",
                    "minNotional": decimal(MIN_NOTIONAL),
                    "maxNotional": "9000000",
                },
            ],
        }

    def klines(self, query: Query) -> list[list[Any]]:
        """Return candles in Binance's form."""
        listing = self.listing(query)
        interval = query.get("interval", "")
        step = TIMEFRAMES.get(interval, 0)
        base = listing.series.timeframe
        if not step or step % TIMEFRAMES[base]:
            raise ApiError(
                400, -1120, f"Invalid interval. This market has {base} candles and multiples."
            )
        limit = limit_of(query, 500)
        times, rows = listing.series.klines(
            interval,
            self._clock(),
            integer(query, "startTime"),
            integer(query, "endTime"),
            min(limit, KLINES_LIMIT),
        )
        return [
            _kline(opened, opened + step - 1, row)
            for opened, row in zip(times.tolist(), rows.tolist(), strict=True)
        ]

    def _depth(self, query: Query) -> dict[str, Any]:
        listing, now = self.listing(query), self._clock()
        limit = limit_of(query, 100)
        bid, ask = _best_prices(listing, now)
        tick, decimals = listing.series.tick, listing.series.price_decimals
        amount = _level_amount(listing, now)
        gap = max(tick, ask - bid)
        levels = range(min(limit, DEPTH_LIMIT))
        below = [round(bid - gap * level, decimals) for level in levels]
        return {
            "lastUpdateId": now,
            "bids": [[decimal(price), amount] for price in below if price > 0],
            "asks": [[decimal(round(ask + gap * level, decimals)), amount] for level in levels],
        }

    def _price_ticker(self, listing: Listing, now: int) -> dict[str, Any]:
        return {"symbol": listing.symbol, "price": decimal(listing.series.price(now))}

    def _book_ticker(self, listing: Listing, now: int) -> dict[str, Any]:
        bid, ask = _best_prices(listing, now)
        amount = _level_amount(listing, now)
        return {
            "symbol": listing.symbol,
            "bidPrice": decimal(bid),
            "bidQty": amount,
            "askPrice": decimal(ask),
            "askQty": amount,
        }

    def _day_ticker(self, listing: Listing, now: int) -> dict[str, Any]:
        rows = _rows_of_day(listing, now)
        opened, last = float(rows[0, 0]), float(rows[-1, 3])
        volume = float(rows[:, 4].sum())
        quote_volume = float((rows[:, 4] * rows[:, 3]).sum())
        average = quote_volume / volume if volume else last
        decimals = listing.series.price_decimals
        return {
            **self._book_ticker(listing, now),
            "priceChange": decimal(round(last - opened, decimals)),
            "priceChangePercent": f"{100 * (last / opened - 1):.3f}",
            "weightedAvgPrice": decimal(round(average, 8)),
            "prevClosePrice": decimal(opened),
            "lastPrice": decimal(last),
            "lastQty": decimal(listing.lot),
            "openPrice": decimal(opened),
            "highPrice": decimal(float(rows[:, 1].max())),
            "lowPrice": decimal(float(rows[:, 2].min())),
            "volume": decimal(round(volume, 8)),
            "quoteVolume": decimal(round(quote_volume, 8)),
            "openTime": now - DAY_MS,
            "closeTime": now,
            "firstId": 0,
            "lastId": len(rows),
            "count": len(rows),
        }


def decimal(value: float) -> str:
    """Write a number without an exponent, so that reading it gives the very same float.

    >>> decimal(0.00001), decimal(113150.01)
    ('0.00001', '113150.01')
    """
    text = repr(value)
    return np.format_float_positional(value, trim="-") if "e" in text else text


def step_filters(tick: str, lot: str) -> list[dict[str, str]]:
    """Describe the steps of price and amount as `exchangeInfo` does."""
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": tick,
            "maxPrice": "10000000",
            "tickSize": tick,
        },
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "100000000", "stepSize": lot},
    ]


def limit_of(query: Query, default: int) -> int:
    """Return how many things a request asks for at most."""
    limit = integer(query, "limit", default)
    if limit is None or limit < 1:
        raise ApiError(400, -1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def integer(query: Query, name: str, default: int | None = None) -> int | None:
    """Return a parameter that must be a whole number, or `default` where it is not sent."""
    if name not in query:
        return default
    text = query[name].removeprefix("-")
    # Eighteen digits fit into 64 bits, which is what times are stored in.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ApiError(400, -1100, f"Illegal characters found in parameter '{name}'.")
    return int(query[name])


def _kline(opened: int, closes: int, row: list[float]) -> list[Any]:
    quote_volume = round(row[3] * row[4], 8)
    half, quote_half = decimal(round(row[4] / 2, 8)), decimal(round(quote_volume / 2, 8))
    quoted = [decimal(value) for value in row]
    return [opened, *quoted, closes, decimal(quote_volume), 1, half, quote_half, "0"]


def _rows_of_day(listing: Listing, now: int) -> FloatArray:
    series = listing.series
    rows = series.klines(series.timeframe, now, start=now - DAY_MS, limit=DAY_MS // 60_000)[1]
    if not len(rows):
        rows = series.klines(series.timeframe, now, limit=1)[1]
    return rows


def _best_prices(listing: Listing, now: int) -> tuple[float, float]:
    series = listing.series
    price = series.price(now)
    spread = max(series.tick, round(price * SPREAD, series.price_decimals))
    bid = max(series.tick, round(price - spread / 2, series.price_decimals))
    return bid, round(bid + spread, series.price_decimals)


def _level_amount(listing: Listing, now: int) -> str:
    """Give what stands at each level: a twentieth of a usual candle's volume, if that is enough."""
    series = listing.series
    rows = series.klines(series.timeframe, now, limit=100)[1]
    least = MIN_LEVEL_VALUE / series.price(now)
    amount = max(float(np.median(rows[:, 4])) / 20, least, listing.lot)
    return decimal(round(amount, listing.amount_decimals))
