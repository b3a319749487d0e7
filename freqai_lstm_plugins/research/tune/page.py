"""A page of Optuna's plots of a study: how it went, and which settings mattered."""

from __future__ import annotations

import html
import warnings
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.research.tune.storage import load_optuna, quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = "search.html"
_STYLE = "body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"


def write_page(study: Any, out: Path) -> Path:
    """Write the plots that the study's trials allow.

    Returns:
        Path of the page, which needs no network.
    """
    parts = []
    for title, plot in _plots(study).items():
        with quiet(), warnings.catch_warnings():
            # Of few trials, which the page shows anyhow.
            warnings.simplefilter("ignore", UserWarning)
            try:
                figure = plot()
            # Too few trials, or a setting that never changed: the other plots are there.
            except (ValueError, RuntimeError, ZeroDivisionError) as error:
                parts.append(f"<h2>{title}</h2><p>{html.escape(str(error))}</p>")
                continue
        script = not any("<script" in part for part in parts)
        parts.append(f"<h2>{title}</h2>{figure.to_html(full_html=False, include_plotlyjs=script)}")
    path = out / PAGE
    name = html.escape(study.study_name)
    write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style></head><body><h1>Search {name}</h1>{''.join(parts)}</body></html>",
    )
    return path


def _plots(study: Any) -> dict[str, Callable[[], Any]]:
    optuna = load_optuna()
    plots, importance = optuna.visualization, optuna.importance
    return {
        "Scores": lambda: plots.plot_optimization_history(study),
        "Importance (fANOVA)": lambda: plots.plot_param_importances(
            study, evaluator=importance.FanovaImportanceEvaluator(seed=0)
        ),
        "Importance (PED-ANOVA)": lambda: plots.plot_param_importances(
            study, evaluator=importance.PedAnovaImportanceEvaluator()
        ),
        "Parallel coordinates": lambda: plots.plot_parallel_coordinate(study),
        "Slices": lambda: plots.plot_slice(study),
    }
