"""Pictures of a report, as plotly figures without a legend: the page has one key for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from freqai_lstm_plugins.research.extras import load_extra
from freqai_lstm_plugins.research.findings import EQUAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

PURPOSE = "Writing a report"
# Colours that stay apart for colour-blind readers (Okabe and Ito; Tol for those after the sixth).
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#882255",
    "#117733",
)
DASHES = ("solid", "dash", "dot")
# A model whose predictions reach so many times as far as the middle one's is cut off.
WILD = 4.0
GREY = "#555555"
MOST_POINTS = 400
HEIGHT = 320
# A mean over a twentieth of the test shows where a model was good without drawing the noise.
PARTS = 20


class Palette:
    """Gives each model its colour and dash, the same in every picture."""

    def __init__(self, models: Iterable[str]) -> None:
        self.models = tuple(models)

    def line(self, model: str) -> dict[str, Any]:
        """Return plotly's settings of that model's line."""
        if model == EQUAL or model not in self.models:
            return {"color": GREY, "dash": "dash", "width": 2}
        number = self.models.index(model)
        dash = DASHES[number // len(COLOURS) % len(DASHES)]
        return {"color": COLOURS[number % len(COLOURS)], "dash": dash, "width": 2}

    def key(self, models: Iterable[str]) -> list[tuple[str, str, str]]:
        """Return name, colour and CSS border style of each model."""
        styles = {"solid": "solid", "dash": "dashed", "dot": "dotted"}
        lines = [(model, self.line(model)) for model in models]
        return [(model, line["color"], styles[line["dash"]]) for model, line in lines]


def _figure(traces: Sequence[Any], x: str, y: str, **layout: Any) -> Any:
    go = load_extra("plotly.graph_objects", PURPOSE)
    figure = go.Figure(traces)
    figure.update_layout(
        template="simple_white",
        showlegend=False,
        height=HEIGHT,
        margin={"l": 8, "r": 8, "t": 12, "b": 8},
        font={"size": 12},
        hovermode="closest",
        **layout,
    )
    figure.update_xaxes(title_text=x, automargin=True, nticks=6)
    figure.update_yaxes(title_text=y, automargin=True, showgrid=True, gridcolor="#eeeeee")
    return figure


def _lines(frame: pd.DataFrame, palette: Palette, **more: Any) -> list[Any]:
    go = load_extra("plotly.graph_objects", PURPOSE)
    x = [str(value) for value in frame.index]
    return [
        go.Scatter(x=x, y=_round(values), name=str(name), line=palette.line(str(name)), **more)
        for name, values in frame.items()
    ]


def _round(values: Any) -> list[float | None]:
    """Return numbers short enough for a page; a gap where there is none."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def thin(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep at most 400 lines, evenly, the first and last among them."""
    if len(frame) <= MOST_POINTS:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, MOST_POINTS).round().astype(int)]


def draw_ranking(ranking: pd.DataFrame, figure: str, palette: Palette) -> Any:
    """Draw each model's figure with its interval, the best on top."""
    go = load_extra("plotly.graph_objects", PURPOSE)
    lines = ranking.iloc[::-1]
    points = [
        go.Scatter(
            x=_round([line["estimate"]]),
            y=[str(model)],
            name=str(model),
            mode="markers",
            marker={"color": palette.line(str(model))["color"], "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": _round([line["upper"] - line["estimate"]]),
                "arrayminus": _round([line["estimate"] - line["lower"]]),
            },
        )
        for model, line in lines.iterrows()
    ]
    chart = _figure(points, figure, "")
    chart.add_vline(x=0, line_color=GREY, line_width=1)
    return chart


def draw_ic(ic: pd.DataFrame, figure: str, palette: Palette) -> Any:
    """Draw the running mean of what each date gives to the figure."""
    n = max(len(ic) // PARTS, 1)
    running = ic.rolling(n, min_periods=n).mean().iloc[n - 1 :]
    chart = _figure(_lines(thin(running), palette, mode="lines"), f"mean of {n} dates", figure)
    chart.add_hline(y=0, line_color=GREY, line_width=1)
    return chart


def draw_quantiles(quantiles: pd.DataFrame, palette: Palette) -> Any:
    """Draw the mean label in each quantile of the predictions, bars of a model side by side."""
    go = load_extra("plotly.graph_objects", PURPOSE)
    bars = [
        go.Bar(
            x=[str(column).removeprefix("quantile ") for column in quantiles],
            y=_round(values),
            name=str(model),
            marker_color=palette.line(str(model))["color"],
        )
        for model, values in zip(quantiles.index, quantiles.to_numpy(), strict=True)
    ]
    return _figure(bars, "quantile of the prediction", "mean label")


def draw_wealth(returns: pd.DataFrame, palette: Palette) -> Any:
    """Draw what an account of 1 became, on a scale of ratios."""
    wealth = thin((1 + returns).cumprod())
    return _figure(
        _lines(wealth, palette, mode="lines"), "", "account, from 1", yaxis={"type": "log"}
    )


def draw_drawdown(returns: pd.DataFrame, palette: Palette) -> Any:
    """Draw how far each account lies below its height."""
    wealth = (1 + returns).cumprod()
    below = thin(wealth / wealth.cummax().clip(lower=1.0) - 1)
    return _figure(
        _lines(below, palette, mode="lines"), "", "below its height", yaxis={"tickformat": ".0%"}
    )


def draw_outcomes(outcomes: pd.DataFrame, palette: Palette) -> Any:
    """Draw the mean label over the mean prediction of rows with similar predictions."""
    go = load_extra("plotly.graph_objects", PURPOSE)
    points = [
        go.Scatter(
            x=_round(rows["prediction"]),
            y=_round(rows["label"]),
            name=str(model),
            mode="lines+markers",
            line=palette.line(str(model)),
            marker={"size": 5},
        )
        for model, rows in outcomes.groupby("model", sort=False)
    ]
    largest = _common_reach(outcomes)
    ends = [
        float(outcomes["prediction"].clip(-largest, largest).min()),
        float(outcomes["prediction"].clip(-largest, largest).max()),
    ]
    right = go.Scatter(
        x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dot"}, name="as predicted"
    )
    chart = _figure([*points, right], "mean prediction", "mean label")
    if ends[0] < ends[1]:
        room = 0.05 * (ends[1] - ends[0])
        chart.update_xaxes(range=[ends[0] - room, ends[1] + room])
    return chart


def _common_reach(outcomes: pd.DataFrame) -> float:
    """Return how far predictions are drawn: one model of wild ones shall not dwarf the others."""
    reach = outcomes["prediction"].abs().groupby(outcomes["model"]).max()
    return float(min(reach.max(), WILD * reach.median()))


def draw_histories(histories: Mapping[str, pd.DataFrame], palette: Palette) -> Any:
    """Draw the validation loss over the epochs, relative to its first; lowest points marked."""
    go = load_extra("plotly.graph_objects", PURPOSE)
    traces = []
    for model, history in histories.items():
        loss = history["valid_loss"] / history["valid_loss"].iloc[0]
        line, best = palette.line(model), loss.idxmin()
        epochs = history["epoch"].tolist()
        traces.append(go.Scatter(x=epochs, y=_round(loss), name=model, mode="lines", line=line))
        traces.append(
            go.Scatter(
                x=[float(history.loc[best, "epoch"])],
                y=_round([loss.loc[best]]),
                name=f"{model}, best",
                mode="markers",
                marker={"color": line["color"], "size": 9},
            )
        )
    return _figure(traces, "epoch", "validation loss / the first")
