"""How well forecasts rank what they forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from freqai_lstm_plugins.training.objectives import Answer, Classes, Numbers, Quantiles

if TYPE_CHECKING:
    from torch import Tensor

    from freqai_lstm_plugins.data.arrays import FloatArray


def rank_correlation(
    answer: Answer, outputs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> float:
    """Return Spearman's correlation of forecasts with what came, a mean over targets or classes.

    Of classes it is that of each probability with whether the class came; 0 where one of both
    never changes.

    Args:
        answer: What the outputs mean.
        outputs: (M, O) of a net.
        targets: (M, K).
        weights: (M,) how much each row counts; rows of weight 0 have no rank. None counts all the
            same.
    """
    if isinstance(answer, Classes):
        forecasts = answer.probabilities(outputs)
        came = [
            (numbers.long().unsqueeze(1) == torch.arange(size)).float()
            for numbers, size in zip(targets.T, answer.sizes, strict=True)
        ]
        targets = torch.cat(came, dim=1)
    elif isinstance(answer, Numbers | Quantiles):
        forecasts = answer.points(outputs)
    else:
        forecasts = outputs
    counts = np.ones(len(targets)) if weights is None else weights.numpy().astype(np.float64)
    pairs = zip(forecasts.T.numpy(), targets.T.numpy(), strict=True)
    return float(np.mean([_spearman(one, other, counts) for one, other in pairs]))


def _spearman(one: FloatArray, other: FloatArray, weights: FloatArray) -> float:
    counted = weights > 0
    ranks = np.array([pd.Series(values[counted]).rank().to_numpy() for values in (one, other)])
    if not counted.any() or np.ptp(ranks, axis=1).min() == 0:
        return 0.0
    (first, both), (_, second) = np.cov(ranks, aweights=weights[counted], ddof=0)
    return float(both / np.sqrt(first * second))
