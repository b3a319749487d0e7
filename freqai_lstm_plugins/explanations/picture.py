"""Pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from freqai_lstm_plugins.explanations.explanation import Explanation


def plot_explanation(explanation: Explanation, title: str, top: int = 20) -> Figure:
    """Draw how much each of the `top` features counts at each lag, and where attention looks.

    A heat map of features and lags, bars beside it with each feature's share of all importance, and
    above it bars of the net's own attention where it has any. With a single lag the bars alone.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    features = explanation.features().head(top)
    n_lags = explanation.importance.shape[1]
    longest = max(len(str(name)) for name in features.index)
    above = 0 if explanation.attention is None else 0.9
    width = 0.075 * longest + 3.5 + (0.8 if n_lags == 1 else min(max(0.22 * n_lags, 3.0), 12.0))
    height = max(0.24 * len(features), 1.6)
    figure = new_figure(width, height + above + 1.5)
    # A dollar in a name begins no formula.
    figure.suptitle(title, fontsize=11, parse_math=False)
    if n_lags == 1:
        bars = figure.add_subplot()
    else:
        rows = 1 if explanation.attention is None else 2
        heights = [1] if rows == 1 else [0.7, height]
        cells = figure.subplots(
            rows, 2, squeeze=False, width_ratios=[5, 1], height_ratios=heights, sharex="col"
        )
        _draw_heat(figure, cells[-1, 0], explanation, list(features.index))
        bars = cells[-1, 1]
        if explanation.attention is not None:
            _draw_attention(cells[0, 0], explanation)
            cells[0, 1].axis("off")
    bars.barh(range(len(features)), 100 * features["share"], color="tab:blue")
    bars.set(ylim=(len(features) - 0.5, -0.5), xlabel="share in %")
    names = list(features.index) if n_lags == 1 else []
    bars.set_yticks(range(len(names)), names, parse_math=False)
    return figure


def _draw_heat(figure: Figure, axes: Axes, explanation: Explanation, names: list[str]) -> None:
    values = explanation.importance.loc[names].to_numpy()
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, interpolation="nearest")
    lags = list(explanation.importance.columns)
    step = -(-len(lags) // 12)
    # From the newest row on, so that it always has its tick.
    places = list(range(len(lags) - 1, -1, -step))
    axes.set_xticks(places, [str(lags[place]) for place in places])
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="x", labelbottom=True)
    axes.set(xlabel="rows before the prediction")
    label = f"mean |attribution|, {explanation.unit}"
    figure.colorbar(image, ax=axes, label=label, location="right", pad=0.02)


def _draw_attention(axes: Axes, explanation: Explanation) -> None:
    assert explanation.attention is not None
    axes.bar(range(len(explanation.attention)), explanation.attention, color="tab:orange")
    axes.set(ylabel="attention")
    axes.tick_params(axis="x", labelbottom=False)
