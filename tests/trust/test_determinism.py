"""The same candles, settings and seed give the same weights."""

from __future__ import annotations

import subprocess
import sys

from tests.freqai.walk import weights

BACKTEST = """
import sys
from pathlib import Path
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.walk import PER_DAY, backtest

market = synthetic_market(["BTC/USDT"], "15m", 4 * PER_DAY, seed=4)["BTC/USDT"]
backtest(
    Path(sys.argv[1]),
    market,
    freqai__model_training_parameters__trainer_kwargs__seed=int(sys.argv[2]),
    freqai__feature_parameters__noise_standard_deviation=0.05,
    freqai__model_training_parameters__model_kwargs={"hidden_dim": 8, "n_layer": 2, "dropout": 0.3},
)
"""


def test_two_processes_give_the_same_weights_bit_by_bit(tmp_path):
    """Catches a random number, an order or a clock that enters training unseeded."""
    children = [
        subprocess.Popen([sys.executable, "-c", BACKTEST, str(tmp_path / name), seed])
        for name, seed in (("one", "1"), ("same", "1"), ("other", "2"))
    ]
    assert [child.wait(300) for child in children] == [0, 0, 0]
    one, same, other = (weights(tmp_path / name) for name in ("one", "same", "other"))
    assert len(one) == 2
    assert one == same
    assert all(other[name] != one[name] for name in one)
