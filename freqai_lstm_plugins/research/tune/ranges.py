"""Which values of a model's settings a search may take, read from a JSON file.

```json
{"lstm": {"hidden_size": {"min": 32, "max": 128, "step": 16}, "lr": {"choices": [0.001, 0.01]}}}
```

The models stand alone, or under `tuning_ranges` of a larger file. Settings have the package's
names, FreqAI's or qlib's; a setting that counts something takes whole numbers only, 256.0 too.
"""

from __future__ import annotations

import json
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from freqai_lstm_plugins.config import ALIASES, parse_settings
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.models.registry import settings_classes
from freqai_lstm_plugins.names import closest

BUILTIN = Path(__file__).with_name("builtin_ranges.json")
SECTION = "tuning_ranges"
WINDOW = "window"

# Other names of a setting; of several the first one that the model has.
NAMES: dict[str, tuple[str, ...]] = {
    **{alias: (name,) for alias, name in ALIASES.items()},
    "n_epochs": ("max_epochs", "n_estimators"),
    "lr": ("learning_rate",),
    "eta": ("learning_rate",),
    "early_stop": ("patience", "early_stopping_rounds"),
    "num_boost_round": ("n_estimators",),
    "lambda_l1": ("reg_alpha",),
    "lambda_l2": ("reg_lambda",),
    "conv_width": (WINDOW,),
    "step_len": (WINDOW,),
}
REFUSED = {
    "d_feat": "the number of features comes from the data: leave it out",
    "seed": "seeds come from the experiment, and are the same for all trials: leave it out",
    "num_threads": "the runner shares out the cores: leave it out",
    "device": "it changes no result: set it under models of the experiment",
    "label_period": "it comes from the experiment's label: leave it out",
    "symbol_embedding": "it comes from the experiment: leave it out",
    "members": "search each member by itself, with --model, and write what is chosen there",
}
KEYS = ("min", "max", "step", "log", "choices", "value")
# Beyond it floating point has no step of 1.
LARGEST = 2**53


@dataclass(frozen=True)
class Numbers:
    """A setting that takes numbers from `low` to `high`, both included.

    Attributes:
        name: Its name in the package.
        low: Least value.
        high: Largest value.
        step: Distance between two values; None takes all between.
        log: Whether values are drawn by their orders of magnitude.
        is_whole: Whether they are integers.
    """

    name: str
    low: float
    high: float
    step: float | None
    log: bool
    is_whole: bool


@dataclass(frozen=True)
class Choices:
    """A setting that takes one of several values; with one alone it is fixed."""

    name: str
    values: tuple[Any, ...]


Range: TypeAlias = Numbers | Choices
Ranges: TypeAlias = dict[str, Range]


def load_ranges(path: Path | None, kind: str, model: str | None = None) -> Ranges:
    """Read the ranges of one model.

    Args:
        path: The JSON file; None takes the built-in ranges.
        kind: Name of the model in the catalogue.
        model: Name in the experiment, which is looked for first.

    Raises:
        ConfigError: The file cannot be read, or a range or setting in it is none.
    """
    source = "The built-in ranges" if path is None else str(path)
    try:
        text = (path or BUILTIN).read_text(encoding="utf-8-sig")
        values = json.loads(text, object_pairs_hook=_once)
    except OSError as error:
        raise ConfigError(f"The ranges {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is no valid JSON: {error}.") from error
    models = values.get(SECTION, values) if isinstance(values, dict) else values
    if not isinstance(models, dict):
        raise ConfigError(f"{source} must hold an object of models, not {models!r:.60}.")
    name = next((name for name in (model, kind) if name in models), None)
    if name is None:
        raise ConfigError(
            f"{source}: there are no ranges for {model or kind}, only for {', '.join(models)}."
            f"{closest(kind, models)}"
        )
    return parse_ranges(models[name], kind, f"{source}: {name}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice, of which JSON's readers would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def write_ranges(path: Path) -> None:
    """Write the built-in ranges, to start from.

    Raises:
        ConfigError: There is a file already, or it cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already: name another file, or remove it first.")
    try:
        write_text(path, BUILTIN.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def parse_ranges(values: Any, kind: str, where: str) -> Ranges:
    """Check the ranges of one model.

    Args:
        values: What the file holds for it.
        kind: Name of the model in the catalogue.
        where: Start of every message.

    Raises:
        ConfigError: A range or a setting is none.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"{where} must be an object of ranges, not {values!r:.60}.")
    known = _types(kind)
    found: Ranges = {}
    for written, value in values.items():
        name = _canonical(written, known, where)
        if name in found:
            raise ConfigError(f"{where}.{written}: {name} has a range already: keep one.")
        found[name] = _parse(name, value, kind, known[name], f"{where}.{written}")
    if all(isinstance(one, Choices) and len(one.values) == 1 for one in found.values()):
        raise ConfigError(f"{where}: every setting has one value only, so there is no search.")
    return found


