"""From stored predictions to the report: what the models of an experiment are worth."""

from __future__ import annotations

import hashlib
import json
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pandas as pd

from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.errors import DataError, MissingExtraError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.names import counted
from freqai_lstm_plugins.research.checks import Checked, summary, untrusted_rows
from freqai_lstm_plugins.research.experiment import experiment_hash
from freqai_lstm_plugins.research.findings import Trading, find
from freqai_lstm_plugins.research.inference import least_dates
from freqai_lstm_plugins.research.jobs import is_done, package_versions
from freqai_lstm_plugins.research.market import Market, Rules, build_market
from freqai_lstm_plugins.research.portfolio import Costs
from freqai_lstm_plugins.research.portfolio import Plan as Positions
from freqai_lstm_plugins.research.predictions import check_predictions
from freqai_lstm_plugins.research.report import Report, Run, write_report
from freqai_lstm_plugins.research.started import EXPERIMENT_FILE, Started, writing_to
from freqai_lstm_plugins.research.store import Entry, find_entries, load_predictions, read_entry
from freqai_lstm_plugins.training.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from freqai_lstm_plugins.research.experiment_schema import Experiment
    from freqai_lstm_plugins.research.report import Section

# What a report is made with; not needed for trainings.
JUDGES = ("arch", "purgedcv", "scipy", "plotly", "jinja2")
REPORT_FOLDER, STATE_FILE, VERDICT_FILE = "report", "state.json", "verdict.txt"


def judge_run(started: Started, more: Sequence[Section] = ()) -> Path:
    """Write the report of what is done, unless the very same stands there already.

    Args:
        started: The run.
        more: Parts of the page that it knows nothing of, such as those of a search.

    Returns:
        Path of the page.

    Raises:
        DataError: No job succeeded, or there are too few dates to judge.
        MissingExtraError: A package of the extra `research` is not installed.
    """
    folder = started.out / REPORT_FOLDER
    state = _state(started, more)
    page, written = folder / "report.html", folder / STATE_FILE
    if page.is_file() and written.is_file() and written.read_text(encoding="utf-8") == state:
        return page
    experiment = started.experiment
    table = load_predictions(started.plan.jobs, started.out, experiment.seeds)
    findings = find(
        check_predictions(table),
        horizon=experiment.label.horizon,
        dates_per_year=bars_per_year(started.dataset.calendar),
        trading=trading_of(experiment, started),
    )
    with writing_to(started.out):
        page = write_report(Report(_run(started, table), findings, tuple(more)), folder)
        write_text(folder / VERDICT_FILE, "\n".join(findings.verdicts) + "\n")
        write_text(written, state)
    return page


def _state(started: Started, more: Sequence[Section]) -> str:
    """Return what a report is made of: experiment, headline, how each job ended, and more."""
    done = sorted(job.key for job in started.plan.jobs if is_done(job, started.out))
    experiment = started.experiment
    known: list[Any] = [experiment_hash(experiment), experiment.output.title, done]
    known += [started.failures.to_dict("records"), package_versions()]
    known += [[part.name, *(figure.to_json() for _, figure in part.charts)] for part in more]
    content = json.dumps(known)
    return hashlib.sha256(content.encode()).hexdigest() + "\n"


def trading_of(experiment: Experiment, started: Started) -> Trading:
    """Return how the experiment trades its predictions, in the market of the run's candles."""
    portfolio, costs = experiment.portfolio, experiment.costs
    rules = Rules(portfolio.can_short, portfolio.settlement, experiment.data.price_limit)
    return Trading(
        market=build_checked_market(started.dataset.checked, rules),
        plan=Positions(
            portfolio.kind,
            experiment.label.horizon,
            min(portfolio.k, len(started.dataset.tables)),
            portfolio.threshold,
        ),
        costs=Costs(costs.buy + costs.slippage, costs.sell + costs.slippage, costs.tax),
        rules=rules,
        n_tried=_count_tried(started.out),
        is_hindsight=portfolio.hindsight,
    )


def build_checked_market(checked: Checked, rules: Rules) -> Market:
    """Lay the candles side by side, without the return across a row that cannot be right."""
    candles = pd.concat(
        [frame.assign(symbol=symbol) for symbol, frame in checked.candles.items()],
        ignore_index=True,
    )
    wrong = pd.MultiIndex.from_frame(untrusted_rows(checked))
    bad = pd.Series(pd.MultiIndex.from_frame(candles[["symbol", "date"]]).isin(wrong))
    # A halted share has no bar; it stays in the account, and its jump is earned.
    kept = bad | candles["close"].notna()
    return build_market(candles[kept], rules, bad=bad[kept])


def _count_tried(out: Path) -> int:
    """Return how many different models and settings were ever trained in the output folder."""
    known = [entry.metadata for entry in find_entries(out)]
    decisive = ("kind", "settings", "window", "is_panel", "symbol_embedding")
    looked_at = [
        [
            *(one[name] for name in decisive),
            one.get("balance", "candles"),
            one.get("left_out") is not None,
        ]
        for one in known
    ]
    return len({json.dumps(values, sort_keys=True) for values in looked_at})


