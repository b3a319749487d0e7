"""Shows what a model file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from freqai_lstm_plugins.commands.console import out

if TYPE_CHECKING:
    from freqai_lstm_plugins.checkpoint import Checkpoint


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A model file, such as cb_btc_1751328000_model.zip.")
    ],
    features: Annotated[
        bool, typer.Option("--features", help="List every feature and every epoch.")
    ] = False,
) -> None:
    """Show what a model file holds, without executing anything in it."""
    from freqai_lstm_plugins.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(file)
    out.print(_checkpoint_table(checkpoint, file))
    if features:
        out.print("features: " + ", ".join(checkpoint.feature_names))
        epochs = Table("epoch", "training loss", "validation loss", "learning rate", "seconds")
        for epoch in checkpoint.history["epochs"]:
            epochs.add_row(*(_number(value) for value in epoch.values()))
        out.print(epochs)


def _checkpoint_table(checkpoint: Checkpoint, file: Path) -> Table:
    history = checkpoint.history
    best = history["epochs"][history["best_epoch"] - 1]
    shown = ", ".join(checkpoint.feature_names[:4])
    more = f", ... ({len(checkpoint.feature_names)} in all)"
    own = f"a net of your own, in freqaimodels/{checkpoint.net}.py"
    rows = {
        "net": own if checkpoint.is_own_net else checkpoint.net,
        "net settings": _plain(checkpoint.net_settings),
        "training settings": _plain(checkpoint.train_settings),
        "window": f"{checkpoint.window} candles",
        "features": shown + (more if len(checkpoint.feature_names) > 4 else ""),
        "labels": ", ".join(checkpoint.label_names),
        "parameters": f"{checkpoint.n_parameters:,}",
        "trained on": f"{history['n_train_windows']} windows, validated on "
        f"{history['n_valid_windows']}",
        "epochs": f"{len(history['epochs'])}, weights of epoch {history['best_epoch']}",
        "training loss": _number(best["train_loss"]),
        "validation loss": _number(best["valid_loss"]),
        "can learn on": "yes" if checkpoint.optimizer_state else "no",
        "written by": _plain(checkpoint.versions),
        "size": f"{file.stat().st_size / 1024:,.0f} kB",
    }
    table = Table(title=str(file), show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.5g}"
