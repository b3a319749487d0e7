"""The commands of the page on comparisons, as a user types them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.research.processes import (
    CLI,
    SMALL,
    await_results,
    call,
    finished_at,
    forecasts,
    running,
)
from tests.research.test_run import write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)


@pytest.fixture
def place(tmp_path):
    """A folder with hourly candles where the template looks for them."""
    folder = tmp_path / "user_data" / "data" / "binance"
    folder.mkdir(parents=True)
    write_candles(folder, ["BTC_USDT-1h", "ETH_USDT-1h"])
    return tmp_path


PAGE = Path(__file__).parents[2] / "docs" / "compare.md"


def documented():
    """Return the lines of the page's first block, that which installs apart, without comments."""
    block = PAGE.read_text().split("```bash\n", 1)[1].split("```", 1)[0]
    return [line.split("#")[0].strip() for line in block.splitlines() if line[0] != "p"]


def shell(line, cwd):
    """Run a line of the page as a shell does, and return its outputs."""
    programs = cwd / "bin"
    if not programs.exists():
        programs.mkdir()
        for name, module in (("freqai-lstm", "freqai_lstm_plugins.cli"), ("dask", "dask")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        line,
        shell=True,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result


def stocks(place):
    """Write daily candles of two shares, and shorten the experiment that --init wrote."""
    write_candles(place / "vn30", ["FPT", "HPG"])
    wrong = pd.read_csv(place / "vn30" / "HPG.csv")
    wrong.loc[20, "close"] = 0.0
    wrong.to_csv(place / "vn30" / "HPG.csv", index=False)
    file = place / "vn30.toml"
    text = file.read_text()
    for old, new in (
        ('"user_data/data/binance"', '"vn30"'),
        ('timeframe = "1h"\n', ""),
        ("seeds = [1, 2, 3]", "seeds = [1]"),
        ("folds = 5", "folds = 1"),
        ("test_bars = 250", "test_bars = 60"),
        ("window = 24", "window = 5"),
        ("[models.lstm]", "[models.lstm]\nmax_epochs = 1\nhidden_size = 4"),
        ("[models.lightgbm]", "[models.lightgbm]\nn_estimators = 10"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)


def test_the_commands_of_the_page_do_what_it_says(tmp_path):
    first, _, listed = documented()
    init, compare = first.split(" && ")
    assert "vn30.toml" in shell(init, tmp_path).stdout
    stocks(tmp_path)
    done = shell(compare, tmp_path)
    assert "Report: out/vn30/report/report.html" in done.stdout
    assert "2 symbols, 1 fold, 8 jobs, 0 of them done" in done.stderr
    found = "HPG: a price is zero or negative: 2020-01-29 (lowest price 0), now missing"
    assert f"Data: {found}" in done.stderr
    assert "HPG,2020-01-29" in (tmp_path / "out/vn30/checks/missing.csv").read_text()
    again = shell(compare, tmp_path)
    assert "8 jobs, 8 of them done" in again.stderr
    assert again.stdout == done.stdout
    (version,) = (tmp_path / "out/vn30/models/symbols/FPT/lstm").iterdir()
    said = shell(listed.replace("VERSION", version.name), tmp_path).stdout
    assert "8 models below out/vn30/models" in said
    assert version.name in said
    assert "hidden_size 4" in said


@pytest.mark.slow
def test_the_cluster_of_the_page_finds_what_was_done_and_adds_a_seed(tmp_path):
    pytest.importorskip("distributed")
    first, clustered, _ = documented()
    init, compare = first.split(" && ")
    shell(init, tmp_path)
    stocks(tmp_path)
    shell(compare, tmp_path)
    with a_cluster(tmp_path) as (address, _, _):
        line = clustered.replace("tcp://127.0.0.1:PORT", address)
        assert line != clustered
        done = shell(line, tmp_path)
    # The net alone depends on its seed.
    assert "10 jobs, 8 of them done" in done.stderr


@pytest.mark.slow
def test_another_seed_finds_what_does_not_depend_on_it(place):
    said = call("compare", "--init", "hourly.toml", cwd=place).stdout
    assert "hourly.toml" in said
    refused = call("compare", "--init", "hourly.toml", cwd=place, check=False)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    out = ["--out", "out/hourly", "--workers", "1", "--set", "seeds=[1]", *SMALL]
    first = call("compare", "hourly.toml", *out, cwd=place)
    # Two symbols and folds of each model.
    assert "16 jobs, 0 of them done" in first.stderr
    listed = call("models", "out/hourly", "--paths", cwd=place).stdout.split()
    assert len(listed) == 16
    # Another seed finds the models that do not depend on it.
    out[out.index("seeds=[1]")] = "seeds=[1,2]"
    assert "20 jobs, 16 of them done" in call("compare", "hourly.toml", *out, cwd=place).stderr


def test_a_wrong_key_is_one_line_with_the_closest_name(place):
    call("compare", "--init", "e.toml", cwd=place)
    result = call(
        "compare", "e.toml", "--out", "o", "--set", "split.fold=3", cwd=place, check=False
    )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "folds" in result.stderr


def test_no_output_folder_says_what_to_give(place):
    call("compare", "--init", "e.toml", cwd=place)
    result = call("compare", "e.toml", cwd=place, check=False)
    assert (result.returncode, "--out" in result.stderr) == (1, True)


def test_models_of_an_empty_folder_say_what_to_run(tmp_path):
    result = call("models", str(tmp_path), cwd=tmp_path, check=False)
    assert (result.returncode, "freqai-lstm compare" in result.stderr) == (1, True)


def test_one_model_is_trained_the_short_way(place):
    file = "user_data/data/binance/BTC_USDT-1h.csv"
    options = ["--model", "gru", "--window", "5", "--horizon", "2", "--out", "out/btc"]
    settings = ["--set", "hidden_size=4", "--set", "max_epochs=2"]
    said = call("train", file, *options, *settings, cwd=place).stdout
    for name in ("gru", "naive_zero", "ridge", "lightgbm"):
        assert name in said
    model = re.search(r"Model: (\S+)", said).group(1)
    assert (place / model).is_file()
    assert (place / re.search(r"Losses: (\S+)", said).group(1)).stat().st_size > 1000
    wrong = call("train", file, *options, "--set", "hidden_siez=4", cwd=place, check=False)
    assert wrong.returncode == 1
    assert "hidden_size" in wrong.stderr


@contextlib.contextmanager
def a_cluster(cwd):
    """Start a scheduler and two workers as a user does; yields address, scheduler and a worker."""
    distributed = pytest.importorskip("distributed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard"]
    with (
        running(*scheduler, cwd=cwd) as head,
        running(*worker, cwd=cwd) as hand,
        running(*worker, cwd=cwd),
    ):
        with distributed.Client(address, timeout=120) as client:
            client.wait_for_workers(2, timeout=120)
        yield address, head, hand


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_one_line_and_loses_nothing(place):
    pytest.importorskip("distributed")
    call("compare", "--init", "e.toml", cwd=place)
    options = ["e.toml", "--set", "seeds=[1,2,3,4]", "--out", "o", *SMALL]
    with a_cluster(place) as (address, scheduler, _):
        with subprocess.Popen(
            [*CLI, "compare", *options, "--dask", address],
            cwd=place,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            await_results(place / "o", 4)
            os.killpg(scheduler.pid, signal.SIGKILL)
            said = run.communicate(timeout=200)[1]
        assert run.returncode == 1, said
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert "the dask scheduler is lost" in line
        assert "run it again" in line
    before = finished_at(place / "o")
    assert len(before) >= 4
    call("compare", *options, cwd=place)
    assert before.items() <= finished_at(place / "o").items()


@pytest.mark.slow
def test_a_dask_cluster_gives_identical_predictions_though_a_worker_is_killed(place):
    pytest.importorskip("distributed")
    call("compare", "--init", "e.toml", cwd=place)
    options = ["e.toml", "--set", "seeds=[1,2]", *SMALL]
    call("compare", *options, "--out", "alone", cwd=place)
    with a_cluster(place) as (address, _, lost):
        with subprocess.Popen(
            [*CLI, "compare", *options, "--out", "together", "--dask", address], cwd=place
        ) as run:
            await_results(place / "together", 5)
            os.killpg(lost.pid, signal.SIGKILL)
            run.wait(300)
        if run.returncode:
            # What died with the worker is done by a second run.
            call("compare", *options, "--out", "together", "--dask", address, cwd=place)
    alone, together = forecasts(place / "alone"), forecasts(place / "together")
    assert alone.keys() == together.keys()
    for name, frame in alone.items():
        pd.testing.assert_frame_equal(together[name], frame)
