from __future__ import annotations

import numpy as np
import pytest

from freqai_lstm_plugins.data.candles import candle_rows, open_times
from freqai_lstm_plugins.replay import Candles
from freqai_lstm_plugins.replay.series import PairSeries, forming_row

STEP = 300_000


@pytest.fixture
def candles(market: dict[str, Candles]) -> Candles:
    return market["BTC/USDT"]


def test_only_candles_that_have_opened_are_shown(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=True)
    opened = open_times(candles)
    times, rows = series.klines("5m", int(opened[100]) + 60_000)
    assert times.tolist() == opened[:101].tolist()
    assert np.array_equal(rows[:-1], candle_rows(candles)[:100])
    assert rows[-1, 0] == candle_rows(candles)[100, 0]
    assert rows[-1, 4] == pytest.approx(candle_rows(candles)[100, 4] / 5)


def test_the_newest_candle_grows_into_the_stored_one(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=True)
    opened = int(open_times(candles)[100])
    seen = np.array([series.klines("5m", opened + at, limit=1)[1][0] for at in range(0, STEP, 999)])
    assert seen[0].tolist() == [seen[0, 0]] * 4 + [0.0]
    assert (np.diff(seen[:, 1]) >= 0).all()
    assert (np.diff(seen[:, 2]) <= 0).all()
    assert (np.diff(seen[:, 4]) >= 0).all()
    closed = series.klines("5m", opened + STEP, end=opened, limit=1)[1][0]
    assert np.array_equal(closed, candle_rows(candles)[100])
    assert np.array_equal(forming_row(closed, 1.0, 2), np.round(closed, 8))


def test_a_longer_candle_forms_from_what_has_been_seen(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=True)
    times = open_times(candles)
    hour = int(times[np.flatnonzero(times % 3_600_000 == 0)[10]])
    first = int(np.searchsorted(times, hour))
    opened, rows = series.klines("1h", hour + 4 * STEP + STEP // 2, limit=1)
    forming = series.klines("5m", hour + 4 * STEP + STEP // 2, limit=1)[1][0]
    parts = np.vstack((candle_rows(candles)[first : first + 4], forming))
    assert opened.tolist() == [hour]
    expected = [parts[0, 0], parts[:, 1].max(), parts[:, 2].min(), parts[-1, 3]]
    assert rows[0, :4].tolist() == expected
    assert rows[0, 4] == pytest.approx(parts[:, 4].sum())


def test_a_longer_candle_waits_for_its_first_stored_candle(candles: Candles) -> None:
    times = open_times(candles)
    first = int(np.flatnonzero(times % 3_600_000 == 0)[10])
    gappy = candles.drop(index=[first, first + 1])
    series = PairSeries(gappy, "5m", endless=True)
    hour = int(times[first])
    assert series.klines("1h", hour + STEP, limit=1)[0].tolist() == [hour - 3_600_000]
    assert series.klines("1h", hour + 2 * STEP, limit=1)[0].tolist() == [hour]


def test_an_endless_series_goes_on_without_a_jump(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=True)
    now = int(open_times(candles)[-1]) + 3 * len(candles) * STEP + STEP // 2
    times, rows = series.klines("5m", now, limit=10**6)
    assert times[-1] <= now < times[-1] + STEP
    assert set(np.diff(times)) == {STEP}
    assert np.abs(np.log(rows[1:, 0] / rows[:-1, 3])).max() < 1e-4
    assert (rows[:, 2] <= rows[:, [0, 3]].min(axis=1)).all()
    assert (rows[:, 1] >= rows[:, [0, 3]].max(axis=1)).all()
    hours = series.klines("1h", now, limit=10**6)[0]
    assert set(np.diff(hours)) == {3_600_000}


def test_a_series_with_an_end_shows_one_flat_candle_after_it(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=False)
    end = int(open_times(candles)[-1]) + STEP
    times, rows = series.klines("5m", end, limit=2)
    close = candle_rows(candles)[-1, 3]
    assert times.tolist() == [end - STEP, end]
    assert rows[0].tolist() == candle_rows(candles)[-1].tolist()
    assert rows[1].tolist() == [close, close, close, close, 0.0]


def test_nothing_is_shown_before_the_first_candle(candles: Candles) -> None:
    series = PairSeries(candles, "5m", endless=True)
    before = int(open_times(candles)[0]) - 1
    assert len(series.klines("1h", before)[0]) == 0
    assert series.price(before) == candles["open"].iloc[0]
