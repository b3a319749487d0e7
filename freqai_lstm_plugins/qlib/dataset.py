"""What a dataset of qlib holds: its segments, its rows and the calendar that they stand on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from qlib.data.dataset.handler import DataHandlerLP
from qlib.data.dataset.weight import Reweighter

from freqai_lstm_plugins.data.splits import known_before
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.names import closest, require_names

if TYPE_CHECKING:
    from qlib.data.dataset import DatasetH

    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray

LEARN, INFER = DataHandlerLP.DK_L, DataHandlerLP.DK_I


@dataclass(frozen=True)
class Table:
    """What a dataset has to train on, in the order of its frames.

    Attributes:
        features: (N, F) rows up to the last date of training and validation, context among them.
        label: (N, 1); NaN where a row is context alone.
        days: (N,) number of each row's date in the calendar.
        calendar: All dates of the dataset.
        parts: For each segment the days from its first one up to, not including, its end.
    """

    features: pd.DataFrame
    label: pd.DataFrame
    days: IntArray
    calendar: pd.DatetimeIndex
    parts: dict[str, tuple[int, int]]

    def is_in(self, part: str) -> BoolArray:
        """Tell which rows lie in a segment; none where there is no such segment."""
        first, stop = self.parts.get(part, (0, 0))
        return np.asarray((self.days >= first) & (self.days < stop))


def span_of(dataset: DatasetH, segment: Any) -> slice:
    """Return the dates of a segment by its name, or those that are given.

    Raises:
        DataError: There is no segment of that name.
    """
    if isinstance(segment, str) and segment not in dataset.segments:
        raise DataError(
            f"The dataset has no segment {segment!r}; it has {', '.join(dataset.segments)}."
            f"{closest(segment, dataset.segments)}"
        )
    found = dataset.segments[segment] if isinstance(segment, str) else segment
    return found if isinstance(found, slice) else slice(*found)


def fetch(dataset: DatasetH, dates: slice, columns: Any, key: str) -> pd.DataFrame:
    """Return rows in the order of the handler, without a sampler around them.

    Args:
        dataset: The dataset.
        dates: First and last date, both included.
        columns: Groups of columns.
        key: `LEARN` or `INFER`.

    Raises:
        DataError: Such columns are missing, or a row stands twice.
    """
    options = getattr(dataset, "fetch_kwargs", {})
    try:
        found = dataset.handler.fetch(dates, col_set=columns, data_key=key, **options)
    except KeyError as error:
        raise DataError(
            f"The dataset has no columns {columns!r} ({error}): its handler must load both "
            f"features and a label."
        ) from error
    if not found.index.is_unique:
        twice = found.index[found.index.duplicated()][0]
        raise DataError(f"The dataset holds the row of {twice} twice.")
    return found


def dates_of(index: pd.Index[Any]) -> pd.DatetimeIndex:
    """Return the date of each row."""
    return pd.DatetimeIndex(index.get_level_values("datetime"))


def calendar_of(index: pd.Index[Any]) -> pd.DatetimeIndex:
    """Return the dates of all rows, each once and in order."""
    return dates_of(index).unique().sort_values()


def days_in(calendar: pd.DatetimeIndex, span: slice) -> tuple[int, int]:
    """Return the days of dates, of which there may be none."""
    first, stop = calendar.slice_locs(span.start, span.stop)
    return int(first), int(stop)


def days_of(calendar: pd.DatetimeIndex, segment: Any, span: slice) -> tuple[int, int]:
    """Return the days of a segment, from its first one up to, not including, its end.

    Raises:
        DataError: There is none.
    """
    first, stop = days_in(calendar, span)
    if first >= stop:
        has = f"from {calendar[0]} to {calendar[-1]}" if len(calendar) else "at no date"
        raise DataError(f"The segment {segment!r} holds no row: the dataset has rows {has}.")
    return first, stop


def known_columns(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the columns that a model was trained on; learning may have dropped others.

    Raises:
        MismatchError: One is missing.
    """
    frame = _named(frame)
    if not set(names) <= set(frame.columns):
        require_names("features", list(frame.columns), names)
    return frame[names]


def is_sampled(dataset: DatasetH, index: pd.Index[Any], dates: slice, key: str) -> BoolArray:
    """Tell which rows a `TSDatasetH` takes for samples; where it filters, others are context."""
    column = getattr(dataset, "flt_col", None)
    if column is None:
        return np.ones(len(index), dtype=bool)
    return np.asarray(fetch(dataset, dates, column, key).iloc[:, 0].reindex(index) == 1)


