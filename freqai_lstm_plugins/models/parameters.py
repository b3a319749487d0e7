"""Every parameter of a net that is trained on windows, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from freqai_lstm_plugins.config import (
    AnyNetConfig,
    DataConfig,
    NetConfig,
    TrainConfig,
    field_names,
    parse_settings,
    parse_train_settings,
    split_settings,
)
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import net_class

NetFactory = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Parameters:
    """How a net is built and trained, and which rows it sees.

    Attributes:
        net: Name in `NETS`, or the function that makes a net of one's own.
        net_config: Settings of a net in `NETS`; a net of one's own has its settings in its factory.
        train: How it is trained.
        data: Which rows make windows, targets and the validation part.
        own_name: Name under which a model file keeps a net of one's own; None takes the factory's.
        own_settings: Settings that a model file keeps for a net of one's own.
    """

    net: str | NetFactory
    net_config: AnyNetConfig
    train: TrainConfig
    data: DataConfig
    own_name: str | None = None
    own_settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, net: str | NetFactory, values: dict[str, Any], where: str) -> Parameters:
        """Read flat settings, under torch's or FreqAI's names.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        if not isinstance(net, str) and not callable(net):
            raise ConfigError(f"net must be a name or a function that makes a net, not {net!r}.")
        shape = net_config_class(net)
        shapes = (shape,) if isinstance(net, str) else ()
        parts = _split(values, (*shapes, TrainConfig), where)
        return cls(
            net,
            parse_settings(shape, parts.get(shape, {}), where),
            parse_train_settings(parts[TrainConfig], where),
            parse_settings(DataConfig, parts[DataConfig], where),
        )

    @property
    def net_name(self) -> str:
        """Name under which a model file keeps the net."""
        if self.own_name is not None:
            return self.own_name
        return self.net if isinstance(self.net, str) else getattr(self.net, "__name__", "own net")

    @property
    def is_own_net(self) -> bool:
        """Whether a function of the user's makes the net."""
        return not isinstance(self.net, str)

    @property
    def net_settings(self) -> dict[str, Any]:
        """What a model file keeps of the net's settings."""
        return self.own_settings if self.is_own_net else dataclasses.asdict(self.net_config)

    def to_dict(self) -> dict[str, Any]:
        """Return every parameter with its value, flat."""
        # No copies: `clone` wants to find the very values that it gave.
        shape = {} if self.is_own_net else vars(self.net_config)
        return {"net": self.net, **vars(self.data), **shape, **vars(self.train)}

    def changed(self, values: dict[str, Any], where: str) -> Parameters:
        """Return these parameters with some changed.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        changes = dict(values)
        net = changes.pop("net", self.net)
        parts = _split(changes, (net_config_class(net), TrainConfig), where)
        changes = {key: value for part in parts.values() for key, value in part.items()}
        kept = self.to_dict()
        del kept["net"]
        if net != self.net:
            # Another net has other defaults; what was chosen goes with it where it has that.
            kept = {name: value for name, value in kept.items() if self._goes_with(name, net)}
        # As in `parse`, steps alone decide how long to train.
        if changes.get("n_steps") is not None:
            kept["max_epochs"] = None
        return Parameters.parse(net, {**kept, **changes}, where)

    def _goes_with(self, name: str, net: str | NetFactory) -> bool:
        if name not in field_names(type(self.net_config)):
            return True
        is_chosen = getattr(self.net_config, name) != getattr(type(self.net_config)(), name)
        return is_chosen and isinstance(net, str) and name in field_names(net_config_class(net))


def _split(
    values: dict[str, Any], configs: tuple[type[Any], ...], where: str
) -> dict[type[Any], dict[str, Any]]:
    # Data settings are the constructor's own names, so that what is misspelt is another's.
    data = {key: values[key] for key in field_names(DataConfig) if key in values}
    others = {key: value for key, value in values.items() if key not in data}
    return {**split_settings(others, configs, where), DataConfig: data}


def net_config_class(net: str | NetFactory) -> type[AnyNetConfig]:
    """Return the class of a net's settings.

    Raises:
        ConfigError: No net has that name.
    """
    return net_class(net).config if isinstance(net, str) else NetConfig
