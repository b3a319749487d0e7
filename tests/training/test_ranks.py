"""How well forecasts rank what they forecast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from freqai_lstm_plugins.training.objectives import Classes, Numbers
from freqai_lstm_plugins.training.ranks import rank_correlation


def test_rank_correlation_is_spearmans():
    answer = Numbers(2)
    outputs = torch.tensor([[1.0, 1], [2, 1], [4, 1]])
    assert rank_correlation(answer, outputs, torch.tensor([[1.0, 1], [8, 2], [9, 3]])) == 0.5
    assert rank_correlation(Numbers(1), outputs[:, :1], -outputs[:, :1]) == -1.0
    chances = torch.tensor([[2.0, 0], [0, 1], [0, 3]])
    told = rank_correlation(Classes(((1.0, 1.0),)), chances, torch.tensor([[0.0], [1], [1]]))
    assert told == pytest.approx(np.sqrt(0.75))


def test_a_window_of_twice_the_weight_counts_as_two_and_one_of_none_not_at_all():
    outputs = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    targets = torch.tensor([[1.0], [3.0], [2.0], [-9.0]])
    weights = torch.tensor([1.0, 2.0, 1.0, 0.0])
    # Ranks 1 2 2 3 against 1 3 3 2 where the second row stands twice, by hand.
    first, second = np.array([1.0, 2, 2, 3]), np.array([1.0, 3, 3, 2])
    expected = np.corrcoef(first, second)[0, 1]
    assert rank_correlation(Numbers(1), outputs, targets, weights) == pytest.approx(expected)
    assert rank_correlation(Numbers(1), outputs, targets, torch.zeros(4)) == 0.0
