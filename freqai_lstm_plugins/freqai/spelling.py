"""Notices misspelt keys in the sections of a config that belong to FreqAI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freqtrade.config_schema.config_schema import CONF_SCHEMA

from freqai_lstm_plugins.names import nearest

# Keys that FreqAI reads and its schema leaves out.
_UNLISTED = {
    "freqai": {
        "extra_returns_per_train",
        "model_save_type",
        "multitarget_parallel_training",
    },
    "freqai.feature_parameters": {
        "noise_standard_deviation",
        "reverse_train_test_order",
        "use_DBSCAN_to_remove_outliers",
    },
    "freqai.data_split_parameters": {"stratify", "train_size"},
}


def misspelt_keys(config: Mapping[str, Any]) -> list[str]:
    """Return a line for each key of FreqAI's sections that is nearly one that FreqAI reads.

    FreqAI takes no notice of a key that it does not know, so a misspelt one counts for nothing.
    Keys unlike any other may be a strategy's own, and pass.
    """
    freqai = config["freqai"]
    lines = []
    for where, unlisted in _UNLISTED.items():
        section = freqai if where == "freqai" else freqai.get(where.removeprefix("freqai."))
        known = sorted({*_listed(where), *unlisted})
        for key in section if isinstance(section, Mapping) else ():
            meant = nearest(key, known, likeness=0.8)
            if key not in known and meant is not None:
                lines.append(
                    f"{where}.{key} counts for nothing, as FreqAI has no such setting. Did you "
                    f"mean {meant!r}?"
                )
    return lines


def _listed(where: str) -> list[str]:
    schema = CONF_SCHEMA["definitions"]["freqai"]["properties"]
    if where == "freqai":
        return list(schema)
    return list(schema[where.removeprefix("freqai.")]["properties"])
