"""How time and memory of a training grow with rows, features and W."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from benchmarks import peak
from benchmarks.measure import Ratio, Row, Spread
from benchmarks.sizes import Size

REPEATS = 3


def growth(size: Size) -> Row:
    """Train an epoch at several sizes, each in a process of its own."""
    shape = size.growth
    row = Row(
        "growth",
        "Growth",
        f"One epoch of ours at {shape.rows:,} rows, {shape.features} features and windows of "
        f"{shape.window} rows, and with one of the three made smaller or larger; the training "
        f"row's net, every window a target. Each point is a process of its own, its time the "
        f"median of {REPEATS} trainings. The exponent p between neighbouring points says that "
        "time grows as size to the power of p: 1 is linear.",
    )
    if not peak.is_measurable():
        row.notes.append("Peak memory is measured on Linux only.")
        return row
    for name in ("rows", "features", "window"):
        curve = [_point(size, name, factor) for factor in shape.factors]
        row.points[name] = curve
        goal = "about 1" if name == "rows" else ""
        row.ratios.append(Ratio(f"{name}: exponent of time", _exponents(curve), goal))
        for value, seconds, found in curve:
            row.absolute.append((f"{name} {value:g}: time", Spread.of([seconds]), "s"))
            row.absolute.append((f"{name} {value:g}: peak", Spread.of([found]), "B"))
    return row


def _point(size: Size, name: str, factor: float) -> tuple[float, float, float]:
    shape = size.growth
    sizes = {"rows": shape.rows, "features": shape.features, "window": shape.window}
    sizes[name] = round(sizes[name] * factor)
    found = peak.in_child("fit", **sizes, net=size.net, batch_size=size.batch_size, repeats=REPEATS)
    return sizes[name], found.seconds, found.bytes


def _exponents(curve: Sequence[tuple[float, float, float]]) -> Spread:
    pairs = itertools.pairwise(curve)
    return Spread.of([math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in pairs])
