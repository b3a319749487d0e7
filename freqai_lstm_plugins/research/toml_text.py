"""Plain values as TOML, which the standard library reads but does not write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """Write a table of texts, numbers, booleans, lists and tables.

    Raises:
        TypeError: A value is something else, or a number that is not finite.

    >>> print(to_toml({"seeds": [1, 2], "label": {"horizon": 5}}))
    seeds = [1, 2]
    <BLANKLINE>
    [label]
    horizon = 5
    <BLANKLINE>
    """
    return "\n".join(_table(values, ())) + "\n"


def _table(values: Mapping[str, Any], place: tuple[str, ...]) -> list[str]:
    # What stands after a header belongs to it, so plain values come first.
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in values.items():
        if isinstance(value, Mapping):
            inside = (*place, key)
            lines += ["", f"[{'.'.join(map(_key, inside))}]", *_table(value, inside)]
    return lines


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves bare.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"{value!r} is neither a text, a finite number, true or false, nor a list")
