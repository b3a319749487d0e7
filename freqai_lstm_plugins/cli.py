"""The command `freqai-lstm`: parses, calls, prints. What it calls is imported when it is called."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table

from freqai_lstm_plugins import __version__
from freqai_lstm_plugins.errors import FreqaiLSTMError, MissingExtraError

if TYPE_CHECKING:
    from freqai_lstm_plugins.explanations.explanation import Explanation
    from freqai_lstm_plugins.models.state import SequenceState

app = typer.Typer(
    help="Sequence models for FreqAI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

_options = {"debug": False}


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"freqai_lstm_plugins {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show log lines, and a traceback on an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of every command."""
    _options["debug"] = debug
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)


@app.command()
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


@app.command()
def path() -> None:
    """Print the folder of the model files, for freqtrade's --freqaimodel-path.

    freqtrade trade --freqaimodel LeaLSTMRegressor --freqaimodel-path "$(freqai-lstm path)"
    """
    from freqai_lstm_plugins.install import MODELS_DIR

    out.print(str(MODELS_DIR))


@app.command()
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
    from freqai_lstm_plugins.models.state import read_state

    checkpoint = read_checkpoint(file)
    state = read_state(checkpoint)
    out.print(_checkpoint_table(state, checkpoint.versions, file))
    if features:
        out.print("features: " + ", ".join(state.feature_names))
        epochs = Table("epoch", "training loss", "validation loss", "learning rate", "seconds")
        for epoch in state.history["epochs"]:
            epochs.add_row(*(_number(value) for value in epoch.values()))
        out.print(epochs)


