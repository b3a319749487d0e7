"""`python -m benchmarks [ROW]...`: measures, prints, and writes the results."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load import Load, describe, wait_for_quiet
from benchmarks.report import machine, read_rows, to_markdown, write_json, write_pages
from benchmarks.rows import ROWS
from benchmarks.sizes import FULL, QUICK

HERE = Path(__file__).parent


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ROW", help=f"Rows: {', '.join(ROWS)}.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes, to see that everything runs.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Results; benchmarks/results.json, none with --quick.")
    ] = None,
    doc: Annotated[
        Path | None,
        typer.Option(
            help="Page, and folder of rows' own pages; docs/benchmarks.md, none with --quick."
        ),
    ] = None,
) -> None:
    """Measure this package beside its peers. Rows that are not measured keep their results."""
    unknown = set(names or ()) - set(ROWS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the rows are {', '.join(ROWS)}.")
    if not quick:
        json = json or HERE / "results.json"
        doc = doc or HERE.parent / "docs" / "benchmarks.md"
    # Hosts warn at every prediction; writing that would be timed.
    logging.disable(logging.WARNING)
    found = read_rows(json) if json else {}
    for name in names or ROWS:
        if not quick:
            wait_for_quiet()
        load = Load()
        row = ROWS[name](QUICK if quick else FULL)
        row.machine = f"{machine()}; {describe(load)}"
        found[name] = row
        typer.echo(to_markdown(row))
        # After each row, so that Ctrl-C leaves the finished ones.
        rows = [found[name] for name in ROWS if name in found]
        if json:
            write_json(json, rows)
        if doc:
            write_pages(doc, rows)


if __name__ == "__main__":
    typer.run(main)
