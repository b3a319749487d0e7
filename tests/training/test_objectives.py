from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from hypothesis import given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.training.objectives import (
    DEFAULT_LEVELS,
    Classes,
    Numbers,
    Quantiles,
    balanced_weights,
    quantile_levels,
)

B, K = 8, 3


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("measure", "reference"),
    [
        ("mse", lambda o, t: nnf.mse_loss(o, t, reduction="none")),
        ("mae", lambda o, t: nnf.l1_loss(o, t, reduction="none")),
        # Twice torch's, so that small errors count as in mse.
        ("huber", lambda o, t: 2 * nnf.huber_loss(o, t, reduction="none", delta=0.7)),
    ],
)
def test_losses_of_numbers_are_torchs(measure, reference):
    outputs, targets = randn(B, K), randn(B, K, seed=2)
    answer = Numbers(K, measure, (0.7,) * K)
    torch.testing.assert_close(answer.loss(outputs, targets), reference(outputs, targets).mean(1))
    assert answer.n_outputs == K
    assert torch.equal(answer.points(outputs), outputs)


def test_huber_bends_where_each_targets_deviation_says():
    answer = Numbers(2, "huber", (1.0, 10.0))
    loss = answer.loss(torch.tensor([[5.0, 5.0]]), torch.zeros(1, 2))
    torch.testing.assert_close(loss, torch.tensor([((2 * 5 - 1) + 25) / 2]))


@pytest.mark.parametrize("levels", [(0.5,), (0.1, 0.5, 0.9), (0.05, 0.2, 0.5, 0.6, 0.7)])
def test_quantiles_are_the_median_and_steps_away_from_it(levels):
    answer = Quantiles(K, levels)
    outputs = randn(B, K * len(levels))
    assert outputs.shape[1] == answer.n_outputs
    raw = outputs.double().numpy().reshape(B, K, len(levels))
    steps = np.log1p(np.exp(raw))
    m = len(levels) // 2
    expected = raw.copy()
    for q in range(m + 1, len(levels)):
        expected[..., q] = expected[..., q - 1] + steps[..., q]
    for q in range(m - 1, -1, -1):
        expected[..., q] = expected[..., q + 1] - steps[..., q]
    np.testing.assert_allclose(answer.values(outputs), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer.points(outputs), expected[..., m], rtol=1e-5, atol=1e-6)
    for end, column in zip(answer.bounds(outputs), (0, -1), strict=True):
        np.testing.assert_allclose(end, expected[..., column], rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3))
@settings(max_examples=300)
def test_quantiles_never_cross(outputs):
    values = Quantiles(1).values(torch.tensor([outputs]))
    assert (values.diff(dim=-1) >= 0).all()


def test_the_pinball_loss_gives_each_quantile_its_share():
    """What is left over when nothing can be foreseen is the target's own distribution."""
    answer = Quantiles(1)
    targets = randn(4000, 1, seed=2)
    outputs = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        answer.loss(outputs.expand(len(targets), -1), targets).mean().backward()
        optimizer.step()
    share = (targets <= answer.values(outputs)[0, 0]).double().mean(dim=0)
    torch.testing.assert_close(share, torch.tensor(DEFAULT_LEVELS).double(), atol=0.02, rtol=0)


def test_the_pinball_loss_by_hand():
    answer = Quantiles(1, (0.1, 0.5, 0.9))
    outputs = torch.tensor([[0.0, 1.0, 0.0]])
    step = float(np.log(2))  # softplus of 0
    low, mid, high = 1 - step, 1.0, 1 + step
    target = 2.0
    expected = (0.1 * (target - low) + 0.5 * (target - mid) + 0.9 * (target - high)) / 3
    assert answer.loss(outputs, torch.tensor([[target]])).item() == pytest.approx(expected)


def test_the_loss_of_classes_is_torchs_for_each_target():
    weights = ((1.0, 3.0), (0.5, 1.0, 2.0))
    answer = Classes(weights)
    assert answer.n_outputs == 5
    outputs = randn(4, 5)
    targets = torch.tensor([[0.0, 2.0], [1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    first = nnf.cross_entropy(
        outputs[:, :2], targets[:, 0].long(), torch.tensor(weights[0]), reduction="none"
    )
    second = nnf.cross_entropy(
        outputs[:, 2:], targets[:, 1].long(), torch.tensor(weights[1]), reduction="none"
    )
    torch.testing.assert_close(answer.loss(outputs, targets), (first + second) / 2)
    probabilities = answer.probabilities(outputs)
    torch.testing.assert_close(probabilities[:, :2].sum(1), torch.ones(4))
    torch.testing.assert_close(probabilities[:, 2:].sum(1), torch.ones(4))


def test_balanced_weights_let_every_class_count_the_same():
    counts = [30, 10, 0, 60]
    weights = balanced_weights(counts)
    totals = [count * weight for count, weight in zip(counts, weights, strict=True)]
    assert totals == pytest.approx([100 / 3, 100 / 3, 0, 100 / 3])


def test_levels_are_the_ends_of_the_interval():
    assert quantile_levels(None) == (0.1, 0.5, 0.9)
    assert quantile_levels(0.8) == pytest.approx((0.1, 0.5, 0.9))
    assert quantile_levels(0.5) == (0.25, 0.5, 0.75)
