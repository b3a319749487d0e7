"""Whether a model beats the forecast that is the same for every row."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from freqai_lstm_plugins.training.objectives import Answer, Classes, Numbers, Quantiles
from freqai_lstm_plugins.training.ranks import rank_correlation

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.preparation import Prepared
    from freqai_lstm_plugins.data.windows import WindowSet
    from freqai_lstm_plugins.training.history import History

logger = logging.getLogger(__name__)

SMALLEST_GAP = 1e-6


def constant_outputs(answer: Answer, train: WindowSet) -> Tensor:
    """Return the outputs (O,) of the best forecast that is the same for every training window.

    The mean, median or quantiles of the targets, or the logarithms of the classes' frequencies.
    """
    targets, weights = train.targets.double().cpu(), train.weights.double().cpu()
    if isinstance(answer, Classes):
        parts = []
        for numbers, by_class in zip(targets.long().T, answer.weights, strict=True):
            counts = torch.bincount(numbers, weights, minlength=len(by_class))
            shares = counts * torch.tensor(by_class, dtype=torch.float64)
            parts.append((shares / shares.sum()).clamp(min=1e-9).log())
        return torch.cat(parts).float()
    if isinstance(answer, Quantiles):
        values = torch.from_numpy(np.quantile(targets.numpy(), answer.levels, axis=0).T)
        middle = len(answer.levels) // 2
        # How far each lies from its neighbour, before softplus makes it positive.
        gaps = values.diff(dim=1).clamp(min=SMALLEST_GAP)
        raw = gaps + torch.log(-torch.expm1(-gaps))
        outputs = [raw[:, :middle], values[:, middle : middle + 1], raw[:, middle:]]
        return torch.cat(outputs, dim=1).flatten().float()
    if isinstance(answer, Numbers) and answer.measure == "mae":
        return targets.median(dim=0).values.float()
    return ((targets * weights.unsqueeze(1)).sum(dim=0) / weights.sum()).float()


def with_yardstick(
    history: History, outputs: Tensor | None, data: Prepared, answer: Answer, name: str
) -> History:
    """Return the history with what a constant forecast would have reached on validation windows.

    A model that is no better is named in the log. Without validation windows there is nothing to
    measure, since any net learns its training windows.

    Args:
        history: Of a training.
        outputs: (M, O) what the trained net says of the M validation windows; None without them.
        data: What it was trained on.
        answer: What the net's outputs mean.
        name: Of the net, for the log.
    """
    valid = data.valid
    if valid is None or outputs is None:
        return history
    constant = constant_outputs(answer, data.train).expand(len(valid), -1)
    losses = answer.loss(constant, valid.targets.cpu()) * valid.weights.cpu()
    constant_loss = float(losses.sum() / valid.weights.sum())
    correlation = rank_correlation(answer, outputs, valid.targets.cpu(), valid.weights.cpu())
    if history.best_loss >= constant_loss:
        logger.warning(
            "%s: no better than a constant forecast on %d validation windows: loss %.5g against "
            "%.5g, rank correlation %.2f. Give more rows, fewer features, or another target.",
            name,
            len(valid),
            history.best_loss,
            constant_loss,
            correlation,
        )
    return dataclasses.replace(history, constant_loss=constant_loss, rank_correlation=correlation)
