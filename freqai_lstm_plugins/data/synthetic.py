"""A made-up market whose predictable part is known.

With z a standard normal shock, the log return of pair p over candle t is

    r[p, t] = vol[p] * sigma[t]
              * (signal * (x[p, t-1] + drift[t]) + sqrt(1 - signal^2) * z[p, t])

* `z[p, t] = sqrt(RHO) * common[t] + sqrt(1 - RHO) * own[p, t]`: the pairs move together.
* `sigma[t]` and `drift[t]` follow one regime of all pairs: a Markov chain over `REGIMES`.
* `x[p, t]`, the **driver**, is an AR(1) process with unit variance, persistence `PERSISTENCE` and
  its own shocks: it knows the future return of its own pair, and nothing else does.

So `signal` is the correlation of the driver with the next candle's return in units of its
volatility. At 0 neither driver nor drift is left: no return can be predicted, only its size.

A model never sees the driver. It shows in the logarithm of the volume, which holds
`DRIVER_IN_VOLUME * x[p, t]` beside noise and the size of the return, and weakly in past returns,
which the driver has moved too. As the driver is slow, its effect adds up: the mean volume of the
last 12 candles correlates with the return over the next 24 by about 0.28 at a signal of 0.1, and by
about 0.14 at 0.05.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import Candles, make_candles
from freqai_lstm_plugins.data.timeframes import bucket_starts, timeframe_ms
from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray

RHO = 0.5
PERSISTENCE = 0.9
DRIVER_IN_VOLUME = 0.5
SIGMA_PER_MINUTE = 0.0008
QUOTE_VOLUME_PER_MINUTE = 200_000.0
SWITCH_PROBABILITY = 1 / 400
STEPS_IN_CANDLE = 8
LARGEST_STEP = 0.5
REGIMES = ((0.6, 0.2), (1.0, 0.0), (1.8, -0.2))
"""Factor of the volatility, and drift beside a driver of unit variance."""

KNOWN_PRICES = {"BTC": 60_000.0, "ETH": 3_000.0, "BNB": 600.0, "SOL": 150.0, "LTC": 80.0}
DEFAULT_END = datetime(2026, 1, 1, tzinfo=UTC)


class _Common(NamedTuple):
    """What all pairs share, one value a candle."""

    factor: FloatArray  # (N,)
    sigma: FloatArray  # (N,)
    drift: FloatArray  # (N,)


class _Own(NamedTuple):
    """The random numbers of one pair."""

    volatility: float
    start_price: float
    driver: FloatArray  # (N,)
    noise: FloatArray  # (N,)
    volume_noise: FloatArray  # (N,)
    inside: FloatArray  # (N, STEPS_IN_CANDLE)


def synthetic_market(
    pairs: Sequence[str],
    timeframe: str,
    n_candles: int,
    seed: int,
    end: datetime = DEFAULT_END,
    signal: float = 0.1,
) -> dict[str, Candles]:
    """Make candles of several pairs; see the module's docstring for the process.

    The same arguments give the same candles, bit by bit. A pair's candles depend on the seed, the
    pair's name and the number of candles, not on which other pairs are asked for.

    Args:
        pairs: Pairs such as `BTC/USDT`.
        timeframe: The candles' timeframe.
        n_candles: Candles a pair.
        seed: Not negative.
        end: When the newest candle closes.
        signal: Strength of the planted signal, from 0 to below 1.

    Raises:
        DataError: A setting is out of range.
    """
    if not pairs:
        raise DataError("a synthetic market needs at least one pair")
    if n_candles < 1:
        raise DataError(f"a synthetic market needs at least one candle, not {n_candles}")
    if not 0 <= signal < 1:
        raise DataError(f"the signal must lie between 0 and 1, not {signal}")
    step = timeframe_ms(timeframe)
    end_ms = np.array([int(pd.Timestamp(end).timestamp() * 1000)], dtype=np.int64)
    last = int(bucket_starts(end_ms, step)[0]) - step
    times: IntArray = last - step * np.arange(n_candles - 1, -1, -1, dtype=np.int64)
    common = _draw_common(n_candles, seed, step)
    return {
        pair: make_candles(times, _rows(common, _draw_own(pair, n_candles, seed), signal, step))
        for pair in pairs
    }


def synthetic_driver(pairs: Sequence[str], n_candles: int, seed: int) -> pd.DataFrame:
    """Give the hidden driver x[p, t] of each pair of `synthetic_market`, (N, pairs)."""
    return pd.DataFrame({pair: _draw_own(pair, n_candles, seed).driver for pair in pairs})


def _draw_common(n_candles: int, seed: int, step: int) -> _Common:
    rng = np.random.default_rng([seed, 0])
    factor = rng.standard_normal(n_candles)
    switches = rng.random(n_candles) < SWITCH_PROBABILITY
    # A switch goes to one of the other two regimes: one or two further on the circle.
    jumps = np.where(switches, rng.integers(1, len(REGIMES), n_candles), 0)
    regime = (1 + np.cumsum(jumps)) % len(REGIMES)
    volatility, drift = np.array(REGIMES).T
    sigma = SIGMA_PER_MINUTE * np.sqrt(step / 60_000) * volatility[regime]
    return _Common(factor, sigma, drift[regime])


def _draw_own(pair: str, n_candles: int, seed: int) -> _Own:
    # hash() differs from process to process; a checksum does not.
    rng = np.random.default_rng([seed, 1, zlib.crc32(pair.encode())])
    volatility = rng.uniform(0.8, 1.5)
    drawn_price = float(np.exp(rng.uniform(np.log(0.2), np.log(200.0))))
    return _Own(
        volatility=volatility,
        start_price=KNOWN_PRICES.get(pair.split("/")[0], drawn_price),
        driver=_autoregressive(rng.standard_normal(n_candles)),
        noise=rng.standard_normal(n_candles),
        volume_noise=rng.standard_normal(n_candles),
        inside=rng.standard_normal((n_candles, STEPS_IN_CANDLE)),
    )


def _autoregressive(shocks: FloatArray) -> FloatArray:
    """Turn white noise into AR(1) with unit variance from the first value on."""
    weight = 1 - PERSISTENCE
    gain = np.sqrt(1 - PERSISTENCE**2) / weight
    shocks = np.concatenate((shocks[:1] / gain, shocks[1:]))
    # An exponential moving average is the AR(1) recursion, up to the gain.
    average = pd.Series(shocks).ewm(alpha=weight, adjust=False).mean()
    return np.asarray(average.to_numpy() * gain, dtype=np.float64)


def _rows(common: _Common, own: _Own, signal: float, step: int) -> FloatArray:
    scale = own.volatility * common.sigma
    shock = np.sqrt(RHO) * common.factor + np.sqrt(1 - RHO) * own.noise
    known_before = np.concatenate((np.zeros(1), own.driver[:-1]))
    moves = signal * (known_before + common.drift) + np.sqrt(1 - signal**2) * shock
    # The clip keeps coarse timeframes from turning into overflowing prices.
    returns = np.clip(scale * moves, -LARGEST_STEP, LARGEST_STEP)

    # A bridge from open to close, so that the high and the low are those of a path.
    noise = own.inside * (scale / np.sqrt(STEPS_IN_CANDLE))[:, None]
    noise -= noise.mean(axis=1, keepdims=True)
    path = np.cumsum(noise + returns[:, None] / STEPS_IN_CANDLE, axis=1)
    before = np.concatenate((np.zeros(1), np.cumsum(returns)[:-1]))
    prices = own.start_price * np.exp(before[:, None] + path)

    decimals = price_decimals(float(np.median(prices[:, -1])))
    tick = 10.0**-decimals
    close = np.maximum(np.round(prices[:, -1], decimals), tick)
    open_ = np.concatenate((np.round([own.start_price], decimals), close[:-1]))
    high = np.maximum(np.maximum(open_, close), np.round(prices.max(axis=1), decimals))
    low = np.minimum(np.minimum(open_, close), np.round(prices.min(axis=1), decimals))
    low = np.maximum(low, tick)

    log_volume = DRIVER_IN_VOLUME * own.driver + 0.3 * np.abs(moves) + 0.3 * own.volume_noise
    quote_volume = QUOTE_VOLUME_PER_MINUTE * step / 60_000 * np.exp(log_volume)
    volume = np.maximum(np.round(quote_volume / close, 5), 1e-5)
    return np.column_stack((open_, high, low, close, volume))


def price_decimals(price: float) -> int:
    """Give the decimals an exchange would quote a price of this size with.

    >>> price_decimals(60_000.0), price_decimals(3.0), price_decimals(0.00002)
    (2, 4, 8)
    """
    return int(np.clip(4 - np.floor(np.log10(price)), 2, 8))
