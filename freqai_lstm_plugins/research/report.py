"""The page that somebody who did not run a comparison can read, and its tables as CSV and Markdown.

The page is one file that asks no network for anything: plotly is embedded once, and a policy in the
page forbids the browser every request. Each table is there without JavaScript too; charts repeat
what tables say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.research import charts
from freqai_lstm_plugins.research.extras import load_extra
from freqai_lstm_plugins.research.findings import EQUAL, Findings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TEMPLATE = "report.html.j2"
# More lines than this stand in the CSV file alone.
MOST_LINES = 200
FULL_SHADE = 0.75
NOTHING = "\u2013"
# Probabilities, which are read beside 0.05, whatever the others of their column are.
PROBABILITIES = {"p", "p_holm"}


@dataclass(frozen=True)
class Run:
    """What a run knows beside its predictions.

    Attributes:
        title: Heading of the page.
        summary: One line: symbols, models, folds, seeds, dates.
        experiment: Text of the experiment file, as it was resolved.
        histories: For each net the losses of one training: `epoch`, `train_loss`, `valid_loss`.
        timings: A line a model: seconds and peak memory.
        ensembles: A line an ensemble and fold: its weights, and how alike its members' errors are.
        purged: A line a fold: its dates and the rows left out before them.
        checks: A line a warning about the data.
        failures: A line a job that failed, with its reason.
    """

    title: str
    summary: str
    experiment: str
    histories: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    timings: pd.DataFrame = field(default_factory=pd.DataFrame)
    ensembles: pd.DataFrame = field(default_factory=pd.DataFrame)
    purged: pd.DataFrame = field(default_factory=pd.DataFrame)
    checks: pd.DataFrame = field(default_factory=pd.DataFrame)
    failures: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Report:
    """All that a report shows: the run, what was found, and parts that another one adds."""

    run: Run
    findings: Findings
    more: tuple[Section, ...] = ()


@dataclass(frozen=True)
class TableView:
    """A table as text: its cells, whether a column holds numbers, and the shade of each cell."""

    columns: list[str]
    rows: list[list[str]]
    is_number: list[bool]
    shades: list[list[str]]
    left_out: int


@dataclass(frozen=True)
class Section:
    """A part of the page: a table, and the charts that stand above it.

    Attributes:
        name: Name of its CSV file.
        title: Heading.
        text: What the columns mean.
        frame: The table; None where the charts stand alone.
        charts: Captions and plotly figures.
        key: Models that the charts show.
        is_shaded: Whether numbers are shaded by their size, as in a heat map.
        is_detail: Whether the table says no more than its chart, so that it stands folded.
    """

    name: str
    title: str
    text: str
    frame: pd.DataFrame | None = None
    charts: tuple[tuple[str, Any], ...] = ()
    key: tuple[str, ...] = ()
    is_shaded: bool = False
    is_detail: bool = False


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html`, `report.md` and `tables/*.csv` into a folder, each whole or not at all.

    Returns:
        Path of the page.

    Raises:
        MissingExtraError: plotly or jinja2 is not installed.
    """
    palette = charts.Palette(str(name) for name in report.findings.ranking.index)
    sections = build_sections(report, palette)
    # All is made before anything is written, so a page never stands beside older tables.
    page, text = render_page(report, sections, palette), render_markdown(report, sections)
    for section in sections:
        if section.frame is not None:
            write_text(folder / "tables" / f"{section.name}.csv", to_csv(section.frame))
    write_text(folder / "report.md", text)
    write_text(folder / "report.html", page)
    return folder / "report.html"


def build_sections(report: Report, palette: charts.Palette) -> list[Section]:
    """Return the parts of the page in their order, those that have nothing to show left out."""
    found, run = report.findings, report.run
    models = tuple(palette.models)
    sections = [
        Section(
            "ranking",
            "Ranking",
            f"By {found.figure}, with its 95 % interval. Where LightGBM is among the models, skill "
            "is the share of its squared error that a model saves (geometric mean over symbols and "
            "folds), win rate how often the model's error is the smaller one.",
            found.ranking,
            (("With 95 % intervals", charts.draw_ranking(found.ranking, found.figure, palette)),),
        ),
        Section(
            "comparisons",
            "One against the other",
            f"Differences in {found.figure}; above zero is better. p_holm holds for all lines "
            "together. more_years says how many more years of data would tell.",
            found.comparisons,
        ),
        Section(
            "scores",
            "All figures of each run",
            "Correlations over time (ts) and across symbols (cs), errors, hits beside the share "
            "of the more frequent sign, and how much a prediction resembles the one before.",
            found.scores,
        ),
        Section(
            "symbols",
            "Symbol by symbol",
            "Rank correlation of prediction and label over time, mean over seeds.",
            found.per_symbol,
            is_shaded=True,
        ),
        Section(
            "months",
            "Month by month",
            f"Mean of each month's dates: {found.figure}.",
            by_month(found.ic),
            ((f"{found.figure}, running mean", charts.draw_ic(found.ic, "", palette)),),
            models,
            is_shaded=True,
        ),
        Section(
            "quantiles",
            "What followed low and high predictions",
            "Mean label of each fifth of the predictions.",
            found.quantiles,
            (("Mean label by quantile", charts.draw_quantiles(found.quantiles, palette)),),
            models,
        ),
        *_account_sections(found, palette),
        Section(
            "outcomes",
            "Prediction against outcome",
            "Rows with similar predictions together. On the dotted line predictions have the right "
            "size.",
            found.outcomes,
            (("Mean label by mean prediction", charts.draw_outcomes(found.outcomes, palette)),),
            tuple(found.outcomes["model"].unique()),
            is_detail=True,
        ),
        *report.more,
        *_run_sections(run, palette),
    ]
    return [part for part in sections if part.charts or not _is_empty(part.frame)]


