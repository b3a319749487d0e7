"""Alpha158 beside qlib's numbers, and beside pandas' time."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import peak, qlib_alpha158
from benchmarks.expressions import slow_alpha158
from benchmarks.measure import Ratio, Row, Spread, alternate, ratios
from benchmarks.sizes import Size
from freqai_lstm_plugins.features import alpha158
from freqai_lstm_plugins.features.alpha158 import NEUTRAL, feature_names
from freqai_lstm_plugins.replay import synthetic_market

# Where nobody names a folder there is none, whatever lies beside the checkout.
GOLDEN = Path(os.environ.get("FREQAI_LSTM_GOLDEN", os.devnull))
OURS, NEWEST, STRAIGHT = "alpha158", "the newest row", "pandas, one expression at a time"
# What the features of a new candle may take in a bot.
NEWEST_SECONDS = 0.05


def candles(rows: int) -> pd.DataFrame:
    """Return made-up candles of one pair."""
    return synthetic_market(["A/USDT"], "5m", rows, seed=1)["A/USDT"]


def alpha158_row(size: Size) -> Row:
    """Compare with qlib's output, and measure time and memory."""
    shape = size.alpha158
    row = Row(
        "alpha158",
        "Measured",
        f"Golden pair: qlib 0.9.7's output for two made-up symbols of 150 days, with a flat run, a "
        f"bar without volume and a gap, against `qlib_compatible=True`. Time: {shape.rows:,} "
        f"candles and all 158 features, against the same expressions one by one in pandas, with "
        f"its own rolling functions where it has them and `rolling.apply` where not. The newest "
        f"row is computed from {shape.newest:,} candles. Memory is the most in use at any moment "
        f"above what was in use before, the result included. qlib computes {shape.symbols} stocks "
        f"of {shape.days:,} days from files made before, in one process, as ours does.",
        page="alpha158.md",
    )
    row.notes += [golden_table(GOLDEN), neutral_table()]
    _add_times(row, size)
    if qlib_alpha158.PYTHON is None:
        row.notes.append(
            "qlib's own time was not measured: FREQAI_LSTM_QLIB_PYTHON names no Python."
        )
    else:
        _add_qlib(row, size)
    if peak.is_measurable():
        output = 8 * shape.rows * len(feature_names())
        found = peak.in_child("alpha158", rows=shape.rows)
        what = f"{shape.rows:,} candles: peak memory / result"
        row.ratios.append(Ratio(what, Spread.of([found.bytes / output]), "at most 3"))
    return row


def _add_times(row: Row, size: Size) -> None:
    shape = size.alpha158
    frame = candles(shape.rows)
    newest = frame.tail(shape.newest)
    sides = {OURS: partial(alpha158, frame), NEWEST: partial(alpha158, newest)}
    times = alternate(sides, size.rounds)
    # One run, without a warm-up: it takes a minute, and nothing in it is set up once.
    numbers = frame.drop(columns="date")
    slow = alternate({STRAIGHT: partial(slow_alpha158, numbers)}, rounds=1, warmups=0)
    what = f"{shape.rows:,} candles"
    spread = Spread.of([slow[STRAIGHT][0] / seconds for seconds in times[OURS]])
    row.ratios.append(Ratio(f"{what}: {OURS} against {STRAIGHT}", spread, "at least 10"))
    share = Spread.of(ratios(times[NEWEST], times[OURS]))
    row.ratios.append(
        Ratio(f"{NEWEST} from {shape.newest} candles / {what}", share, "at most 0.05")
    )
    bound = Spread.of([seconds / NEWEST_SECONDS for seconds in times[NEWEST]])
    row.ratios.append(Ratio(f"{NEWEST} / {1000 * NEWEST_SECONDS:.0f} ms", bound, "at most 1"))
    row.absolute += [
        (f"{what}: {name}", Spread.of(seconds), "s")
        for name, seconds in {OURS: times[OURS], **slow}.items()
    ]
    row.absolute.append((NEWEST, Spread.of(times[NEWEST]), "s"))


def _add_qlib(row: Row, size: Size) -> None:
    shape = size.alpha158
    times = qlib_alpha158.in_qlibs_environment(shape.symbols, shape.days, size.rounds)
    what = f"{shape.symbols} stocks of {shape.days:,} days"
    theirs = times.pop(qlib_alpha158.THEIRS)
    for name, seconds in times.items():
        goals = {qlib_alpha158.THEIRS: "at least 1"} if name == qlib_alpha158.OURS else {}
        row.compare(what, {name: seconds, qlib_alpha158.THEIRS: theirs}, goals)


def golden_table(folder: Path) -> str:
    """Return a table of how far each feature is from qlib's output at most."""
    if not (folder / "alpha158_qlib097.parquet").exists():
        return f"No golden pair at FREQAI_LSTM_GOLDEN ({folder.name})."
    differences = golden_differences(folder)
    agree = int((differences["nan"] == 0).sum())
    worst = differences["relative"].max()
    summary = (
        f"The golden pair is matched to {worst:.1e} relative at most, and the pattern of NaN in "
        f"{agree} of {len(differences)} features. qlib's output is float32, whose round-off is "
        f"6e-8."
    )
    lines = [
        summary,
        "",
        "<details><summary>Largest relative difference of each feature</summary>",
        "",
        "| feature | largest relative difference | rows where only one side is NaN |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {found['relative']:.1e} | {found['nan']:.0f} of {found['rows']:.0f} |"
        for name, found in differences.iterrows()
    ]
    return "\n".join([*lines, "", "</details>"])


def golden_differences(folder: Path) -> pd.DataFrame:
    """Return `relative`, `nan` and `rows` of each feature, over both symbols."""
    table = pd.read_parquet(folder / "alpha158_qlib097.parquet").set_index("datetime")
    found = []
    for symbol, expected in table.groupby("instrument"):
        read = pd.read_csv(folder / "csv" / f"{symbol}.csv", index_col="date", parse_dates=True)
        # The days on which one symbol alone was traded are missing candles of the other.
        ours = alpha158(read.reindex(expected.index), qlib_compatible=True)
        theirs = expected[[f"feature.{name}" for name in ours]].astype(float)
        theirs.columns = ours.columns
        found.append((ours, theirs))
    ours, theirs = (pd.concat(side) for side in zip(*found, strict=True))
    # Equal values differ by nothing, zeros too.
    distance = (ours - theirs).abs()
    relative = (distance / theirs.abs()).where(distance > 0, 0.0)
    return pd.DataFrame(
        {
            "relative": relative.max(),
            "nan": (ours.isna() != theirs.isna()).sum(),
            "rows": np.full(len(ours.columns), len(ours)),
        }
    )


def neutral_table() -> str:
    """Return a table of what stands for unknown values."""
    by_value: dict[float, list[str]] = {}
    for stem, value in NEUTRAL.items():
        by_value.setdefault(value, []).append(stem)
    lines = ['What `missing="neutral"` puts for an unknown value, in every window:', ""]
    lines += ["| value | features |", "| ---: | --- |"]
    lines += [f"| {value:g} | {', '.join(stems)} |" for value, stems in sorted(by_value.items())]
    return "\n".join(lines)
