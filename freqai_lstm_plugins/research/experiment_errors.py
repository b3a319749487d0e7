"""What is wrong in an experiment file, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from freqai_lstm_plugins.names import nearest


def closest_hint(name: str, known: Iterable[str]) -> str:
    """Say which known name was meant, or which there are.

    >>> closest_hint("ligthgbm", ["ridge", "lightgbm"])
    'Did you mean lightgbm?'
    """
    names = list(known)
    meant = nearest(name, names)
    return f"Known: {', '.join(names)}." if meant is None else f"Did you mean {meant}?"


def one_line(errors: Sequence[Mapping[str, Any]], root: type[Any]) -> str:
    """Describe the first of pydantic's errors, and count the others.

    Args:
        errors: `ValidationError.errors()`.
        root: The pydantic model that was filled.
    """
    # An unknown key says more than the missing one that it may have been meant for.
    first = min(errors, key=lambda error: error["type"] == "missing")
    # A list that lost its only item also counts as too short.
    others = sum(error["loc"] != first["loc"][: len(error["loc"])] for error in errors)
    return _described(first, root) + (f" ({others} more after that.)" if others else "")


def _described(error: Mapping[str, Any], root: type[Any]) -> str:
    place, value, kind = error["loc"], error["input"], error["type"]
    dotted = _dotted(place)
    if kind == "extra_forbidden":
        shown = "" if isinstance(value, Mapping) else f" = {value!r}"
        return f"unknown key {dotted}{shown}. {_key_hint(place, root)}"
    if kind == "missing":
        return f"{dotted} is missing: add it."
    message = _message(error)
    if kind == "value_error" and (isinstance(value, Mapping) or not dotted):
        # Checks of a whole section name its keys themselves.
        if not dotted.startswith("models."):
            return message
        model, dot, _ = dotted.partition(".settings")
        return f"{model}.{message}" if dot else f"{model}: {message}"
    return f"{dotted} = {value!r} {message}"


def _dotted(place: Iterable[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return "".join(parts).removeprefix(".")


def _message(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return f"is none of {', '.join(names)}. {closest_hint(str(error['input']), names)}"
    if kind == "value_error":
        text = str(context["error"])
    elif kind == "too_short":
        text = f"holds {context['actual_length']} values, fewer than {context['min_length']}"
    elif kind in ("model_type", "dict_type"):
        text = "must be a table of keys"
    elif kind == "tuple_type":
        text = "must be a list"
    else:
        text = str(error["msg"]).replace("Input should be", "must be")
    return text if text[-1] in ".?" else f"{text}."


def _key_hint(place: Sequence[str | int], root: type[Any]) -> str:
    """Name the closest key of the same table, else the key of that name in another one."""
    *table, key = place
    known = _keys(root, table)
    meant = nearest(key, known)
    if meant is not None:
        return f"Did you mean {_dotted([*table, meant])}?"
    elsewhere = [name for name in root.model_fields if key in _keys(root, [name])]
    if elsewhere:
        return f"Did you mean {elsewhere[0]}.{key}?"
    return closest_hint(str(key), known)


def _keys(root: type[Any], place: Sequence[str | int]) -> list[str]:
    """Return the keys of the table at a place; none where it is no section."""
    section = root
    for part in place:
        section = section.model_fields[part].annotation
    return list(getattr(section, "model_fields", {}))
