"""The experiments of the page of results, and the script that holds models against one of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.models.registry import new_model
from freqai_lstm_plugins.research.experiment import load_experiment
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import load_predictions
from tests.models.ensemble.windows import TREES
from tests.research.test_run import experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "xgboost"):
    pytest.importorskip(needed)

FOLDER = Path(__file__).parents[2] / "docs" / "results"
MEMBERS = {"ridge": {}, "lightgbm": TREES, "naive_zero": {}}


@pytest.fixture(scope="module")
def paired():
    spec = importlib.util.spec_from_file_location("paired", FOLDER / "paired.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candles")
    write_candles(folder, "ABC")
    models = {
        how: {"kind": "ensemble", "combine": how, "members": MEMBERS}
        for how in ("dynamic", "stack", "mean")
    }
    run = train(start(experiment(folder, models=models), tmp_path_factory.mktemp("out")), workers=1)
    assert run.failures.empty
    return run


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_model_of_every_experiment_can_be_made(path):
    given = load_experiment(path, [])
    for name, section in given.models.items():
        settings = dict(section.settings)
        window = settings.pop("window", given.features.window)
        new_model(section.kind or name, settings, window=window, seed=1)


def test_stack_and_mean_are_told_from_the_members_of_a_dynamic_ensemble(done, paired):
    table = load_predictions(done.plan.jobs, done.out, done.experiment.seeds)
    jobs = [job for job in done.plan.jobs if job.model == "dynamic"]
    told = pd.concat([paired.told_apart(job, done.out) for job in jobs])
    key = ["symbol", "date", "seed"]
    for name in ("stack", "mean"):
        trained = table[table["model"] == name].merge(told[told["model"] == name], on=key)
        assert len(trained) == (told["model"] == name).sum() > 0
        np.testing.assert_allclose(trained["prediction_x"], trained["prediction_y"], atol=1e-12)


def test_the_best_member_in_hindsight_is_that_of_the_least_error_of_each_fold(paired):
    frame = pd.DataFrame(
        {
            "model": ["member a", "member a", "member b", "member b"],
            "fold": [0, 1, 0, 1],
            "prediction": [1.0, 2.0, 3.0, 4.0],
            "label": [1.0, 4.0, 1.0, 4.0],
        }
    ).assign(symbol="A", seed=1)
    found = paired.best_in_hindsight(frame)
    assert found.sort_values("fold")["prediction"].tolist() == [1.0, 4.0]
    assert set(found["model"]) == {"best in hindsight"}


def test_an_average_of_seeds_is_one_more_model(paired):
    frame = pd.DataFrame({"model": "lstm", "seed": [1, 2], "prediction": [1.0, 3.0], "label": 0.5})
    frame = frame.assign(symbol="A", fold=0, date=pd.Timestamp("2024-01-01"), known_at=pd.NaT)
    found = paired.averaged(frame, "lstm")
    assert found[["model", "seed", "prediction"]].to_numpy().tolist() == [["lstm x 2", 1, 2.0]]


def test_forecasts_of_models_trained_on_other_labels_are_judged_by_one_label(paired):
    day = pd.Timestamp("2024-01-01")
    keys = {"date": day, "fold": 0, "seed": [1, 2]}
    own = pd.DataFrame(keys | {"symbol": "A", "model": "base", "prediction": 0.1, "label": 0.02})
    own = own.assign(known_at=day + pd.Timedelta(hours=1))
    other = pd.DataFrame(keys | {"symbol": ["A", "B"], "model": "base", "prediction": 0.3})
    other = other.assign(label=1.7, known_at=day + pd.Timedelta(hours=9))
    found = paired.judged_alike(other, own, "ranked")
    # B is nowhere in the table, so there is nothing to judge it by.
    assert found[["symbol", "model", "prediction", "label"]].to_numpy().tolist() == [
        ["A", "ranked base", 0.3, 0.02]
    ]
    assert found["known_at"].tolist() == own["known_at"].tolist()[:1]


def test_trainings_are_counted_with_their_best_epochs(paired):
    given = [
        {"model": "lstm", "history": {"best_epoch": epoch}, "seconds": 1.2} for epoch in (1, 3, 9)
    ]
    found = paired.trainings_table(given).loc["lstm"]
    assert found.to_dict() == {
        "trainings": 3,
        "best epoch": 3,
        "first epoch best": 0.33,
        "seconds": 4.0,
    }


def test_the_table_of_the_page_is_in_the_order_of_the_ranking(paired):
    ranking = pd.DataFrame(
        {"estimate": [0.05, 0.0], "lower": -0.01, "upper": 0.1, "skill": [0.01, 0.0]},
        index=["lstm", "lightgbm"],
    )
    both = pd.MultiIndex.from_product(
        [["lightgbm", "lstm"], ["none", "once"]], names=["model", "costs"]
    )
    accounts = pd.DataFrame(
        {"annual_excess": [0.3, 0.1, 0.2, -0.4], "turnover": 1200.0, "break_even": 0.0005},
        index=both,
    )
    findings = SimpleNamespace(figure="rank IC", ranking=ranking, accounts=accounts)
    assert paired.page_table(findings).loc["lstm"].to_dict() == {
        "rank IC": "+0.050",
        "95 %": "-0.010 to +0.100",
        "skill against LightGBM": "+1.0 %",
        "excess a year before costs": "+20 %",
        "after costs": "-40 %",
        "turnover a year": "1,200",
        "break-even a side": "0.050 %",
    }
    assert list(paired.page_table(findings).index) == ["lstm", "lightgbm"]
