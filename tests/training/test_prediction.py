"""Outputs that are not finite count for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor
from freqai_lstm_plugins.errors import CheckpointError
from freqai_lstm_plugins.nets import NETS, build_net, shares_rows
from freqai_lstm_plugins.training import prediction
from freqai_lstm_plugins.training.prediction import PREDICT_BATCH, all_outputs, predict_windows

W, F = 4, 3
X = np.random.default_rng(0).normal(size=(60, F)).astype(np.float32)
SIZES = {"hidden_size": 4, "max_epochs": 1, "progress": False}


class Overflows(nn.Module):
    """Gives two numbers, one of which leaves the range of float32 where a feature is large."""

    def __init__(self, n_features=F, n_outputs=2):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        last = x[:, -1, :1] * self.weight
        return torch.cat([last, last * 1e30], dim=1)


@pytest.mark.parametrize("large", [1e21, -1e21])
def test_a_window_with_half_an_answer_has_none(large):
    rows = torch.ones(9, F)
    rows[5, 0] = large
    found = predict_windows(Overflows().eval(), rows, torch.arange(W - 1, 9), W)
    assert found[2].isnan().all()
    others = torch.cat([found[:2], found[3:]])
    assert others.isfinite().all()


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("make", [SequenceRegressor, SequenceClassifier])
def test_a_forecast_from_values_far_outside_of_the_training_is_finite_or_missing(net, make):
    """Catches a forecast that looks like one and is NaN in part, infinite, or another row's."""
    targets = X[:, 0] if make is SequenceRegressor else X[:, 0] > 0
    model = make(net, W, **SIZES).fit(X, targets)
    rows = X.copy()
    rows[30, 1] = 1e21
    has_window = np.arange(len(rows)) >= W - 1
    outputs = model.predict_outputs(rows, has_window)
    before = model.predict_outputs(X, has_window)
    finite = np.isfinite(outputs).all(axis=1)
    assert (finite | np.isnan(outputs).all(axis=1)).all()
    touched = np.arange(30, 30 + W)
    apart = np.setdiff1d(np.arange(W - 1, len(rows)), touched)
    np.testing.assert_allclose(outputs[apart], before[apart], rtol=1e-4, atol=1e-5)
    if net == "tft":
        assert not finite[touched].all(), "else this test says nothing"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_file_with_weights_that_are_not_finite_is_refused(tmp_path, bad):
    path = tmp_path / "model.zip"
    model = SequenceRegressor("lstm", W, **SIZES).fit(X, X[:, 0])
    with torch.no_grad():
        model.net_.head[0].weight[0, 0] = bad
    model.save(path)
    with pytest.raises(CheckpointError, match=r"head\.0\.weight.*not finite.*[Tt]rain"):
        SequenceRegressor.load(path)


def test_windows_of_series_that_stand_far_apart_are_not_copied(monkeypatch):
    """Catches batches that reach from one symbol to the next, whose windows share no rows."""
    net = build_net("lstm", F, 1, NETS["lstm"].config(hidden_size=4, num_layers=1)).eval()
    if not shares_rows(net):
        pytest.skip("without compiled layers windows are always copied")
    n_series, length = 3, 2 * PREDICT_BATCH
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(n_series * length, F))).float()
    ends = torch.cat([torch.arange(length - 300, length) + n * length for n in range(n_series)])
    with torch.no_grad():
        mixed = all_outputs(net, rows, ends, W)
        monkeypatch.setattr(prediction, "gather_windows", lambda *given: pytest.fail("copied"))
        apart = all_outputs(net, rows, ends, W, by_series=True)
    np.testing.assert_allclose(apart, mixed, rtol=1e-5, atol=1e-6)
