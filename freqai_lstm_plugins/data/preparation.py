"""What every model is trained on: windows with their targets, and what their columns are called.

`prepare` makes it of what users hand over; a host that cuts and scales candles by itself makes a
`Prepared` of its own, and enters by the same door.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray, finite_rows, to_float32
from freqai_lstm_plugins.data.columns import numbers_of
from freqai_lstm_plugins.data.panel import Given, Inputs, read_inputs
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.splits import purged
from freqai_lstm_plugins.data.targets import TargetReader, Targets, read_numbers
from freqai_lstm_plugins.data.windows import WindowSet, build_window_set, rows_held, window_ends
from freqai_lstm_plugins.errors import DataError, MismatchError
from freqai_lstm_plugins.names import shortened

if TYPE_CHECKING:
    from freqai_lstm_plugins.config import DataConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schema:
    """Names of what windows and targets hold.

    Attributes:
        feature_names: F names, in the order of the columns of rows.
        label_names: K names, in the order of the targets.
        classes: For each target the names of its classes; empty where targets are numbers.
        symbols: Names of the symbols that the model is told, in the order of the numbers in the
            rows' last column; empty where it is told none, and rows have F columns.
        single_target: Whether the one target was given as a vector, so that predictions are one.
    """

    feature_names: list[str]
    label_names: list[str]
    classes: list[list[Any]] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    single_target: bool = False


@dataclass(frozen=True)
class Prepared:
    """Windows to train a model on, whatever the model is.

    Nets, trees and naive forecasts get the same rows, targets, weights and validation windows, so
    that a comparison between them is fair.

    Attributes:
        train: Windows to learn from.
        valid: Windows for early stopping; None where there are none.
        schema: What the columns are called.
        scaling: How rows and targets were standardized; None where they are as they were given, or
            where a host scales by itself.
        valid_symbols: (M,) name of the symbol of each validation window; None for one series.
        times: (N,) number of each row's candle in time, the same for rows of one time; None where
            rows are numbered so already.
        known_at: (N,) number of the candle at which each row's label is known, counted as `times`;
            None where that is so many candles after the row as labels look ahead.
    """

    train: WindowSet
    valid: WindowSet | None
    schema: Schema
    scaling: Scaling | None = None
    valid_symbols: npt.NDArray[Any] | None = None
    times: IntArray | None = None
    known_at: IntArray | None = None


def prepare(
    X: Given,
    y: Any,
    config: DataConfig,
    *,
    read_targets: TargetReader = read_numbers,
    sample_weight: Any = None,
    eval_set: tuple[Given, Any] | None = None,
) -> Prepared:
    """Read rows in the order of time, split and scale them, and find their windows.

    Args:
        X: (N, F) features of one series, or of many symbols (see `panel`).
        y: (N,) or (N, K) targets in the shape of X; missing where a row has none.
        config: Window, split, step, symbol and scaling.
        read_targets: How targets are read; classes are never scaled.
        sample_weight: (N,) weights of the rows' losses.
        eval_set: (X, y) for validation, in place of the last `valid_size` of the targets: the last
            in time where many symbols have a DatetimeIndex, else of each symbol.

    Raises:
        DataError: Shapes, order or indexes are wrong, or no training window is left.
        MismatchError: `eval_set` has other features or symbols.
    """
    inputs = read_inputs(X, config.symbol)
    if config.symbol_embedding and not inputs.symbols:
        raise DataError(
            f"symbol_embedding = {config.symbol_embedding} needs X to name symbols, as a "
            f"dictionary symbol -> frame or with a column symbol. Else set it to 0."
        )
    targets = read_targets(y, inputs, [])
    weights = read_weights(sample_weight, inputs)
    has_window = full_windows(inputs.rows, inputs, config)
    is_target = has_window & finite_rows(targets.values) & (weights > 0)
    is_train, is_valid = _split(is_target, inputs, config, eval_set is not None)
    if not is_train.any():
        raise DataError(_no_window_message(inputs, targets.values, weights, config.window))
    _warn_of_symbols_without_windows(inputs, is_train)
    scaling = None
    if config.scale:
        held = rows_held(is_train, config.window)
        scaling = Scaling.fit(inputs.rows, targets.values, held, is_train)
    symbols = inputs.symbols if config.symbol_embedding else []
    schema = Schema(inputs.names, targets.names, targets.classes, symbols, targets.single)
    rows = scaled_rows(inputs, scaling, symbols)
    values = _scaled_targets(targets, scaling)
    # Far from what was seen in training, scaling may lead out of the range of float32.
    has_window = full_windows(rows.numpy(), inputs, config)
    train = build_window_set(rows, values, weights, is_train & has_window, config.window)
    if eval_set is None:
        valid = build_window_set(rows, values, weights, is_valid & has_window, config.window)
        tested = inputs
    else:
        valid, tested = _eval_windows(eval_set, config, read_targets, schema, scaling)
    symbols_held = tested.symbol_names(valid.ends.numpy())
    times = _numbered_times(inputs)
    known_at = None if times is None else _known_at(times, inputs.codes, config.label_period)
    return Prepared(train, valid, schema, scaling, symbols_held, times, known_at)


def _numbered_times(inputs: Inputs) -> IntArray | None:
    """Number the times of many symbols, whose rows stand symbol after symbol."""
    if not inputs.symbols or inputs.times is None:
        return None
    return np.unique(inputs.times, return_inverse=True)[1]


def _known_at(times: IntArray, codes: IntArray, label_period: int) -> IntArray:
    """Return when each label is known: `label_period` rows later in the row's own symbol."""
    # Of a symbol's last rows nobody can tell, so none of them is known in time for anything.
    known_at = np.full(len(times), times.max() + label_period + 1)
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        known_at[own[: len(own) - label_period]] = times[own[label_period:]]
    return known_at


