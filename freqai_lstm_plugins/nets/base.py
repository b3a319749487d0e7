"""What the registry asks of a net."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from freqai_lstm_plugins.config import AnyNetConfig, NetConfig


class SequenceNet(nn.Module):
    """A net with a name: windows (B, W, F) -> outputs (B, O).

    Subclasses are made as `net(n_features, n_outputs, **settings)`.

    Attributes:
        config: Class of the net's settings.
        default_loss: Loss that it is trained with where none is asked for.
    """

    config: ClassVar[type[AnyNetConfig]] = NetConfig
    default_loss: ClassVar[str] = "mse"

    def __init__(self, n_features: int, n_outputs: int, **settings: Any) -> None:
        super().__init__()
