"""The benchmarks run, and what they find reaches the page."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks import report
from benchmarks.measure import Ratio, Row, Spread, Stopwatch, alternate
from benchmarks.rows import ROWS
from benchmarks.sizes import QUICK, GrowthSize, MemorySize

TINY = dataclasses.replace(
    QUICK,
    rounds=1,
    features=(4,),
    live_rounds=1,
    predict_rows=20,
    pairs=2,
    memory=MemorySize(rows=200, features=4, window=4, steps=2),
    growth=GrowthSize(rows=60, features=8, window=4, factors=(1, 2)),
)
# These start child processes that import freqtrade.
SLOW = {"whole", "memory", "growth"}


def example() -> Row:
    return Row(
        "growth",
        "Growth",
        "What both sides do.",
        ratios=[Ratio("ours against theirs", Spread.of([1.0, 3.0, 2.0]), "at least 1")],
        absolute=[("ours", Spread.of([0.001]), "s")],
        notes=["A peer is not installed."],
        points={"rows": [(1.0, 0.1, 10.0), (2.0, 0.2, 20.0)]},
    )


@pytest.mark.parametrize("name", [name for name in ROWS if name not in SLOW])
def test_a_row_gives_finite_positive_ratios(name):
    row = ROWS[name](TINY)
    assert row.name == name
    assert row.work
    assert row.ratios
    for ratio in row.ratios:
        spread = ratio.spread
        assert 0 < spread.low <= spread.median <= spread.high < math.inf
    assert Row.from_dict(row.to_dict()) == row
