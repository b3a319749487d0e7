"""Candles that an exchange can serve: checking them, and moving them in time.

They are as in `data.candles`, oldest first. Candles may be missing, but none stands twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import (
    COLUMNS,
    Candles,
    candle_rows,
    make_candles,
    open_times,
)
from freqai_lstm_plugins.data.candles import read_candles as read_file
from freqai_lstm_plugins.data.timeframes import bucket_starts, timeframe_ms
from freqai_lstm_plugins.errors import ReplayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray


def read_candles(datadir: Path, pairs: Sequence[str] | None, timeframe: str) -> dict[str, Candles]:
    """Read freqtrade's feather files, for example `BTC_USDT-5m.feather`.

    Args:
        datadir: The folder that holds the files, as freqtrade's `--datadir`.
        pairs: Pairs such as `BTC/USDT`; None reads every pair that has the timeframe.
        timeframe: The candles' timeframe, such as `5m`.

    Raises:
        ReplayError: if the folder or a file is missing, or its candles cannot be served.
        DataError: A file is damaged, or no table of candles.
    """
    timeframe_ms(timeframe)
    if pairs is not None and not pairs:
        raise ReplayError("no pair to read: name one at least, or none at all to read every pair")
    if not datadir.is_dir():
        raise ReplayError(f"no such data folder: {datadir}")
    if pairs is None:
        names = sorted(path.name for path in datadir.glob(f"*_*-{timeframe}.feather"))
        pairs = [name.removesuffix(f"-{timeframe}.feather").replace("_", "/") for name in names]
    paths = {pair: candle_file(datadir, pair, timeframe) for pair in pairs}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing or not paths:
        wanted = ", ".join(missing) or f"*-{timeframe}.feather"
        there = ", ".join(sorted(path.name for path in datadir.glob("*.feather")))
        raise ReplayError(
            f"{datadir} has no {wanted}; the candle files there: {there or 'none'}. "
            "Run `freqtrade download-data`, or ask for another pair or timeframe."
        )
    found = {pair: read_file(path) for pair, path in paths.items()}
    for pair, candles in found.items():
        check_candles(candles, timeframe, str(paths[pair]))
    return found


def candle_file(datadir: Path, pair: str, timeframe: str) -> Path:
    """Return where freqtrade keeps the candles of a pair; futures stand in a folder of their own.

    >>> from pathlib import Path
    >>> candle_file(Path("data"), "BTC/USDT:USDT", "5m").as_posix()
    'data/futures/BTC_USDT_USDT-5m-futures.feather'
    """
    name = pair.replace("/", "_").replace(":", "_")
    if ":" in pair:
        return datadir / "futures" / f"{name}-{timeframe}-futures.feather"
    return datadir / f"{name}-{timeframe}.feather"


def check_candles(candles: Candles, timeframe: str, source: str) -> None:
    """Raise a ReplayError that names `source` if the candles cannot be served."""
    lacking = [column for column in COLUMNS if column not in candles.columns]
    if lacking:
        raise ReplayError(f"{source}: no column {', '.join(lacking)}; candles need {COLUMNS}")
    if candles.empty:
        raise ReplayError(f"{source}: holds no candles")
    if not isinstance(candles["date"].dtype, pd.DatetimeTZDtype):
        raise ReplayError(
            f"{source}: the column date is {candles['date'].dtype}, not a date with a time zone"
        )
    try:
        rows = candle_rows(candles)
    except (TypeError, ValueError) as error:
        raise ReplayError(f"{source}: a column that is not of numbers ({error})") from error
    usable = np.isfinite(rows).all(axis=1) & (rows[:, :4] > 0).all(axis=1) & (rows[:, 4] >= 0)
    if not usable.all():
        date = candles["date"].iloc[int(np.argmin(usable))]
        raise ReplayError(f"{source}: the candle of {date} has a price or volume that is none")
    _check_times(open_times(candles), timeframe, source)


def _check_times(times: IntArray, timeframe: str, source: str) -> None:
    step = timeframe_ms(timeframe)
    distances = np.diff(times)
    for wrong, what in ((distances == 0, "stands twice"), (distances < 0, "is out of order")):
        if wrong.any():
            date = pd.Timestamp(int(times[int(np.argmax(wrong)) + 1]), unit="ms", tz="UTC")
            raise ReplayError(f"{source}: the candle of {date} {what}; candles must be in order")
    if (bucket_starts(times, step) != times).any() or (len(times) > 1 and distances.min() != step):
        raise ReplayError(
            f"{source}: the candles are not {timeframe} candles; give their own timeframe, "
            "or re-date them with relabel()"
        )


def aggregate(candles: Candles, from_timeframe: str, to_timeframe: str) -> Candles:
    """Combine candles into those of a longer timeframe.

    The newest candle is built from what there is of it, as an exchange serves the candle that is
    still forming. Candles missing inside a bucket leave the others to make it up.

    Raises:
        ReplayError: if the longer timeframe is no multiple of the shorter one.
    """
    step, base = timeframe_ms(to_timeframe), timeframe_ms(from_timeframe)
    if step % base:
        raise ReplayError(f"{to_timeframe} candles cannot be made of {from_timeframe} candles")
    return make_candles(*aggregate_rows(open_times(candles), candle_rows(candles), step))


def aggregate_rows(times: IntArray, rows: FloatArray, step: int) -> tuple[IntArray, FloatArray]:
    """Combine rows (N, 5) into buckets of `step` milliseconds; see `aggregate`."""
    starts, first = np.unique(bucket_starts(times, step), return_index=True)
    last = np.append(first[1:], len(times)) - 1
    combined = np.column_stack(
        (
            rows[first, 0],
            np.maximum.reduceat(rows[:, 1], first),
            np.minimum.reduceat(rows[:, 2], first),
            rows[last, 3],
            # Sums of decimal volumes carry binary dust; the exchange quotes eight decimals.
            np.round(np.add.reduceat(rows[:, 4], first), 8),
        )
    )
    return starts, combined


def relabel(candles: Mapping[str, Candles], timeframe: str) -> dict[str, Candles]:
    """Re-date candles so that they follow one another at `timeframe`.

    Stored 5m candles relabelled to 1m make a market that moves five times as fast, for
    demonstrations. Candles are matched across pairs by their dates; gaps that all pairs share
    close up.
    """
    step = timeframe_ms(timeframe)
    every = np.unique(np.concatenate([open_times(frame) for frame in candles.values()]))
    origin = int(bucket_starts(every[-1:], step)[0]) - (len(every) - 1) * step
    return {
        pair: make_candles(
            origin + np.searchsorted(every, open_times(frame)).astype(np.int64) * step,
            candle_rows(frame),
        )
        for pair, frame in candles.items()
    }


def shift_to_now(
    candles: Mapping[str, Candles], timeframe: str, now: datetime, reserve: int = 0
) -> dict[str, Candles]:
    """Move all candles by one span of time, so that the market stands at `now`.

    The newest candle that is closed at `now` is the one with `reserve` later candles (counted in
    steps of time over all pairs). Those later ones get dates from `now` on: the candle that is
    forming first, then the future.

    Raises:
        ReplayError: if the reserve leaves no candle for the past.
    """
    step = timeframe_ms(timeframe)
    newest = max(int(open_times(frame)[-1]) for frame in candles.values())
    oldest = min(int(open_times(frame)[0]) for frame in candles.values())
    if reserve < 0 or newest - reserve * step < oldest:
        raise ReplayError(
            f"a reserve of {reserve} candles does not fit: there are "
            f"{(newest - oldest) // step + 1} candles, and one at least must be past"
        )
    now_ms = np.array([int(pd.Timestamp(now).timestamp() * 1000)], dtype=np.int64)
    shift = int(bucket_starts(now_ms, step)[0]) - step - (newest - reserve * step)
    return {
        pair: make_candles(open_times(frame) + shift, candle_rows(frame))
        for pair, frame in candles.items()
    }
