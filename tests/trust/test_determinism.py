"""The same candles, settings and seed give the same weights."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pandas as pd

from tests.freqai.walk import weights
from tests.trust.cases import CASES, ONE_NET

BACKTEST = """
import sys
from pathlib import Path
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.walk import PER_DAY, ClassStrategy, SmallStrategy, backtest
from tests.trust.cases import CASES, KWARGS, ONE_NET

market = synthetic_market(["BTC/USDT"], "15m", 4 * PER_DAY, seed=4)["BTC/USDT"]
training = "freqai__model_training_parameters__trainer_kwargs"
kinds = {
    "numbers": (SmallStrategy, "LeaLSTMRegressor", {}),
    "quantiles": (SmallStrategy, "LeaTFTRegressor", {f"{training}__interval": 0.8}),
    "classes": (ClassStrategy, "LeaLSTMClassifier", {f"{training}__class_weight": "balanced"}),
}
for case in CASES:
    if case is not ONE_NET:
        kinds[case.name] = (SmallStrategy, "LeaLSTMRegressor", case.changes)
for kind in sys.argv[3:]:
    strategy, model, changes = kinds[kind]
    predicted, _ = backtest(
        Path(sys.argv[1]) / kind,
        market,
        strategy,
        freqai__feature_parameters__noise_standard_deviation=0.05,
        **{
            "freqaimodel": model,
            KWARGS: {"hidden_dim": 8, "n_layer": 2, "dropout": 0.3},
            f"{training}__seed": int(sys.argv[2]),
            **changes,
        },
    )
    predicted.to_pickle(Path(sys.argv[1]) / kind / "predictions.pkl")
"""


KINDS = ("numbers", "quantiles", "classes", *(case.name for case in CASES if case is not ONE_NET))


def test_two_processes_give_the_same_weights_bit_by_bit(tmp_path):
    """Catches a random number, an order or a clock that enters training unseeded."""
    # That the seed is what they come from is shown by the first kind.
    runs = {"one": ("1", *KINDS), "same": ("1", *KINDS), "other": ("2", KINDS[0])}
    with contextlib.ExitStack() as stack:
        children = [
            subprocess.Popen([sys.executable, "-c", BACKTEST, str(tmp_path / name), *arguments])
            for name, arguments in runs.items()
        ]
        for child in children:
            stack.callback(child.kill)
        assert [child.wait(1500) for child in children] == [0, 0, 0]
    for kind in KINDS:
        folders = [tmp_path / name / kind for name in ("one", "same")]
        one, same = map(weights, folders)
        assert len(one) == 2
        assert one == same
        predicted = [pd.read_pickle(folder / "predictions.pkl") for folder in folders]
        pd.testing.assert_frame_equal(predicted[0], predicted[1], check_exact=True)
    one, other = (weights(tmp_path / name / KINDS[0]) for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(other[name] != one[name] for name in one)
