"""Writes the features and labels of a strategy."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from freqai_lstm_plugins.commands.console import Configs, DataDir, UserDir, err, out
from freqai_lstm_plugins.errors import MissingExtraError
from freqai_lstm_plugins.names import separated


def features(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    userdir: UserDir = Path("user_data"),
    config: Configs = None,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy of FreqAI; by default the config's.")
    ] = None,
    datadir: DataDir = None,
    pairs: Annotated[
        str | None, typer.Option(help="Pairs, with commas; by default the config's.")
    ] = None,
    timerange: Annotated[
        str | None,
        typer.Option(help="Candles of this range, such as 20250901-20250908; all by default."),
    ] = None,
) -> None:
    """Write the features and labels of a strategy as parquet.

    One file a pair, so that an experiment can ask whether a net beats trees on your own features.
    No exchange is needed, the candles come from disk:

    freqai-lstm features --config user_data/config-lea.json --out features
    """
    if find_spec("freqtrade") is None:
        raise MissingExtraError("freqtrade", "freqtrade", "Making the features of a strategy")
    from freqai_lstm_plugins.freqai.export import export_features

    names = ("pair", "candles", "from", "to", "features", "labels", "file")
    table = Table(*(Column(name, overflow="fold") for name in names))
    with err.status("making features") as status:
        for written in export_features(
            out_dir,
            userdir=userdir,
            configs=config or (),
            datadir=datadir,
            strategy=strategy,
            pairs=separated(pairs or ""),
            timerange=timerange,
        ):
            if err.is_terminal:
                status.update(f"{written.pair} is written")
            else:
                err.print(f"{written.pair} is written")
            first, last = (f"{date:%Y-%m-%d %H:%M}" for date in written.dates[[0, -1]])
            table.add_row(
                written.pair,
                str(len(written.dates)),
                first,
                last,
                str(written.n_features),
                ", ".join(written.labels),
                str(written.path),
            )
    out.print(table)
