"""What others do on the machine while a row is measured.

A busy machine slows the peers more than us, since they wait for more threads more often; so each
row says how busy it was, and waits for a quieter moment before it begins.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

QUIET = 0.1
"""Cores that others may use of a machine that counts as quiet."""

_STAT = Path("/proc/stat")
_LOOK_SECONDS = 2.0


class Load:
    """Counts the processor time of everybody else since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._others = _others_seconds()

    def cores(self) -> float | None:
        """Return how many cores others used on average; None where the system does not tell."""
        now = _others_seconds()
        if now is None or self._others is None:
            return None
        return max(now - self._others, 0.0) / max(time.monotonic() - self._started, 1e-9)


def _others_seconds() -> float | None:
    if not _STAT.exists():
        return None
    counts = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    # Idle and waiting for disks are no work; what a host takes away from a guest is somebody's.
    busy = (sum(counts) - counts[3] - counts[4]) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


def wait_for_quiet(most_seconds: float = 60.0) -> None:
    """Wait until others leave the machine alone, but no longer than `most_seconds`."""
    ends = time.monotonic() + most_seconds
    while time.monotonic() < ends:
        load = Load()
        time.sleep(_LOOK_SECONDS)
        cores = load.cores()
        if cores is None or cores <= QUIET:
            return


def describe(load: Load) -> str:
    """Say how busy others kept the machine, and whether figures may be quoted."""
    cores = load.cores()
    if cores is None:
        return "load of others unknown"
    mark = "" if cores <= QUIET else "**busy**: "
    return f"{mark}others used {cores:.2f} cores meanwhile"
