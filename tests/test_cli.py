from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from freqai_lstm_plugins import SequenceRegressor, commands, load_model
from freqai_lstm_plugins.cli import app
from freqai_lstm_plugins.replay import synthetic_market, write_overlay

COMMAND = [sys.executable, "-m", "freqai_lstm_plugins.cli"]


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=1500, check=False, cwd=cwd
    )


@pytest.fixture
def model_file(tmp_path):
    rng = np.random.default_rng(0)
    rows, targets = rng.normal(size=(80, 3)), rng.normal(size=(80, 2))
    model = SequenceRegressor("gru", window=4, hidden_size=4, num_layers=1, max_epochs=2)
    model.fit(rows, targets).save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


def test_help_names_every_command():
    result = call("--help")
    assert result.returncode == 0
    listed = result.stdout.partition("Commands:")[2]
    assert re.findall(r"^  (\w+)  ", listed, re.MULTILINE) == [
        command.callback.__name__ for command in app.registered_commands
    ]
    # What each does fits into one line of a narrow terminal.
    assert "..." not in listed


def test_every_command_is_a_function_in_a_file_of_its_name():
    listed = [command.callback.__name__ for command in app.registered_commands]
    folder = Path(commands.__file__).parent
    assert sorted(listed) == sorted(
        path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "console")
    )
    for command in app.registered_commands:
        assert command.callback.__module__ == f"{commands.__name__}.{command.callback.__name__}"


