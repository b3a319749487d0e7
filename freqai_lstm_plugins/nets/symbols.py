"""Nets that know which symbol a window is of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.nets.base import (
    SequenceNet,
    is_stepwise,
    keeps_nothing,
    splits_batches,
)


class PanelNet(SequenceNet):
    """A net that is told the symbol: x (B, W, F + 1) -> (B, O).

    The last column of x is the symbol's number, the same in all rows of a window. With an embedding
    each row gets the symbol's E learned numbers beside its F features, so `net` takes F + E.
    Without one, `net` is called as `net(features, symbol)` and does with the symbol what it wants.

    Args:
        net: The net inside.
        n_symbols: Symbols that are trained together.
        embedding_size: E; 0 hands the symbol on.
    """

    def __init__(self, net: nn.Module, n_symbols: int, embedding_size: int) -> None:
        super().__init__(0, 0)
        self.net = net
        self.keeps_nothing = keeps_nothing(net)
        self.embedding = nn.Embedding(n_symbols, embedding_size) if embedding_size else None

    def forward(self, x: Tensor) -> Tensor:
        """Map windows with their symbol's number to outputs (B, O)."""
        output: Tensor = self.net(*self.inputs(x))
        return output

    def inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what the net inside is called with."""
        features, symbol = x[..., :-1], x[:, -1, -1].long()
        if self.embedding is None:
            return features, symbol
        embedded = self.embedding(symbol).unsqueeze(1).expand(-1, x.shape[1], -1)
        return (torch.cat([features, embedded], dim=-1),)

    @property
    def splits_batches(self) -> bool:
        """Whether the net inside does; the embedding is a lookup."""
        return splits_batches(self.net)


class StepwisePanelNet(PanelNet):
    """A `PanelNet` around a net that predicts at several steps of a sequence."""

    def forward_steps(self, x: Tensor, n_steps: int) -> Tensor:
        """Map sequences (B, L, F + 1) to outputs at their last `n_steps` rows: (B, S, O)."""
        inner: Any = self.net
        output: Tensor = inner.forward_steps(*self.inputs(x), n_steps)
        return output


def panel_net(net: nn.Module, n_symbols: int, embedding_size: int) -> PanelNet:
    """Wrap `net`, keeping dense supervision where it has it."""
    kind = StepwisePanelNet if is_stepwise(net) else PanelNet
    return kind(net, n_symbols, embedding_size)
