"""Timing: sides take turns, a warm-up apart, and what counts is the ratio of neighbours."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

Side = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median of several runs, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Ratio:
    """One comparison.

    Attributes:
        what: What was compared, with its sizes.
        spread: The ratio of each round.
        goal: What it should reach, in words; empty where there is no such thing.
    """

    what: str
    spread: Spread
    goal: str = ""


@dataclass
class Row:
    """What a row of the benchmark found.

    Attributes:
        name: Name in `ROWS`.
        title: Heading.
        work: What both sides do, and why it is the same work.
        ratios: The results.
        absolute: (what, spread, unit), for orientation only.
        notes: What was left out, and why.
        points: Curves of a picture: name -> [(size, seconds, bytes)].
        machine: Where it was measured.
        page: Its own page in the docs; empty for the one of all rows.
    """

    name: str
    title: str
    work: str
    ratios: list[Ratio] = field(default_factory=list)
    absolute: list[tuple[str, Spread, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    points: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    machine: str = ""
    page: str = ""

    def compare(
        self, what: str, times: Mapping[str, Sequence[float]], goals: Mapping[str, str]
    ) -> None:
        """Add how many times faster the first side is than each other one.

        Args:
            what: Sizes of this comparison.
            times: Seconds of each side, round by round; the first side is ours.
            goals: What the ratio to a side should reach.
        """
        ours, *others = times
        for name in others:
            spread = Spread.of(ratios(times[name], times[ours]))
            self.ratios.append(Ratio(f"{what}: {ours} against {name}", spread, goals.get(name, "")))
        # A peer is measured once for several of our sides.
        for name, seconds in times.items():
            entry = (f"{what}: {name}", Spread.of(seconds), "s")
            if entry not in self.absolute:
                self.absolute.append(entry)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Rebuild a row from `to_dict`."""
        ratios_ = [
            Ratio(item["what"], Spread(**item["spread"]), item["goal"]) for item in data["ratios"]
        ]
        absolute = [(what, Spread(**spread), unit) for what, spread, unit in data["absolute"]]
        return cls(**{**data, "ratios": ratios_, "absolute": absolute})


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide what was measured in the same round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def alternate(sides: Mapping[str, Side], rounds: int, warmups: int = 1) -> dict[str, list[float]]:
    """Run the sides in turns, and return the seconds of every run but the first ones."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with _quick_collections():
        for number in range(-warmups, rounds):
            for name, side in sides.items():
                gc.collect()
                started = time.perf_counter()
                side()
                elapsed = time.perf_counter() - started
                if number >= 0:
                    seconds[name].append(elapsed)
    return seconds


@contextmanager
def _quick_collections() -> Iterator[None]:
    """Let the garbage collector look only at what is made inside the block."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class Stopwatch:
    """Adds up the seconds that are spent in chosen methods of objects."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def watch(self, owner: object, name: str) -> None:
        """Time the method `name` of this one object from now on."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.running():
                return method(*args, **kwargs)

        setattr(owner, name, timed)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the block; a block inside another one counts once."""
        self._depth += 1
        started = time.perf_counter()
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.perf_counter() - started

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
