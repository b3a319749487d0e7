"""A whole comparison on made-up candles: tables, jobs, results that are kept, and the report."""

from __future__ import annotations

import gc
import json
import time

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.catalogue import model_names
from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.experiment import parse_experiment
from freqai_lstm_plugins.research.experiment_schema import MODEL_KINDS
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import list_entries, load_predictions, reproduce

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

N = 420
SMALL = {"n_estimators": 20}


def write_candles(folder, symbols="ABCDEF", n=N, seed=0):
    folder.mkdir(exist_ok=True)
    for number, symbol in enumerate(symbols):
        rng = np.random.default_rng([seed, number])
        close = 100 * np.exp(np.cumsum(rng.normal(size=n) * 0.01))
        opened = np.concatenate([[100], close[:-1]])
        frame = pd.DataFrame(
            {
                "date": pd.bdate_range("2020-01-01", periods=n).astype(str),
                "open": opened,
                "high": np.maximum(opened, close) * 1.001,
                "low": np.minimum(opened, close) * 0.999,
                "close": close,
                "volume": rng.uniform(1e3, 2e3, n),
            }
        )
        frame.to_csv(folder / f"{symbol}.csv", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("candles")
    write_candles(path)
    return path


def experiment(folder, **changes):
    values = {
        "seeds": [1, 2],
        "data": {"folder": str(folder)},
        "features": {"window": 5},
        "label": {"horizon": 2},
        "split": {"folds": 2, "test_bars": 60},
        "models": {"lightgbm": SMALL, "naive_last": {}},
        "portfolio": {"k": 2},
    }
    return parse_experiment({**values, **changes})


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    run = train(start(experiment(folder), tmp_path_factory.mktemp("out")), workers=1)
    assert run.failures.empty
    return run


def test_every_model_symbol_and_fold_has_forecasts_of_the_same_rows(done):
    table = load_predictions(done.plan.jobs, done.out, [1, 2])
    sizes = table.groupby(["model", "seed", "fold", "symbol"]).size().unstack("model")
    assert list(sizes) == ["lightgbm", "naive_last", "naive_zero", "ridge"]
    assert (sizes.to_numpy() == 60).all()
    labels = table.pivot_table(index=["date", "symbol"], columns="model", values="label")
    assert (labels.nunique(axis=1, dropna=False) <= 1).all()


def test_the_last_known_label_is_known(done, folder):
    table = load_predictions(done.plan.jobs, done.out, [1])
    last = table[(table["model"] == "naive_last") & (table["symbol"] == "A")]
    close = pd.read_csv(folder / "A.csv", parse_dates=["date"], index_col="date")["close"]
    close.index = close.index.tz_localize("UTC")
    # Over two bars: what is known at a close is the return up to it.
    expected = (close / close.shift(2) - 1).reindex(last["date"])
    np.testing.assert_allclose(last["prediction"], expected, atol=1e-6)


def test_the_forecast_of_nothing_is_nothing_to_the_last_bit(done):
    table = load_predictions(done.plan.jobs, done.out, [1])
    # A crumb of round-off would put the symbols in an order.
    assert (table.loc[table["model"] == "naive_zero", "prediction"] == 0).all()


def test_a_second_run_computes_nothing(done, folder, monkeypatch):
    monkeypatch.setattr(jobs_module, "_compute", lambda *_: pytest.fail("computed again"))
    again = start(experiment(folder), done.out)
    assert again.n_left == 0
    assert train(again, workers=1).failures.empty


def test_other_models_and_seeds_find_what_is_there(done, folder):
    more = start(experiment(folder, models={"lightgbm": SMALL, "xgboost": SMALL}), done.out)
    # naive_last is gone; xgboost is new: a job a symbol and fold.
    assert (len(more.plan.jobs), more.n_left) == (48, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": {"horizon": 3}}, "label.horizon was 2 and is 3"),
        ({"features": {"window": 6}}, "features.window was 5 and is 6"),
    ],
)
def test_the_folder_of_another_experiment_is_refused(done, folder, changes, said):
    with pytest.raises(ConfigError, match=said):
        start(experiment(folder, **changes), done.out)


def test_every_model_is_reproduced_from_its_file_bit_by_bit(done):
    for entry in list_entries(done.out):
        stored = entry.predictions()
        found = reproduce(entry, done.out)
        pd.testing.assert_frame_equal(found, stored[["date", "symbol", "prediction"]])


def test_metadata_say_what_was_trained_on(done):
    known = list_entries(done.out)[0].metadata
    rows = known["rows"]
    assert rows["purged"] == 4
    assert rows["test"] == 60
    assert known["packages"]["freqai_lstm_plugins"]
    assert known["metrics"]["n"] in (58, 60)
    assert known["seconds"] > 0
    assert known["peak_memory_bytes"] > 1e7