def read_table(dataset: DatasetH) -> Table:
    """Read what is learned from, with the rows before and between that are context alone.

    Raises:
        DataError: There is no training row, or not one label.
    """
    spans = {
        part: span_of(dataset, part)
        for part in ("train", "valid", "test")
        if part == "train" or part in dataset.segments
    }
    early = slice(None, _last_stop([spans[part] for part in ("train", "valid") if part in spans]))
    learn = fetch(dataset, early, ["feature", "label"], LEARN)
    features, label = (_named(pd.DataFrame(learn[group])) for group in ("feature", "label"))
    if label.shape[1] != 1:
        raise DataError(
            f"A prediction of qlib is one score, and there are {label.shape[1]} labels."
        )
    infer = _named(fetch(dataset, slice(None), "feature", INFER))
    calendar = calendar_of(infer.index.union(learn.index))
    parts = {part: days_in(calendar, span) for part, span in spans.items()}
    parts["train"] = days_of(calendar, "train", spans["train"])
    if "valid" in parts:
        parts["valid"] = days_of(calendar, "valid", spans["valid"])
    last = calendar[days_in(calendar, early)[1] - 1]
    features = _with_context(dataset, features, infer, last)
    label = label[is_sampled(dataset, label.index, early, LEARN)].reindex(features.index)
    days = calendar.get_indexer(dates_of(features.index))
    return Table(features, label, days, calendar, parts)


def cut_valid(table: Table, share: float) -> Table:
    """Let the last share of the training days validate, where no segment does."""
    first, stop = table.parts["train"]
    cut = stop - round(share * (stop - first))
    if "valid" in table.parts or cut in (first, stop):
        return table
    return dataclasses.replace(
        table, parts={**table.parts, "train": (first, cut), "valid": (cut, stop)}
    )


def rows_of_part(table: Table, part: str, horizon: int) -> BoolArray:
    """Tell which rows of a part have labels that are known before any later part begins.

    Args:
        table: What there is.
        part: `train` or `valid`.
        horizon: Days that a label looks ahead.
    """
    kept, first = table.is_in(part), table.parts.get(part, (0, 0))[0]
    for start, _ in table.parts.values():
        if start > first:
            kept &= known_before(table.days + horizon, start)
    return kept


def weights_of(table: Table, reweighter: Reweighter | None) -> FloatArray:
    """Return a weight for each row; qlib weighs the rows of each segment by themselves.

    Raises:
        ConfigError: It is no reweighter.
        DataError: It gives another number of weights than there are rows.
    """
    weights = np.ones(len(table.days))
    if reweighter is None:
        return weights
    if not isinstance(reweighter, Reweighter):
        raise ConfigError(f"reweighter must be a Reweighter of qlib's, not {reweighter!r}.")
    frame = pd.concat({"feature": table.features, "label": table.label}, axis=1)
    for part in ("train", "valid"):
        chosen = table.is_in(part) & np.asarray(table.label.notna().iloc[:, 0])
        if not chosen.any():
            continue
        found = reweighter.reweight(frame[chosen])
        if isinstance(found, pd.Series):
            found = found.reindex(frame.index[chosen])
        values = np.asarray(found, dtype=np.float64).reshape(-1)
        if len(values) != chosen.sum():
            raise DataError(f"The reweighter gave {len(values)} weights for {chosen.sum()} rows.")
        weights[chosen] = values
    return weights


def _last_stop(spans: list[slice]) -> Any:
    stops = [span.stop for span in spans]
    return None if None in stops else max(stops, key=lambda stop: pd.Timestamp(stop))


def _with_context(
    dataset: DatasetH, features: pd.DataFrame, infer: pd.DataFrame, last: pd.Timestamp
) -> pd.DataFrame:
    """Add early rows that were dropped from what is learned, such as those without a label."""
    # Only in this order of processors are features of both kinds the same.
    is_same = getattr(dataset.handler, "process_type", None) == DataHandlerLP.PTYPE_A
    if not is_same or not set(features.columns) <= set(infer.columns):
        return features
    is_dropped = (dates_of(infer.index) <= last) & ~infer.index.isin(features.index)
    return pd.concat([features, infer.loc[is_dropped, list(features.columns)]])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the same columns under names that a model file can hold."""
    return frame.set_axis([str(name) for name in frame.columns], axis=1)
