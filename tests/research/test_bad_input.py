"""What a comparison makes of data, folders and processes that are not as they should be."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time

import pandas as pd
import pytest

from freqai_lstm_plugins.data.candles import describe_file, find_files
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    NotACheckpointError,
)
from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.checks import check_candles, untrusted_rows
from freqai_lstm_plugins.research.experiment import write_template
from freqai_lstm_plugins.research.judgement import (
    build_checked_market,
    judge_run,
    require_judgeable,
)
from freqai_lstm_plugins.research.market import Rules
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import list_entries, load_predictions
from tests.research.test_run import experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

QUICK = {"models": {"lightgbm": {"n_estimators": 5}}, "seeds": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("candles")
    write_candles(path, "ABC")
    return path


@pytest.fixture
def done(folder, tmp_path):
    run = train(start(experiment(folder, **QUICK), tmp_path / "out"), workers=1)
    assert run.failures.empty
    return run


def test_a_slip_in_the_experiment_claims_no_folder(folder, tmp_path):
    out = tmp_path / "out"
    wrong = {
        "no candles of Z": {"symbols": ["A", "Z"]},
        "No candle is left with data.start = 2030-01-01": {"start": "2030-01-01"},
    }
    for message, data in wrong.items():
        with pytest.raises(DataError, match=message):
            start(experiment(folder, data={"folder": str(folder), **data}, **QUICK), out)
    with pytest.raises(ConfigError, match="num_leaves"):
        start(experiment(folder, models={"lightgbm": {"num_leafs": 3}}), out)
    assert start(experiment(folder, **QUICK), out).n_left


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"lightgbm": {"num_leafs": 3}}, "Did you mean 'num_leaves'"),
        (
            {"lightgbm": {"num_leaves": 1 << 20}},
            "lightgbm: num_leaves must be an integer from 2 to 131072",
        ),
        (
            {"lightgbm": {"subsample": "half"}},
            "lightgbm: subsample must be a number above 0",
        ),
        (
            {"lightgbm": {"num_threads": 10**9}},
            "lightgbm: num_threads must be an integer from 1",
        ),
        ({"lightgbm": {"window": "x"}}, "models.lightgbm: window = 'x' must be a whole number"),
        ({"xgboost": {"window": 0}}, "models.xgboost: window = 0 must be a whole number"),
        ({"naive_zero": {"window": 2.5}}, "models.naive_zero: window = 2.5 must be a whole"),
        ({"ridge": {"window": 10**9}}, "fewer than 1000000000"),
        ({"bad": {"kind": "ridge", "lags": [0, 9]}}, "models.bad: ridge: lag 9 lies outside wind"),
        (
            {"lightgbm": {"window": 3, "lags": [0, 3]}},
            "models.lightgbm: lightgbm: lag 3 lies outside windows of 3 rows",
        ),
        ({"ridge": {"loss": "mae"}}, "models.ridge: ridge: loss must be"),
        ({"ridge": {"interval": 0.999}}, "models.ridge: interval = 0.999 needs at least 999 val"),
        ({"lstm": {"interval": 0.999}}, "models.lstm: interval = 0.999 needs at least 999 valid"),
        ({"lstm": {"min_windows": 9999}}, "models.lstm: min_windows = 9999 asks for more"),
        ({"lstm": {"device": "qpu"}}, "models.lstm: device 'qpu' cannot be used"),
        ({"lstm": {"net": "gru"}}, "models.lstm: lstm: net = 'gru' is said elsewhere"),
        (
            {"ensemble": {"members": {"lstm": {"window": 9}}}},
            "models.ensemble: ensemble: member 'lstm': lstm: window = 9 is said elsewhere",
        ),
        (
            {"ensemble": {"members": {"ridge": {"lags": [9]}}}},
            "models.ensemble: ridge: lag 9 lies outside windows of 5 rows",
        ),
    ],
)
def test_a_wrong_setting_stops_before_the_first_training(folder, tmp_path, models, message):
    with pytest.raises((ConfigError, DataError), match=re.escape(message)):
        start(experiment(folder, models=models), tmp_path)


def test_symbols_that_no_fold_can_use_are_named_with_the_reason(tmp_path):
    data = tmp_path / "data"
    write_candles(data, "ABCD")
    for name, rows in (("C", slice(0, 200)), ("D", slice(400, 420))):
        pd.read_csv(data / f"{name}.csv").iloc[rows].to_csv(data / f"{name}.csv", index=False)
    nothing = pd.read_csv(data / "A.csv").assign(close=0.0)
    nothing.to_csv(data / "E.csv", index=False)
    run = start(experiment(data, **QUICK), tmp_path / "out")
    absent = run.absent.set_index("symbol")["reason"]
    assert set(absent.index) == {"C", "D", "E"}
    assert "fold 0 has 0 validation rows" in absent["C"]
    assert "fold 0 has 0 training rows" in absent["D"]
    assert absent["E"] == "no row is usable"
    assert {job.tables[0].symbol for job in run.plan.jobs} == {"A", "B"}


def test_a_feature_that_is_never_known_is_named(tmp_path):
    write_candles(tmp_path / "data", "AB")
    for path in (tmp_path / "data").glob("*.csv"):
        pd.read_csv(path).assign(volume=1.0).to_csv(path, index=False)
    features = {"sets": ["alpha158_20"], "window": 5}
    with pytest.raises(DataError, match=r"features are all known; [A-Z0-9]+ never is"):
        start(experiment(tmp_path / "data", features=features, **QUICK), tmp_path / "out")


def test_a_halted_share_earns_its_jump_and_one_with_a_wrong_price_does_not():
    dates = pd.bdate_range("2020-01-01", periods=100)
    frames = {}
    for name in ("halted", "silent", "wrong", "whole"):
        price = pd.Series(10.0, index=range(100))
        price[90:] = 10.0 if name == "whole" else 12.0
        frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), price))
        frames[name] = frame.assign(date=dates.tz_localize("UTC"), volume=1.0)
    frames["halted"] = frames["halted"].drop(index=range(60, 90))
    frames["silent"].loc[60:89, "volume"] = 0.0
    frames["wrong"].loc[89, "low"] = -1.0
    checked = check_candles(frames)
    rows = untrusted_rows(checked)
    assert list(rows.itertuples(index=False, name=None)) == [("wrong", frames["wrong"]["date"][89])]
    market = build_checked_market(checked, Rules())
    jump = pd.Series(market.overnight[90], index=market.symbols)
    assert jump.round(9).to_dict() == {"halted": 0.2, "silent": 0.2, "whole": 0.0, "wrong": 0.0}
    trade = pd.DataFrame(market.can_trade, columns=market.symbols)
    assert not trade.loc[60:89, ["halted", "silent"]].any(axis=None)


def test_a_table_that_was_cut_short_is_made_again(done, folder):
    path = done.dataset.tables["A"].path
    whole = path.read_bytes()
    for rest in (b"", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(rest)
        assert start(done.experiment, done.out).n_left == 0
        assert path.read_bytes() == whole


def test_a_job_whose_files_are_not_all_there_is_done_again(done):
    job = done.plan.jobs[0]
    for name in ("model.zip", "predictions.parquet", "metadata.json"):
        whole = (done.out / job.place / "predictions.parquet").read_bytes()
        (done.out / job.place / name).unlink()
        again = start(done.experiment, done.out)
        assert again.n_left == 1
        assert train(again, workers=1).failures.empty
        assert (done.out / job.place / "predictions.parquet").read_bytes() == whole


def test_damaged_predictions_are_named_with_what_to_do(done):
    job = done.plan.jobs[0]
    path = done.out / job.place / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(NotACheckpointError, match=f"{job.place.name} are damaged: remove that"):
        load_predictions(done.plan.jobs, done.out, [1])


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"model": "ridge", "symbols": ["A"]}'])
def test_metadata_that_are_none_are_named(tmp_path, text):
    folder = tmp_path / "models" / "symbols" / "A" / "ridge" / "fold0-seed1-0"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(text)
    with pytest.raises(NotACheckpointError, match="fold0-seed1-0 holds no finished model"):
        list_entries(tmp_path)


def test_what_a_killed_worker_was_writing_is_no_model_and_goes_away(done):
    entry = list_entries(done.out)[0]
    left = entry.folder.with_name(f".{entry.folder.name}.0123.tmp")
    shutil.copytree(entry.folder, left)
    n_models = len(done.plan.jobs)
    assert len(list_entries(done.out)) == n_models
    # Somebody may be writing it now.
    start(done.experiment, done.out)
    assert left.is_dir()
    long_ago = time.time() - 2 * jobs_module.ABANDONED_SECONDS
    os.utime(left, (long_ago, long_ago))
    start(done.experiment, done.out)
    assert not left.exists()
    assert len(list_entries(done.out)) == n_models


def no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "where", ["dataset._write", "started.write_text", "judgement.write_report"]
)
def test_a_full_disk_is_one_line_wherever_it_is_met(folder, tmp_path, monkeypatch, where):
    monkeypatch.setattr(f"freqai_lstm_plugins.research.{where}", no_space)
    with pytest.raises(DataError, match=r"out cannot be written: No space left on device\. "):
        judge_run(train(start(experiment(folder, **QUICK), tmp_path / "out"), workers=1))


def test_a_disk_that_is_full_while_jobs_write_fails_these_jobs_alone(folder, tmp_path, monkeypatch):
    real = jobs_module.save_model
    calls = iter(range(100))

    def sometimes(model, path):
        real(model, path) if next(calls) % 2 else no_space()

    monkeypatch.setattr(jobs_module, "save_model", sometimes)
    run = start(experiment(folder, **QUICK), tmp_path / "out")
    ended = train(run, workers=1)
    assert len(ended.failures) == run.n_left / 2
    assert ended.failures["reason"].str.contains("No space left on device").all()
    assert run.count_done() == run.n_left / 2
    assert not list(run.out.glob("models/**/.*"))


def test_a_cluster_without_workers_is_one_line(folder, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("freqai_lstm_plugins.research.runner.WORKER_SECONDS", 0.1)
    run = start(experiment(folder, **QUICK), tmp_path)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
        ) as cluster,
        pytest.raises(ConfigError, match=r"has no worker\. Start one with `dask worker tcp://"),
    ):
        train(run, dask=cluster.scheduler_address)


def test_what_could_not_be_judged_is_refused_before_the_first_training(folder, tmp_path):
    split = {"folds": 1, "test_bars": 60}
    asked = {**QUICK, "split": split, "label": {"horizon": 8}}
    run = start(experiment(folder, **asked), tmp_path / "o")
    with pytest.raises(DataError, match="hold 60 dates, too few to judge labels of 8 dates, which"):
        require_judgeable(run)
    require_judgeable(start(experiment(folder, **{**asked, "label": {"horizon": 7}}), tmp_path))


def test_a_library_that_a_report_needs_is_named_before_the_first_training(done, monkeypatch):
    monkeypatch.setattr("freqai_lstm_plugins.research.judgement.JUDGES", ("no_such_library",))
    with pytest.raises(MissingExtraError, match=r"no_such_library.*research"):
        require_judgeable(done)


def test_a_result_that_cannot_be_seen_here_is_a_failure(folder, tmp_path, monkeypatch):
    real = jobs_module.run_job
    calls = iter(range(100))

    def elsewhere(job, out):
        # As a worker of another machine, whose folder of this name is another one.
        return real(job, out if next(calls) else tmp_path / "elsewhere")

    monkeypatch.setattr("freqai_lstm_plugins.research.runner.run_job", elsewhere)
    run = train(start(experiment(folder, **QUICK), tmp_path / "out"), workers=1)
    (reason,) = run.failures["reason"]
    assert "is not there: all workers must see the output folder under the same path" in reason


def test_the_version_in_a_key_is_the_one_that_the_package_states(monkeypatch):
    versions = jobs_module.package_versions.__wrapped__
    monkeypatch.setattr(jobs_module, "__version__", "9.9")
    assert versions()["freqai_lstm_plugins"] == "9.9"


def test_a_folder_or_a_file_that_cannot_be_looked_at_is_one_line(tmp_path):
    too_long = tmp_path / f"{'x' * 300}.csv"
    for look in (find_files, describe_file, list_entries):
        with pytest.raises(DataError, match="cannot be read: File name too long"):
            look(too_long)
    with pytest.raises(ConfigError, match="cannot be written: File name too long"):
        write_template(too_long)


def test_files_that_a_killed_run_was_writing_go_away_and_those_of_others_stay(done):
    ours = [done.out / place for place in ("data", "checks", "report/tables", ".")]
    theirs = done.out / "notes" / ".x.tmp"
    left = [folder / ".a.csv.0123456789abcdef.tmp" for folder in ours]
    long_ago = time.time() - 2 * jobs_module.ABANDONED_SECONDS
    for path in (theirs, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (long_ago, long_ago))
    left[0].touch()
    start(done.experiment, done.out)
    assert [path.exists() for path in left] == [True, False, False, False]
    assert theirs.exists()
