"""The command, word for word as its page has it, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from freqai_lstm_plugins.cli import main
from freqai_lstm_plugins.research import jobs as jobs_module

from .studies import COMMAND, call, documented, write_place

pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2", "pydantic"):
    pytest.importorskip(needed)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process, where everything is imported already."""

    def run(words, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["freqai-lstm", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return caught.value.code or 0, said.out, said.err

    return run


def test_the_commands_of_the_page_work_one_after_the_other(place, run):
    searching, choosing = (
        next(one for one in documented() if flag in one) for flag in ("--trials", "--holdout")
    )
    # As the page has it, with fewer trials: these are not to take hours.
    fewer = ["2" if word == "30" else word for word in searching]
    code, out, err = run(fewer, place)
    assert code == 0, err
    assert "Best in the search: trial" in out
    assert "not chosen yet: run again with --holdout" in out
    assert (place / "out" / "tune" / "study.db").is_file()
    code, out, err = run(choosing, place)
    assert code == 0, err
    assert "On the holdout, tuned against defaults" in out
    config = json.loads((place / "user_data" / "config_tuned.json").read_text())
    assert config["freqaimodel"] == "LeaLSTMRegressor"
    assert json.loads((place / "out" / "tune" / "lstm.json").read_text())["model"] == "lstm"


@pytest.mark.slow
def test_the_command_of_the_page_that_searches_in_each_fold_works(place, tmp_path):
    words = next(one for one in documented() if "--nested" in one)
    fewer = ["2" if word == "30" else word for word in words]
    found = call(*fewer, "--out", str(tmp_path), cwd=place)
    assert found.returncode == 0, found.stderr
    assert "Fold 0: a search on the data up to 2020-01-10 23:00" in found.stderr.replace("T", " ")
    assert "With a search in each fold, tuned against defaults: " in found.stdout
    assert json.loads((tmp_path / "lstm-nested.json").read_text())["folds"][0]["fold"] == 0
    assert (tmp_path / "nested" / "outer" / "report" / "report.html").is_file()


def test_ranges_to_start_from_are_written(tmp_path, run):
    code, _, err = run(["tune", "--init"], tmp_path)
    assert code == 0, err
    assert "lstm" in json.loads((tmp_path / "ranges.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name an experiment and a model"),
        (["hourly.toml", "--model", "lsmt"], "unknown model 'lsmt'"),
        (["hourly.toml", "--model", "lstm", "--objective", "luck"], "'luck' is none of rank_ic"),
        (["hourly.toml", "--model", "lstm", "--sampler", "best"], "'best' is none of tpe"),
        (["hourly.toml", "--model", "lstm", "--storage", "x"], "no database address"),
        (["hourly.toml", "--model", "lstm", "--storage", ""], "no database address"),
        (["hourly.toml", "--model", "lstm", "--ranges", "candles"], "cannot be read (Is a dir"),
        (["hourly.toml", "--model", "lstm", "--out", "hourly.toml"], "cannot be written: File ex"),
        (["hourly.toml", "--model", "lstm", "--out", "o", "--holdout-share", "nan"], "not nan"),
        (["hourly.toml", "--model", "lstm", "--out", "o", "--set", "split.folds=40"], "40 folds"),
        (["hourly.toml", "--model", "lstm", "--pruner", "best"], "'best' is none of none"),
        (["hourly.toml", "--model", "lstm", "--pruner", "median", "--workers", "2"], "--workers"),
        (["hourly.toml", "--model", "ensemble"], "name them under models.NAME.members"),
        (["hourly.toml", "--model", "lstm", "--nested", "--holdout"], "no settings for --holdout"),
        (["hourly.toml", "--model", "naive_zero"], "naive_zero has no settings"),
        (["hourly.toml", "--model", "lstm", "--holdout", "--out", "none"], "no study 'lstm'"),
    ],
)
def test_what_is_wrong_is_one_line(place, arguments, said, run):
    code, out, err = run(["tune", *arguments], place)
    assert (code, out) == (1, "")
    # Before it a search may have said how far it is.
    *before, last = err.splitlines()
    assert last.startswith("Error: ")
    assert said in last
    assert len(before) <= 1


def test_a_search_in_which_no_trial_has_a_score_is_no_success(place, tmp_path, run, monkeypatch):
    monkeypatch.setattr(jobs_module, "save_model", lambda *_: 1 / 0)
    words = ["tune", "hourly.toml", "--model", "lstm", "--ranges", "ranges.json", "--trials", "1"]
    code, _, err = run([*words, "--out", str(tmp_path)], place)
    assert code == 1
    assert "Trial 0: lstm, BTC/USDT, fold 0, seed 1: ZeroDivisionError" in err
    assert err.splitlines()[-1].startswith("Error: No trial of the study has a score")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_search_goes_on(place, tmp_path, number, status):
    study = tmp_path / "out"
    words = ["tune", "hourly.toml", "--model", "lstm", "--ranges", "ranges.json"]
    words += ["--out", str(study), "--trials"]
    process = subprocess.Popen([*COMMAND, *words, "500"], cwd=place, stderr=subprocess.PIPE)
    lines = iter(process.stderr.readline, b"")
    while b"Trial 1" not in next(lines):
        pass
    os.kill(process.pid, number)
    begun = time.monotonic()
    assert process.wait(timeout=60) == status
    assert time.monotonic() - begun < 30
    with process.stderr as said:
        assert said.read().splitlines()[-1].startswith(b"Stopped. What is finished stays finished")
    n_done = int(call(*words, "1", cwd=place).stderr.split()[0])
    assert n_done >= 2
    found = call(*words, str(n_done + 1), cwd=place)
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("Trial ") == 1


@pytest.mark.slow
def test_two_processes_with_one_seed_make_the_same_trials(place, tmp_path):
    words = ["tune", "hourly.toml", "--model", "lstm", "--ranges", "ranges.json", "--trials", "3"]
    found = [call(*words, "--out", str(tmp_path / name), cwd=place) for name in ("one", "two")]
    said = [[line for line in one.stderr.splitlines() if "Trial" in line] for one in found]
    assert len(said[0]) == 3
    assert said[0] == said[1]
