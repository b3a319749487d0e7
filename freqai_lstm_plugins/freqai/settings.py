"""Reads the settings of a FreqAI config, refuses what cannot work, and notices what has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from freqai_lstm_plugins.config import (
    DEFAULT_WINDOW,
    TrainConfig,
    WindowConfig,
    at_least,
    field_names,
    parse_settings,
    parse_train_settings,
    parse_window,
    setting,
    unknown_key_error,
)
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import net_class

WHERE = "freqai.model_training_parameters"
SECTIONS = ("model_kwargs", "trainer_kwargs", "window_kwargs")
PANEL = f"{WHERE}.panel"
WHITELIST = "whitelist"
# What scikit-learn, by which FreqAI splits, takes for the test split where none is named.
SPLIT_OFF = 0.25


def _are_pairs(value: Any) -> bool:
    if isinstance(value, str):
        return value == WHITELIST
    named = [isinstance(pair, str) and "/" in pair for pair in value]
    return bool(named) and all(named) and len(set(value)) == len(value)


@dataclass(frozen=True)
class PanelConfig:
    """How one net is trained for all pairs.

    Attributes:
        pairs: Pairs that it is trained on: `whitelist`, or a list, of which a bot takes those that
            are in its whitelist.
        symbol_embedding: Learned numbers that tell the net which pair a window is of; with 0 it
            does not know, and predicts pairs that it was never trained on.
        balance: `candles`: every candle counts the same; `pairs`: every pair does, however many
            candles it has.
    """

    pairs: str | Sequence[str] = setting(
        WHITELIST, "'whitelist' or a list of different pairs such as ['BTC/USDT']", _are_pairs
    )
    symbol_embedding: int = setting(0, "an integer of at least 0", at_least(0))
    balance: Literal["candles", "pairs"] = setting("candles", "", lambda v: True)

    @property
    def is_whitelist(self) -> bool:
        """Whether it is trained on all pairs of the whitelist."""
        return self.pairs == WHITELIST

    def trained(self, whitelist: Sequence[str], *, needs_listing: bool) -> list[str]:
        """Return the pairs to train on, in an order that depends on nothing else.

        Args:
            whitelist: Pairs that are traded.
            needs_listing: Whether a pair that is not traded has no candles, as in a bot.
        """
        if self.is_whitelist:
            return sorted(whitelist)
        return sorted(set(self.pairs) & set(whitelist) if needs_listing else self.pairs)


@dataclass(frozen=True)
class ModelSettings:
    """What a FreqAI config says about our models.

    Attributes:
        window: W, from `freqai.conv_width`.
        model_kwargs: Arguments of the net.
        train: Settings of the training.
        windows: How rows become windows.
        label_period: Candles that a label looks ahead, from `label_period_candles`.
        panel: How one net is trained for all pairs; None where each pair has its own.
    """

    window: int
    model_kwargs: dict[str, Any]
    train: TrainConfig
    windows: WindowConfig
    label_period: int
    panel: PanelConfig | None = None


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
    # freqtrade goes on using its config: nothing in it may be popped.
    train_keys = dict(given)
    panel = train_keys.pop("panel", None)
    sections = {name: train_keys.pop(name, None) or {} for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise ConfigError(f"{WHERE}.{name} must be a dictionary, not {section!r}.")
    known = field_names(TrainConfig)
    for key in train_keys:
        # Other names of settings of ours: `parse_train_settings` translates them.
        if key not in known and key not in ("n_epochs", "early_stopping_patience"):
            raise unknown_key_error(key, [*known, *SECTIONS, "panel"], WHERE)
    train = parse_train_settings(
        _merged(train_keys, sections["trainer_kwargs"]), f"{WHERE}.trainer_kwargs"
    )
    _refuse_uncalibrated(freqai, train)
    model_kwargs = dict(sections["model_kwargs"])
    # Of a user's own net only the user's file knows which arguments it takes.
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
        panel=_read_panel(panel),
    )


def _read_panel(given: Any) -> PanelConfig | None:
    """Read the section `panel`; null and false leave it off.

    Raises:
        ConfigError: A setting is unknown or wrong, or pairs are of several quote currencies.
    """
    if given is None or given is False:
        return None
    # true asks for all defaults.
    found = parse_settings(PanelConfig, {} if given is True else given, PANEL)
    refuse_other_quotes([] if found.is_whitelist else found.pairs)
    return found


def refuse_other_quotes(pairs: Sequence[str]) -> None:
    """Refuse pairs in different quote currencies.

    Raises:
        ConfigError: Names the first two that differ.
    """
    first = dict.fromkeys(pair.partition("/")[2] for pair in pairs)
    if len(first) > 1:
        examples = [next(p for p in pairs if p.partition("/")[2] == quote) for quote in first]
        raise ConfigError(
            f"{PANEL}.pairs: {examples[0]} and {examples[1]} are in different quote currencies, "
            f"and FreqAI tells models apart by the coin alone. Name pairs of one quote currency."
        )


def read_window(config: Mapping[str, Any]) -> int:
    """Return `conv_width` as the user wrote it, or 24 where the user wrote none.

    freqtrade fills a missing `conv_width` with 1 before models see the config, so the config as
    the user wrote it decides.
    """
    # Only a config that freqtrade has read holds the original.
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


def read_test_size(freqai: Mapping[str, Any]) -> float:
    """Return how much is split off for validation, by the rules of FreqAI's own split.

    Returns:
        A fraction of the candles, or a number of them from 1 on; 0 where nothing is split off.

    Raises:
        ConfigError: It is none of these.
    """
    given = freqai.get("data_split_parameters", {}).get("test_size")
    if given is None:
        return SPLIT_OFF
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not (0 <= given < 1 or (isinstance(given, int) and given >= 1)):
        raise ConfigError(
            f"freqai.data_split_parameters.test_size must be a fraction below 1, or a number of "
            f"candles, not {given!r}."
        )
    return given


def _refuse_uncalibrated(freqai: Mapping[str, Any], train: TrainConfig) -> None:
    # Without the key FreqAI splits off a part all the same.
    is_split = freqai.get("data_split_parameters", {}).get("test_size") != 0
    if train.interval is not None and not is_split:
        raise ConfigError(
            f"interval = {train.interval:g} needs validation rows to be calibrated on, but "
            f"freqai.data_split_parameters.test_size is 0. Set it to, for example, 0.15."
        )


def _refuse_way_out(user_dir: Path, identifier: str) -> None:
    # FreqAI writes below this folder, and deletes old models by itself.
    models = (user_dir / "models").resolve()
    if not (models / identifier).resolve().is_relative_to(models):
        raise ConfigError(
            f"freqai.identifier {identifier!r} leads out of {models}, where models are kept. "
            f"Choose a plain name."
        )


def _merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    for key in outer.keys() & inner.keys():
        # Said twice alike is harmless; else nobody knows which is meant.
        if outer[key] != inner[key]:
            raise ConfigError(
                f"{WHERE}: {key} = {outer[key]!r}, but trainer_kwargs has {key} = {inner[key]!r}. "
                f"Keep one of them."
            )
    return {**outer, **inner}
