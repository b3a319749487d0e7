"""Shows what a model file holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from freqai_lstm_plugins.commands.console import out
from freqai_lstm_plugins.names import MODEL_SUFFIX, PANEL_NAME

if TYPE_CHECKING:
    from freqai_lstm_plugins.checkpoint import Checkpoint
    from freqai_lstm_plugins.models.state import SequenceState

FREQAI_NAME = re.compile(rf"cb_(?P<coin>.+)_(?P<stop>\d{{9,11}}){re.escape(MODEL_SUFFIX)}")


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A model file, such as cb_btc_1751328000_model.zip.")
    ],
    features: Annotated[
        bool, typer.Option("--features", help="List every feature and every epoch.")
    ] = False,
) -> None:
    """Show what a model file holds, executing nothing in it."""
    from freqai_lstm_plugins.checkpoint import read_checkpoint
    from freqai_lstm_plugins.models.state import NET_KINDS, read_state

    checkpoint = read_checkpoint(file)
    if checkpoint.kind not in NET_KINDS:
        _show_summary(checkpoint, file, features)
        return
    state = read_state(checkpoint)
    out.print(_state_table(state, checkpoint.versions, file))
    if features:
        out.print("features: " + ", ".join(state.feature_names))
        epochs = Table("epoch", "training loss", "validation loss", "learning rate", "seconds")
        for epoch in state.history["epochs"]:
            epochs.add_row(*(_number(value) for value in epoch.values()))
        out.print(epochs)


def _show_summary(checkpoint: Checkpoint, file: Path, features: bool) -> None:
    from freqai_lstm_plugins.models.summary import summarize

    summary = summarize(checkpoint)
    rows = {
        **_origin(file),
        **summary.lines,
        "written by": _plain(checkpoint.versions),
        "size": _size(file),
    }
    out.print(_two_columns(rows, file))
    if summary.members:
        members = Table("label", "member", "kind", "weight", "squared error out of fold")
        for row in summary.members:
            members.add_row(*map(escape, row))
        out.print(members)
    if features:
        out.print("features: " + ", ".join(summary.feature_names), markup=False)


def _two_columns(rows: dict[str, str], file: Path) -> Table:
    table = Table(title=escape(str(file)), show_header=False)
    for name, value in rows.items():
        table.add_row(escape(name), escape(value))
    return table


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 1024:,.0f} kB"


def _state_table(state: SequenceState, versions: dict[str, str], file: Path) -> Table:
    history = state.history
    best = history["epochs"][history["best_epoch"] - 1]
    shown = ", ".join(state.feature_names[:4])
    more = f", ... ({len(state.feature_names)} in all)"
    own = f"a net of your own, in freqaimodels/{state.net}.py"
    rows = {
        **_origin(file),
        "net": own if state.is_own_net else state.net,
        "net settings": _plain(state.net_settings),
        "training settings": _plain(state.train_settings),
        "window": f"{state.window} candles",
        "features": shown + (more if len(state.feature_names) > 4 else ""),
        "labels": ", ".join(state.label_names),
        "parameters": f"{state.n_parameters:,}",
        "trained on": f"{history['n_train_windows']} windows, validated on "
        f"{history['n_valid_windows']}",
        "epochs": f"{len(history['epochs'])}, weights of epoch {history['best_epoch']}",
        "training loss": _number(best["train_loss"]),
        "validation loss": _number(best["valid_loss"]),
        "constant forecast's loss": _number(history.get("constant_loss")),
        "rank correlation": _number(history.get("rank_correlation")),
        "can learn on": "yes" if state.optimizer_state else "no",
        "written by": _plain(versions),
        "size": _size(file),
    }
    return _two_columns(rows, file)


def _origin(file: Path) -> dict[str, str]:
    """Return which pairs' candles a model is from, and up to when, by what FreqAI wrote of it."""
    named = FREQAI_NAME.fullmatch(file.name)
    if named is None:
        return {}
    newest = datetime.fromtimestamp(int(named["stop"]), tz=UTC)
    is_panel = named["coin"] == PANEL_NAME
    pairs = _pairs(file) if is_panel else {"pair of": named["coin"].upper()}
    return {**pairs, "candles up to": f"{newest:%Y-%m-%d %H:%M} UTC"}


def _pairs(file: Path) -> dict[str, str]:
    """Return the pairs of one net for many, by the metadata beside it; nothing where none is."""
    from freqai_lstm_plugins.models.served import served_pairs

    stem = file.with_name(file.name.removesuffix(MODEL_SUFFIX))
    panels = [panel for _, panel in served_pairs(stem)]
    # Whatever is damaged there, the net's own file can be shown.
    trained = [str(pair) for panel in panels[:1] for pair in panel.get("pairs", [])]
    served = [str(panel.get("pair")) for panel in panels]
    later = [pair for pair in served if pair not in trained]
    rows = {"pairs": ", ".join(trained)} if trained else {}
    return rows | ({"predicts too": ", ".join(later)} if later else {})


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.5g}"
