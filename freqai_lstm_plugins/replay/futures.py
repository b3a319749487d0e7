"""The answers of Binance's public API for USD-margined perpetual futures.

The candles are what is traded, and the mark price follows them: one file of candles makes a market.
The funding rate is the one that such a market has when nobody pulls at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.replay.api import (
    MIN_NOTIONAL,
    BinanceApi,
    Listing,
    Query,
    decimal,
    integer,
    limit_of,
    step_filters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from freqai_lstm_plugins.replay.series import PairSeries

FUNDING_MS = 8 * 3_600_000
FUNDING_RATE = 0.0001
"""What a long position pays a short one every eight hours, as a share of its value."""

FUNDING_LIMIT = 1000
# Binance writes this date of delivery, in milliseconds, for contracts that have none.
NEVER = 4_133_404_800_000


class FuturesApi(BinanceApi):
    """Answers the requests for a market of perpetual futures; see `BinanceApi`."""

    def __init__(self, series: Mapping[str, PairSeries], clock: Callable[[], int]) -> None:
        super().__init__(series, clock)
        self.endpoints |= {
            "markPriceKlines": self._mark_klines,
            "fundingRate": self._funding_rates,
            "premiumIndex": lambda query: self.each(query, self._premium_index),
        }

    def symbol_info(self, listing: Listing) -> dict[str, Any]:
        """Describe one market as `exchangeInfo` does."""
        tick, lot = decimal(listing.series.tick), decimal(listing.lot)
        return {
            "symbol": listing.symbol,
            "pair": listing.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": NEVER,
            "status": "TRADING",
            "baseAsset": listing.base,
            "quoteAsset": listing.quote,
            "marginAsset": listing.quote,
            "pricePrecision": listing.series.price_decimals,
            "quantityPrecision": listing.amount_decimals,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT"],
            "filters": [
                *step_filters(tick, lot),
                {"filterType": "MIN_NOTIONAL", "notional": decimal(MIN_NOTIONAL)},
            ],
        }

    def _mark_klines(self, query: Query) -> list[list[Any]]:
        """Return the candles without their volume, since a mark price is not traded."""
        return [[*kline[:5], "0", kline[6], "0", *kline[8:]] for kline in self.klines(query)]

    def _funding_rates(self, query: Query) -> list[dict[str, Any]]:
        """Return the payments so far; without `startTime` the newest ones."""
        listing, now = self.listing(query), self.now()
        limit = min(limit_of(query, 100), FUNDING_LIMIT)
        end = integer(query, "endTime")
        last = min(now, now if end is None else end) // FUNDING_MS
        start = integer(query, "startTime")
        # Rounded up: a payment before the start is not asked for.
        first = last - limit + 1 if start is None else -(-start // FUNDING_MS)
        first = max(first, -(-listing.series.first_time // FUNDING_MS))
        numbers = range(first, min(last + 1, first + limit))
        return [
            {
                "symbol": listing.symbol,
                "fundingTime": number * FUNDING_MS,
                "fundingRate": decimal(FUNDING_RATE),
                "markPrice": decimal(listing.series.price(number * FUNDING_MS)),
            }
            for number in numbers
        ]

    def _premium_index(self, listing: Listing, now: int) -> dict[str, Any]:
        price = decimal(listing.series.price(now))
        return {
            "symbol": listing.symbol,
            "markPrice": price,
            "indexPrice": price,
            "estimatedSettlePrice": price,
            "lastFundingRate": decimal(FUNDING_RATE),
            "interestRate": decimal(FUNDING_RATE),
            "nextFundingTime": (now // FUNDING_MS + 1) * FUNDING_MS,
            "time": now,
        }
