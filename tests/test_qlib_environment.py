"""qlib in an environment of its own: its tests, and the workflow that the page about it shows.

The environment is made once for each version of what it is made of; FREQAI_LSTM_QLIB_PYTHON names
the Python of one that is there already.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "qlib"
COMMAND = (
    'python3 -m venv .venv-qlib && .venv-qlib/bin/pip install -e ".[qlib]" && '
    ".venv-qlib/bin/python examples/qlib/convert.py VN30_FOLDER qlib_data && "
    ".venv-qlib/bin/qrun examples/qlib/lstm_alpha158.yaml"
)
CONSTRAINTS = EXAMPLES / "constraints.txt"
# Runs this checkout, whatever package the environment that is named has or has not.
THIS_CHECKOUT = {"PYTHONPATH": str(ROOT)}
WORKFLOWS = ("lstm", "gru", "alstm", "tft", "lightgbm", "ensemble")


def run(*command: object, cwd: Path, **settings: str) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **THIS_CHECKOUT, **settings},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def python(pytestconfig):
    """Return the Python of an environment with qlib and this package."""
    if given := os.environ.get("FREQAI_LSTM_QLIB_PYTHON"):
        return Path(given)
    made_of = (ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()
    digest = hashlib.sha256(made_of).hexdigest()[:12]
    place = pytestconfig.cache.mkdir("qlib") / f"{digest}-{sys.version_info.minor}"
    found, finished = place / "bin" / "python", place / "finished"
    if not finished.exists():
        run(sys.executable, "-m", "venv", "--clear", place, cwd=ROOT)
        needs = ["-c", CONSTRAINTS, "-e", ".[qlib]", "pytest", "pytest-timeout"]
        run(found, "-m", "pip", "install", "-q", *needs, cwd=ROOT)
        finished.touch()
    return found


def test_the_page_shows_the_command():
    assert COMMAND in (ROOT / "docs" / "qlib.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.qlib
@pytest.mark.timeout(3600)
def test_qlib_runs_our_models(python):
    told = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/qlib", cwd=ROOT)
    assert "skipped" not in told


def stocks() -> list[str]:
    named = (EXAMPLES / "vn30.yaml").read_text().partition("benchmark: [")[2].partition("]")[0]
    return named.replace(",", " ").split()


def write_candles(path: Path, seed: int) -> None:
    """Write a stock's made-up days over the years of the workflow."""
    random = np.random.default_rng(seed)
    days = pd.bdate_range("2018-01-02", "2025-11-11", name="date")
    close = 50 * np.exp(np.cumsum(random.normal(scale=0.02, size=len(days))))
    frame = pd.DataFrame({"open": close, "high": close * 1.01, "low": close * 0.99}, index=days)
    frame["close"], frame["volume"] = close, random.integers(1_000, 9_000, len(days))
    frame.to_csv(path)


def write_short(name: str, folder: Path, few: list[str]) -> None:
    """Write a workflow on few stocks, with a small net: here the way counts, not the result."""
    shared = (EXAMPLES / "vn30.yaml").read_text()
    shared = re.sub(r"benchmark: \[.*?\]", f"benchmark: {few}", shared, flags=re.DOTALL)
    (folder / "vn30.yaml").write_text(shared)
    text = (EXAMPLES / f"{name}_alpha158.yaml").read_text()
    text = re.sub(r"hidden_size: \d+", "hidden_size: 8", text)
    (folder / "short.yaml").write_text(re.sub(r"n_epochs: \d+", "n_epochs: 1", text))


def assert_judged(told: str) -> None:
    for figure in ("'Rank IC'", "excess return with cost", "annualized_return"):
        assert figure in told


def test_the_workflows_are_those_of_the_examples():
    assert {path.name.partition("_")[0] for path in EXAMPLES.glob("*_alpha158.yaml")} == {
        *WORKFLOWS
    }
    assert len(stocks()) == len(set(stocks())) == 30


@pytest.fixture(scope="module")
def converted(python, tmp_path_factory):
    """Return a folder with made-up stocks in qlib's format."""
    folder = tmp_path_factory.mktemp("converted")
    (folder / "csv").mkdir()
    for seed, stock in enumerate(stocks()[:6]):
        write_candles(folder / "csv" / f"{stock}.csv", seed)
    told = run(python, EXAMPLES / "convert.py", "csv", "qlib_data", cwd=folder)
    assert "6 stocks, 2051 days: qlib reads what was written." in told
    return folder


@pytest.mark.slow
@pytest.mark.qlib
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_from_csvs_to_a_portfolio(name, python, converted):
    write_short(name, converted, stocks()[:6])
    assert_judged(run(python.parent / "qrun", "short.yaml", cwd=converted))


@pytest.mark.slow
@pytest.mark.qlib
@pytest.mark.timeout(3600)
def test_nets_of_both_sides_are_compared_with_several_seeds(python, converted):
    write_short("lstm", converted, stocks()[:6])
    page = converted / "page.md"
    page.write_text("Before.\n<!-- seeds: begin -->\nold\n<!-- seeds: end -->\nAfter.\n")
    command = [python, EXAMPLES / "seeds.py", "--workflow", "vn30.yaml", "--page", page]
    told = run(*command, "--seeds", "2", "--epochs", "1", cwd=converted)
    assert told.count("seed 1)") == 8
    assert "old" not in page.read_text()
    # What was found is not trained again.
    again = run(*command, "--seeds", "2", "--epochs", "1", cwd=converted)
    assert "seed" not in again
    first, second = (
        [line for line in text.splitlines() if line.startswith("|")] for text in (told, again)
    )
    # qlib says by itself what else is not installed.
    assert len(first) == 2 + 8 + 2 + 4
    assert first == second


@pytest.mark.slow
@pytest.mark.qlib
@pytest.mark.timeout(3600)
def test_the_command_of_the_page_runs_word_for_word(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("freqai_lstm_plugins", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "csv").mkdir()
    for seed, stock in enumerate(stocks()):
        write_candles(tmp_path / "csv" / f"{stock}.csv", seed)
    # An open range of torch's versions would bring gigabytes that no CPU needs.
    command = COMMAND.replace("VN30_FOLDER", "csv")
    # What is installed must do, so nothing is lent to it.
    alone = {"PYTHONPATH": "", "PIP_CONSTRAINT": str(CONSTRAINTS)}
    assert_judged(run("bash", "-c", command, cwd=tmp_path, **alone))
