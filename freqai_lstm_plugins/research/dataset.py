"""Tables that jobs read: for each symbol its features, labels and candles, a row a bar.

A table has a row for each date of the calendar from the symbol's first usable row to its last, so
rows that follow each other in a table follow each other in time, and a missing bar is a row of NaN
that no window crosses. Tables lie in the output folder as parquet, named after what they were made
of: a second run finds them, and workers read only those that they need.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins import features as feature_code
from freqai_lstm_plugins.data.candles import (
    COLUMNS,
    Candles,
    between,
    content_hash,
    file_stem,
    find_files,
    read_table,
)
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.features import ALPHA158_20, alpha158, alpha360
from freqai_lstm_plugins.features.indicators import indicators
from freqai_lstm_plugins.features.labels import KNOWN_AT, LABEL
from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.names import closest, shortened
from freqai_lstm_plugins.research.checks import Checked, check_candles
from freqai_lstm_plugins.research.experiment import check_limits, make_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from freqai_lstm_plugins.research.experiment_schema import Experiment

LABEL_PERIOD = "label_period"
"""What files of features say in their attributes: how many candles their labels look ahead."""

LAST_KNOWN_LABEL = f"last known {LABEL}"
"""Newest label that is known at a row: what the naive forecast `naive_last` says."""

_KEPT = (*COLUMNS, LABEL, KNOWN_AT, LAST_KNOWN_LABEL)


@dataclass(frozen=True)
class Table:
    """Where the table of a symbol lies.

    Attributes:
        symbol: Its name.
        path: Parquet file: date, open, high, low, close, volume, label, known_at, last known label,
            and the features.
        digest: Hash of the content, features and labels included.
    """

    symbol: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Dataset:
    """Tables of all symbols on one calendar.

    Attributes:
        tables: By symbol.
        feature_names: F names, the same for all symbols.
        calendar: All dates.
        checked: What the check of the candles found.
        unusable: Symbols without a usable row.
    """

    tables: dict[str, Table]
    feature_names: list[str]
    calendar: pd.DatetimeIndex
    checked: Checked
    unusable: tuple[str, ...] = ()

    @property
    def candles(self) -> dict[str, Candles]:
        """Candles by symbol, missing rows as NaN."""
        return self.checked.candles


def build_dataset(experiment: Experiment, folder: Path) -> Dataset:
    """Read and check candles, and write the tables that are not in `folder` yet.

    Raises:
        DataError: There are no candles, or features and labels cannot be made of them.
        ConfigError: Labels of the files look further ahead than the experiment says.
    """
    files = find_files(
        Path(experiment.data.folder), experiment.data.symbols, experiment.data.timeframe
    )
    span = (experiment.data.start, experiment.data.end)
    read = {file.symbol: read_table(file.path) for file in files}
    _refuse_short_labels(experiment, read)
    raw = {symbol: between(table, *span) for symbol, table in read.items()}
    _refuse_empty_span(experiment, read, raw)
    checked = check_candles(raw, check_limits(experiment.data))
    if not checked.candles:
        raise DataError(f"No symbol of {experiment.data.folder} has a usable candle.")
    recipe = _recipe(experiment)
    frames = {
        symbol: _with_columns(candles, raw[symbol]) for symbol, candles in checked.candles.items()
    }
    together = make_labels(experiment.label, frames)
    tables, names = {}, None
    for symbol, candles in checked.candles.items():
        label = together[symbol]
        made_of = f"{recipe}{content_hash(frames[symbol])}"
        if experiment.label.cross_section != "none":
            # Then the label depends on the other symbols too.
            made_of += content_hash(label[[LABEL]].assign(date=candles["date"]))
        digest = hashlib.sha256(made_of.encode()).hexdigest()
        path = folder / f"{file_stem(symbol)}-{digest[:16]}.parquet"
        if not _is_whole(path):
            _write(_table(experiment, candles, frames[symbol], label), path)
        own = _feature_columns(path)
        if names is not None and own != names:
            differing = sorted(set(own) ^ set(names))
            raise DataError(
                f"The features of {symbol} differ from those of the other symbols: "
                f"{shortened(differing)}. Give all symbols the same columns."
            )
        names = own
        tables[symbol] = Table(symbol, path, digest)
    assert names is not None
    unusable = tuple(symbol for symbol in raw if symbol not in tables)
    return Dataset(tables, names, checked.calendar, checked, unusable)


def _refuse_empty_span(
    experiment: Experiment, read: Mapping[str, pd.DataFrame], used: Mapping[str, pd.DataFrame]
) -> None:
    """Refuse a beginning and an end between which no symbol has a candle."""
    if any(len(table) for table in used.values()):
        return
    dates = pd.concat([table["date"] for table in read.values()])
    asked = {"data.start": experiment.data.start, "data.end": experiment.data.end}
    said = " and ".join(f"{name} = {value}" for name, value in asked.items() if value is not None)
    raise DataError(
        f"No candle is left with {said}: the candles of {experiment.data.folder} go from "
        f"{dates.min()} to {dates.max()}."
    )


def _refuse_short_labels(experiment: Experiment, tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a horizon below what the files say of their own labels: rows would know the future."""
    label = experiment.label
    for symbol, table in tables.items() if label.kind == "column" else ():
        said = table.attrs.get(LABEL_PERIOD)
        if isinstance(said, int) and said > label.horizon:
            raise ConfigError(
                f"label.horizon = {label.horizon} is less than the {said} candles that the labels "
                f"of {symbol} look ahead, by its file: set label.horizon = {said}."
            )


