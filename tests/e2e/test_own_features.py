"""Features of a FreqAI strategy, exported and compared: the way of `docs/compare.md`."""

from __future__ import annotations

import contextlib

import pandas as pd
import pytest
from typer.testing import CliRunner

from freqai_lstm_plugins.cli import app
from freqai_lstm_plugins.errors import ConfigError
from tests.freqai.saved import PAIRS, make_userdir

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

EXPERIMENT = """
seeds = [1]

[data]
folder = "features"
timeframe = "5m"

[features]
sets = ["columns"]
window = 8

[label]
kind = "column"
column = "&-forward_return"
horizon = 6

[split]
folds = 1
test_bars = 288

[models.lstm]
hidden_size = 4
num_layers = 1
max_epochs = 1

[models.lightgbm]
n_estimators = 10

[portfolio]
k = 1
"""


def call(*arguments):
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a user directory, the features of its strategy, and an experiment on them."""
    place = tmp_path_factory.mktemp("own")
    make_userdir(place, freqai={"feature_parameters": {"include_corr_pairlist": []}})
    asked = ["--config", "user_data/config-lea.json", "--strategy", "LeaFreqAIStrategy"]
    with contextlib.chdir(place):
        written = call("features", *asked, "--out", "features")
        assert written.exit_code == 0, written.output
        (place / "own.toml").write_text(EXPERIMENT)
        yield place


def test_a_net_and_trees_are_compared_on_features_of_a_strategy(place):
    done = call("compare", "own.toml", "--out", "out", "--workers", "1")
    assert done.exit_code == 0, done.output
    assert "Report: out/report/report.html" in done.output
    exported = pd.read_parquet(place / "features" / "BTC_USDT-5m.parquet").set_index("date")
    for pair in PAIRS:
        folder = place / "out" / "models" / "symbols" / pair.replace("/", "_")
        assert {path.name for path in folder.iterdir()} == {
            *("lightgbm", "lstm", "naive_zero", "ridge"),
        }
    (path,) = place.glob("out/models/symbols/BTC_USDT/lstm/*/predictions.parquet")
    found = pd.read_parquet(path).set_index("date")
    assert len(found) == 288
    # The label is the strategy's own, and known as late as the strategy says.
    label = exported["&-forward_return"].reindex(found.index)
    pd.testing.assert_series_equal(found["label"], label, check_names=False)
    known = found["known_at"].dropna()
    assert ((known - known.index) == pd.Timedelta("30min")).all()


def test_a_horizon_below_that_of_the_strategy_is_refused(place):
    result = call("compare", "own.toml", "--out", "short", "--set", "label.horizon=1")
    assert isinstance(result.exception, ConfigError)
    message = str(result.exception)
    assert "less than the 6 candles that the labels of BTC/USDT look ahead" in message
    assert message.endswith("set label.horizon = 6.")
