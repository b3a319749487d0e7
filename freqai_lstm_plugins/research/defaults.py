"""Defaults of models' settings, as far as they are others than the version shipped with.

The key of a job names the version, which stands for the defaults. Who changes a default within a
version would still find what was trained with the former one, so it stands in the key then.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.models.ensemble.settings import read_members
from freqai_lstm_plugins.models.registry import ENSEMBLE, settings_classes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

# Of version 0.1.0. Another one may begin with digests of its own, as its keys are others anyway.
SHIPPED = {
    "lstm": "f192992ef318",
    "gru": "f192992ef318",
    "alstm": "316660a30a73",
    "tft": "345cbcb526b2",
    "mlp": "98101a2570d9",
    "lightgbm": "a32c2585f929",
    "xgboost": "f5eb0a8983c1",
    "ridge": "97e7bf93f1ed",
    "naive_zero": "44136fa355b3",
    "naive_last": "44136fa355b3",
    "ensemble": "cf74b0173fad",
}


def changed_defaults(kind: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest for each kind whose defaults the version did not ship with.

    Args:
        kind: Name of a model in the catalogue; of an ensemble its members count too.
        settings: Its settings.
    """
    kinds = {kind}
    if kind == ENSEMBLE:
        kinds |= {member.kind for member in read_members(settings.get("members", {}))}
    found = {name: default_digest(name) for name in kinds}
    return {name: digest for name, digest in found.items() if digest != SHIPPED.get(name)}


@functools.cache
def default_digest(kind: str) -> str:
    """Return a short hash of the settings of a model for which nobody names a value."""
    values = {
        one.name: _default(one) for settings in settings_classes(kind) for one in fields(settings)
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()
