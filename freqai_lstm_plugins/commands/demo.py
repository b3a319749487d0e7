"""Runs the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from freqai_lstm_plugins.commands.console import err, out


def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Do less, in two to three minutes.")
    ] = False,
    datadir: Annotated[
        Path | None,
        typer.Option(help="Folder with freqtrade feather files of 5m candles of BTC and ETH."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Empty folder to write to; a new one by default.")
    ] = None,
) -> None:
    """Backtest, trade, restart and trade on, without an exchange.

    A replay exchange on this machine serves the candles. Everything is written to one folder.
    """
    from freqai_lstm_plugins.replay.demo import default_folder, run_demo

    target = folder or default_folder()
    with err.status("starting") as status:

        def tell(step: str) -> None:
            if err.is_terminal:
                status.update(step)
            else:
                err.print(f"{step} ...")

        report = run_demo(target, datadir=datadir, quick=quick, tell=tell)
    table = Table("step", "outcome", "seconds", title=f"freqai-lstm demo on {report.market}")
    for step, outcome, seconds in report.steps:
        table.add_row(step, outcome, f"{seconds:.0f}")
    out.print(table)
    no_picture = "none, since matplotlib is not installed"
    out.print(f"picture: {report.picture or no_picture}")
    out.print(f"models, logs and results: {report.folder}")
