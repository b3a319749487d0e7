"""Lists the models of an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from freqai_lstm_plugins.commands.console import out


def models(
    folder: Annotated[Path, typer.Argument(help="Output folder of compare, tune or train.")],
    paths: Annotated[bool, typer.Option("--paths", help="Print the model files alone.")] = False,
) -> None:
    """List the models that a comparison left, with their figures."""
    from freqai_lstm_plugins.research.store import list_entries

    entries = list_entries(folder)
    if paths:
        for entry in entries:
            out.print(str(entry.model_file), markup=False)
        return
    names = ("subject", "model", "version", "test rows", "rank IC", "MSE", "seconds")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for entry in entries:
        known, metrics = entry.metadata, entry.metadata["metrics"]
        table.add_row(
            entry.subject,
            known["model"],
            entry.folder.name,
            str(known["rows"]["test"]),
            _number(metrics["rank_ic"], "+.3f"),
            _number(metrics["mse"], ".3g"),
            f"{known['seconds']:.1f}",
        )
    out.print(table)
    out.print(f"{len(entries)} models below {folder / 'models'}", markup=False)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
