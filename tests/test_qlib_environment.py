"""qlib in an environment of its own: its tests, and the workflow that the page about it shows.

The environment is made once for each version of `pyproject.toml`; FREQAI_LSTM_QLIB_PYTHON names the
Python of one that is there already.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
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
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: object, cwd: Path) -> str:
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=ALONE, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def python(pytestconfig):
    """Return the Python of an environment with qlib and this package."""
    if given := os.environ.get("FREQAI_LSTM_QLIB_PYTHON"):
        return Path(given)
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    place = pytestconfig.cache.mkdir("qlib") / f"{digest}-{sys.version_info.minor}"
    found, finished = place / "bin" / "python", place / "finished"
    if not finished.exists():
        run(sys.executable, "-m", "venv", "--clear", place, cwd=ROOT)
        torch = f"torch=={version('torch').partition('+')[0]}"
        needs = ["-e", ".[qlib]", torch, "pytest>=8", "pytest-timeout>=2.3"]
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


def write_candles(path: Path, seed: int) -> None:
    """Write a stock's made-up days over the years of the workflow."""
    random = np.random.default_rng(seed)
    days = pd.bdate_range("2018-01-02", "2025-11-11", name="date")
    close = 50 * np.exp(np.cumsum(random.normal(scale=0.02, size=len(days))))
    frame = pd.DataFrame({"open": close, "high": close * 1.01, "low": close * 0.99}, index=days)
    frame["close"], frame["volume"] = close, random.integers(1_000, 9_000, len(days))
    frame.to_csv(path)


@pytest.mark.slow
@pytest.mark.qlib
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["lstm", "gru", "alstm", "tft", "lightgbm", "ensemble"])
def test_a_workflow_runs_from_csvs_to_a_portfolio(name, python, tmp_path):
    head, _, rest = (EXAMPLES / "vn30.yaml").read_text().partition("benchmark: [")
    named, _, tail = rest.partition("]")
    stocks = named.replace(",", " ").split()
    assert len(stocks) == 30
    (tmp_path / "csv").mkdir()
    for seed, stock in enumerate(stocks[:6]):
        write_candles(tmp_path / "csv" / f"{stock}.csv", seed)
    told = run(python, EXAMPLES / "convert.py", "csv", "qlib_data", cwd=tmp_path)
    assert "6 stocks, 2051 days: qlib reads what was written." in told
    (tmp_path / "vn30.yaml").write_text(f"{head}benchmark: {stocks[:6]}{tail}")
    workflow = (EXAMPLES / f"{name}_alpha158.yaml").read_text()
    # Here the way counts, and not the result.
    short = workflow.replace("n_epochs: 30", "n_epochs: 1").replace("n_epochs: 20", "n_epochs: 1")
    (tmp_path / "short.yaml").write_text(short)
    told = run(python.parent / "qrun", "short.yaml", cwd=tmp_path)
    for figure in ("'Rank IC'", "excess return with cost", "annualized_return"):
        assert figure in told
