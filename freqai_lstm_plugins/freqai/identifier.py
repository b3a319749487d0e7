"""What an identifier stands for: the settings that its models were made with."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.config import (
    NetConfig,
    TrainConfig,
    WindowConfig,
)
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.freqai.settings import SECTIONS, ModelSettings
from freqai_lstm_plugins.names import shortened
from freqai_lstm_plugins.nets import net_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SETTINGS_FILE = "freqai_lstm_settings.json"

# Key of a fingerprint: the user's own files that a net comes from, with a digest of each.
SOURCES = "sources"

# Settings that change no prediction of a given training slice.
_HARMLESS_SETTINGS = frozenset({"device", "num_threads"})
_HARMLESS_FEATURE_PARAMETERS = {"plot_feature_importances"}


def telling(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings on which predictions of a given training slice depend."""
    return {key: value for key, value in settings.items() if key not in _HARMLESS_SETTINGS}


def fingerprint(
    model: str,
    config: Mapping[str, Any],
    settings: ModelSettings,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the settings on which predictions depend, flat, by the names users know.

    Args:
        model: Name of the FreqAI model.
        config: freqtrade's config.
        settings: What the config says about our models.
        sources: The user's own files that the net comes from, with a digest of each.
    """
    freqai = config["freqai"]
    # As the user wrote them: the host fills in defaults, and other versions may have others.
    written = (config.get("original_config") or config)["freqai"]
    features = {
        key: value
        for key, value in written["feature_parameters"].items()
        if key not in _HARMLESS_FEATURE_PARAMETERS
    }
    sections = {
        "model_kwargs": settings.model_kwargs,
        "trainer_kwargs": telling(dataclasses.asdict(settings.train)),
        "window_kwargs": dataclasses.asdict(settings.windows),
        "feature_parameters": features,
        "data_split_parameters": written.get("data_split_parameters", {}),
    }
    flat = {
        f"{name}.{key}": value for name, part in sections.items() for key, value in part.items()
    }
    flat |= {
        "freqaimodel": model,
        "conv_width": settings.window,
        "timeframe": config.get("timeframe"),
        "train_period_days": freqai.get("train_period_days"),
        "continual_learning": freqai.get("continual_learning", False),
        SOURCES: dict(sources or {}),
    }
    if settings.panel is not None:
        chosen = dataclasses.asdict(settings.panel)
        # The order of pairs changes nothing.
        chosen["pairs"] = (
            chosen["pairs"] if settings.panel.is_whitelist else sorted(chosen["pairs"])
        )
        flat |= {f"panel.{key}": value for key, value in chosen.items()}
    plain: dict[str, Any] = json.loads(json.dumps(flat, default=str))
    return plain


def check_identifier(
    folder: Path, identifier: str, current: dict[str, Any], known: dict[str, Any]
) -> None:
    """Refuse an identifier whose models and predictions were made with other settings.

    FreqAI finds old predictions by the identifier and a name alone, so it would hand them out
    after the settings have changed.

    Args:
        folder: The identifier's folder. The settings are recorded there the first time.
        identifier: `freqai.identifier`.
        current: `fingerprint` of this run.
        known: `defaults` of the net: a setting that a later version brought was at its default
            before.

    Raises:
        ConfigError: The settings or the net's source differ, or the folder holds models of another
            kind.
    """
    record = folder / SETTINGS_FILE
    remedy = (
        "FreqAI would reuse its models and predictions. Choose a new freqai.identifier, or move "
        f"the folder {folder} away."
    )
    if not record.is_file():
        if _holds_results(folder):
            raise ConfigError(
                f"The identifier {identifier!r} was used before, by another kind of model. {remedy}"
            )
        write_text(record, json.dumps(current, indent=2, sort_keys=True) + "\n")
        return
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        recorded = None
    if not isinstance(recorded, dict):
        raise ConfigError(f"{record} is damaged, so nobody can tell how it was used. {remedy}")
    is_old = SOURCES not in recorded
    if is_old:
        # Earlier versions took no notice of the user's files: what stands now is what counts.
        recorded[SOURCES] = current.get(SOURCES, {})
    recorded = {key: value for key, value in known.items() if key in current} | recorded
    then, now = _flat(recorded), _flat(current)
    changed = [
        f"{key}: {then.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if changed:
        raise ConfigError(
            f"The identifier {identifier!r} was used with other settings ({'; '.join(changed)}). "
            f"{remedy}"
        )
    if is_old:
        write_text(record, json.dumps(recorded, indent=2, sort_keys=True) + "\n")


def refuse_other_answers(
    identifier: str, what: str, stored: Sequence[str], expected: Sequence[str]
) -> None:
    """Refuse results under an identifier that are not of the strategy's labels and classes.

    Args:
        identifier: `freqai.identifier`.
        what: What is stored, for the message.
        stored: Its labels and the columns beside them, such as classes.
        expected: Those that the strategy asks for now.

    Raises:
        ConfigError: They differ.
    """
    if list(stored) != list(expected):
        raise ConfigError(
            f"The identifier {identifier!r} holds {what} of {shortened(list(stored))}, and the "
            f"strategy now asks for {shortened(list(expected))}. Choose a new freqai.identifier; "
            f"the strategies of one --strategy-list share theirs, so their labels must agree."
        )


def defaults(net: str | None) -> dict[str, Any]:
    """Return the default of every setting, by the names of `fingerprint`."""
    shape = NetConfig if net is None else net_class(net).config
    configs = zip(SECTIONS, (shape, TrainConfig, WindowConfig), strict=True)
    return {
        f"{name}.{key}": value
        for name, config in configs
        for key, value in dataclasses.asdict(config()).items()
    }


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with a line of its own for each of the user's files."""
    sources = settings.get(SOURCES, {})
    rest = {key: value for key, value in settings.items() if key != SOURCES}
    return rest | {f"the source {name}": digest for name, digest in sources.items()}


def _holds_results(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    has_predictions = any((folder / "backtesting_predictions").glob("*"))
    return has_predictions or any(folder.glob("sub-train-*/*_model.*"))
