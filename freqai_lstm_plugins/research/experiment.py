"""Reading, checking, changing and writing experiment files, and what they ask of the data.

An experiment says what is compared, on which data, by which rules. It is a TOML file, checked as a
whole before anything runs. Resolved, with every default stated, it has a hash: two runs with the
same hash, on the same data and packages, give the same figures.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.data.splits import Fold, fixed_dates, walk_forward
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.features import labels
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.names import closest
from freqai_lstm_plugins.research.checks import CheckLimits
from freqai_lstm_plugins.research.experiment_errors import one_line
from freqai_lstm_plugins.research.experiment_schema import (
    DataSection,
    Experiment,
    LabelSection,
    SplitSection,
)
from freqai_lstm_plugins.research.toml_text import to_toml

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = Path(__file__).with_name("experiment_template.toml")


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: The TOML file.
        overrides: Values that replace those of the file, such as `label.horizon=5`.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or holds a key or value that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no experiment {path}: write one with `freqai-lstm compare --init {path}`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The experiment {path} cannot be read ({error}).") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from error
    return parse_experiment(with_overrides(values, overrides), str(path))


def parse_experiment(values: Mapping[str, Any], source: str = "the experiment") -> Experiment:
    """Check the values of an experiment file.

    Raises:
        ConfigError: A key or a value is none, named with the closest one that is, in one line that
            begins with `source`.
    """
    # Here, so that the schema alone says which extra is missing.
    from pydantic import ValidationError

    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {one_line(error.errors(), Experiment)}") from error


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values with others in their place.

    Args:
        values: An experiment's values, left as they are.
        overrides: `dotted.key=value` with a value as in TOML; a text may stand without quotes.

    Raises:
        ConfigError: An override is not of that form, or goes through a value that is no table.

    >>> with_overrides({"label": {"horizon": 1}}, ["label.horizon=5", "data.folder=data/vn30"])
    {'label': {'horizon': 5}, 'data': {'folder': 'data/vn30'}}
    """
    result = dict(values)
    for override in overrides:
        result = _merged(result, _parse_override(override), override)
    return result


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise ConfigError(f"{override!r} is no override: write section.key=value.")
    try:
        return tomllib.loads(override)
    except tomllib.TOMLDecodeError as error:
        # Shells eat quotes, so a plain text is taken as it stands; a broken list is none.
        if value.strip()[0] in "[{\"'":
            raise ConfigError(f"The value of {override!r} is no TOML: {error}.") from error
    try:
        return tomllib.loads(f"{key} = {json.dumps(value.strip())}")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{override!r} is no override: {key.strip()!r} is no key.") from error


def _merged(values: Mapping[str, Any], others: Mapping[str, Any], override: str) -> dict[str, Any]:
    result = dict(values)
    for key, value in others.items():
        if isinstance(value, dict) and key in result:
            if not isinstance(result[key], Mapping):
                raise ConfigError(f"{override!r}: {key} is {result[key]!r}, which holds no keys.")
            value = _merged(result[key], value, override)
        result[key] = value
    return result


def resolved(experiment: Experiment) -> dict[str, Any]:
    """Return all values as a file would state them, defaults too; keys that are None are absent."""
    return experiment.model_dump(exclude_none=True)


def experiment_hash(experiment: Experiment) -> str:
    """Return a SHA-256 of all that can change a figure: everything but where results go."""
    values = resolved(experiment)
    del values["output"]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def save_experiment(experiment: Experiment, path: Path) -> None:
    """Write the resolved experiment as TOML; loading the file gives an equal experiment."""
    head = (
        f"# The experiment with every value it was run with; hash {experiment_hash(experiment)}\n"
    )
    write_text(path, head + to_toml(resolved(experiment)))


def write_template(path: Path) -> None:
    """Write a commented experiment file to start from.

    Raises:
        ConfigError: There is a file already, or none can be written there.
    """
    try:
        if path.exists():
            raise ConfigError(f"{path} is there already: name another file, or remove it first.")
        write_text(path, TEMPLATE.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}. Name another file."
        ) from error


def check_limits(data: DataSection) -> CheckLimits:
    """Return from where on a row of the data is wrong."""
    return CheckLimits(
        no_volume_bars=data.no_volume_bars,
        stale_bars=data.stale_bars,
        robust_multiple=data.robust_multiple,
        price_limit=data.price_limit,
    )


def make_folds(split: SplitSection, calendar: pd.DatetimeIndex) -> list[Fold]:
    """Lay the folds over a calendar; see `data.splits`."""
    if split.kind == "walk_forward":
        return walk_forward(
            calendar,
            folds=split.folds,
            test_bars=split.test_bars,
            train_bars=split.train_bars,
            valid_fraction=split.valid_fraction,
            embargo=split.embargo,
        )
    if split.train is None or split.test is None:
        raise ConfigError('split.kind = "dates" needs split.train and split.test.')
    return [
        fixed_dates(
            calendar,
            train=split.train,
            valid=split.valid,
            test=split.test,
            valid_fraction=split.valid_fraction,
            embargo=split.embargo,
        )
    ]


def make_labels(label: LabelSection, frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Label all symbols, compared with each other where the experiment asks for it.

    Args:
        label: What is predicted.
        frames: Candles by symbol, or tables that hold the column of the label.

    Raises:
        DataError: A column is missing, or a frame's dates are not in order.
    """
    made = {symbol: _label(label, frame) for symbol, frame in frames.items()}
    if label.cross_section != "none":
        compare = {"rank": labels.cross_sectional_rank, "zscore": labels.cross_sectional_zscore}
        dates = {symbol: frame["date"] for symbol, frame in frames.items()}
        made = compare[label.cross_section](made, dates)
    if label.clip is not None:
        made = {symbol: labels.clipped(table, label.clip) for symbol, table in made.items()}
    return made


def _label(label: LabelSection, frame: pd.DataFrame) -> pd.DataFrame:
    if label.kind == "column":
        # Who made the column counted the candles of the symbol, and through a halt there are none.
        own = frame[frame["close"].notna()] if "close" in frame else frame
        name = label.column or ""
        if name not in own:
            present = [str(column) for column in own]
            raise DataError(
                f"label.column names {name!r}, which the files do not hold.{closest(name, present)}"
            )
        made = labels.given_label(own, name, label.horizon)
        return made.reindex(frame.index)
    if label.kind == "qlib":
        return labels.qlib_return(frame)
    if label.kind == "volatility_scaled":
        return labels.volatility_scaled_return(frame, label.horizon, label.volatility_window)
    return labels.future_return(frame, label.horizon)
