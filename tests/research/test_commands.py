"""The commands of the page on comparisons, as a user types them."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.research.test_run import write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

CLI = [sys.executable, "-m", "freqai_lstm_plugins.cli"]
SMALL = [
    *("--set", "split.folds=2", "--set", "split.test_bars=60", "--set", "features.window=5"),
    *("--set", "data.timeframe=1h", "--set", "models.lstm.max_epochs=1"),
    *("--set", "models.lstm.hidden_size=4", "--set", "models.lightgbm.n_estimators=10"),
]


def call(*arguments, cwd, check=True):
    result = subprocess.run(
        [*CLI, *arguments], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert not check or result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def place(tmp_path):
    """A folder with hourly candles where the template looks for them."""
    folder = tmp_path / "user_data" / "data" / "binance"
    folder.mkdir(parents=True)
    write_candles(folder, ["BTC_USDT-1h", "ETH_USDT-1h"])
    return tmp_path


def test_init_compare_again_models_and_inspect(place):
    said = call("compare", "--init", "hourly.toml", cwd=place).stdout
    assert "hourly.toml" in said
    refused = call("compare", "--init", "hourly.toml", cwd=place, check=False)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    out = ["--out", "out/hourly", "--workers", "1", "--set", "seeds=[1]", *SMALL]
    first = call("compare", "hourly.toml", *out, cwd=place)
    assert "Report: out/hourly/report/report.html" in first.stdout
    assert "lightgbm" in first.stdout
    # Two symbols and folds of each model.
    assert "16 jobs, 0 of them done" in first.stderr
    again = call("compare", "hourly.toml", *out, cwd=place)
    assert "16 jobs, 16 of them done" in again.stderr
    assert again.stdout == first.stdout
    listed = call("models", "out/hourly", "--paths", cwd=place).stdout.split()
    assert len(listed) == 16
    net = next(path for path in listed if "/lstm/" in path)
    assert "hidden_size 4" in call("inspect", net, cwd=place).stdout
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
def running(*command, cwd):
    with subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def forecasts(out):
    # What a killed worker was writing lies in folders that begin with a dot.
    paths = sorted(Path(out).glob("models/**/[!.]*/predictions.parquet"))
    return {str(path.parent.relative_to(out)): pd.read_parquet(path) for path in paths}


@pytest.mark.slow
def test_a_dask_cluster_gives_identical_predictions_though_a_worker_is_killed(place):
    pytest.importorskip("distributed")
    call("compare", "--init", "e.toml", cwd=place)
    options = ["e.toml", "--set", "seeds=[1,2]", *SMALL]
    call("compare", *options, "--out", "alone", cwd=place)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard"]
    with (
        running(*scheduler, cwd=place),
        running(*worker, cwd=place),
        running(*worker, cwd=place) as lost,
    ):
        time.sleep(8)
        with subprocess.Popen(
            [*CLI, "compare", *options, "--out", "together", "--dask", address], cwd=place
        ) as run:
            deadline = time.monotonic() + 120
            while len(forecasts(place / "together")) < 5 and time.monotonic() < deadline:
                time.sleep(0.2)
            os.killpg(lost.pid, signal.SIGKILL)
            run.wait(300)
        if run.returncode:
            # What died with the worker is done by a second run.
            call("compare", *options, "--out", "together", "--dask", address, cwd=place)
    alone, together = forecasts(place / "alone"), forecasts(place / "together")
    assert alone.keys() == together.keys()
    for name, frame in alone.items():
        pd.testing.assert_frame_equal(together[name], frame)


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_repeat_nothing(place):
    call("compare", "--init", "e.toml", cwd=place)
    options = ["e.toml", "--set", "seeds=[1,2]", *SMALL]
    call("compare", *options, "--out", "whole", cwd=place)
    random.seed(1)
    times: dict[str, int] = {}
    for _ in range(10):
        with running(*CLI, "compare", *options, "--out", "killed", "--workers", "2", cwd=place):
            time.sleep(random.uniform(3, 12))
        for name in forecasts(place / "killed"):
            written = (place / "killed" / name / "metadata.json").stat().st_mtime_ns
            assert times.setdefault(name, written) == written
    call("compare", *options, "--out", "killed", cwd=place)
    whole, killed = forecasts(place / "whole"), forecasts(place / "killed")
    assert whole.keys() == killed.keys()
    for name, frame in whole.items():
        pd.testing.assert_frame_equal(killed[name], frame)
    tables = [sorted((place / out / "report/tables").glob("*.csv")) for out in ("whole", "killed")]
    for one, other in zip(*tables, strict=True):
        if one.name not in ("timings.csv", "costs.csv"):
            assert one.read_text() == other.read_text()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(place):
    small = place / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small file system needs rights that are missing here")
    try:
        call("compare", "--init", "e.toml", cwd=place)
        result = call("compare", "e.toml", "--out", "small/o", *SMALL, cwd=place, check=False)
        assert result.returncode == 1
        assert "No space left" in result.stderr
    finally:
        subprocess.run(["umount", str(small)], check=False)
