"""Optuna's plots of a study, as parts of a report and as a page of their own while it grows."""

from __future__ import annotations

import html
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.research.report import Section
from freqai_lstm_plugins.research.tune.storage import load_optuna, quiet
from freqai_lstm_plugins.research.tune.study import REASON, SETTINGS, completed, finished

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE, CAPTION = "search.html", "Drawn by Optuna"
_INSIDE = "Without the defaults where they lie outside the ranges."
# On a phone a plot keeps the width that its labels need, and is scrolled.
_STYLE = """body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:.85rem}td,th{padding:.2rem .6rem;text-align:left}
.wide{overflow-x:auto}.wide>div{min-width:44rem}"""


def plot_sections(study: Any) -> tuple[Section, ...]:
    """Return a table of the trials and the plots that they allow, as parts of a report."""
    found = [
        Section(
            "search",
            "The search: trials",
            "Each trial as the search saw it: its score is the one that looks best among many. A "
            "trial that ended early has none.",
            trial_table(study),
            is_detail=True,
        )
    ]
    for name, (title, text, plot) in _plots(study).items():
        figure = _drawn(plot)
        if not isinstance(figure, str):
            found.append(Section(name, title, text, charts=((CAPTION, figure),)))
    return tuple(found)


def trial_table(study: Any) -> pd.DataFrame:
    """Return a line for each finished trial: state, score, seconds, settings, why it failed."""
    lines = [
        {
            "trial": one.number,
            "state": one.state.name.lower(),
            "score": one.value if one.state.name == "COMPLETE" else None,
            "seconds": one.user_attrs.get("seconds"),
            **{name: _plain(value) for name, value in one.user_attrs.get(SETTINGS, {}).items()},
            "reason": one.user_attrs.get(REASON, ""),
        }
        for one in finished(study)
    ]
    table = pd.DataFrame(lines)
    if len(table) and not table["reason"].any():
        table = table.drop(columns="reason")
    return table.set_index("trial") if len(table) else table


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def write_page(study: Any, out: Path) -> Path:
    """Write the plots that the study's trials allow, and why the others are not there.

    Returns:
        Path of the page, which needs no network.
    """
    parts: list[str] = []
    for title, text, plot in _plots(study).values():
        figure = _drawn(plot)
        parts.append(f"<h2>{title}</h2><p>{text}</p>")
        if isinstance(figure, str):
            parts.append(f"<p>{html.escape(figure)}</p>")
            continue
        script = not any("<script" in part for part in parts)
        drawn = figure.to_html(full_html=False, include_plotlyjs=script)
        parts.append(f'<div class="wide">{drawn}</div>')
    lines = trial_table(study).rename_axis(columns="trial").rename_axis(index=None)
    shown = lines.to_html(na_rep="", border=0, float_format="{:.4g}".format)
    parts.append(f'<h2>Trials</h2><div class="wide">{shown}</div>')
    path = out / PAGE
    name = html.escape(study.study_name)
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>Search {name}</h1>{''.join(parts)}</body></html>",
    )
    return path


def _drawn(plot: Callable[[], Any]) -> Any:
    """Return a figure, or why there is none."""
    with quiet(), warnings.catch_warnings():
        # Of few trials, which the page shows anyhow.
        warnings.simplefilter("ignore", UserWarning)
        try:
            figure = plot()
        # Too few trials, or a setting that never changed: the other plots are there.
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            return " ".join(str(error).split())
    # The heading says the title, and the page the width.
    return figure.update_layout(title=None, width=None, autosize=True, margin={"t": 30})


def _plots(study: Any) -> dict[str, tuple[str, str, Callable[[], Any]]]:
    """Return name, heading, what it shows, and how it is made."""
    optuna = load_optuna()
    plots, importance = optuna.visualization, optuna.importance
    inside = _inside(study)
    named = {"target": lambda trial: trial.value, "target_name": "score"}
    return {
        "search_history": (
            "The search: scores",
            "Score by number of the trial; the line is the best so far.",
            lambda: plots.plot_optimization_history(study, target_name="score"),
        ),
        "search_fanova": (
            "The search: importance (fANOVA)",
            f"Share of the scores' variance that a setting explains. {_INSIDE}",
            lambda: plots.plot_param_importances(
                inside, evaluator=importance.FanovaImportanceEvaluator(seed=0), **named
            ),
        ),
        "search_pedanova": (
            "The search: importance (PED-ANOVA)",
            f"How much a setting decides whether a trial is among the best. {_INSIDE}",
            lambda: plots.plot_param_importances(
                inside, evaluator=importance.PedAnovaImportanceEvaluator()
            ),
        ),
        "search_coordinates": (
            "The search: parallel coordinates",
            f"A line a trial, through its settings. {_INSIDE}",
            lambda: plots.plot_parallel_coordinate(inside, **named),
        ),
        "search_slices": (
            "The search: slices",
            "Score by each setting alone.",
            lambda: plots.plot_slice(study, **named),
        ),
    }


def _inside(study: Any) -> Any:
    """Return the trials whose settings all lie in the ranges, which the defaults' need not.

    A setting that one trial lacks is one that Optuna's importances leave out.
    """
    optuna = load_optuna()
    done = completed(study)
    names = {name for trial in done for name in trial.params}
    with quiet():
        found = optuna.create_study(direction="maximize", study_name=study.study_name)
        found.add_trials([trial for trial in done if trial.params.keys() == names])
    return found
