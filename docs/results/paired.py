"""Holds the models of a finished comparison against one of them, and prints the tables of the page.

`freqai-lstm compare` holds every model against LightGBM and against nothing. A study of settings
asks another question: is this setting better than that one? Forecasts of models that were trained
on other labels stand in folders of their own, and are judged by the same labels as all others. And
from one ensemble's file all others that its members make can be told, so that they differ by the
combination alone.

    python docs/results/paired.py docs/results/defaults.toml out/defaults --against base
    python docs/results/paired.py docs/results/defaults_labels.toml out/defaults --against base \
        --also out/clipped --also out/ranked
    python docs/results/paired.py docs/results/ensembles.toml out/hourly --against lightgbm \
        --ensemble dynamic --average lstm --set 'seeds=[1, 2, 3, 4, 5]'
    python docs/results/paired.py docs/results/hourly.toml out/hourly --against lstm --page
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.models.registry import load_model
from freqai_lstm_plugins.research.experiment import load_experiment
from freqai_lstm_plugins.research.experiment_schema import BASELINES
from freqai_lstm_plugins.research.findings import find
from freqai_lstm_plugins.research.forecasting import in_label_units
from freqai_lstm_plugins.research.inference import judge
from freqai_lstm_plugins.research.jobs import MODEL_FILE, is_done, make_inputs
from freqai_lstm_plugins.research.judgement import trading_of
from freqai_lstm_plugins.research.metrics import date_series
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.started import EXPERIMENT_FILE, start
from freqai_lstm_plugins.research.store import load_predictions, read_entry

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.findings import Findings
    from freqai_lstm_plugins.research.jobs import Job
    from freqai_lstm_plugins.research.started import Started


HINDSIGHT = "best in hindsight"


def main() -> None:
    """Print the tables."""
    given = read_arguments()
    run = start(load_experiment(given.experiment, given.overrides), given.out)
    table = load_predictions(run.plan.jobs, run.out, run.experiment.seeds)
    for folder in given.also:
        table = pd.concat([table, trained_on_other_labels(folder, table)], ignore_index=True)
    if given.average:
        table = pd.concat([table, averaged(table, given.average)], ignore_index=True)
    if given.ensemble:
        table = with_members(run, table, given.ensemble)
    show_trainings(run)
    # What nobody could have chosen takes no part in the tests of all others together.
    of_hindsight = table["model"] == HINDSIGHT
    show_pairs(run, table[~of_hindsight], given.against)
    if given.page or given.average or given.ensemble:
        show_accounts(run, table[~of_hindsight])
    if of_hindsight.any():
        show_accounts(run, table[of_hindsight | table["model"].isin(BASELINES)])


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("experiment", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--against", required=True)
    asked.add_argument(
        "--also", type=Path, action="append", default=[], help="a folder with other labels"
    )
    asked.add_argument("--ensemble", help="a `dynamic` ensemble whose members are told apart")
    asked.add_argument("--average", help="a model whose seeds are averaged to one more model")
    asked.add_argument("--page", action="store_true", help="print the page's table as well")
    asked.add_argument("--set", dest="overrides", action="append", default=[])
    return asked.parse_args()


def trained_on_other_labels(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return what the models of another folder forecast, beside the labels of this one."""
    run = start(load_experiment(folder / EXPERIMENT_FILE, []), folder)
    other = load_predictions(run.plan.jobs, run.out, run.experiment.seeds)
    # Saying zero is the same whatever the label.
    return judged_alike(other[other["model"] != "naive_zero"], table, folder.name)


def judged_alike(other: pd.DataFrame, table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return other forecasts with the labels of a table, and named after where they are from."""
    labels = table[["symbol", "date", "label", "known_at"]].drop_duplicates(["symbol", "date"])
    own = other.drop(columns=["label", "known_at"]).merge(labels, on=["symbol", "date"])
    return own.assign(model=f"{name} " + own["model"])


def averaged(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the mean forecast of a model's seeds, which has one seed of its own."""
    own = table[table["model"] == model]
    rows = own.groupby(["date", "symbol", "fold"], as_index=False)
    mean = rows.agg({"prediction": "mean", "label": "first", "known_at": "first"})
    return mean.assign(model=f"{model} x {own['seed'].nunique()}", seed=own["seed"].min())


def with_members(run: Started, table: pd.DataFrame, ensemble: str) -> pd.DataFrame:
    """Return a table with all that the members of an ensemble make, besides the members alone."""
    own = [job for job in run.plan.jobs if job.model == ensemble and is_done(job, run.out)]
    table = pd.concat([table, *(told_apart(job, run.out) for job in own)], ignore_index=True)
    table = pd.concat([table, best_in_hindsight(table)], ignore_index=True)
    return table[~table["model"].str.startswith("member ")]


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
    return members.merge(best, on=[*task, "model"]).assign(model=HINDSIGHT)


def show_trainings(run: Started) -> None:
    """Print how many trainings there are of each model, and where the best passes lie."""
    done = [job for job in run.plan.jobs if is_done(job, run.out)]
    known = [read_entry(run.out / job.place).metadata | {"model": job.model} for job in done]
    print(f"\nTrainings:\n{trainings_table(known).to_markdown()}")


def trainings_table(metadata: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a line a model: trainings, median best epoch, how often it is the first, seconds."""
    rows = pd.DataFrame(
        {
            "model": one["model"],
            "best_epoch": one["history"]["best_epoch"],
            "seconds": one["seconds"],
        }
        for one in metadata
    )
    grouped = rows.groupby("model")
    return pd.DataFrame(
        {
            "trainings": grouped.size(),
            "best epoch": grouped["best_epoch"].median(),
            "first epoch best": grouped["best_epoch"].agg(lambda own: (own == 1).mean()).round(2),
            "seconds": grouped["seconds"].sum().round(),
        }
    )


def show_pairs(run: Started, table: pd.DataFrame, against: str) -> None:
    """Print the paired differences by IC across symbols, of ranks and plain, and over time."""
    common = keep_common(check_predictions(table))
    for measure in ("cs_rank_ic", "cs_ic", "ts_rank_ic"):
        if measure.startswith("cs_") and common["symbol"].nunique() < 5:
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
    print(f"\n{page_table(findings).to_markdown(disable_numparse=True)}")


def page_table(findings: Findings) -> pd.DataFrame:
    """Return forecasts and accounts side by side, in the page's words."""
    ranking, accounts = findings.ranking, findings.accounts
    assert accounts is not None
    free, once = (accounts.xs(name, level="costs").loc[ranking.index] for name in ("none", "once"))
    return pd.DataFrame(
        {
            findings.figure: ranking["estimate"].map("{:+.3f}".format),
            "95 %": [f"{low:+.3f} to {high:+.3f}" for low, high in _ends(ranking)],
            "skill against LightGBM": (100 * ranking["skill"]).map("{:+.1f} %".format),
            "excess a year before costs": (100 * free["annual_excess"]).map("{:+.0f} %".format),
            "after costs": (100 * once["annual_excess"]).map("{:+.0f} %".format),
            "turnover a year": once["turnover"].map("{:,.0f}".format),
            "break-even a side": (100 * once["break_even"]).map("{:.3f} %".format),
        }
    )


def _ends(ranking: pd.DataFrame) -> zip[tuple[float, float]]:
    return zip(ranking["lower"], ranking["upper"], strict=True)


if __name__ == "__main__":
    main()