def test_a_label_that_is_known_too_late_stops_a_job(done, monkeypatch):
    real = jobs_module.split_rows

    def leaky(fold, frame):
        rows = real(fold, frame)
        rows.train[np.flatnonzero(rows.valid)[0] - 1] = True
        return rows

    monkeypatch.setattr(jobs_module, "split_rows", leaky)
    job = done.plan.jobs[0]
    ended = jobs_module.run_job(job, done.out / "elsewhere")
    assert "has a label that is known at" in ended.failure


def test_later_candles_change_no_earlier_result(folder, tmp_path):
    write_candles(tmp_path / "longer", n=N)
    for path in (tmp_path / "longer").glob("*.csv"):
        frame = pd.read_csv(path)
        frame.loc[N - 60 :, ["open", "high", "low", "close"]] *= 1.5
        frame.to_csv(path, index=False)
    tables = []
    for place in (folder, tmp_path / "longer"):
        run = train(start(experiment(place), tmp_path / f"out-{place.name}"), workers=1)
        table = load_predictions(run.plan.jobs, run.out, [1])
        tables.append(table[table["fold"] == 0].reset_index(drop=True))
    pd.testing.assert_frame_equal(tables[0].drop(columns="label"), tables[1].drop(columns="label"))


def test_a_job_that_fails_is_told_and_the_others_go_on(folder, tmp_path):
    # The first fold has too few validation rows for such an interval, the second has enough.
    models = {"lightgbm": SMALL, "bad": {"kind": "ridge", "interval": 0.98}}
    run = train(start(experiment(folder, models=models), tmp_path / "out"), workers=1)
    assert set(run.failures["job"]) == {f"bad, {symbol}, fold 0, seed 1" for symbol in "ABCDEF"}
    assert run.failures["reason"].str.contains("needs at least 49 validation rows").all()
    assert json.loads((tmp_path / "out" / "failures.json").read_text())[0]["job"].startswith("bad")
    page = judge_run(run).read_text(encoding="utf-8")
    assert "needs at least 49 validation rows" in page


def test_a_job_that_fails_for_another_reason_is_another_page(folder, tmp_path, monkeypatch):
    asked = experiment(folder, data={"folder": str(folder), "symbols": ["A", "B"]})
    real = jobs_module.save_model

    def failing(reason):
        def save(model, path):
            if model.kind == "lightgbm":
                raise RuntimeError(reason)
            real(model, path)

        monkeypatch.setattr(jobs_module, "save_model", save)
        run = train(start(asked, tmp_path), workers=1)
        return judge_run(run).read_text(encoding="utf-8")

    assert "too hot" in failing("too hot")
    assert "too cold" in failing("too cold")


def test_every_kind_that_an_experiment_may_name_can_be_made():
    assert set(MODEL_KINDS) - {"ensemble"} == set(model_names()) - {"ensemble"}


def test_models_that_differ_in_nothing_but_their_names_are_compared(folder, tmp_path):
    models = {"lightgbm": SMALL, "twin": {"kind": "lightgbm", **SMALL}}
    asked = experiment(folder, models=models, data={"folder": str(folder), "symbols": ["A", "B"]})
    run = train(start(asked, tmp_path), workers=1)
    assert all(jobs_module.is_done(job, run.out) for job in run.plan.jobs)
    # More accounts than different models were trained.
    assert "twin" in judge_run(run).read_text(encoding="utf-8")


def test_a_seed_that_failed_is_no_copy_of_another(folder, tmp_path):
    models = {"lightgbm": {**SMALL, "subsample": 0.5}, "ridge": {}}
    data = {"folder": str(folder), "symbols": ["A"]}
    run = start(experiment(folder, models=models, data=data), tmp_path)
    left = [job for job in run.plan.jobs if (job.model, job.seed) != ("lightgbm", 2)]
    for job in left:
        assert jobs_module.run_job(job, tmp_path).failure is None
    table = load_predictions(run.plan.jobs, tmp_path, [1, 2])
    seeds = table.groupby("model")["seed"].unique().map(sorted)
    assert seeds["lightgbm"] == [1]
    assert seeds["ridge"] == [1, 2]


def test_a_label_that_would_be_a_feature_is_refused(tmp_path):
    write_candles(tmp_path / "data", "A")
    frame = pd.read_csv(tmp_path / "data" / "A.csv")
    frame.assign(**{"%-next": frame["close"].shift(-1), "%-x": 1.0}).to_csv(
        tmp_path / "data" / "A.csv", index=False
    )
    label = {"kind": "column", "column": "%-next", "horizon": 2}
    for columns in ([], ["%-next", "%-x"]):
        features = {"sets": ["columns"], "columns": columns, "window": 5}
        asked = experiment(tmp_path / "data", label=label, features=features)
        with pytest.raises(DataError, match="The label '%-next' would be a feature too"):
            start(asked, tmp_path / "out")


