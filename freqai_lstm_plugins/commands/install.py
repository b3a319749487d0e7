"""Writes the models, strategies and a config into a user directory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from freqai_lstm_plugins.commands.console import out
from freqai_lstm_plugins.errors import FreqaiLSTMError
from freqai_lstm_plugins.names import CONFIG_NAME, separated


def install(
    userdir: Annotated[
        Path, typer.Option(help="A freqtrade user directory. It is made where it is missing.")
    ] = Path("user_data"),
    pairs: Annotated[
        str | None,
        typer.Option(help="Pairs to trade, with commas, such as BTC/USDT,SOL/USDT."),
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="Timeframe to trade on, such as 15m.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace changed files; they stay beside ours as .bak.")
    ] = False,
) -> None:
    """Write models, strategies and a config into a user directory.

    The config trades BTC/USDT and ETH/USDT on 5m candles, unless --pairs and --timeframe say
    something else; pairs such as BTC/USDT:USDT are futures, which are sold short too. A later run
    remembers both. Files that you changed are kept. Afterwards run, for example:

    freqtrade trade --userdir user_data --config user_data/config-lea.json
    """
    from freqai_lstm_plugins.install import install as install_files

    wanted = None if pairs is None else separated(pairs)
    files = install_files(userdir, pairs=wanted, timeframe=timeframe, force=force)
    # Beside the name of the folder, since whole paths are cut off by a narrow terminal.
    folder = userdir.resolve()
    table = Table(f"file in {escape(str(userdir))}", "state")
    for file in files:
        table.add_row(escape(str(file.path.relative_to(folder))), file.state)
    out.print(table)
    if any(file.is_kept for file in files):
        raise FreqaiLSTMError(
            "Some files differ from those of this version and were kept. Compare them, or replace "
            "them with --force."
        )
    command = ["freqtrade", "trade", "--userdir", str(userdir), "--config"]
    out.print("Next: " + shlex.join([*command, str(userdir / CONFIG_NAME)]), markup=False)