def read_features(table: Table) -> pd.DataFrame:
    """Return the table of a symbol."""
    return pd.read_parquet(table.path)


def _recipe(experiment: Experiment) -> str:
    """Return what decides how candles become a table: settings, and the code of features."""
    label = experiment.label.model_dump()
    if experiment.label.kind == "column":
        # Tables that were made before candles of the symbol alone counted told too early a time.
        label["counts"] = "own candles"
    sections = {
        "features": experiment.features.model_dump(exclude={"window"}),
        "label": label,
        "code": _code_version(),
    }
    return json.dumps(sections, sort_keys=True)


def _code_version() -> str:
    """Return a hash of the source that makes features and labels."""
    folder = Path(inspect.getfile(feature_code)).parent
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _with_columns(candles: Candles, raw: pd.DataFrame) -> pd.DataFrame:
    """Return checked candles with the files' other columns of numbers beside them."""
    others = raw.drop(columns=[name for name in COLUMNS if name != "date"])
    others = others.drop_duplicates("date", keep="last")
    numbers = others.select_dtypes("number").assign(date=others["date"])
    return candles.merge(numbers, on="date", how="left")


def _table(
    experiment: Experiment, candles: Candles, frame: pd.DataFrame, label: pd.DataFrame
) -> pd.DataFrame:
    parts = [_feature_set(name, experiment, candles, frame) for name in experiment.features.sets]
    found = pd.concat(parts, axis=1)
    twice = found.columns[found.columns.duplicated()]
    if len(twice):
        raise DataError(
            f"Two feature sets have a feature {twice[0]!r}: choose one of them in features.sets."
        )
    clash = [name for name in found if name in _KEPT]
    if clash:
        raise DataError(f"A feature is called {clash[0]!r}, as a column of ours is: rename it.")
    # What is not finite is unknown, and breaks the windows that would hold it.
    found = found.astype(np.float64).replace([np.inf, -np.inf], np.nan)
    found[candles["close"].isna().to_numpy()] = np.nan
    last = _last_known(candles["date"], label)
    return pd.concat([candles, label, last, found], axis=1)


def _feature_set(
    name: str, experiment: Experiment, candles: Candles, frame: pd.DataFrame
) -> pd.DataFrame:
    if name == "columns":
        return _own_columns(experiment, frame)
    if name == "indicators":
        return indicators(candles)
    missing = experiment.features.missing
    prices = candles.drop(columns="date")
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "alpha158": lambda: alpha158(prices, missing=missing),
        "alpha158_20": lambda: alpha158(prices, names=ALPHA158_20, missing=missing),
        "alpha360": lambda: alpha360(prices, missing=missing),
    }
    return makers[name]()


def _own_columns(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    wanted = list(experiment.features.columns)
    present = [str(name) for name in frame.columns]
    if not wanted:
        wanted = [name for name in present if name.startswith("%")]
    if experiment.label.column in wanted:
        raise DataError(
            f"The label {experiment.label.column!r} would be a feature too, so models would be "
            f"given what they are to forecast. Name the features in features.columns, without it."
        )
    for name in wanted:
        if name not in present:
            raise DataError(
                f"features.columns names {name!r}, which the files do not hold."
                f"{closest(name, present)}"
            )
    if not wanted:
        raise DataError(
            'features.sets holds "columns", but no column of the files begins with %: name them '
            "in features.columns."
        )
    return frame[wanted]


def _last_known(dates: pd.Series[Any], label: pd.DataFrame) -> pd.Series[Any]:
    """Return at each row the label of the newest row whose label is known by then."""
    known = label.dropna().sort_values(KNOWN_AT, kind="stable")
    at = np.searchsorted(
        known[KNOWN_AT].to_numpy(), pd.DatetimeIndex(dates).to_numpy(), side="right"
    )
    values = np.append(np.nan, known[LABEL].to_numpy())
    return pd.Series(values[at], index=dates.index, name=LAST_KNOWN_LABEL)


def _write(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as stream:
        table.to_parquet(stream, index=False)


def _is_whole(path: Path) -> bool:
    """Whether a table is there and can be read: its directory is what parquet writes last."""
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, pyarrow.ArrowException):
        return False
    return True


def _feature_columns(path: Path) -> list[str]:
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(path).names
    return [name for name in names if name not in _KEPT]


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the tables' hashes and features as plain data."""
    return {
        "feature_names": dataset.feature_names,
        "tables": {name: asdict(one)["digest"] for name, one in dataset.tables.items()},
    }
