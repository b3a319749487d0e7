"""Validated settings of nets, of training and of windows.

Settings are small frozen dataclasses. `parse_settings` turns the flat or nested dictionaries that
users write into them; it accepts FreqAI's own key names beside torch's and refuses what it does
not know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.names import closest

DEFAULT_WINDOW = 24

# FreqAI's key -> ours. `dropout_percent` is a fraction in FreqAI too, whatever its name says.
ALIASES = {
    "hidden_dim": "hidden_size",
    "n_layer": "num_layers",
    "dropout_percent": "dropout",
    "n_epochs": "max_epochs",
    "early_stopping_patience": "patience",
}


def setting(default: Any, rule: str, check: Callable[[Any], bool]) -> Any:
    """Return a field of a settings class, with the rule that its values keep, in words and code."""
    return field(default=default, metadata={"rule": rule, "check": check})


def at_least(low: float) -> Callable[[Any], bool]:
    """Return the check for numbers of at least `low`."""
    return lambda value: bool(value >= low)


def _is_class_weight(value: Any) -> bool:
    if isinstance(value, str):
        return value == "balanced"
    return bool(value) and all(
        isinstance(weight, numbers.Real)
        and not isinstance(weight, bool)
        and 0 < float(weight) < math.inf
        for weight in value.values()
    )


@dataclass(frozen=True)
class NetConfig:
    """Shape of an LSTM or GRU net.

    Attributes:
        hidden_size: Units of each recurrent layer.
        num_layers: Recurrent layers.
        dropout: Fraction dropped between recurrent layers and inside the head.
        head_size: Units of the dense layer between the last state and the targets; 0 for none, so
            that outputs are linear in the state.
    """

    hidden_size: int = setting(128, "an integer of at least 1", at_least(1))
    num_layers: int = setting(2, "an integer of at least 1", at_least(1))
    dropout: float = setting(0.2, "a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)
    head_size: int = setting(64, "an integer of at least 0", at_least(0))


@dataclass(frozen=True)
class ALSTMConfig(NetConfig):
    """Shape of an ALSTM net.

    Attributes:
        cell_type: Kind of the recurrent layers.
    """

    cell_type: Literal["gru", "lstm"] = setting("gru", "", lambda v: True)


@dataclass(frozen=True)
class TFTConfig:
    """Shape of a temporal fusion transformer.

    Attributes:
        hidden_size: Width of all blocks, a multiple of `num_heads`.
        num_layers: LSTM layers.
        dropout: Fraction dropped before each gate and between LSTM layers.
        num_heads: Heads of the attention.
    """

    hidden_size: int = setting(32, "an integer of at least 1", at_least(1))
    num_layers: int = setting(1, "an integer of at least 1", at_least(1))
    dropout: float = setting(0.1, "a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)
    num_heads: int = setting(4, "an integer of at least 1", at_least(1))

    def __post_init__(self) -> None:
        if self.num_heads < 1:
            raise ConfigError(
                f"num_heads must be an integer of at least 1, not {self.num_heads!r}."
            )
        if self.hidden_size % self.num_heads:
            next_size = self.num_heads * math.ceil(self.hidden_size / self.num_heads)
            raise ConfigError(
                f"hidden_size = {self.hidden_size} is no multiple of num_heads = "
                f"{self.num_heads}: hidden_size = {next_size} is the next one."
            )


@dataclass(frozen=True)
class MLPConfig:
    """Shape of a multilayer perceptron.

    Attributes:
        hidden_size: Units of each hidden layer.
        num_layers: Hidden layers.
        dropout: Fraction dropped after each of them.
    """

    hidden_size: int = setting(128, "an integer of at least 1", at_least(1))
    num_layers: int = setting(2, "an integer of at least 1", at_least(1))
    dropout: float = setting(0.2, "a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)


AnyNetConfig = NetConfig | TFTConfig | MLPConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a net is trained.

    Attributes:
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decoupled weight decay of AdamW.
        max_epochs: Passes over the training windows at most; None where `n_steps` decides.
        n_steps: Optimizer steps in all, FreqAI's way to say how long; counts only where
            `max_epochs` is None.
        batch_size: Windows a step. Fewer windows than that make one smaller batch.
        patience: Epochs without a better validation loss before training stops; 0 never stops
            early. The best weights are restored in any case.
        monitor: What the best epoch, `patience` and `plateau` go by on the validation windows:
            `loss`, or `rank_correlation`, Spearman's of forecasts with targets, which is what a
            choice among forecasts lives on. Without validation windows nothing does.
        ema_decay: Share that each step keeps of an exponential moving average of the weights, such
            as 0.99, which is then what is validated and kept; 0 averages nothing.
        gradient_clip: Largest norm of the gradient; 0 does not clip.
        lr_schedule: `plateau` halves the rate after `patience // 3` epochs without progress,
            `cosine` lowers it to 0 over `max_epochs`, `none` keeps it.
        supervision: `exact` trains on single windows. `dense` trains on sequences of up to 2W - 1
            rows with a target at each of the last W steps, which costs about a tenth a target; a
            step then sees from W to 2W - 1 rows. Predictions come from exact windows either way.
            `auto` is `dense` for nets that can serve it, else `exact`.
        loss: What training makes small. `mse`, `mae`, `huber` (squared up to one standard deviation
            of the targets, linear beyond) and `quantile` (pinball loss of the median and of two
            quantiles around it) for numbers, `cross_entropy` for classes. `auto` takes
            `cross_entropy` for classes, else `quantile` for the net `tft` and `mse` for all others.
        interval: Share of the targets that the predicted interval is to hold, such as 0.8; null
            predicts no interval.
        class_weight: `balanced` lets every class count the same in the loss of a classifier, and a
            dictionary names the weight of each class; null counts every row the same.
        seed: Seed of weights, dropout and the order of batches.
        device: `auto` (cuda, then mps, then cpu), or any device name of torch.
        num_threads: CPU threads that torch may use; None takes what is free.
        min_windows: Training windows below which training is refused; None takes as many as a
            window has rows, since fewer all share rows.
    """

    learning_rate: float = setting(1e-3, "a number above 0", lambda v: v > 0)
    weight_decay: float = setting(0.01, "a number of at least 0", at_least(0))
    max_epochs: int | None = setting(100, "an integer of at least 1, or null", at_least(1))
    n_steps: int | None = setting(None, "an integer of at least 1, or null", at_least(1))
    batch_size: int = setting(256, "an integer of at least 1", at_least(1))
    patience: int = setting(15, "an integer of at least 0", at_least(0))
    gradient_clip: float = setting(1.0, "a number of at least 0", at_least(0))
    lr_schedule: Literal["plateau", "cosine", "none"] = setting("plateau", "", lambda v: True)
    monitor: Literal["loss", "rank_correlation"] = setting("loss", "", lambda v: True)
    ema_decay: float = setting(0.0, "a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)
    supervision: Literal["exact", "dense", "auto"] = setting("exact", "", lambda v: True)
    loss: Literal["auto", "mse", "mae", "huber", "quantile", "cross_entropy"] = setting(
        "auto", "", lambda v: True
    )
    interval: float | None = setting(
        None, "a number between 0 and 1, such as 0.8, or null", lambda v: 0 < v < 1
    )
    class_weight: str | dict[str, float] | None = setting(  # noqa: RUF009
        None, "'balanced', a dictionary of class -> weight above 0, or null", _is_class_weight
    )
    seed: int = setting(42, "an integer from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)
    device: str = setting("auto", "a device name such as auto, cpu, cuda, cuda:1 or mps", bool)
    num_threads: int | None = setting(
        None, "an integer from 1 to 1024, or null", lambda v: 1 <= v <= 1024
    )
    min_windows: int | None = setting(None, "an integer of at least 1, or null", at_least(1))

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.n_steps is None:
            raise ConfigError(
                "max_epochs and n_steps are both null, so nothing says how long to train: "
                "set max_epochs (for example 100), or n_steps."
            )


def _is_time(value: str) -> bool:
    try:
        return bool(pd.Timedelta(value) > pd.Timedelta(0))
    except ValueError:
        return False


@dataclass(frozen=True)
class DataConfig:
    """Which rows make windows, and which of them are trained on and validated.

    Attributes:
        window: W, rows a window.
        valid_size: Last fraction of the targets that is kept for early stopping where no other rows
            are given for it; 0 trains on all.
        label_period: Rows that a target looks ahead; so many targets are left out between training
            and validation.
        step: Time between two rows, such as `5min`; windows then break where time jumps. null takes
            all rows of a symbol for consecutive.
        symbol: Column that names the symbol where one DataFrame has rows of many symbols.
        symbol_embedding: Learned numbers that stand for the symbol; 0 does not tell the net the
            symbol.
        scale: Standardize features and targets, fitted on training rows only.
        progress: Show a progress bar; null shows one where a terminal watches.
    """

    window: int = setting(DEFAULT_WINDOW, "an integer of at least 1", at_least(1))
    valid_size: float = setting(
        0.15, "a number from 0 up to, not including, 1", lambda v: 0 <= v < 1
    )
    label_period: int = setting(0, "an integer of at least 0", at_least(0))
    step: str | None = setting(None, "a time above 0 such as '5min'", _is_time)
    symbol: str | None = setting(None, "the name of a column", lambda v: True)
    symbol_embedding: int = setting(0, "an integer of at least 0", at_least(0))
    scale: bool = setting(True, "true or false", lambda v: True)
    progress: bool | None = setting(None, "true, false or null", lambda v: True)


@dataclass(frozen=True)
class WindowConfig:
    """How rows become windows, beyond their width.

    Attributes:
        filled_candles: `break`: a candle that the host filled in because the exchange had none
            (volume 0 and open = high = low = close) counts as missing, so no window holds one.
            `keep`: it counts as a candle, which suits pairs that often see no trade.
    """

    filled_candles: Literal["break", "keep"] = setting("break", "", lambda v: True)


ConfigT = TypeVar("ConfigT")


def field_names(*configs: type[Any]) -> list[str]:
    """Return the setting names of the given settings classes, in their order."""
    return [item.name for config in configs for item in dataclasses.fields(config)]


def unknown_key_error(key: object, known: list[str], where: str) -> ConfigError:
    """Return the error for a key that is no setting, naming the closest one that is."""
    hint = closest(key, known) or f" Known settings: {', '.join(known)}."
    return ConfigError(f"{where}: unknown setting {key!r}.{hint}")


def canonical_keys(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `values` under torch's key names.

    Raises:
        ConfigError: `values` is no dictionary, or states a setting under both of its names with
            different values.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a dictionary of settings, not {values!r}.")
    result: dict[str, Any] = {}
    given_as: dict[str, str] = {}
    for key, value in values.items():
        name = ALIASES.get(key, key)
        if name in result and result[name] != value:
            raise ConfigError(
                f"{where}: {given_as[name]} = {result[name]!r} and {key} = {value!r} are the same "
                f"setting with different values. Keep one of them."
            )
        result[name] = value
        given_as[name] = key
    return result


def parse_settings(config: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """Build `config` from a user's dictionary.

    Args:
        config: The settings class.
        values: Settings under torch's or FreqAI's names. The dictionary is not changed.
        where: What the user calls this place, for messages.

    Raises:
        ConfigError: A key is unknown or stated twice, or a value has a wrong type or range.
    """
    canonical = canonical_keys(values, where)
    _refuse_unknown(values, field_names(config), where)
    hints = typing.get_type_hints(config)
    fields: Any = dataclasses.fields(typing.cast(Any, config))
    rules = {item.name: item.metadata for item in fields}
    # Messages name a setting as the user wrote it.
    written = {ALIASES.get(key, key): key for key in values}
    return config(
        **{
            key: _checked(value, hints[key], rules[key], f"{where}: {written[key]}")
            for key, value in canonical.items()
        }
    )


def _refuse_unknown(values: Mapping[str, Any], known: list[str], where: str) -> None:
    aliases = [alias for alias, name in ALIASES.items() if name in known]
    for key in values:
        if ALIASES.get(key, key) not in known:
            raise unknown_key_error(key, known + aliases, where)


def _checked(value: Any, hint: Any, rules: Mapping[str, Any], what: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    base = options[0]
    if typing.get_origin(base) is Literal:
        choices = typing.get_args(base)
        if value not in choices:
            raise ConfigError(f"{what} must be one of {', '.join(choices)}, not {value!r}.")
        # Not the given one, which may be a string of NumPy's: files hold plain data.
        return choices[choices.index(value)]
    # NumPy's numbers count as Python's: a search over settings draws them.
    if base is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            value = float(value)
    # JSON has no integers of its own, so 100.0 stands for 100.
    is_whole = isinstance(value, numbers.Integral) or (
        isinstance(value, float) and value.is_integer()
    )
    if base is int and is_whole and not isinstance(value, bool):
        value = int(value)
    if base is bool and isinstance(value, np.bool_):
        value = bool(value)
    kinds = tuple(typing.get_origin(option) or option for option in options)
    sound = isinstance(value, kinds) and isinstance(value, bool) == (base is bool)
    if sound and isinstance(value, float):
        sound = math.isfinite(value)
    if not sound or not rules["check"](value):
        raise ConfigError(f"{what} must be {rules['rule']}, not {value!r}.")
    return str(value) if isinstance(value, str) else value


def parse_window(value: Any, where: str) -> int:
    """Return the number of rows of a window.

    Raises:
        ConfigError: The value is no integer of at least 1.
    """
    return parse_count(value, 1, where)


def parse_count(value: Any, least: int, where: str) -> int:
    """Return an integer of at least `least`.

    Raises:
        ConfigError: The value is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ConfigError(f"{where} must be an integer of at least {least}, not {value!r}.")
    return int(value)


def split_settings(
    values: Mapping[str, Any], configs: tuple[type[Any], ...], where: str
) -> dict[type[Any], dict[str, Any]]:
    """Sort a flat dictionary of settings by the settings class that each belongs to.

    Raises:
        ConfigError: A key belongs to none of them.
    """
    parts: dict[type[Any], dict[str, Any]] = {config: {} for config in configs}
    canonical = canonical_keys(values, where)
    _refuse_unknown(values, field_names(*configs), where)
    for key, value in canonical.items():
        owner = next(config for config in configs if key in field_names(config))
        parts[owner][key] = value
    return parts


def parse_train_settings(values: Mapping[str, Any], where: str) -> TrainConfig:
    """Build a `TrainConfig`; steps alone, without a word on epochs, decide how long to train."""
    canonical = canonical_keys(values, where)
    if canonical.get("n_steps") is not None and "max_epochs" not in canonical:
        values = {**values, "max_epochs": None}
    return parse_settings(TrainConfig, values, where)
