"""The command, word for word as its page has it, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freqai_lstm_plugins.cli import main

from .studies import write_candles

pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2", "pydantic"):
    pytest.importorskip(needed)

PAGE = Path(__file__).parents[3] / "docs" / "tune.md"
COMMAND = [sys.executable, "-m", "freqai_lstm_plugins.cli"]
EXPERIMENT = """\
seeds = [1]

[data]
folder = "candles"

[features]
window = 5

[label]
horizon = 2

[split]
folds = 1
test_bars = 60

[models.lstm]
max_epochs = 1
hidden_size = 4
num_layers = 1

[portfolio]
k = 1
"""
RANGES = {"lstm": {"lr": {"min": 0.001, "max": 0.01, "log": True}, "dropout": {"value": 0.0}}}


def call(*arguments, cwd):
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("place")
    write_candles(path / "candles", n=300, freq="h")
    for name, pair in (("A", "BTC_USDT"), ("B", "ETH_USDT")):
        (path / "candles" / f"{name}.csv").rename(path / "candles" / f"{pair}-1h.csv")
    (path / "hourly.toml").write_text(EXPERIMENT)
    (path / "ranges.json").write_text(json.dumps(RANGES))
    return path


def documented():
    """Return the commands of the page that begin a search or choose from one."""
    lines = re.findall(r"^freqai-lstm tune .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_commands_of_the_page_work_one_after_the_other(place):
    searching, choosing = (
        next(one for one in documented() if flag in one) for flag in ("--trials", "--holdout")
    )
    # As the page has it, with fewer trials: these are not to take hours.
    fewer = ["2" if word == "30" else word for word in searching]
    found = call(*fewer, cwd=place)
    assert found.returncode == 0, found.stderr
    assert "Best in the search: trial" in found.stdout
    assert (place / "out" / "tune" / "study.db").is_file()
    found = call(*choosing, cwd=place)
    assert found.returncode == 0, found.stderr
    assert "On the holdout, tuned against defaults" in found.stdout
    config = json.loads((place / "user_data" / "config_tuned.json").read_text())
    assert config["freqaimodel"] == "LeaLSTMRegressor"
    assert json.loads((place / "out" / "tune" / "lstm.json").read_text())["model"] == "lstm"


def test_ranges_to_start_from_are_written(tmp_path):
    found = call("tune", "--init", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "lstm" in json.loads((tmp_path / "ranges.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name an experiment and a model"),
        (["hourly.toml", "--model", "lsmt"], "unknown model 'lsmt'"),
        (["hourly.toml", "--model", "lstm", "--objective", "luck"], "'luck' is none of rank_ic"),
        (["hourly.toml", "--model", "lstm", "--sampler", "best"], "'best' is none of tpe"),
        (["hourly.toml", "--model", "lstm", "--storage", "x"], "no database address"),
        (["hourly.toml", "--model", "naive_zero"], "naive_zero has no settings"),
        (["hourly.toml", "--model", "lstm", "--holdout", "--out", "none"], "no study 'lstm'"),
    ],
)
def test_what_is_wrong_is_one_line(place, arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["freqai-lstm", "tune", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_goes_on(place, tmp_path, number):
    study = tmp_path / "out"
    words = ["tune", "hourly.toml", "--model", "lstm", "--ranges", "ranges.json"]
    words += ["--out", str(study), "--trials"]
    process = subprocess.Popen([*COMMAND, *words, "500"], cwd=place, stderr=subprocess.PIPE)
    lines = iter(process.stderr.readline, b"")
    while b"Trial 1" not in next(lines):
        pass
    os.kill(process.pid, number)
    begun = time.monotonic()
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - begun < 30
    process.stderr.close()
    n_done = int(call(*words, "1", cwd=place).stderr.split()[0])
    assert n_done >= 2
    found = call(*words, str(n_done + 1), cwd=place)
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("Trial ") == 1
