"""The nets, and the registry that names them.

A net maps windows (B, W, F) to outputs (B, O) and knows nothing of training, scaling or files. What
the outputs mean is the business of `freqai_lstm_plugins.training.objectives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.names import closest
from freqai_lstm_plugins.nets.alstm import ALSTMNet
from freqai_lstm_plugins.nets.base import (
    SequenceNet,
    forward_rows,
    forward_steps,
    is_stepwise,
    keeps_nothing,
    not_finite,
    shares_rows,
    splits_batches,
)
from freqai_lstm_plugins.nets.gru import GRUNet
from freqai_lstm_plugins.nets.lstm import LSTMNet
from freqai_lstm_plugins.nets.mlp import MLPNet
from freqai_lstm_plugins.nets.recurrent import RecurrentNet
from freqai_lstm_plugins.nets.seeds import replayed_by_torch, seeded
from freqai_lstm_plugins.nets.symbols import PanelNet, panel_net
from freqai_lstm_plugins.nets.tft import TFTNet

if TYPE_CHECKING:
    from torch import nn

    from freqai_lstm_plugins.config import AnyNetConfig

NETS: dict[str, type[SequenceNet]] = {
    "lstm": LSTMNet,
    "gru": GRUNet,
    "alstm": ALSTMNet,
    "tft": TFTNet,
    "mlp": MLPNet,
}

__all__ = [
    "NETS",
    "ALSTMNet",
    "GRUNet",
    "LSTMNet",
    "MLPNet",
    "PanelNet",
    "RecurrentNet",
    "SequenceNet",
    "TFTNet",
    "build_net",
    "forward_rows",
    "forward_steps",
    "is_stepwise",
    "keeps_nothing",
    "net_class",
    "not_finite",
    "panel_net",
    "replayed_by_torch",
    "seeded",
    "shares_rows",
    "splits_batches",
]


def net_class(name: str) -> type[SequenceNet]:
    """Return the class of the net called `name`.

    Raises:
        ConfigError: No net has that name.
    """
    if name not in NETS:
        known = ", ".join(NETS)
        raise ConfigError(f"unknown net {name!r}: the nets are {known}.{closest(name, NETS)}")
    return NETS[name]


def build_net(
    name: str, n_features: int, n_outputs: int, config: AnyNetConfig, n_symbols: int = 0
) -> nn.Module:
    """Build the net called `name` with fresh weights.

    Args:
        name: Name in `NETS`.
        n_features: F.
        n_outputs: O.
        config: The net's settings.
        n_symbols: Symbols for a net that `takes_symbols`; 0 for none.

    Raises:
        ConfigError: No net has that name.
    """
    symbols = {"n_symbols": n_symbols} if n_symbols else {}
    return net_class(name)(n_features, n_outputs, config, **symbols)
