"""Libraries of the extra `research`, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from freqai_lstm_plugins.errors import MissingExtraError


def load_extra(module: str, purpose: str) -> Any:
    """Return the module of that name.

    Args:
        module: Its dotted name, such as `arch.bootstrap`.
        purpose: What needs it, as the subject of a sentence.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.split(".")[0], "research", purpose) from error
