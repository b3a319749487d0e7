"""Dense supervision: sequences that serve many targets at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.data.windows import WindowSet, gather_sequences, join_windows, window_ends
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import build_net
from freqai_lstm_plugins.training.batches import dense_batches
from freqai_lstm_plugins.training.devices import seeded


@given(
    usable=st.lists(st.sampled_from([True, True, True, False]), max_size=60),
    is_target=st.lists(st.booleans(), min_size=60, max_size=60),
    window=st.integers(1, 7),
    offset=st.integers(0, 6),
)
def test_every_window_is_in_one_sequence_and_no_sequence_holds_an_unusable_row(
    usable, is_target, window, offset
):
    """Catches a target that is lost or counted twice, and a sequence over a gap."""
    has_window = window_ends(np.array(usable, dtype=bool), window)
    ends = torch.from_numpy(
        np.flatnonzero(has_window & np.array(is_target[: len(usable)], dtype=bool))
    )
    joined = join_windows(ends, window, offset % window)
    members = joined.members[joined.members >= 0]
    assert sorted(members.tolist()) == list(range(len(ends)))
    rows = torch.where(torch.tensor(usable, dtype=torch.bool).unsqueeze(1), 1.0, torch.nan)
    if len(ends):
        sequences = gather_sequences(rows, joined.firsts, joined.lasts, window)
        assert sequences.shape == (len(joined), 2 * window - 1, 1)
        assert sequences.isfinite().all()
    for first, row in zip(joined.firsts.tolist(), joined.members.tolist(), strict=True):
        for step, member in enumerate(row):
            assert member < 0 or ends[member] == first + step


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_first_step_is_the_exact_window_and_no_step_sees_a_later_row(name):
    """Catches steps that are off by a row, and a net that is not causal."""
    window = 5
    with seeded(0):
        net = build_net(name, 3, 2, NetConfig(hidden_size=8, num_layers=2)).eval()
        x = torch.randn(4, 2 * window - 1, 3)
        later = torch.randn(4, 2, 3)
    steps = net.forward_steps(x, window)
    assert steps.shape == (4, window, 2)
    torch.testing.assert_close(steps[:, 0], net(x[:, :window]))
    torch.testing.assert_close(steps[:, -1], net(x))
    changed = torch.cat([x[:, :-2], later], dim=1)
    torch.testing.assert_close(net.forward_steps(changed, window)[:, :-2], steps[:, :-2])


def test_an_epoch_gives_each_target_once_with_its_own_weight():
    """Catches a target beside another row's prediction, or another's weight."""
    window = 4
    ends = torch.tensor([3, 4, 5, 9, 10, 14, 20, 21, 22, 23, 24, 25])
    rows = torch.arange(30.0).unsqueeze(1)
    weights = 1.0 + ends.float()
    windows = WindowSet(rows, ends, ends.float().unsqueeze(1), weights, window)

    class LastRow(nn.Module):
        def forward_steps(self, x, n_steps):
            return x[:, -n_steps:]

    seen = []
    for batch in dense_batches(windows, 8, torch.Generator().manual_seed(0)):
        torch.testing.assert_close(batch.predict(LastRow()), batch.targets)
        torch.testing.assert_close(batch.weights, (1 + batch.targets.squeeze(1)) / weights.mean())
        seen += batch.targets.squeeze(1).int().tolist()
    assert sorted(seen) == ends.tolist()


def test_dense_training_learns_what_exact_training_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = np.r_[0, x[:-1, 0]] - 0.5 * x[:, 1]
    for supervision in ("exact", "dense"):
        model = SequenceRegressor(
            window=6,
            hidden_size=16,
            num_layers=1,
            dropout=0.0,
            max_epochs=60,
            batch_size=32,
            learning_rate=0.02,
            supervision=supervision,
            progress=False,
        ).fit(x, y)
        assert model.score(x[500:], y[500:]) > 0.9


def test_dense_training_over_holes_never_meets_them():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    x[rng.random(200) < 0.05] = np.nan
    y = rng.normal(size=200)
    model = SequenceRegressor(
        window=4, hidden_size=4, max_epochs=2, supervision="dense", progress=False
    ).fit(x, y)
    assert all(np.isfinite(epoch.train_loss) for epoch in model.history_.epochs)


def test_the_file_of_a_densely_trained_model_says_so(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    model = SequenceRegressor(
        window=4, hidden_size=4, max_epochs=1, supervision="dense", progress=False
    )
    model.fit(x, x[:, 0]).save(tmp_path / "model.zip")
    assert SequenceRegressor.load(tmp_path / "model.zip").get_params()["supervision"] == "dense"


def test_a_net_without_steps_is_told_to_train_on_windows():
    class Flat(nn.Module):
        def __init__(self, n_features, n_targets):
            super().__init__()
            self.out = nn.Linear(4 * n_features, n_targets)

        def forward(self, x):
            return self.out(x.flatten(1))

    x = np.random.default_rng(0).normal(size=(60, 2))
    model = SequenceRegressor(Flat, 4, supervision="dense", max_epochs=1)
    with pytest.raises(ConfigError, match=r"forward_steps\(x, n_steps\), and Flat has none"):
        model.fit(x, x[:, 0])


def test_only_the_ways_that_there_are_are_taken():
    with pytest.raises(ConfigError, match="supervision must be one of exact, dense, auto, not"):
        SequenceRegressor(supervision="thick")
