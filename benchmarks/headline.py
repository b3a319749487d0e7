"""A whole training of a size that is published elsewhere."""

from __future__ import annotations

from functools import partial

from benchmarks.data import made_up
from benchmarks.measure import Ratio, Row, Spread, alternate
from benchmarks.sizes import Size
from benchmarks.train import WAYS, fit_ours

PUBLISHED_SECONDS = 900.0


def headline(size: Size) -> Row:
    """Train an LSTM once in each way, and compare with the published time."""
    rows, targets = made_up(size.headline_rows, size.predict_features)
    row = Row(
        "headline",
        "Headline",
        f"{size.headline_rows:,} rows, windows of {size.window} rows, {size.predict_features} "
        f"features, the net of the training row, {size.headline_epochs} epochs without early "
        "stopping: published elsewhere as about 15 minutes on a CPU. That was another machine, so "
        "the ratio is for orientation. One run.",
    )
    for name, way in WAYS.items():
        side = partial(fit_ours, size, rows, targets, max_epochs=size.headline_epochs, **way)
        seconds = alternate({name: side}, 1, warmups=0)
        faster = Spread.of([PUBLISHED_SECONDS / value for value in seconds[name]])
        row.ratios.append(Ratio(f"{name} against the published time", faster, "at least 15"))
        row.absolute.append((name, Spread.of(seconds[name]), "s"))
    return row