def test_help_needs_neither_torch_nor_freqtrade():
    code = (
        "import sys\nfrom freqai_lstm_plugins.cli import app\n"
        "print(sorted({'torch', 'freqtrade', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_inspect_shows_what_the_file_holds(model_file):
    result = call("inspect", str(model_file), "--features")
    assert result.returncode == 0, result.stderr
    for part in ("gru", "hidden_size 4", "4 candles", "x0, x1, x2", "y0, y1", "validated on"):
        assert part in result.stdout
    history = load_model(model_file).history_
    assert re.search(rf"constant forecast's loss\W+{history.constant_loss:.5g}\W", result.stdout)
    assert re.search(rf"rank correlation\W+{history.rank_correlation:.5g}\W", result.stdout)


def test_inspect_shows_the_coin_and_the_date_of_a_bots_model(model_file):
    named = model_file.rename(model_file.with_name("cb_btc_1751328000_model.zip"))
    result = call("inspect", str(named))
    assert re.search(r"pair of\W+BTC\W+\n", result.stdout)
    assert "2025-07-01 00:00 UTC" in result.stdout


def test_an_error_is_one_line_without_a_traceback(model_file):
    model_file.write_bytes(model_file.read_bytes()[:500])
    result = call("inspect", str(model_file))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.strip().count("\n") == 0
    assert result.stderr.startswith("Error: ")
    assert "is damaged" in result.stderr


def test_debug_shows_the_traceback(model_file):
    model_file.write_bytes(b"")
    result = call("--debug", "inspect", str(model_file))
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_install_reports_kept_files_and_fails(tmp_path):
    assert call("install", "--userdir", str(tmp_path)).returncode == 0
    (tmp_path / "freqaimodels" / "LeaGRURegressor.py").write_text("# mine")
    result = call("install", "--userdir", str(tmp_path))
    assert result.returncode == 1
    assert "changed by you, kept" in result.stdout
    assert "--force" in result.stderr


def test_install_writes_the_pairs_and_quotes_the_next_command(tmp_path):
    userdir = tmp_path / "my user [data]"
    result = call("install", "--userdir", str(userdir), "--pairs", "SOL/USDT, ADA/USDT")
    assert result.returncode == 0, result.stderr
    # However long the path of the directory, the files are named in full.
    assert "freqaimodels/LeaEnsembleRegressor.py" in result.stdout
    config = json.loads((userdir / "config-lea.json").read_text())
    assert config["exchange"]["pair_whitelist"] == ["SOL/USDT", "ADA/USDT"]
    next_line = result.stdout.splitlines()[-1]
    assert shlex.split(next_line)[-3:] == [
        str(userdir),
        "--config",
        str(userdir / "config-lea.json"),
    ]


@pytest.mark.freqtrade
def test_freqtrade_lists_the_models_of_the_printed_path(tmp_path):
    folder = call("path").stdout.strip()
    command = [sys.executable, "-m", "freqtrade", "list-freqaimodels", "--userdir", str(tmp_path)]
    result = subprocess.run(
        [*command, "--freqaimodel-path", folder, "-1"],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert {"LeaLSTMRegressor", "LeaGRURegressor"} <= set(result.stdout.split())


@contextmanager
def serving(config, *arguments):
    """Run `replay` until its config is there, which is written once the exchange answers."""
    command = [*COMMAND, "replay", *arguments, "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        deadline = time.monotonic() + 300
        while not config.exists():
            assert server.poll() is None, server.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=120)


def test_replay_serves_until_interrupted_and_writes_the_config(tmp_path):
    config = tmp_path / "replay.json"
    with serving(config, "--days", "2", "--live") as server:
        url = json.loads(config.read_text())["exchange"]["ccxt_config"]["urls"]["api"]["public"]
        assert url.startswith("http://127.0.0.1:")
        host, port = url.removeprefix("http://").split("/")[0].split(":")
        socket.create_connection((host, int(port)), timeout=120).close()
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=120)
    assert server.returncode == 0, errors
    assert "made up" in output


def test_replay_can_be_interrupted_as_soon_as_its_config_is_there(tmp_path, monkeypatch):
    def write_and_stop(*given):
        write_overlay(*given)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("freqai_lstm_plugins.replay.write_overlay", write_and_stop)
    config = tmp_path / "replay.json"
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        result = CliRunner().invoke(app, ["replay", "--days", "1", "--config", str(config)])
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    assert result.exit_code == 0, result.output
    assert config.is_file()


def test_replay_serves_every_pair_of_a_folder(tmp_path):
    for pair, candles in synthetic_market(["ADA/USDT", "SOL/USDT"], "5m", 50, seed=1).items():
        candles.to_feather(tmp_path / f"{pair.replace('/', '_')}-5m.feather")
    config = tmp_path / "replay.json"
    with serving(config, "--datadir", str(tmp_path)):
        pairs = json.loads(config.read_text())["exchange"]["pair_whitelist"]
    assert pairs == ["ADA/USDT", "SOL/USDT"]


def test_replay_on_a_busy_port_says_so(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = call("replay", "--days", "1", "--port", str(port), cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.strip().count("\n") == 0
    assert str(port) in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.freqtrade
def test_demo_shows_a_bot_that_goes_on_after_a_restart(tmp_path):
    out = tmp_path / "demo"
    result = call("demo", "--quick", "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert "from the saved models; trained none" in " ".join(
        result.stdout.replace("│", " ").split()
    )
    assert "made up" in result.stdout
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a package is not installed."""
    code = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == {package!r} else find(name, *more)
from freqai_lstm_plugins.cli import main
sys.argv = ["freqai-lstm", *{list(arguments)!r}]
main()
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1500, check=False
    )


@pytest.mark.skipif(find_spec("freqtrade") is None, reason="freqtrade is missing in truth")
@pytest.mark.parametrize("package", ["freqtrade", "datasieve", "sklearn", "aiohttp", "pyarrow"])
def test_demo_names_a_missing_package_before_it_starts(tmp_path, package):
    result = without(package, "demo", "--out", str(tmp_path / "demo"))
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert f"'{package}', which is not installed" in error
    assert 'freqai_lstm_plugins[demo]"' in error
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.freqtrade
@pytest.mark.slow
def test_demo_without_matplotlib_lacks_the_picture_alone(tmp_path):
    result = without("matplotlib", "demo", "--quick", "--out", str(tmp_path / "demo"))
    assert result.returncode == 0, result.stderr
    assert "models trained and saved" in " ".join(result.stdout.replace("│", " ").split())
    assert "picture: none, since matplotlib is not installed" in result.stdout


def test_demo_overwrites_nothing(tmp_path):
    (tmp_path / "precious").write_text("mine")
    result = call("demo", "--quick", "--out", str(tmp_path))
    assert result.returncode == 1
    assert "is not empty" in result.stderr
