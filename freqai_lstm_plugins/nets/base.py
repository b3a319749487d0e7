"""What training and the registry ask of a net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor, nn

from freqai_lstm_plugins.config import AnyNetConfig, NetConfig, parse_settings
from freqai_lstm_plugins.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.data.windows import RowWindows

ConfigT = TypeVar("ConfigT", bound=AnyNetConfig)


class SequenceNet(nn.Module):
    """A net with a name: windows (B, W, F) -> outputs (B, O).

    Subclasses are made as `net(n_features, n_outputs, config)`, or with the fields of the config as
    keywords. What a net can do beyond `forward` it declares here, and training asks.

    Attributes:
        config: Class of the net's settings.
        default_loss: Loss that it is trained with where none is asked for.
        takes_symbols: Whether it is built with `n_symbols` and called as `net(x, symbol)`.
        keeps_nothing: Whether a call leaves nothing behind, so that batches may be predicted beside
            each other, and what it draws is replayed where it is computed again. Each class says so
            for itself: what a subclass adds is unknown.
        is_stepwise: Whether `forward_steps` gives outputs at several steps of a sequence, each of
            which sees no later row.
        shares_rows: Whether `forward_rows` does what `forward` does, and spares work where windows
            overlap.
        splits_batches: Whether nearly all its work is recurrent layers that a team of threads
            shares.
    """

    config: ClassVar[type[AnyNetConfig]] = NetConfig
    default_loss: ClassVar[str] = "mse"
    takes_symbols: ClassVar[bool] = False
    keeps_nothing: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.keeps_nothing = bool(vars(cls).get("keeps_nothing", False))

    def __init__(
        self, n_features: int, n_outputs: int, config: AnyNetConfig | None = None, **settings: Any
    ) -> None:
        super().__init__()

    @property
    def is_stepwise(self) -> bool:
        """Whether there is a `forward_steps`; a net whose steps see later rows says no."""
        return hasattr(self, "forward_steps")

    @property
    def shares_rows(self) -> bool:
        """No, unless a net has a `forward_rows`."""
        return False

    @property
    def splits_batches(self) -> bool:
        """No, unless a net says that its layers are nearly all of its work."""
        return False


def read_config(
    kind: type[ConfigT], config: AnyNetConfig | None, settings: Mapping[str, Any], where: str
) -> ConfigT:
    """Return a net's settings, given whole or as keywords.

    Raises:
        ConfigError: Both are given, the config is another net's, or a setting is unknown or wrong.
    """
    if config is None:
        return parse_settings(kind, settings, where)
    if settings or not isinstance(config, kind):
        raise ConfigError(
            f"{where} takes one {kind.__name__} or its fields as keywords, not {config!r} with "
            f"{dict(settings)}."
        )
    return config


def is_stepwise(net: nn.Module) -> bool:
    """Whether a net gives outputs at several steps; a user's own does by having `forward_steps`."""
    return net.is_stepwise if isinstance(net, SequenceNet) else hasattr(net, "forward_steps")


def keeps_nothing(net: nn.Module) -> bool:
    """Whether calls of a net leave nothing behind; of a user's own nothing is known."""
    return isinstance(net, SequenceNet) and net.keeps_nothing


def shares_rows(net: nn.Module) -> bool:
    """Whether a net spares work where windows share rows."""
    return isinstance(net, SequenceNet) and net.shares_rows


def splits_batches(net: nn.Module) -> bool:
    """Whether a team of threads shares the work of a net."""
    return isinstance(net, SequenceNet) and net.splits_batches


def forward_rows(net: nn.Module, windows: RowWindows) -> Tensor:
    """Map windows that share rows to outputs (B, O), by a net that `shares_rows`."""
    outputs: Tensor = net.forward_rows(*windows)  # type: ignore[operator]
    return outputs


def forward_steps(net: nn.Module, x: Tensor, n_steps: int) -> Tensor:
    """Map sequences (B, L, F) to outputs (B, S, O) at their last steps, by a stepwise net."""
    outputs: Tensor = net.forward_steps(x, n_steps)  # type: ignore[operator]
    return outputs


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the weights that hold a NaN or an infinity."""
    return [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
