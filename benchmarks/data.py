"""Made-up rows, and the nets that both sides of a comparison share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.nets import NETS, RecurrentNet

FloatArray = npt.NDArray[np.float32]


def made_up(n_rows: int, n_features: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return rows (N, F) and targets (N, 1) of standard normal noise; time knows no difference."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n_rows, n_features), dtype=np.float32)
    return rows, rng.standard_normal((n_rows, 1), dtype=np.float32)


def new_net(n_features: int, settings: Mapping[str, Any], name: str = "lstm") -> RecurrentNet:
    """Return a fresh net of this package with one target, as a peer would write it.

    Its recurrent layers are torch's own throughout: ours are part of what is measured.
    """
    net = NETS[name](n_features, 1, NetConfig(**settings))
    assert isinstance(net, RecurrentNet)
    net.forward = partial(_forward_by_torch, net)  # type: ignore[method-assign]
    return net


def _forward_by_torch(net: RecurrentNet, x: Tensor) -> Tensor:
    prediction: Tensor = net.head(net.recurrent(x)[0][:, -1])
    return prediction


class HostShaped(nn.Module):
    """A net of ours in the shape that freqtrade's window trainer and predict loop expect.

    (B, W, F) -> (B, 1, K), as the built-in Transformer gives it.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map windows (B, W, F) to targets (B, 1, K)."""
        prediction: Tensor = self.net(x)
        return prediction.unsqueeze(1)
