"""What the outputs of a net mean: numbers, quantiles or classes.

A net maps a window to O outputs. An answer says how many it needs, how wrong they are for a target,
and what they tell. It is a few plain numbers, so that it costs nothing to make anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_LEVELS = (0.1, 0.5, 0.9)


class Answer(Protocol):
    """What training and prediction ask of every kind of answer."""

    @property
    def n_outputs(self) -> int:
        """O, the numbers that a net gives for one window."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each window's loss: outputs (B, O), targets (B, K) -> (B,)."""


@dataclass(frozen=True)
class Numbers:
    """One number a target: its mean (`mse`), its median (`mae`), or between them (`huber`).

    Attributes:
        n_targets: K.
        measure: `mse`, `mae` or `huber`.
        deviations: (K,) errors from which on `huber` counts them linearly.
    """

    n_targets: int
    measure: str = "mse"
    deviations: tuple[float, ...] = ()

    @property
    def n_outputs(self) -> int:
        """O = K."""
        return self.n_targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each window's error, a mean over its targets."""
        error = outputs - targets
        if self.measure == "mae":
            return error.abs().mean(dim=1)
        if self.measure == "huber":
            bound = error.new_tensor(self.deviations)
            # Twice torch's huber loss, so that small errors count as in `mse`.
            # At the bound both branches agree in value and slope.
            linear = bound * (2 * error.abs() - bound)
            return torch.where(error.abs() <= bound, error.square(), linear).mean(dim=1)
        return error.square().mean(dim=1)

    def points(self, outputs: Tensor) -> Tensor:
        """Return the predictions (B, K)."""
        return outputs


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of each target.

    Source of the loss: Koenker and Bassett, Regression Quantiles, Econometrica 46(1), 1978.

    Attributes:
        n_targets: K.
        levels: (Q,) levels, rising, an odd number of them with 0.5 in the middle.
    """

    n_targets: int
    levels: tuple[float, ...] = DEFAULT_LEVELS

    @property
    def n_outputs(self) -> int:
        """O = K Q."""
        return self.n_targets * len(self.levels)

    def values(self, outputs: Tensor) -> Tensor:
        """Return the quantiles (B, K, Q), which never cross.

        An output is the median or, for another quantile, how far it lies from its neighbour on the
        median's side, made positive by softplus.
        """
        # (B, K Q) -> (B, K, Q)
        raw = outputs.unflatten(-1, (self.n_targets, len(self.levels)))
        middle = len(self.levels) // 2
        median = raw[..., middle : middle + 1]
        steps = nnf.softplus(raw)
        # Sums run away from the median: each quantile builds on its neighbour.
        below = steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        above = steps[..., middle + 1 :].cumsum(-1)
        return torch.cat([median - below, median, median + above], dim=-1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each window's pinball loss, a mean over targets and quantiles."""
        # (B, K, 1) - (B, K, Q)
        error = targets.unsqueeze(-1) - self.values(outputs)
        levels = error.new_tensor(self.levels)
        return torch.maximum(levels * error, (levels - 1) * error).mean(dim=(1, 2))

    def points(self, outputs: Tensor) -> Tensor:
        """Return the medians (B, K)."""
        return self.values(outputs)[..., len(self.levels) // 2]

    def bounds(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest quantile, (B, K) each."""
        values = self.values(outputs)
        return values[..., 0], values[..., -1]


@dataclass(frozen=True)
class Classes:
    """Probabilities of the classes of each target.

    Attributes:
        weights: For each target the weight of each of its classes in the loss.
    """

    weights: tuple[tuple[float, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Number of classes of each target."""
        return [len(weights) for weights in self.weights]

    @property
    def n_outputs(self) -> int:
        """O, the classes of all targets."""
        return sum(self.sizes)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return each window's cross entropy, a mean over targets (B, K) of class numbers."""
        parts = outputs.split(self.sizes, dim=1)
        losses = [
            # One loss a window, so that weights of rows can count; not yet a mean over the batch.
            nnf.cross_entropy(part, target.long(), part.new_tensor(weights), reduction="none")
            for part, target, weights in zip(parts, targets.t(), self.weights, strict=True)
        ]
        return torch.stack(losses).mean(dim=0)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probabilities (B, O), which sum to 1 over the classes of each target."""
        parts = outputs.split(self.sizes, dim=1)
        return torch.cat([torch.softmax(part, dim=1) for part in parts], dim=1)


def quantile_levels(interval: float | None) -> tuple[float, ...]:
    """Return the levels of an interval's ends and the median; p10, p50 and p90 by default.

    >>> quantile_levels(0.5)
    (0.25, 0.5, 0.75)
    """
    if interval is None:
        return DEFAULT_LEVELS
    return ((1 - interval) / 2, 0.5, (1 + interval) / 2)


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return class weights that let every class count the same, of mean 1 over the rows.

    >>> balanced_weights([30, 10])
    (0.6666666666666666, 2.0)
    """
    seen = sum(count > 0 for count in counts)
    # A class without rows has no loss to weigh, and an infinite weight would make it NaN.
    return tuple(sum(counts) / (seen * count) if count else 0.0 for count in counts)
