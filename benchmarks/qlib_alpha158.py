"""Alpha158 beside qlib's own: `PYTHON -m benchmarks.qlib_alpha158 SYMBOLS DAYS ROUNDS`.

qlib lives in an environment of its own, so this runs by that one's Python and prints seconds as
JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import alternate
from freqai_lstm_plugins.features import alpha158

ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("FREQAI_LSTM_QLIB_PYTHON")
OURS, SAME, THEIRS = "alpha158", "alpha158 with qlib_compatible", "qlib 0.9.7"


def in_qlibs_environment(symbols: int, days: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side's rounds, measured by qlib's Python.

    Args:
        symbols: How many stocks.
        days: Days of each.
        rounds: How often each side computes.
    """
    arguments = [str(number) for number in (symbols, days, rounds)]
    result = subprocess.run(
        [str(PYTHON), "-m", "benchmarks.qlib_alpha158", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def made_up(symbols: int, days: int) -> dict[str, pd.DataFrame]:
    """Return made-up days of stocks."""
    random = np.random.default_rng(0)
    dates = pd.bdate_range("2010-01-04", periods=days, name="date")
    found = {}
    for number in range(symbols):
        close = 50 * np.exp(np.cumsum(random.normal(scale=0.02, size=days)))
        open_ = close * np.exp(random.normal(scale=0.01, size=days))
        found[f"S{number:03}"] = pd.DataFrame(
            {
                "open": open_,
                "high": np.maximum(open_, close) * 1.01,
                "low": np.minimum(open_, close) * 0.99,
                "close": close,
                "volume": random.integers(1_000, 9_000, days).astype(float),
            },
            index=dates,
        )
    return found


def measure(symbols: int, days: int, rounds: int) -> dict[str, list[float]]:
    """Let both sides compute all features of the same stocks, on one core, in turns."""
    import qlib
    from qlib.config import C
    from qlib.contrib.data.loader import Alpha158DL
    from qlib.data.cache import H
    from qlib.data.dataset.loader import QlibDataLoader

    spec = importlib.util.spec_from_file_location("convert", ROOT / "examples/qlib/convert.py")
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    stocks = made_up(symbols, days)
    with tempfile.TemporaryDirectory() as folder:
        convert.write_qlib(stocks, Path(folder))
        qlib.init(provider_uri=folder, region="cn", logging_level=40, kernels=1)
        # Else each stock would go to a process of its own.
        C.joblib_backend = "sequential"
        loader = QlibDataLoader({"feature": Alpha158DL.get_feature_config()})

        def theirs() -> pd.DataFrame:
            H.clear()
            return loader.load("all")

        def ours(*, qlib_compatible: bool) -> pd.DataFrame:
            features = partial(alpha158, qlib_compatible=qlib_compatible)
            return pd.concat({name: features(stock) for name, stock in stocks.items()})

        same = partial(ours, qlib_compatible=True)
        assert theirs().shape == same().shape
        sides = {OURS: partial(ours, qlib_compatible=False), SAME: same, THEIRS: theirs}
        return alternate(sides, rounds)


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