def _checkpoint_table(state: SequenceState, versions: dict[str, str], file: Path) -> Table:
    history = state.history
    best = history["epochs"][history["best_epoch"] - 1]
    shown = ", ".join(state.feature_names[:4])
    more = f", ... ({len(state.feature_names)} in all)"
    own = f"a net of your own, in freqaimodels/{state.net}.py"
    rows = {
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
        "can learn on": "yes" if state.optimizer_state else "no",
        "written by": _plain(versions),
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


@app.command()
def explain(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model file that FreqAI wrote: cb_..._model.zip, or ..._model.joblib."
        ),
    ],
    pair: Annotated[
        str | None, typer.Option(help="Pair to explain; by default that of the model's name.")
    ] = None,
    userdir: Annotated[Path, typer.Option(help="The freqtrade user directory.")] = Path(
        "user_data"
    ),
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Config, once or more; by default config-lea.json of the userdir."),
    ] = None,
    datadir: Annotated[
        Path | None,
        typer.Option(help="Folder of candles; by default data/EXCHANGE of the userdir."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Strategy that makes the features; by default the config's.")
    ] = None,
    timerange: Annotated[
        str | None,
        typer.Option(help="Explain candles of this range, such as 20250901-20250908."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Label; the first by default.")] = None,
    label_class: Annotated[
        str | None, typer.Option("--class", help="Class of a classifier; the last by default.")
    ] = None,
    candles: Annotated[
        int, typer.Option(min=1, help="Candles to explain at most, the newest.")
    ] = 256,
    top: Annotated[int, typer.Option(min=1, help="Features to show.")] = 20,
    out_file: Annotated[
        Path, typer.Option("--out", help="Where to write the picture, such as heatmap.png.")
    ] = Path("explanation.png"),
    csv: Annotated[
        Path | None, typer.Option(help="Where to write all features and lags as a table.")
    ] = None,
) -> None:
    """Show which features a model looks at, and how many candles back.

    For a net these are integrated gradients: how much each feature, at each candle of the window,
    moves the prediction away from that for features that are 0 once they are scaled. For LightGBM
    and XGBoost they are the trees' own contributions. No exchange is needed, the candles come from
    disk. Models stand in user_data/models:

    freqai-lstm explain .../cb_btc_1751328000_model.zip --out btc.png --csv btc.csv

    FreqAI's pipelines beside a model are pickles, and so are trees. Loading a pickle executes what
    it holds: explain only models that you trust.
    """
    if find_spec("freqtrade") is None:
        raise MissingExtraError("freqtrade", "freqtrade", "Explaining a model of FreqAI")
    from freqai_lstm_plugins.freqai.explain import explain_file, write_results

    with err.status("explaining"):
        explained = explain_file(
            file,
            userdir=userdir,
            configs=config or (),
            datadir=datadir,
            strategy=strategy,
            pair=pair,
            timerange=timerange,
            target=target,
            label_class=label_class,
            max_windows=candles,
        )
        write_results(explained, top, out_file, csv)
    explanation = explained.explanation
    table = _explanation_table(explanation, explained.title, top)
    # Wider than a narrow terminal rather than cut.
    table.width = Measurement.get(out, out.options.update(max_width=1000), table).maximum
    out.print(table)
    out.print(
        f"In the mean the features move the answer by {explanation.moved:.3g} "
        f"({explanation.unit}), of which the attributions miss {explanation.gap:.2g}."
    )
    out.print(f"picture: {out_file}" + (f", table: {csv}" if csv else ""))


def _explanation_table(explanation: Explanation, title: str, top: int) -> Table:
    features = explanation.features()
    shown = [escape(str(name)) for name in features.index[:top]]
    has_weights = explanation.variable_weights is not None
    headers = ["feature", "share", "mean size", "direction", "lag"]
    headers += ["weight"] if has_weights else []
    columns = [Column(header, no_wrap=True) for header in headers]
    table = Table(*columns, title=escape(title))
    for name, (_, row) in zip(shown, features.head(top).iterrows(), strict=True):
        weights = [f"{row['variable_weight']:.3f}"] if has_weights else []
        table.add_row(
            name,
            f"{row['share']:.1%}",
            f"{row['importance']:.3g}",
            f"{row['direction']:+.3g}",
            f"{row['lag']:.0f}",
            *weights,
        )
    return table


@app.command()
def replay(
    datadir: Annotated[
        Path | None,
        typer.Option(help="Folder with freqtrade feather files. A synthetic market without it."),
    ] = None,
    pairs: Annotated[str, typer.Option(help="Pairs to serve, with commas.")] = "BTC/USDT,ETH/USDT",
    timeframe: Annotated[str, typer.Option(help="Timeframe of the stored candles.")] = "5m",
    serve_as: Annotated[
        str | None,
        typer.Option(help="Serve the candles as if they were of this timeframe, such as 1m."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Shift the candles so that the newest one is now.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, help="Days of a synthetic market.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a synthetic market.")] = 7,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    config: Annotated[
        Path, typer.Option(help="Where to write the config that points freqtrade here.")
    ] = Path("replay.json"),
) -> None:
    """Serve candles on the loopback interface as if this were Binance, until Ctrl-C.

    Then run freqtrade with the config that it wrote, as the last --config:

    freqtrade backtesting --config user_data/config.json --config replay.json
    """
    from freqai_lstm_plugins.replay import (
        ReplayExchange,
        read_candles,
        relabel,
        synthetic_market,
        write_overlay,
    )
    from freqai_lstm_plugins.replay.market import timeframe_ms

    names = [name.strip() for name in pairs.split(",") if name.strip()]
    if datadir is None:
        n_candles = days * 86_400_000 // timeframe_ms(timeframe)
        candles = synthetic_market(names, timeframe, n_candles, seed)
    else:
        candles = read_candles(datadir, names, timeframe)
    if serve_as is not None and serve_as != timeframe:
        candles, timeframe = relabel(candles, serve_as), serve_as
    with ReplayExchange(candles, timeframe, live=live, port=port) as exchange:
        write_overlay(config, exchange.url, names)
        source = f"candles of {datadir}" if datadir else "a synthetic market (made up)"
        out.print(f"Serving {source} on {exchange.url}, on this machine alone.")
        out.print(f"Give freqtrade --config {config} as its last config. Ctrl-C ends.")
        _wait_for_interrupt()


def _wait_for_interrupt() -> None:
    import signal
    import threading

    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    ended.wait()


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="End within two minutes.")] = False,
    datadir: Annotated[
        Path | None,
        typer.Option(help="Folder with freqtrade feather files of 5m candles of BTC and ETH."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Empty folder to write to; a new one by default.")
    ] = None,
) -> None:
    """Backtest, trade, restart and trade on, with the real freqtrade and no exchange.

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
    out.print(f"picture: {report.picture}")
    out.print(f"models, logs and results: {report.folder}")


def main() -> None:
    """Run the command, and show errors of ours as one line."""
    try:
        app()
    except FreqaiLSTMError as error:
        if _options["debug"]:
            raise
        err.print(f"Error: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