def describe(ranges: Ranges) -> dict[str, Any]:
    """Return ranges as a file would state them, under the package's names."""
    return {name: _described(one) for name, one in ranges.items()}


def _described(one: Range) -> dict[str, Any]:
    if isinstance(one, Choices):
        fixed = len(one.values) == 1
        return {"value": one.values[0]} if fixed else {"choices": list(one.values)}
    found: dict[str, Any] = {"min": one.low, "max": one.high}
    if one.step is not None and not one.log:
        found["step"] = one.step
    return found | ({"log": True} if one.log else {})


def default_settings(kind: str) -> dict[str, Any]:
    """Return what a model's settings are where nobody names them."""
    defaults: dict[str, Any] = {}
    for config in settings_classes(kind):
        defaults |= vars(config())
    return defaults


def canonical_settings(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a model's settings under the package's names; unknown ones stay as they are."""
    known = _types(kind)
    return {
        next((name for name in NAMES.get(key, ()) if name in known), key): value
        for key, value in settings.items()
    }


def _types(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {WINDOW: int}
    for config in settings_classes(kind):
        found |= typing.get_type_hints(config)
    if len(found) == 1:
        raise ConfigError(f"{kind} has no settings, so there is nothing to tune.")
    return found


def _canonical(written: Any, known: Mapping[str, Any], where: str) -> str:
    if written in REFUSED:
        raise ConfigError(f"{where}.{written} is not tuned: {REFUSED[written]}.")
    for name in NAMES.get(written, (written,)):
        if name in known:
            return name
    allowed = sorted({*known, *NAMES} - {*REFUSED})
    hint = closest(written, allowed) or f" Known settings: {', '.join(sorted(known))}."
    raise ConfigError(f"{where}: unknown setting {written!r}.{hint}")


def _parse(name: str, value: Any, kind: str, hint: Any, where: str) -> Range:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f'{where} must be {{"min": .., "max": ..}}, {{"choices": [..]}} or {{"value": ..}}, '
            f"not {value!r:.60}."
        )
    for key in value:
        if key not in KEYS:
            raise ConfigError(f"{where}: a range has no {key!r}.{closest(key, KEYS)}")
    if "value" in value or "choices" in value:
        return _choices(name, value, kind, where)
    return _numbers(name, value, kind, hint, where)


def _choices(name: str, value: Mapping[str, Any], kind: str, where: str) -> Choices:
    if len(value) > 1:
        raise ConfigError(f"{where} holds {', '.join(value)}: a choice stands alone.")
    if "value" in value:
        return Choices(name, (_checked(name, value["value"], kind, where),))
    given = value["choices"]
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}.choices must be a list of values, not {given!r:.60}.")
    found: list[Any] = []
    for one in given:
        checked = _checked(name, one, kind, where)
        if checked in found:
            raise ConfigError(f"{where}.choices holds {one!r} twice: name it once.")
        found.append(checked)
    if len(found) == 1:
        raise ConfigError(f'{where} has one choice only: write {{"value": {given[0]!r}}}.')
    return Choices(name, tuple(found))


def _numbers(name: str, value: Mapping[str, Any], kind: str, hint: Any, where: str) -> Numbers:
    kinds = set(_alternatives(hint)) - {type(None)}
    if not kinds <= {int, float}:
        raise ConfigError(f'{where} takes no numbers from min to max: write {{"choices": [..]}}.')
    is_whole = int in kinds
    low, high = (_end(value, key, is_whole, where) for key in ("min", "max"))
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{where}.log must be true or false, not {log!r}.")
    if low > high:
        raise ConfigError(f"{where}: min = {low:g} is above max = {high:g}: swap them.")
    if low == high:
        raise ConfigError(f'{where} holds one value only: write {{"value": {low:g}}}.')
    if log and low <= 0:
        raise ConfigError(f"{where}: log needs a min above 0, not {low:g}.")
    step = _step(value, low, high, is_whole, log, where)
    for end in (low, high):
        _checked(name, end, kind, where)
    return Numbers(name, low, high, step, log, is_whole)


def _end(value: Mapping[str, Any], key: str, is_whole: bool, where: str) -> float:
    if key not in value:
        raise ConfigError(f"{where} lacks {key!r}: give min and max, choices, or value.")
    return _number(value[key], is_whole, f"{where}.{key}")


def _number(value: Any, is_whole: bool, where: str) -> float:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # An integer may be too large for isfinite.
    if not is_number or not abs(value) < math.inf:
        raise ConfigError(f"{where} must be a number, not {value!r}.")
    if abs(value) > LARGEST:
        raise ConfigError(f"{where} must be at most {LARGEST:,}, not {value!r:.60}.")
    if not is_whole:
        return float(value)
    if value != int(value):
        raise ConfigError(f"{where} must be a whole number, not {value!r}: the setting counts.")
    return int(value)


def _step(
    value: Mapping[str, Any], low: float, high: float, is_whole: bool, log: bool, where: str
) -> float | None:
    if "step" not in value:
        return 1 if is_whole else None
    step = _number(value["step"], is_whole, f"{where}.step")
    if step <= 0:
        raise ConfigError(f"{where}.step must be above 0, not {step:g}.")
    if log:
        raise ConfigError(f"{where} has a step and log: leave one of them out.")
    steps = (high - low) / step
    if steps > LARGEST:
        raise ConfigError(
            f"{where}.step = {step:g} makes more values than can be told: leave it out."
        )
    if abs(steps - round(steps)) > 1e-9 * max(steps, 1) or steps < 0.5:
        below = low + math.floor(steps) * step
        raise ConfigError(
            f"{where}: steps of {step:g} from min = {low:g} never reach max = {high:g}; the last "
            f"one is {below:g}, the next {below + step:g}."
        )
    return step


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _checked(name: str, value: Any, kind: str, where: str) -> Any:
    """Return a value as the model would take it."""
    if name == WINDOW:
        number = _number(value, True, where)
        if number < 1:
            raise ConfigError(f"{where} must be at least 1, not {value!r}.")
        return number
    for config in settings_classes(kind):
        if name in typing.get_type_hints(config):
            return getattr(parse_settings(config, {name: value}, where), name)
    raise AssertionError(name)


def _primitive(value: Any) -> str | float | int | bool | None:
    # Storages keep plain values alone, so a list stands as its text.
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)


def contains(one: Range, value: Any) -> bool:
    """Whether a range holds a value."""
    if isinstance(one, Choices):
        return value in one.values
    if value is None or isinstance(value, (bool, str)) or not one.low <= value <= one.high:
        return False
    if one.step is None or one.log:
        return True
    steps = (value - one.low) / one.step
    return abs(steps - round(steps)) < 1e-9


def draw(trial: Any, ranges: Ranges) -> dict[str, Any]:
    """Let a trial choose a value of every range."""
    return {name: _draw(trial, one) for name, one in ranges.items()}


def _draw(trial: Any, one: Range) -> Any:
    if isinstance(one, Numbers):
        if one.is_whole:
            step = 1 if one.log else int(one.step or 1)
            return trial.suggest_int(one.name, int(one.low), int(one.high), log=one.log, step=step)
        return trial.suggest_float(one.name, one.low, one.high, log=one.log, step=one.step)
    if len(one.values) == 1:
        return one.values[0]
    plain = [_primitive(value) for value in one.values]
    return one.values[plain.index(trial.suggest_categorical(one.name, plain))]


def grid(ranges: Ranges, points: int = 5) -> dict[str, list[Any]]:
    """Return the values of a grid: all of a range with few, else `points` from end to end."""
    return {
        name: values
        for name, values in ((name, _points(one, points)) for name, one in ranges.items())
        if len(values) > 1
    }


def _points(one: Range, points: int) -> list[Any]:
    if isinstance(one, Choices):
        return [_primitive(value) for value in one.values]
    if one.step is not None and not one.log:
        n_values = round((one.high - one.low) / one.step) + 1
        places = sorted({round(i * (n_values - 1) / (points - 1)) for i in range(points)})
        return [one.low + place * one.step for place in places]
    shares = [i / (points - 1) for i in range(points)]
    if one.log:
        found = [one.low * (one.high / one.low) ** share for share in shares]
    else:
        found = [one.low + share * (one.high - one.low) for share in shares]
    found[-1] = one.high
    return sorted({round(value) for value in found}) if one.is_whole else found
