"""Which pair a bot trains next, and how long a pair rests whose training failed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import FreqaiLSTMError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Container

logger = logging.getLogger(__name__)

FIRST_PAUSE = 10.0
LONGEST_PAUSE = 900.0


@dataclass(frozen=True)
class Failure:
    """How often a pair's training has failed in a row.

    Attributes:
        count: Failures since the last training that went well.
        until: Time of the clock at which the pair is tried again, in seconds.
        place: Kind of the error and where it was raised.
    """

    count: int
    until: float
    place: tuple[str, str, int]


class Retries:
    """Pairs whose last training failed.

    Each further failure doubles a pair's pause, up to a quarter of an hour, whatever else waits.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, Failure] = {}

    def rests(self, pair: str) -> bool:
        """Tell whether it is too early to try a pair again."""
        failure = self._failures.get(pair)
        return failure is not None and self._clock() < failure.until

    def succeeded(self, pair: str) -> None:
        """Forget a pair's failures."""
        self._failures.pop(pair, None)

    def failed(self, pair: str, error: Exception) -> None:
        """Note a failure, and log it: its traceback the first time, then one line each."""
        former = self._failures.get(pair)
        count = 1 if former is None else former.count + 1
        pause = min(FIRST_PAUSE * 2.0 ** min(count - 1, 20), LONGEST_PAUSE)
        place = _place(error)
        self._failures[pair] = Failure(count, self._clock() + pause, place)
        is_known = former is not None and former.place == place
        # Our own errors say in their line what is wrong.
        shows = not is_known and not isinstance(error, FreqaiLSTMError)
        logger.error(
            "Training %s raised exception %s (%d in a row). Message: %s Trying again in %.0f s.",
            pair,
            type(error).__name__,
            count,
            error,
            pause,
            exc_info=error if shows else None,
        )


def next_pair(
    queue: deque[str],
    whitelist: Container[str],
    needs_training: Callable[[str], bool],
    retries: Retries,
) -> str | None:
    """Return the first pair of the queue that needs training and does not rest.

    Pairs that are no longer in the whitelist leave the queue.
    """
    for pair in list(queue):
        if pair not in whitelist:
            queue.remove(pair)
            logger.warning("%s not in current whitelist, removing from train queue.", pair)
        elif not retries.rests(pair) and needs_training(pair):
            return pair
    return None


def _place(error: Exception) -> tuple[str, str, int]:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__, "", 0
    return type(error).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
