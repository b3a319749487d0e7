"""Holds the models of a finished comparison against one of them, chosen by name.

`freqai-lstm compare` holds every model against LightGBM and against nothing. A study of settings
asks another question: is this setting better than that one? And from one ensemble's file all others
that its members make can be told, so that they differ by the combination alone.

    python docs/results/paired.py docs/results/defaults.toml out/defaults --against base
    python docs/results/paired.py docs/results/ensembles.toml out/hourly --against lightgbm \
        --ensemble dynamic --average lstm --set 'seeds=[1, 2, 3, 4, 5]'
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.models.registry import load_model
from freqai_lstm_plugins.research.experiment import load_experiment
from freqai_lstm_plugins.research.findings import find
from freqai_lstm_plugins.research.forecasting import in_label_units
from freqai_lstm_plugins.research.inference import judge
from freqai_lstm_plugins.research.jobs import MODEL_FILE, is_done, make_inputs
from freqai_lstm_plugins.research.judgement import trading_of
from freqai_lstm_plugins.research.metrics import date_series
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.started import start
from freqai_lstm_plugins.research.store import load_predictions

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.jobs import Job
    from freqai_lstm_plugins.research.started import Started


def main() -> None:
    """Print the tables."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("experiment", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--against", required=True)
    asked.add_argument("--ensemble", help="a `dynamic` ensemble whose members are told apart")
    asked.add_argument("--average", help="a model whose seeds are averaged to one more model")
    asked.add_argument("--set", dest="overrides", action="append", default=[])
    given = asked.parse_args()
    run = start(load_experiment(given.experiment, given.overrides), given.out)
    jobs = run.plan.jobs
    table = load_predictions(jobs, run.out, run.experiment.seeds)
    if given.average:
        table = pd.concat([table, averaged(table, given.average)], ignore_index=True)
    if given.ensemble:
        own = [job for job in jobs if job.model == given.ensemble and is_done(job, run.out)]
        parts = [told_apart(job, run.out) for job in own]
        table = pd.concat([table, *parts], ignore_index=True)
        table = pd.concat([table, best_in_hindsight(table)], ignore_index=True)
        table = table[~table["model"].str.startswith("member ")]
    show_pairs(run, table, given.against)
    if given.average or given.ensemble:
        show_accounts(run, table)


def averaged(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the mean forecast of a model's seeds, which has one seed of its own."""
    own = table[table["model"] == model]
    rows = own.groupby(["date", "symbol", "fold"], as_index=False)
    mean = rows.agg({"prediction": "mean", "label": "first", "known_at": "first"})
    return mean.assign(model=f"{model} x {own['seed'].nunique()}", seed=own["seed"].min())


def told_apart(job: Job, out: Path) -> pd.DataFrame:
    """Return what an ensemble's members make without following any label.

    `stack` has the weights to start from, `mean` equal ones, `best on validation` is the member of
    the least out-of-fold error, and each member stands for itself.
    """
    model = load_model(out / job.place / MODEL_FILE)
    inputs = make_inputs(job)
    wanted = inputs.assembled.has_window & inputs.split.test
    said = model.forecast_members(inputs.assembled.rows, wanted)
    weighed, members = model.fitted.weighed[0], said[0, :, 0, :]
    forecasts = {
        "stack": members @ np.asarray(weighed.weights),
        "mean": members.mean(axis=1),
        "best on validation": members[:, int(np.argmin(weighed.member_errors or [0.0]))],
    }
    for number, member in enumerate(model.fitted.members):
        forecasts[f"member {member.name}"] = members[:, number]
    scaling = inputs.assembled.data.scaling
    symbols = np.array([table.symbol for table in job.tables])[inputs.codes]
    parts = [
        inputs.frame.assign(
            symbol=symbols,
            model=name,
            seed=job.seed,
            fold=job.fold.number,
            prediction=in_label_units(scaling, values.reshape(-1, 1)),
        )[wanted]
        for name, values in forecasts.items()
    ]
    return pd.concat(parts, ignore_index=True)


def best_in_hindsight(table: pd.DataFrame) -> pd.DataFrame:
    """Return each fold's best member by the test itself, which nobody could have chosen."""
    members = table[table["model"].str.startswith("member ")]
    squared = (members["prediction"] - members["label"]) ** 2
    task = ["symbol", "fold", "seed"]
    errors = squared.groupby([members[name] for name in [*task, "model"]]).mean().unstack("model")
    best = errors.idxmin(axis=1).rename("model").reset_index()
    return members.merge(best, on=[*task, "model"]).assign(model="best in hindsight")


def show_pairs(run: Started, table: pd.DataFrame, against: str) -> None:
    """Print the paired differences by rank IC across symbols and over time."""
    common = keep_common(check_predictions(table))
    for measure in ("cs_rank_ic", "ts_rank_ic"):
        if measure == "cs_rank_ic" and common["symbol"].nunique() < 5:
            continue
        found = judge(
            date_series(common, measure),
            horizon=run.experiment.label.horizon,
            dates_per_year=bars_per_year(run.dataset.calendar),
            baselines=(against,),
            champion=against,
        )
        lines = found.comparisons.set_index("model")
        columns = ["difference", "lower", "upper", "p", "p_holm", "verdict"]
        shown = found.models[["estimate", "n_seeds"]].join(lines[columns])
        print(f"\n{measure}, against {against}, blocks of {found.block} in {found.n_dates} dates:")
        print(shown.sort_values("estimate", ascending=False).round(4).to_markdown())


def show_accounts(run: Started, table: pd.DataFrame) -> None:
    """Print what the report would, had it known the models that were added."""
    findings = find(
        check_predictions(table),
        horizon=run.experiment.label.horizon,
        dates_per_year=bars_per_year(run.dataset.calendar),
        trading=trading_of(run.experiment, run),
    )
    print("\n".join(("", *findings.verdicts, *findings.notes)))
    for title, found in (("Ranking", findings.ranking), ("Accounts", findings.accounts)):
        if found is not None:
            print(f"\n{title}:\n{found.round(4).to_markdown()}")


if __name__ == "__main__":
    main()
