"""Weights averaged over the steps of a training, which forecast more steadily than the last ones.

Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, SIAM Journal on
Control and Optimization 30(4), 1992; here with weights that fade exponentially (EMA).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a net's weights; buffers are those of the net itself."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            net: The net that is trained.
            decay: Share of the average that a step keeps; 0 averages nothing.
        """
        self._decay, self._n_steps = decay, 0
        self._weights: list[Tensor] = [
            weight for weight in net.parameters() if decay and weight.requires_grad
        ]
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights after a step."""
        if not self._averages:
            return
        self._n_steps += 1
        # Early on a long memory would hold little but the random weights of the beginning.
        decay = min(self._decay, (1 + self._n_steps) / (10 + self._n_steps))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the net have the averages inside, and the weights of its last step again after."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Put the averages into the net, and what stood there in their place."""
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight_before = weight.clone()
            weight.copy_(average)
            average.copy_(weight_before)
