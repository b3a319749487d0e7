"""Small datasets of qlib's, made in memory or written as qlib's files."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from qlib.data.dataset import DatasetH, TSDatasetH
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.loader import StaticDataLoader
from qlib.data.dataset.processor import DropnaLabel

EXAMPLES = Path(__file__).parents[2] / "examples" / "qlib"
DAYS = pd.bdate_range("2020-01-01", periods=120)
STOCKS = ("AAA", "BBB", "CCC")
SEGMENTS = {
    "train": (DAYS[0], DAYS[69]),
    "valid": (DAYS[70], DAYS[89]),
    "test": (DAYS[90], DAYS[119]),
}

MARKS = [
    pytest.mark.qlib,
    # What qlib and what it runs on say of themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


def part_of(*names):
    """Return the segments of these names."""
    return {name: SEGMENTS[name] for name in names}


def frame_of(stocks=STOCKS, n_features=4, seed=0):
    """Return features and a label that follows the mean of the newest three days of the first."""
    random = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product([DAYS, stocks], names=["datetime", "instrument"])
    names = [f"F{k}" for k in range(n_features)]
    features = pd.DataFrame(random.normal(size=(len(index), n_features)), index, names)
    mean = features["F0"].groupby(level="instrument").rolling(3, min_periods=1).mean()
    label = mean.droplevel(0).reindex(index) + random.normal(scale=0.1, size=len(index))
    return pd.concat({"feature": features, "label": label.to_frame("LABEL0")}, axis=1).astype(
        "float32"
    )


def dataset_of(frame=None, *, series=None, segments=None, drops_labels=True, **options):
    """Return a `DatasetH`, or a `TSDatasetH` where `series` says how long its series are."""
    handler = DataHandlerLP(
        data_loader=StaticDataLoader(frame_of() if frame is None else frame),
        learn_processors=[DropnaLabel()] if drops_labels else [],
    )
    segments = SEGMENTS if segments is None else segments
    if series is None:
        return DatasetH(handler, segments, **options)
    return TSDatasetH(step_len=series, handler=handler, segments=segments, **options)


def load_example(name):
    """Import a file of the examples, which are no part of the package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for their own module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def candles_of(n_days=200, seed=0, start="2020-01-01"):
    """Return a stock's made-up days, as `convert.read_stock` reads them."""
    random = np.random.default_rng(seed)
    days = pd.bdate_range(start, periods=n_days, name="date")
    close = 50 * np.exp(np.cumsum(random.normal(scale=0.02, size=n_days)))
    open_ = close * (1 + random.normal(scale=0.005, size=n_days))
    return pd.DataFrame(
        {
            "open": open_,
            "high": np.maximum(open_, close) * 1.01,
            "low": np.minimum(open_, close) * 0.99,
            "close": close,
            "volume": random.integers(1_000, 9_000, n_days).astype(float),
        },
        index=days,
    )
