"""Panels in a comparison: one model for all symbols, told or not told which, and without one."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import list_entries, reproduce
from freqai_lstm_plugins.research.tune.holdout import rivals
from freqai_lstm_plugins.research.tune.parts import DEFAULTS, TUNED
from tests.research.test_run import SMALL, N, experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

PANEL = {"kind": "lightgbm", "scope": "panel", **SMALL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("candles")
    write_candles(path, "ABC")
    return path


def test_a_panel_without_a_symbol_has_never_seen_it(folder, tmp_path):
    models = {"lightgbm": SMALL, "newcomer": {**PANEL, "leave_one_out": True}}
    run = train(start(experiment(folder, models=models), tmp_path / "out"), workers=1)
    assert run.failures.empty
    entries = [e for e in list_entries(run.out) if e.metadata["model"] == "newcomer"]
    assert [(e.subject, e.metadata["fold"]["number"]) for e in entries] == [
        (f"panel without {symbol}", fold) for symbol in "ABC" for fold in range(2)
    ]
    assert entries[0].folder.parent == run.out / "models" / "without" / "A" / "newcomer"
    for entry in entries:
        stored = entry.predictions()
        assert set(stored["symbol"]) == {entry.metadata["left_out"]}
        assert len(stored) == 60
        found = reproduce(entry, run.out)
        pd.testing.assert_frame_equal(found, stored[["date", "symbol", "prediction"]])
    of_one = next(e for e in list_entries(run.out) if e.subject == "B").metadata["rows"]
    assert entries[0].metadata["rows"]["train"] == 2 * of_one["train"]


def test_nothing_of_the_symbol_that_is_left_out_counts_in_the_training(folder, tmp_path):
    (tmp_path / "other").mkdir()
    for path in folder.glob("*.csv"):
        frame = pd.read_csv(path)
        if path.name == "A.csv":
            frame.loc[: N - 200, ["open", "high", "low", "close"]] *= 3.0
            frame.loc[: N - 200, "volume"] *= 7.0
        frame.to_csv(tmp_path / "other" / path.name, index=False)
    models = {"newcomer": {**PANEL, "leave_one_out": True}}
    found = []
    for place in (folder, tmp_path / "other"):
        run = start(experiment(place, models=models), tmp_path / f"out-{place.name}")
        (job,) = [j for j in run.plan.jobs if j.left_out == "A" and j.fold.number == 1]
        assert jobs_module.run_job(job, run.out).failure is None
        found.append(list_entries(run.out)[0].predictions())
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"leave_one_out": True}, 'leave_one_out = true leaves symbols out, which only scope = "p'),
        ({"balance": "symbols"}, 'balance = "symbols" weighs symbols, which only scope = "panel"'),
        (
            {"scope": "panel", "leave_one_out": True, "symbol_embedding": 2},
            "forecasts symbols that were in none: choose one of them",
        ),
        ({"scope": "panel", "balance": "symbol"}, "is none of candles, symbols. Did you mean sym"),
    ],
)
def test_what_only_panels_can_do_is_asked_of_panels_alone(folder, model, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        experiment(folder, models={"lstm": model})


def test_a_search_judges_the_panel_that_it_searched(folder):
    newcomer = {**PANEL, "leave_one_out": True, "balance": "symbols"}
    asked = experiment(folder, models={"newcomer": newcomer})
    models = rivals(asked, "newcomer")
    assert newcomer.items() <= models[TUNED].items()
    assert experiment(folder, models=models).models[DEFAULTS].leave_one_out


def test_a_panel_of_one_symbol_leaves_nothing_to_train_on(folder, tmp_path):
    models = {"newcomer": {**PANEL, "leave_one_out": True}}
    one = {"folder": str(folder), "symbols": ["A"]}
    with pytest.raises(ConfigError, match=r"newcomer: leave_one_out .* there is only A"):
        start(experiment(folder, models=models, data=one), tmp_path)


def test_a_panel_lets_each_candle_or_each_symbol_count_the_same(folder, tmp_path):
    (tmp_path / "data").mkdir()
    for path in folder.glob("*.csv"):
        frame = pd.read_csv(path)
        # B was listed late.
        frame.iloc[N // 2 if path.name == "B.csv" else 0 :].to_csv(
            tmp_path / "data" / path.name, index=False
        )
    models = {"candles": PANEL, "symbols": {**PANEL, "balance": "symbols"}}
    data = {"folder": str(tmp_path / "data")}
    run = start(experiment(folder, models=models, data=data), tmp_path / "out")
    jobs = {job.model: job for job in run.plan.jobs if job.fold.number == 1}
    assert len({jobs[name].key for name in models}) == 2
    for name in models:
        inputs = jobs_module.make_inputs(jobs[name])
        for part in (inputs.assembled.data.train, inputs.assembled.data.valid):
            codes = inputs.codes[part.ends.numpy()]
            sums = np.bincount(codes, weights=part.weights.numpy())
            counts = np.bincount(codes)
            assert sums.sum() == pytest.approx(len(part))
            expected = counts if name == "candles" else np.full(3, len(part) / 3)
            np.testing.assert_allclose(sums, expected, rtol=1e-5)
    shared = jobs_module.Shared()
    weights = [shared.inputs(jobs[name]).assembled.data.train.weights for name in models]
    assert not np.allclose(*weights)


def test_what_was_trained_before_panels_could_leave_symbols_out_keeps_its_key(folder, tmp_path):
    job = start(experiment(folder), tmp_path).plan.jobs[0]
    assert (job.balance, job.left_out) == ("candles", None)
    others = ({"balance": "symbols"}, {"left_out": "A"}, {"left_out": "B"})
    assert len({job.key, *(dataclasses.replace(job, **other).key for other in others)}) == 4