def scaled_rows(inputs: Inputs, scaling: Scaling | None, symbols: list[str]) -> Tensor:
    """Return what a model sees: (N, F) scaled features, with the symbol's number where it is told.

    Raises:
        MismatchError: A symbol is none of the `symbols` that the model is told.
    """
    rows = inputs.rows if scaling is None else scaling.scale_rows(inputs.rows)
    if symbols:
        unknown = [name for name in inputs.symbols if name not in symbols]
        if unknown or not inputs.symbols:
            what = f"not {unknown[0]!r}" if unknown else "and X names none"
            raise MismatchError(
                f"The model was trained on the symbols {shortened(symbols)}, {what}. Give X in the "
                f"shape that it was trained on, or train with symbol_embedding = 0."
            )
        numbers = np.array([symbols.index(name) for name in inputs.symbols], dtype=np.float32)
        rows = np.column_stack([to_float32(rows), numbers[inputs.codes]])
    return torch.from_numpy(to_float32(rows))


def full_windows(rows: FloatArray, inputs: Inputs, config: DataConfig) -> BoolArray:
    """Tell at which rows (N, F) a full window of finite rows ends that follow each other."""
    return window_ends(finite_rows(rows), config.window, inputs.follows(config.step))


def read_weights(sample_weight: Any, inputs: Inputs) -> FloatArray:
    """Return the weight of each row (N,), 1 where none are given.

    Raises:
        DataError: There is not one number a row.
    """
    if sample_weight is None:
        return np.ones(len(inputs))
    weights, _ = inputs.arrange(
        sample_weight, "sample_weight", lambda part: numbers_of("sample_weight", part)
    )
    if weights.shape != (len(inputs), 1):
        raise DataError(
            f"sample_weight must have one number a row of X, its shape is {weights.shape}."
        )
    return weights[:, 0].astype(float)