def _is_empty(frame: pd.DataFrame | None) -> bool:
    return frame is None or frame.empty


def _account_sections(found: Findings, palette: charts.Palette) -> list[Section]:
    if found.returns is None or found.accounts is None or found.account_comparisons is None:
        return []
    models = (*palette.models, EQUAL)
    pictures = (
        ("Account after costs", charts.draw_wealth(found.returns, palette)),
        ("Below its height", charts.draw_drawdown(found.returns, palette)),
    )
    return [
        Section(
            "accounts",
            "What trading them would have earned",
            "Rates of a year, at no costs, at those of the experiment and at twice as much, beside "
            "holding all symbols equally. break_even is the cost of each side at which the lead "
            "over equal weight is gone; deflated_sharpe the probability that the lead is more than "
            "the best of all tries by luck.",
            found.accounts,
            pictures,
            models,
        ),
        Section(
            "account_comparisons",
            "Accounts, one against the other",
            "Differences in the mean net return of a bar, after costs.",
            found.account_comparisons,
        ),
    ]


def _run_sections(run: Run, palette: charts.Palette) -> list[Section]:
    losses = [frame.assign(model=model) for model, frame in run.histories.items()]
    curves: tuple[tuple[str, Any], ...] = ()
    if losses:
        curves = (("Validation loss by epoch", charts.draw_histories(run.histories, palette)),)
    history = pd.concat(losses).set_index(["model", "epoch"]) if losses else pd.DataFrame()
    return [
        Section(
            "histories",
            "Training curves",
            "One training of each model that makes passes: epochs of a net, trees, penalties of a "
            "ridge. The point marks the pass that was kept.",
            history,
            curves,
            tuple(run.histories),
            is_detail=True,
        ),
        Section(
            "ensembles",
            "What ensembles are made of",
            "Fold by fold, so over time, and in the mean over symbols and seeds: the members' "
            "weights (w_), how many members of equal weight these amount to, how alike the "
            "members' out-of-fold errors are, and by what share the ensemble's squared error there "
            "was above that of the plain mean (below zero is better).",
            run.ensembles,
        ),
        Section(
            "timings",
            "Trainings",
            "Seconds of all jobs of a model, the most memory that one took, and in how many a "
            "constant forecast did as well on the validation rows.",
            run.timings,
        ),
        Section(
            "purged",
            "Rows left out between training and test",
            "Their labels were not known before the first test candle.",
            run.purged,
        ),
        Section(
            "failures",
            "Jobs that failed or could not be done",
            "The other jobs went on.",
            run.failures,
        ),
        Section("checks", "Data check", "A bad row counts as missing.", run.checks),
    ]