def test_a_symbol_that_ends_before_the_first_test_is_left_out_with_the_reason(folder, tmp_path):
    write_candles(tmp_path / "data", "ABCDE")
    late = pd.read_csv(tmp_path / "data" / "E.csv")
    late.head(200).to_csv(tmp_path / "data" / "E.csv", index=False)
    run = start(experiment(tmp_path / "data"), tmp_path / "out")
    assert set(run.plan.left_out["symbol"]) == {"E"}
    assert "fold 0 has 0 validation rows" in run.plan.left_out["reason"].iloc[0]
    assert not any(job.tables[0].symbol == "E" for job in run.plan.jobs)


def test_too_few_rows_for_any_fold_say_so(tmp_path):
    write_candles(tmp_path / "data", "AB", n=100)
    with pytest.raises(DataError, match="2 folds with 60 test bars each"):
        start(experiment(tmp_path / "data"), tmp_path / "out")


def test_a_panel_is_one_model_for_all_symbols(folder, tmp_path):
    models = {
        "lightgbm": SMALL,
        "told": {"kind": "lightgbm", "scope": "panel", "symbol_embedding": 1, **SMALL},
        "untold": {"kind": "lightgbm", "scope": "panel", **SMALL},
    }
    run = train(start(experiment(folder, models=models), tmp_path), workers=1)
    assert run.failures.empty
    entries = [e for e in list_entries(tmp_path) if e.metadata["is_panel"]]
    assert len(entries) == 4
    assert {e.folder.parent.parent.name for e in entries} == {"panel"}
    for entry in entries:
        assert len(entry.predictions()) == 6 * 60
        found = reproduce(entry, tmp_path)
        assert (found["prediction"] == entry.predictions()["prediction"]).all()


def test_a_net_takes_part(folder, tmp_path):
    net = {"hidden_size": 4, "num_layers": 1, "max_epochs": 2}
    run = start(
        experiment(folder, models={"lstm": net}, data={"folder": str(folder), "symbols": ["A"]}),
        tmp_path,
    )
    run = train(run, workers=1)
    assert run.failures.empty
    entries = [e for e in list_entries(tmp_path) if e.metadata["kind"] == "lstm"]
    # Two seeds, which differ, and each is reproduced.
    assert len(entries) == 4
    assert len({e.predictions()["prediction"].iloc[0] for e in entries}) == 4
    for entry in entries:
        assert (reproduce(entry, tmp_path)["prediction"] == entry.predictions()["prediction"]).all()


def test_the_report_says_what_beats_what(done):
    page = judge_run(done)
    text = page.read_text(encoding="utf-8")
    assert "lightgbm" in text
    assert "http://" not in text.split("<script")[0]
    written = page.stat().st_mtime_ns
    # The same results need no second page.
    assert judge_run(done) == page
    assert page.stat().st_mtime_ns == written


def test_a_run_without_validation_is_judged(folder, tmp_path):
    split = {"folds": 1, "test_bars": 60, "valid_fraction": 0.0}
    data = {"folder": str(folder), "symbols": ["A"]}
    models = {"lightgbm": SMALL, "lstm": {"hidden_size": 4, "num_layers": 1, "max_epochs": 2}}
    asked = experiment(folder, data=data, models=models, split=split, portfolio={"k": 1})
    run = train(start(asked, tmp_path), workers=1)
    assert run.failures.empty
    assert "Training curves" not in judge_run(run).read_text(encoding="utf-8")


def test_another_headline_is_another_page(done, folder):
    judge_run(done)
    asked = experiment(folder, output={"title": "Six walks"})
    assert "Six walks" in judge_run(start(asked, done.out)).read_text(encoding="utf-8")


def test_two_processes_give_the_results_of_one(done, folder, tmp_path):
    run = train(start(experiment(folder), tmp_path), workers=2)
    assert run.failures.empty
    found = [load_predictions(one.plan.jobs, one.out, [1, 2]) for one in (run, done)]
    pd.testing.assert_frame_equal(*found)


def test_an_address_where_nobody_listens_is_one_line(done, folder, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("freqai_lstm_plugins.research.runner.DASK_SECONDS", 0.5)
    run = start(experiment(folder), tmp_path)
    for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "http://127.0.0.1:9", "here", ""):
        with pytest.raises(ConfigError, match=f"--dask {address}: no dask scheduler answers there"):
            train(run, dask=address)
    # Collected while a cluster of another test starts, these clients would wait for its lock.
    gc.collect()


def test_a_client_that_failed_is_gone_before_the_next_one_starts(
    done, folder, tmp_path, monkeypatch
):
    distributed = pytest.importorskip("distributed")
    left = []

    class Watched(distributed.Client):
        def __init__(self, *args, **kwargs):
            left.append(sum(type(one) is Watched for one in gc.get_objects()) - 1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("distributed.Client", Watched)
    run = start(experiment(folder), tmp_path)
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(ConfigError, match="no dask scheduler answers there"):
                train(run, dask="here")
            # The client's own thread holds it for the moment in which it tells of the failure.
            time.sleep(0.2)
    finally:
        gc.enable()
        gc.collect()
    assert left == [0, 0, 0]
