"""What stands in the files of models is all that their forecasts need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from freqai_lstm_plugins.research.experiment_schema import MODEL_KINDS
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import list_entries
from tests.research.test_run import experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "xgboost", "jinja2", "plotly"):
    pytest.importorskip(needed)

NET = {"hidden_size": 4, "num_layers": 1, "max_epochs": 1}
TREES = {"n_estimators": 5}
MEMBERS = {"ridge": {}, "lightgbm": TREES, "gru": NET}
MODELS = {
    **dict.fromkeys(("lstm", "gru", "alstm", "tft", "mlp"), NET),
    "lightgbm": {**TREES, "lags": [0, 3]},
    "xgboost": TREES,
    "ridge": {"interval": 0.8},
    "naive_last": {},
    "ensemble": {"members": MEMBERS},
    "dense": {"kind": "lstm", "supervision": "dense", **NET},
    "quantiles": {"kind": "gru", "loss": "quantile", "interval": 0.8, **NET},
    "follower": {"kind": "ensemble", "members": {"ridge": {}, "lightgbm": TREES}},
    "panel": {"kind": "lstm", "scope": "panel", "symbol_embedding": 2, **NET},
    "untold": {"kind": "lstm", "scope": "panel", "balance": "symbols", **NET},
    "trees": {"kind": "xgboost", "scope": "panel", "symbol_embedding": 1, **TREES},
    "newcomer": {"kind": "gru", "scope": "panel", "leave_one_out": True, **NET},
    "several": {"kind": "ensemble", "scope": "panel", "symbol_embedding": 2, "members": MEMBERS},
}
MODELS["follower"] |= {"combine": "dynamic", "scope": "panel", "leave_one_out": True}

CODE = """
import sys
from pathlib import Path

from freqai_lstm_plugins.research.store import list_entries, reproduce

out = Path(sys.argv[1])
for entry in list_entries(out):
    stored, found = entry.predictions(), reproduce(entry, out)
    assert len(stored) and stored[["date", "symbol"]].equals(found[["date", "symbol"]])
    assert (found["prediction"] == stored["prediction"]).all(), entry.folder
    print(entry.metadata["model"])
"""


def test_a_fresh_process_reproduces_every_kind_of_model_to_the_last_bit(tmp_path):
    write_candles(tmp_path / "data", "AB")
    asked = experiment(
        tmp_path / "data", seeds=[1], models=MODELS, split={"folds": 1, "test_bars": 60}
    )
    run = train(start(asked, tmp_path / "out"), workers=1)
    assert run.failures.empty
    entries = list_entries(run.out)
    assert {entry.metadata["kind"] for entry in entries} == set(MODEL_KINDS)
    command = [sys.executable, "-c", CODE, str(run.out)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == len(entries)
    assert set(result.stdout.split()) == {*MODELS, "naive_zero"}
