"""Reads the settings of a FreqAI config, refuses what cannot work, and notices what has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freqai_lstm_plugins.config import (
    DEFAULT_WINDOW,
    TrainConfig,
    WindowConfig,
    field_names,
    parse_settings,
    parse_train_settings,
    parse_window,
    unknown_key_error,
)
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import net_class

WHERE = "freqai.model_training_parameters"
SECTIONS = ("model_kwargs", "trainer_kwargs", "window_kwargs")


@dataclass(frozen=True)
class ModelSettings:
    """What a FreqAI config says about our models.

    Attributes:
        window: W, from `freqai.conv_width`.
        model_kwargs: Arguments of the net.
        train: Settings of the training.
        windows: How rows become windows.
        label_period: Candles that a label looks ahead, from `label_period_candles`.
    """

    window: int
    model_kwargs: dict[str, Any]
    train: TrainConfig
    windows: WindowConfig
    label_period: int


def read_settings(config: Mapping[str, Any], net: str | None) -> ModelSettings:
    """Read and check the settings of a freqtrade config.

    Args:
        config: The whole freqtrade config. It is not changed.
        net: Name of the net in `NETS`; None for a net of the user's own, so that `model_kwargs`
            are its arguments, unchecked.

    Raises:
        ConfigError: A setting is unknown, wrong, or makes windows meaningless.
    """
    freqai = config["freqai"]
    refuse_impossible(freqai)
    _refuse_way_out(Path(config["user_data_dir"]), str(freqai.get("identifier") or ""))
    given = freqai.get("model_training_parameters") or {}
    train_keys = dict(given)
    sections = {name: train_keys.pop(name, None) or {} for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise ConfigError(f"{WHERE}.{name} must be a dictionary, not {section!r}.")
    known = field_names(TrainConfig)
    for key in train_keys:
        if key not in known and key not in ("n_epochs", "early_stopping_patience"):
            raise unknown_key_error(key, [*known, *SECTIONS], WHERE)
    train = parse_train_settings(
        _merged(train_keys, sections["trainer_kwargs"]), f"{WHERE}.trainer_kwargs"
    )
    _refuse_uncalibrated(freqai, train)
    model_kwargs = dict(sections["model_kwargs"])
    if net is not None:
        shape = parse_settings(net_class(net).config, model_kwargs, f"{WHERE}.model_kwargs")
        model_kwargs = dataclasses.asdict(shape)
        if train.supervision == "dense" and not hasattr(net_class(net), "forward_steps"):
            raise ConfigError(
                f"{WHERE}.trainer_kwargs: supervision = 'dense' is for the nets lstm and gru, and "
                f"not for {net!r}. Set it to 'exact'."
            )
    return ModelSettings(
        window=read_window(config),
        model_kwargs=model_kwargs,
        train=train,
        windows=parse_settings(WindowConfig, sections["window_kwargs"], f"{WHERE}.window_kwargs"),
        label_period=int(freqai["feature_parameters"].get("label_period_candles") or 0),
    )


def read_window(config: Mapping[str, Any]) -> int:
    """Return `conv_width` as the user wrote it, or 24 where the user wrote none.

    freqtrade fills a missing `conv_width` with 1 before models see the config, so the config as
    the user wrote it decides.
    """
    written = (config.get("original_config") or config).get("freqai", {})
    value = config["freqai"].get("conv_width") if "conv_width" in written else DEFAULT_WINDOW
    return parse_window(value, "freqai.conv_width")


def refuse_impossible(freqai: Mapping[str, Any]) -> None:
    """Refuse switches of FreqAI that cannot work with windows.

    Raises:
        ConfigError: Such a switch is on; the message names its key.
    """
    if freqai.get("data_split_parameters", {}).get("shuffle"):
        raise ConfigError(
            "freqai.data_split_parameters.shuffle is true: shuffling before the split tears "
            "windows apart and puts the future into training. Set it to false."
        )
    if freqai["feature_parameters"].get("shuffle_after_split"):
        raise ConfigError(
            "freqai.feature_parameters.shuffle_after_split is true: shuffled rows no longer form "
            "windows. Set it to false; batches are drawn in random order anyway."
        )
    if freqai.get("keras"):
        raise ConfigError("freqai.keras is true, but this is a PyTorch model. Set it to false.")


def _refuse_uncalibrated(freqai: Mapping[str, Any], train: TrainConfig) -> None:
    is_split = freqai.get("data_split_parameters", {}).get("test_size", 0.1) != 0
    if train.interval is not None and not is_split:
        raise ConfigError(
            f"interval = {train.interval:g} needs validation rows to be calibrated on, but "
            f"freqai.data_split_parameters.test_size is 0. Set it to, for example, 0.15."
        )


def _refuse_way_out(user_dir: Path, identifier: str) -> None:
    models = (user_dir / "models").resolve()
    if not (models / identifier).resolve().is_relative_to(models):
        raise ConfigError(
            f"freqai.identifier {identifier!r} leads out of {models}, where models are kept. "
            f"Choose a plain name."
        )


def _merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    for key in outer.keys() & inner.keys():
        if outer[key] != inner[key]:
            raise ConfigError(
                f"{WHERE}: {key} = {outer[key]!r}, but trainer_kwargs has {key} = {inner[key]!r}. "
                f"Keep one of them."
            )
    return {**outer, **inner}
