"""Writes the models, strategies and a config into a user directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from freqai_lstm_plugins.commands.console import out
from freqai_lstm_plugins.errors import FreqaiLSTMError


def install(
    userdir: Annotated[
        Path, typer.Option(help="A freqtrade user directory. It is made where it is missing.")
    ] = Path("user_data"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace changed files; they stay beside ours as .bak.")
    ] = False,
) -> None:
    """Write the models, the strategy and a config into a freqtrade user directory.

    Files that you changed are kept. Afterwards run, for example:

    freqtrade trade --userdir user_data --config user_data/config-lea.json
    """
    from freqai_lstm_plugins.install import install as install_files

    files = install_files(userdir, force=force)
    table = Table("file", "state")
    for file in files:
        table.add_row(str(file.path), file.state)
    out.print(table)
    if any(file.is_kept for file in files):
        raise FreqaiLSTMError(
            "Some files differ from those of this version and were kept. Compare them, or replace "
            "them with --force."
        )
    out.print(f"Next: freqtrade trade --userdir {userdir} --config {userdir / 'config-lea.json'}")