def _run(started: Started, table: pd.DataFrame) -> Run:
    experiment, plan = started.experiment, started.plan
    entries = [
        (job.model, read_entry(started.out / job.place))
        for job in plan.jobs
        if is_done(job, started.out)
    ]
    text = (started.out / EXPERIMENT_FILE).read_text(encoding="utf-8")
    dates = f"{table['date'].min():%Y-%m-%d} to {table['date'].max():%Y-%m-%d}"
    return Run(
        title=experiment.output.title or "Comparison",
        summary=(
            f"{counted(table['symbol'].nunique(), 'symbol')}, "
            f"{counted(len(experiment.models), 'model')}, {counted(len(plan.folds), 'fold')}, "
            f"{counted(len(experiment.seeds), 'seed')}, test rows from {dates}"
        ),
        experiment=text,
        histories=_histories(entries),
        timings=_timings(entries),
        ensembles=_ensembles(entries),
        purged=_purged(plan.purged),
        checks=summary(started.dataset.checked),
        failures=pd.concat([started.failures, _left_out(plan.left_out)], ignore_index=True),
    )


def _histories(entries: list[tuple[str, Entry]]) -> dict[str, pd.DataFrame]:
    """Return the losses of one training of each model that makes passes: its first."""
    found: dict[str, pd.DataFrame] = {}
    for model, entry in entries:
        epochs = entry.metadata["history"]["epochs"]
        # Without validation there is no curve to look at.
        if model not in found and len(epochs) > 1 and epochs[0]["valid_loss"] is not None:
            frame = pd.DataFrame(epochs).rename(columns={"number": "epoch"})
            found[model] = frame[["epoch", "train_loss", "valid_loss"]]
    return found


def _ensembles(entries: list[tuple[str, Entry]]) -> pd.DataFrame:
    """Return what ensembles are made of fold by fold, means over symbols and seeds."""
    rows = []
    for model, entry in entries:
        found = entry.metadata.get("ensemble")
        if found is None:
            continue
        fold = entry.metadata["fold"]
        own, mean = found["own_error"], found["mean_error"]
        rows.append(
            {
                "model": model,
                "fold": fold["number"],
                "test_from": str(fold["test"]["first"])[:10],
                "effective_members": found["effective_members"],
                "error_correlation": found["correlation"],
                "error_beside_mean": own / mean - 1 if own is not None and mean else None,
                **{f"w_{name}": weight for name, weight in found["weights"].items()},
            }
        )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    numbers = table.columns.difference(["model", "fold", "test_from"])
    table[numbers] = table[numbers].astype(float)
    return table.groupby(["model", "fold", "test_from"], sort=False).mean().reset_index()


def _timings(entries: list[tuple[str, Entry]]) -> pd.DataFrame:
    rows = [
        {
            "model": model,
            "jobs": 1,
            "seconds": entry.metadata["seconds"],
            "peak_memory_mb": entry.metadata["peak_memory_bytes"] / 2**20,
            "no_better_than_constant": _is_beaten(entry.metadata["history"]),
        }
        for model, entry in entries
    ]
    grouped = pd.DataFrame(rows).groupby("model", sort=False)
    columns: Any = {"jobs": "sum", "seconds": "sum", "peak_memory_mb": "max"}
    columns["no_better_than_constant"] = lambda told: told.sum(min_count=1)
    return grouped.agg(columns)


def _is_beaten(history: dict[str, Any]) -> float:
    """Tell whether a constant forecast did as well on the validation rows; NaN if unknown."""
    found = History.from_dict(history)
    if found.constant_loss is None:
        return math.nan
    return float(found.best_loss >= found.constant_loss)


def _purged(purged: pd.DataFrame) -> pd.DataFrame:
    return purged.drop(columns="symbol").groupby("fold").sum()


def _left_out(left_out: pd.DataFrame) -> pd.DataFrame:
    jobs = [f"every model, {row.symbol}, fold {row.fold}" for row in left_out.itertuples()]
    return pd.DataFrame({"job": jobs, "reason": list(left_out["reason"])})


def require_judgeable(started: Started) -> None:
    """Refuse before the first training what could not be judged after the last.

    Raises:
        DataError: The test parts have too few dates for labels of this horizon.
        MissingExtraError: A package of the extra `research` is not installed.
    """
    for name in JUDGES:
        if find_spec(name) is None:
            raise MissingExtraError(name, "research", "Judging a comparison")
    horizon = started.experiment.label.horizon
    n_dates = sum(
        int(fold.test.holds(started.dataset.calendar).sum()) for fold in started.plan.folds
    )
    if n_dates < least_dates(horizon):
        raise DataError(
            f"The test parts hold {n_dates} dates, too few to judge labels of {horizon} dates, "
            f"which take {least_dates(horizon)}: give more with split.folds, split.test_bars or "
            "split.test, or set a smaller label.horizon."
        )


def require_some_done(started: Started) -> None:
    """Raise DataError where no job succeeded."""
    if not any(is_done(job, started.out) for job in started.plan.jobs):
        raise DataError(
            f"No job succeeded, so there is nothing to judge: the reasons stand in {started.out}."
        )
