"""From parameters to a net: with fresh weights, or with those of a file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.errors import ConfigError, MismatchError
from freqai_lstm_plugins.models.yardstick import constant_outputs
from freqai_lstm_plugins.nets import build_net, net_class, panel_net
from freqai_lstm_plugins.training.devices import choose_device, seeded
from freqai_lstm_plugins.training.objectives import Answer, Classes

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.windows import WindowSet
    from freqai_lstm_plugins.models.parameters import NetFactory, Parameters

# The mean of scaled targets lies within, whether they were standardized or brought to -1 to 1.
LARGEST_SCALED_MEAN = 1.0

logger = logging.getLogger(__name__)


def new_net(
    parameters: Parameters, n_features: int, n_outputs: int, n_symbols: int = 0
) -> nn.Module:
    """Build a net with fresh weights, which torch's random state decides.

    Args:
        parameters: Which net, its settings, and the size of the symbols' embedding.
        n_features: F, without the symbol's number.
        n_outputs: O.
        n_symbols: Symbols that the net is told; 0 for none.

    Raises:
        ConfigError: A net of one's own is no net, or nothing tells it the symbol.
    """
    size = parameters.data.symbol_embedding if n_symbols else 0
    if n_symbols and not size:
        raise ConfigError(
            f"symbol_embedding = 0 tells the net no symbol, and there are {n_symbols}: set it "
            f"above 0."
        )
    net = parameters.net
    if not isinstance(net, str):
        built = _own_net(net, parameters.net_name, n_features + size, n_outputs)
    elif n_symbols and net_class(net).takes_symbols:
        built = build_net(net, n_features, n_outputs, parameters.net_config, n_symbols)
        return panel_net(built, n_symbols, 0)
    else:
        built = build_net(net, n_features + size, n_outputs, parameters.net_config)
    return panel_net(built, n_symbols, size) if n_symbols else built


def _own_net(factory: NetFactory, name: str, n_features: int, n_outputs: int) -> nn.Module:
    net = factory(n_features, n_outputs)
    if not isinstance(net, nn.Module):
        raise ConfigError(
            f"{name}: building the net gave a {type(net).__name__}, not a torch nn.Module."
        )
    if next(net.parameters(), None) is None:
        raise ConfigError(f"{name}: the net has no parameters that could be trained.")
    return net


def start_from_constant(
    net: nn.Module, parameters: Parameters, answer: Answer, train: WindowSet
) -> None:
    """Let a net whose targets are not scaled begin with the best constant forecast.

    Its steps are made for targets of about 1: from 0 to a price of 4,000 it would never come. For
    scaled targets nothing changes.
    """
    largest = train.targets.mean(dim=0).abs().max().item()
    if largest <= LARGEST_SCALED_MEAN or isinstance(answer, Classes):
        return
    if parameters.is_own_net:
        logger.warning(
            "%s: the targets are not scaled, their mean is as large as %.4g, and training moves a "
            "net by small steps. Scale the targets, or start the net's last bias there.",
            parameters.net_name,
            largest,
        )
        return
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    last = next(layer for layer in reversed(layers) if layer.out_features == answer.n_outputs)
    with torch.no_grad():
        last.bias.copy_(constant_outputs(answer, train))


def stored_net(
    parameters: Parameters,
    weights: dict[str, Tensor],
    n_features: int,
    n_outputs: int,
    n_symbols: int,
) -> nn.Module:
    """Build a net with the weights of a file; sizes as in `new_net`.

    Raises:
        NotACheckpointError: A weight is not finite.
        MismatchError: The weights are another net's.
    """
    sizes = (n_features, n_outputs, n_symbols)
    try:
        if parameters.is_own_net:
            with seeded(0):
                net = new_net(parameters, *sizes)
            net.load_state_dict(weights)
        else:
            # Without memory of its own, so that a net far larger than its weights takes none.
            with torch.device("meta"):
                net = new_net(parameters, *sizes)
            net.load_state_dict({name: _plain(w) for name, w in weights.items()}, assign=True)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise MismatchError(
            f"The model file's weights do not fit the net {parameters.net_name!r} as it is built "
            f"now: {details}. Restore the net's settings, or train again."
        ) from error
    return net.to(_device_here(parameters.train.device)).eval()


def _plain(weights: Tensor) -> Tensor:
    return weights.float().contiguous() if weights.is_floating_point() else weights


def _device_here(name: str) -> torch.device:
    # A model trained on an accelerator must load where there is none.
    try:
        return choose_device(name)
    except ConfigError:
        logger.warning("Device %r is not available here; the model runs on the CPU.", name)
        return torch.device("cpu")
