"""`inspect` shows something sensible for every kind of model, and parses no tree."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from freqai_lstm_plugins.checkpoint import KINDS, Checkpoint, write_checkpoint
from freqai_lstm_plugins.cli import app
from freqai_lstm_plugins.errors import NotACheckpointError
from freqai_lstm_plugins.models.registry import new_model, save_model
from freqai_lstm_plugins.models.summary import summarize
from tests.models.ensemble.windows import TREES, W, prepared

pytest.importorskip("lightgbm")
pytest.importorskip("xgboost")

SETTINGS = {
    "lightgbm": TREES,
    "xgboost": {"n_estimators": 5},
    "ridge": {},
    "naive_zero": {},
    "ensemble": {
        "members": {"ridge": {}, "lightgbm-1": TREES, "bad": {"kind": "ridge", "lags": [W]}}
    },
}


def fitted(kind):
    return new_model(kind, SETTINGS[kind], window=W, seed=1).fit_windows(prepared(n_targets=2))


def shown(path, *more):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["inspect", str(path), *more])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_kind_of_model_is_shown_with_its_labels_and_features(tmp_path, kind, monkeypatch):
    path = tmp_path / "model.zip"
    save_model(fitted(kind), path)
    # What parses trees is not at hand.
    for library in ("lightgbm", "xgboost"):
        monkeypatch.setitem(sys.modules, library, None)
    output = shown(path, "--features")
    assert kind in output
    assert "y0, y1" in output
    assert "features: x0, x1, x2, x3" in output
    assert "kB" in output


def test_an_ensemble_shows_members_weights_and_errors_out_of_fold(tmp_path):
    model = fitted("ensemble")
    path = tmp_path / "model.zip"
    save_model(model, path)
    output = shown(path)
    weighed = model.require_fitted().weighed[1]
    assert "lightgbm-1" in output
    assert f"{weighed.weights[1]:.3f}" in output
    assert f"{weighed.member_errors[1]:.5g}" in output
    assert f"of the plain mean {weighed.mean_error:.5g}" in output
    assert "left out" in output
    assert "lag 4 lies outside windows" in output


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_damaged_state_is_one_line(tmp_path, kind):
    assert kind in KINDS
    with pytest.raises(NotACheckpointError, match=f"holds no sound {kind}"):
        summarize(Checkpoint(kind, {"settings": {}}))
    write_checkpoint(Checkpoint(kind, {"schema": 3}), tmp_path / "model.zip")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "model.zip")])
    assert result.exit_code != 0
