"""The nets, and the registry that names them.

A net maps windows (B, W, F) to targets (B, K) and knows nothing of training, scaling or files.
`ALSTMNet` and `TFTNet` have no name in the registry yet: pass a function that makes one, such as
`SequenceRegressor(net=lambda n_features, n_targets: ALSTMNet(n_features, n_targets))`.
"""

from __future__ import annotations

import dataclasses
import difflib

from torch import nn

from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets.alstm import ALSTMNet
from freqai_lstm_plugins.nets.gru import GRUNet
from freqai_lstm_plugins.nets.lstm import LSTMNet
from freqai_lstm_plugins.nets.recurrent import RecurrentNet
from freqai_lstm_plugins.nets.tft import TFTNet

NETS: dict[str, type[RecurrentNet]] = {"lstm": LSTMNet, "gru": GRUNet}

__all__ = ["NETS", "ALSTMNet", "GRUNet", "LSTMNet", "RecurrentNet", "TFTNet", "build_net"]


def build_net(name: str, n_features: int, n_targets: int, config: NetConfig) -> nn.Module:
    """Build the net called `name` with fresh weights.

    Raises:
        ConfigError: No net has that name.
    """
    if name not in NETS:
        close = difflib.get_close_matches(name, NETS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown net {name!r}: the nets are {', '.join(NETS)}.{hint}")
    return NETS[name](n_features, n_targets, **dataclasses.asdict(config))
