"""Settings as qlib's files write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from qlib.log import get_module_logger

from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models.catalogue import TABULAR
from freqai_lstm_plugins.nets import NETS

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = get_module_logger("SequenceModel")

# qlib's names of settings -> ours, for nets and for trees.
_NET_ALIASES = {"lr": "learning_rate", "early_stop": "patience", "rnn_type": "cell_type"}
_TREE_ALIASES = {
    "lr": "learning_rate",
    "eta": "learning_rate",
    "early_stop": "early_stopping_rounds",
    "num_boost_round": "n_estimators",
    "lambda_l1": "reg_alpha",
    "lambda_l2": "reg_lambda",
}
# What a qlib file may keep saying, and why nothing follows from it.
_NEEDLESS = {
    "d_feat": "the dataset says how many features there are",
    "n_jobs": "windows need no processes that load them",
}
# What a qlib file may say only as far as it is what happens anyway.
_SETTLED = {"metric": ("", "loss"), "optimizer": ("adam",)}
# LightGBM's names for how often it draws the share `subsample` of the rows anew. Without it never.
_DRAWS = {"bagging_freq": ("0", "1"), "subsample_freq": ("0", "1")}


def translated(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a model under our names.

    Raises:
        ConfigError: One is given under two names, or asks for what is not done.
    """
    aliases = _NET_ALIASES if model in NETS else _TREE_ALIASES if model in TABULAR else {}
    settled = _SETTLED | (_DRAWS if model == "lightgbm" else {})
    needless = _needless(model, settings)
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in needless:
            continue
        if key in settled:
            _require_settled(key, value, settled[key])
            continue
        name, value = _device(value) if key == "GPU" else (aliases.get(key, key), value)
        if found.setdefault(name, value) != value:
            raise ConfigError(f"{key} = {value!r} and {name} = {found[name]!r} are one setting.")
    if isinstance(found.get("cell_type"), str):
        found["cell_type"] = found["cell_type"].lower()
    if model in NETS and issubclass(NETS[model].config, NetConfig):
        # qlib's recurrent nets have one linear layer there, for which its files have no name.
        found.setdefault("head_size", 0)
    return found


def _require_settled(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if str(value).lower() not in allowed:
        raise ConfigError(f"{key} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def _device(number: Any) -> tuple[str, str]:
    """Return the setting that stands for qlib's `GPU`, which falls back to the CPU as there."""
    has_gpu = isinstance(number, int) and number >= 0 and torch.cuda.is_available()
    return "device", f"cuda:{number}" if has_gpu else "cpu"


def _needless(model: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return why nothing follows from settings, by their names."""
    found = {key: _NEEDLESS[key] for key in settings if key in _NEEDLESS}
    is_drawn = any(settings.get(key) for key in _DRAWS)
    if model == "lightgbm" and "subsample" in settings and not is_drawn:
        found["subsample"] = "LightGBM draws rows only where bagging_freq says how often"
    return found


def log_needless(model: str, settings: Mapping[str, Any]) -> None:
    """Say of which settings of a model nothing follows, and why."""
    for key, reason in sorted(_needless(model, settings).items()):
        logger.info("%s = %r is not used: %s.", key, settings[key], reason)
