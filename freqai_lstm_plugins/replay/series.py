"""One pair's candles as they are seen at a moment: closed ones, and the one that is forming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from freqai_lstm_plugins.data.candles import Candles, candle_rows, open_times
from freqai_lstm_plugins.data.synthetic import price_decimals
from freqai_lstm_plugins.data.timeframes import TIMEFRAMES, timeframe_ms
from freqai_lstm_plugins.replay.market import aggregate_rows

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray


class PairSeries:
    """Candles of one pair, revealed as a clock advances.

    An endless series goes on when the clock passes its last candle: it starts again from its first
    candle, scaled so that the price does not jump. A series with an end gets one flat candle after
    its last, which takes the place of the one that is always forming on a real exchange.

    Args:
        candles: Checked candles.
        timeframe: Their timeframe.
        endless: Whether the series goes on after its end.
    """

    def __init__(self, candles: Candles, timeframe: str, *, endless: bool) -> None:
        self.step = timeframe_ms(timeframe)
        self.price_decimals = _decimals(candle_rows(candles)[:, :4])
        self._endless = endless
        self._lap_times, self._lap_rows = open_times(candles), candle_rows(candles)
        self._times, self._rows = self._lap_times, self._lap_rows
        self._longer: dict[int, tuple[IntArray, FloatArray]] = {}
        if not endless:
            close = self._rows[-1, 3]
            self._times = np.append(self._times, self._times[-1] + self.step)
            self._rows = np.vstack((self._rows, [close, close, close, close, 0.0]))

    def klines(
        self,
        timeframe: str,
        now: int,
        start: int | None = None,
        end: int | None = None,
        limit: int = 500,
    ) -> tuple[IntArray, FloatArray]:
        """Give open times (N,) and rows (N, 5) of the candles that have opened by `now`.

        Args:
            timeframe: The series' timeframe or a multiple of it.
            now: Milliseconds since the epoch, as are start and end.
            start: Earliest open time; without it the newest candles up to `end` are given.
            end: Latest open time.
            limit: Candles at most.
        """
        step = timeframe_ms(timeframe)
        times, rows = self._bars(step, now)
        opened = int(np.searchsorted(self._times, now, side="right"))
        if not opened:
            return times[:0], rows[:0]
        # By the newest stored candle, not by `now`: a longer candle opens with its first trade.
        visible = int(np.searchsorted(times, self._times[opened - 1], side="right"))
        last = visible
        if end is not None:
            last = min(last, int(np.searchsorted(times, end, side="right")))
        if start is None:
            first = max(0, last - limit)
        else:
            first = int(np.searchsorted(times, start, side="left"))
            last = min(last, first + limit)
        times, rows = times[first:last], rows[first:last].copy()
        if len(times) and last == visible and times[-1] + step > now:
            rows[-1] = self._so_far(int(times[-1]), now)
        return times, rows

    def price(self, now: int) -> float:
        """Give the price at `now`; before the first candle it is the first candle's open."""
        rows = self.klines(self.timeframe, now, limit=1)[1]
        return float(rows[-1, 3] if len(rows) else self._rows[0, 0])

    def typical_price(self) -> float:
        """Give the median close of the candles that were put in."""
        return float(np.median(self._lap_rows[:, 3]))

    @property
    def first_time(self) -> int:
        """When the first candle opens, in milliseconds since the epoch."""
        return int(self._times[0])

    @property
    def timeframe(self) -> str:
        """The timeframe of the candles that are stored."""
        return next(name for name, length in TIMEFRAMES.items() if length == self.step)

    def _bars(self, step: int, now: int) -> tuple[IntArray, FloatArray]:
        while self._endless and now >= self._times[-1] + self.step:
            self._append_lap()
        if step == self.step:
            return self._times, self._rows
        if step not in self._longer:
            self._longer[step] = aggregate_rows(self._times, self._rows, step)
        return self._longer[step]

    def _append_lap(self) -> None:
        shift = self._times[-1] + self.step - self._lap_times[0]
        rows = self._lap_rows.copy()
        rows[:, :4] *= self._rows[-1, 3] / rows[0, 0]
        rows[:, :4] = np.maximum(np.round(rows[:, :4], self.price_decimals), self.tick)
        self._times = np.concatenate((self._times, self._lap_times + shift))
        self._rows = np.concatenate((self._rows, rows))
        self._longer.clear()

    @property
    def tick(self) -> float:
        """The smallest step of a price."""
        return float(10.0**-self.price_decimals)

    def _so_far(self, opened: int, now: int) -> FloatArray:
        first = int(np.searchsorted(self._times, opened, side="left"))
        last = int(np.searchsorted(self._times, now, side="right"))
        times, rows = self._times[first:last], self._rows[first:last].copy()
        elapsed = (now - times[-1]) / self.step
        if elapsed < 1:
            rows[-1] = forming_row(rows[-1], float(elapsed), self.price_decimals)
        _, combined = aggregate_rows(np.full_like(times, opened), rows, self.step)
        return np.asarray(combined[0])


def forming_row(row: FloatArray, elapsed: float, decimals: int) -> FloatArray:
    """Give what a candle shows when the share `elapsed` (0 to 1) of its time has passed.

    The price goes in straight lines from the open to the extreme opposite to the close, to the
    other extreme, to the close, so that the closed candle's high and low have been reached.

    >>> forming_row(np.array([10.0, 16.0, 7.0, 13.0, 6.0]), 0.5, 2)
    array([10. , 11.5,  7. , 11.5,  3. ])
    """
    opened, high, low, close, volume = row
    corners = np.array([opened, *((low, high) if close >= opened else (high, low)), close])
    at = np.array([0.0, 1 / 3, 2 / 3, 1.0])
    price = np.round(np.interp(elapsed, at, corners), decimals)
    seen = np.append(corners[at <= elapsed], price)
    return np.array([opened, seen.max(), seen.min(), price, np.round(volume * elapsed, 8)])


def _decimals(prices: FloatArray) -> int:
    """Give the decimals of the prices, and never fewer than an exchange would quote."""
    sample = prices[-1000:]
    usual = price_decimals(float(np.median(sample)))
    for decimals in range(usual, 8):
        if np.array_equal(np.round(sample, decimals), sample):
            return decimals
    return 8