def by_month(ic: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each calendar month; the text of a month is its line."""
    months = pd.DatetimeIndex(ic.index).strftime("%Y-%m")
    return ic.groupby(months).mean().rename_axis("month")


def lay_out(frame: pd.DataFrame, *, is_shaded: bool = False) -> TableView:
    """Turn a table into text, its index first, with the same decimals all down a column."""
    shown = frame.iloc[:MOST_LINES]
    flat = shown if _is_numbered(shown.index) else shown.reset_index()
    n_index = flat.shape[1] - shown.shape[1]
    cells = [_format(flat.iloc[:, number]) for number in range(flat.shape[1])]
    shades = [[""] * len(flat)] * n_index + _shade(shown) if is_shaded else []
    return TableView(
        columns=[str(name) for name in flat.columns],
        rows=[list(row) for row in zip(*cells, strict=True)],
        is_number=[_is_number(kind) for kind in flat.dtypes],
        shades=[list(row) for row in zip(*shades, strict=True)],
        left_out=len(frame) - len(shown),
    )


def _is_number(kind: Any) -> bool:
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _is_numbered(index: pd.Index[Any]) -> bool:
    return isinstance(index, pd.RangeIndex) and index.name is None


def _format(column: pd.Series[Any]) -> list[str]:
    if pd.api.types.is_bool_dtype(column):
        return ["yes" if value else "no" for value in column]
    if pd.api.types.is_float_dtype(column):
        decimals = 4 if column.name in PROBABILITIES else None
        return _format_floats(column.to_numpy(dtype=float), decimals)
    if pd.api.types.is_datetime64_any_dtype(column):
        has_hours = (column.dropna().dt.normalize() != column.dropna()).any()
        style = "%Y-%m-%d %H:%M" if has_hours else "%Y-%m-%d"
        return [NOTHING if pd.isna(value) else value.strftime(style) for value in column]
    return [NOTHING if pd.isna(value) else str(value) for value in column]


def _format_floats(values: Any, decimals: int | None = None) -> list[str]:
    """Give the middle number of a column three digits, and all others as many decimals."""
    if decimals is None:
        sizes = np.abs(values[np.isfinite(values) & (values != 0)])
        digits = 2 - math.floor(math.log10(np.median(sizes))) if len(sizes) else 0
        decimals = min(max(digits, 0), 8)
    words = {math.inf: "\u221e", -math.inf: "-\u221e"}
    # Adding zero turns a rounded -0.0 into 0.0.
    texts = [f"{round(float(value), decimals) + 0.0:.{decimals}f}" for value in values]
    return [
        NOTHING if math.isnan(value) else words.get(value, text)
        for value, text in zip(values, texts, strict=True)
    ]


def _shade(frame: pd.DataFrame) -> list[list[str]]:
    """Return a background for each cell: blue above zero, orange below, by the largest of all."""
    values = frame.to_numpy(dtype=float)
    largest = np.nanmax(np.abs(values), initial=0.0) or 1.0
    return [[_colour(value / largest) for value in column] for column in values.T]


def _colour(share: float) -> str:
    if math.isnan(share):
        return ""
    base = "0,114,178" if share > 0 else "230,159,0"
    return f"rgba({base},{abs(share) * FULL_SHADE:.2f})"


def to_csv(frame: pd.DataFrame) -> str:
    """Return the table with all digits; an index that only counts is left out."""
    return frame.to_csv(index=not _is_numbered(frame.index), lineterminator="\n")


def render_markdown(report: Report, sections: list[Section]) -> str:
    """Return the verdicts and tables as Markdown."""
    run, found = report.run, report.findings
    parts = [f"# {run.title}", run.summary, "## Verdict", _list(found.verdicts), _list(found.notes)]
    for section in sections:
        parts.append(f"## {section.title}")
        parts.append(section.text)
        if section.is_detail:
            parts.append(f"The table stands in `tables/{section.name}.csv`.")
        elif section.frame is not None and not section.frame.empty:
            parts.append(_to_markdown(section, lay_out(section.frame)))
    parts += ["## Experiment", f"```toml\n{run.experiment.strip()}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _list(sentences: tuple[str, ...]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _to_markdown(section: Section, view: TableView) -> str:
    rules = ["--:" if number else "---" for number in view.is_number]
    lines = [view.columns, rules, *view.rows]
    text = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
    if view.left_out:
        text += f"\n\n{view.left_out} more lines stand in `tables/{section.name}.csv`."
    return text


def render_page(report: Report, sections: list[Section], palette: charts.Palette) -> str:
    """Return the page as one HTML document."""
    jinja2 = load_extra("jinja2", charts.PURPOSE)
    plotly_js = load_extra("plotly.offline", charts.PURPOSE).get_plotlyjs()
    source = files("freqai_lstm_plugins.research").joinpath(TEMPLATE).read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    views = [
        {
            "section": section,
            "key": palette.key(section.key),
            "charts": [(caption, _to_html(figure)) for caption, figure in section.charts],
            "view": None
            if section.frame is None or section.frame.empty
            else lay_out(section.frame, is_shaded=section.is_shaded),
        }
        for section in sections
    ]
    template = environment.from_string(source)
    return str(
        template.render(run=report.run, findings=report.findings, parts=views, plotly_js=plotly_js)
    )


def _to_html(figure: Any) -> str:
    io = load_extra("plotly.io", charts.PURPOSE)
    return str(
        io.to_html(
            figure,
            full_html=False,
            include_plotlyjs=False,
            default_height=f"{charts.HEIGHT}px",
            config={"responsive": True, "displayModeBar": False},
        )
    )
