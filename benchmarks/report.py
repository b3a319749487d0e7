"""Results as JSON, as a page, and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.measure import Row, Spread
from freqai_lstm_plugins.figures import new_figure
from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.training.devices import free_threads

BEGIN = "<!-- benchmarks: begin -->"
END = "<!-- benchmarks: end -->"
UNITS = {"s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs")), "B": ((2**20, "MiB"), (2**10, "KiB"))}


def machine() -> str:
    """Describe where this process measures."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {free_threads()} torch threads (its default), "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{_numba()}, "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )


def _numba() -> str:
    try:
        return f"numba {version('numba')}"
    except PackageNotFoundError:
        return "no numba"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_rows(path: Path) -> dict[str, Row]:
    """Return the rows of an earlier run, or none."""
    if not path.exists():
        return {}
    return {data["name"]: Row.from_dict(data) for data in json.loads(path.read_text("utf-8"))}


def write_json(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, whole or not at all."""
    content = json.dumps([row.to_dict() for row in rows], indent=2, ensure_ascii=False)
    write_text(path, content + "\n")


def write_pages(path: Path, rows: Iterable[Row]) -> None:
    """Write the page of all rows, and beside it those of rows that have a page of their own."""
    pages: dict[Path, list[Row]] = {path: []}
    for row in rows:
        pages.setdefault(path.with_name(row.page) if row.page else path, []).append(row)
    for page, found in pages.items():
        if found:
            write_page(page, found)


def write_page(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows between the page's markers, and the pictures beside it."""
    rows = list(rows)
    page = path.read_text("utf-8") if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}, between which results go.")
    pictures = {row.name: path.with_name(f"{path.stem}_{row.name}.png") for row in rows}
    for row in rows:
        if row.points:
            draw(row, pictures[row.name])
    parts = [to_markdown(row, pictures[row.name].name) for row in rows]
    write_text(path, f"{before}{BEGIN}\n\n{''.join(parts)}{END}{after}")


def to_markdown(row: Row, picture: str = "") -> str:
    """Return a section with the row's ratios, and its absolute numbers folded away."""
    lines = [f"## {row.title}", "", row.work, ""]
    lines += [line for note in row.notes for line in (note, "")]
    if row.points and picture:
        lines += [f"![{row.title}]({picture})", ""]
    if row.ratios:
        lines += ["| ratio | median | range | goal |", "| --- | ---: | ---: | --- |"]
        for ratio in row.ratios:
            spread = ratio.spread
            span = f"{spread.low:.2f} to {spread.high:.2f}"
            lines.append(f"| {ratio.what} | {spread.median:.2f} | {span} | {ratio.goal} |")
        lines.append("")
    if row.absolute:
        lines += ["<details><summary>Absolute numbers, for orientation</summary>", ""]
        lines += ["| what | median | range |", "| --- | ---: | ---: |"]
        lines += [f"| {what} | {_shown(spread, unit)} |" for what, spread, unit in row.absolute]
        lines += ["", "</details>", ""]
    if row.machine:
        lines += [f"Measured on: {row.machine}.", ""]
    return "\n".join(lines) + "\n"


def shown(value: float, unit: str) -> str:
    """Return a number in the unit that suits it."""
    return _shown(Spread.of([value]), unit).split(" | ")[0]


def _shown(spread: Spread, unit: str) -> str:
    steps = UNITS.get(unit, ((1, unit),))
    factor, name = next((step for step in steps if spread.median >= step[0]), steps[-1])
    median, low, high = (
        f"{value / factor:,.3g}" if value < 100 * factor else f"{value / factor:,.0f}"
        for value in (spread.median, spread.low, spread.high)
    )
    return f"{median} {name} | {low} to {high} {name}"


def draw(row: Row, path: Path) -> None:
    """Draw seconds and MiB of the row's curves, all axes logarithmic."""
    figure = new_figure(10, 4)
    # After `new_figure`, which says what to install where matplotlib is missing.
    from matplotlib.ticker import LogLocator

    start = ", ".join(f"{name} {_start(curve):g}" for name, curve in row.points.items())
    for axes, position, unit, label in zip(
        figure.subplots(1, 2),
        (1, 2),
        (1, 2**20),
        ("seconds", "MiB above the raw matrix"),
        strict=True,
    ):
        for name, points in row.points.items():
            sizes = [point[0] / _start(points) for point in points]
            axes.loglog(sizes, [point[position] / unit for point in points], "o-", label=name)
        axes.set(xlabel="size, as a multiple of the start", ylabel=label)
        axes.set_xticks(sorted({line for one in axes.lines for line in one.get_xdata()}))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.legend()
    figure.suptitle(f"One size grows, the others stay: {start}")
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)


def _start(points: Sequence[tuple[float, float, float]]) -> float:
    """Return the size that stays while another grows."""
    return points[(len(points) - 1) // 2][0]
