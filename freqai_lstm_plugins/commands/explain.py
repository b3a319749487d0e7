"""Shows what a saved model looks at."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table

from freqai_lstm_plugins.commands.console import Configs, DataDir, UserDir, err, out
from freqai_lstm_plugins.errors import MissingExtraError

if TYPE_CHECKING:
    from freqai_lstm_plugins.explanations.explanation import Explanation
    from freqai_lstm_plugins.freqai.explain import ExplainedFile


def explain(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model file that FreqAI wrote: cb_..._model.zip, or ..._model.joblib."
        ),
    ],
    pair: Annotated[
        str | None,
        typer.Option(
            help="Pair to explain; by default that of the model's name. One net for all pairs must "
            "be told one."
        ),
    ] = None,
    userdir: UserDir = Path("user_data"),
    config: Configs = None,
    datadir: DataDir = None,
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
    """Show what a model looks at, and how many candles back.

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
    _show(explained, top)
    out.print(f"picture: {out_file}" + (f", table: {csv}" if csv else ""))


def _show(explained: ExplainedFile, top: int) -> None:
    """Print the `top` features, and how well they account for the answer."""
    explanation = explained.explanation
    table = _explanation_table(explanation, explained.title, top)
    # Wider than a narrow terminal rather than cut.
    table.width = Measurement.get(out, out.options.update(max_width=1000), table).maximum
    out.print(table)
    out.print(
        f"In the mean the features move the answer by {explanation.moved:.3g} "
        f"({explanation.unit}), of which the attributions miss {explanation.gap:.2g}."
    )


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
