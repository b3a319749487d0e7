"""Compares, shortens and suggests names, and holds those of files."""

from __future__ import annotations

import difflib
from itertools import zip_longest
from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONFIG_NAME = "config-lea.json"
"""The config that is written into a user directory."""

ENSEMBLE_CONFIG_NAME = "config-lea-ensemble.json"
"""The same config with a model of several members."""

PANEL_NAME = "panel"
"""Stands in the names of files and folders of a net for all pairs, where else the coin does."""

MODEL_SUFFIX = "_model.zip"
"""How FreqAI ends the names of the model files that it saves."""


def require_names(what: str, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise MismatchError where `found` names differ from those the model was trained on."""
    found, expected = list(found), list(expected)
    if found == expected:
        return
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    parts = []
    if missing:
        parts.append(f"missing {shortened(missing)}")
    if extra:
        parts.append(f"not known to the model {shortened(extra)}")
    if not parts:
        how = "in another order" if len(found) == len(expected) else "another number of times"
        parts.append(f"the same names {how}, first {_first_difference(found, expected)}")
    raise MismatchError(
        f"The model was trained on {len(expected)} {what}, {len(found)} are given: "
        f"{'; '.join(parts)}. Give the same {what}, or train a new model."
    )


def shortened(names: list[str], limit: int = 5) -> str:
    """List the first names, and say how many more there are."""
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def closest(name: object, known: Iterable[str]) -> str:
    """Return the end of a message that names the closest known name; nothing where none is close.

    >>> closest("lightgmb", ["lightgbm", "xgboost"])
    " Did you mean 'lightgbm'?"
    """
    meant = nearest(name, known)
    return "" if meant is None else f" Did you mean {meant!r}?"


def nearest(name: object, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that is most like one that may be misspelt, or None.

    Args:
        name: What was given.
        known: Names that it may have been meant for.
        likeness: Least share of letters in common, from 0 to 1; high where names that nobody knows
            are allowed too.
    """
    return next(iter(difflib.get_close_matches(str(name), list(known), 1, likeness)), None)


def separated(text: str) -> list[str]:
    """Return the names in a text that separates them by commas.

    >>> separated("BTC/USDT, ETH/USDT,")
    ['BTC/USDT', 'ETH/USDT']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def _first_difference(found: list[str], expected: list[str]) -> str:
    pairs = zip_longest(found, expected, fillvalue="nothing")
    now, then = next((f, e) for f, e in pairs if f != e)
    return f"{now!r} where the model has {then!r}"