def _split(
    is_target: BoolArray, inputs: Inputs, config: DataConfig, has_eval_set: bool
) -> tuple[BoolArray, BoolArray]:
    """Return which targets are for training and which for validation."""
    if has_eval_set or config.valid_size == 0 or not is_target.any():
        return is_target, np.zeros_like(is_target)
    is_late = np.zeros_like(is_target)
    ranges = [np.flatnonzero(inputs.codes == code) for code in np.unique(inputs.codes)]
    if inputs.symbols and inputs.times is not None:
        # One moment for all symbols, so that none shows another's future.
        times = np.sort(inputs.times[is_target])
        n_valid = round(len(times) * config.valid_size)
        if n_valid:
            is_late = inputs.times >= times[len(times) - n_valid]
    else:
        for rows in ranges:
            own = rows[is_target[rows]]
            is_late[own[len(own) - round(len(own) * config.valid_size) :]] = True
    is_train = is_target & ~is_late
    for rows in ranges:
        # Rows that only came late say where validation begins, even if they are no targets.
        is_train[rows] = purged(is_train[rows], is_late[rows], config.label_period)
    return is_train, is_target & is_late


def _scaled_targets(targets: Targets, scaling: Scaling | None) -> FloatArray:
    if scaling is None or targets.classes:
        return targets.values
    return scaling.scale_targets(targets.values)


def _eval_windows(
    eval_set: tuple[Given, Any],
    config: DataConfig,
    read_targets: TargetReader,
    schema: Schema,
    scaling: Scaling | None,
) -> tuple[WindowSet, Inputs]:
    inputs = read_inputs(eval_set[0], config.symbol)
    found = read_targets(eval_set[1], inputs, schema.classes)
    inputs.require_features(schema.feature_names)
    if found.values.shape[1] != len(schema.label_names):
        raise DataError(
            f"eval_set has {found.values.shape[1]} targets, y has {len(schema.label_names)}."
        )
    rows = scaled_rows(inputs, scaling, schema.symbols)
    valid = build_window_set(
        rows,
        _scaled_targets(found, scaling),
        np.ones(len(inputs)),
        full_windows(rows.numpy(), inputs, config),
        config.window,
    )
    if len(valid) == 0:
        raise DataError(
            f"eval_set: nowhere in its {len(inputs)} rows do {config.window} consecutive usable "
            f"rows end at a target. Give more rows, or none to keep the last of X instead."
        )
    return valid, inputs


def _no_window_message(
    inputs: Inputs, targets: FloatArray, weights: FloatArray, window: int
) -> str:
    finite = int(finite_rows(inputs.rows).sum())
    known = int(finite_rows(targets).sum())
    weighted = int((weights > 0).sum())
    empty = _empty_columns(inputs)
    remedy = (
        f"Column {empty[0]!r} is missing or infinite in every row: fill it, or leave it out."
        if empty
        else "Give more rows, a smaller window, or a smaller valid_size or label_period."
    )
    return (
        f"No training window: of {len(inputs)} rows {finite} have finite features, {known} have "
        f"targets and {weighted} have a weight above 0, but nowhere do {window} consecutive usable "
        f"rows end at a target that is left for training. {remedy}"
    )


def _empty_columns(inputs: Inputs) -> list[str]:
    """Return the names of the columns that hold no finite number at all."""
    is_empty = [not finite_rows(inputs.rows[:, [k]]).any() for k in range(len(inputs.names))]
    return [name for name, empty in zip(inputs.names, is_empty, strict=True) if empty]


def _warn_of_symbols_without_windows(inputs: Inputs, is_train: BoolArray) -> None:
    """Name symbols of which nothing is learned, and the column that may be why."""
    for code, symbol in enumerate(inputs.symbols):
        rows = inputs.codes == code
        if is_train[rows].any():
            continue
        alone = Inputs(inputs.given, inputs.rows[rows], inputs.names, None, [], inputs.codes[rows])
        empty = _empty_columns(alone)
        reason = f": column {empty[0]!r} is missing in all of its rows" if empty else ""
        logger.warning("Symbol %r has no training window%s.", symbol, reason)
