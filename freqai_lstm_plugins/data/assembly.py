"""Puts tables of rows together to what models are trained on, by masks that somebody else chose.

Which rows train and which validate is decided elsewhere, by dates or by positions. From here on a
row is a row: scaling, windows and symbols are the same for every way to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray, finite_rows, to_float32
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.windows import WindowSet, build_window_set, rows_held, window_ends
from freqai_lstm_plugins.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Rows of one symbol or of several, one after the other, each in the order of time.

    Attributes:
        features: (N, F); a row with a NaN or an infinity breaks every window that would hold it.
        targets: (N, K); NaN where a row has none.
        follows: (N,) whether a row comes right after the row before it; never a symbol's first.
        codes: (N,) number of each row's symbol.
    """

    features: FloatArray
    targets: FloatArray
    follows: BoolArray
    codes: IntArray


@dataclass(frozen=True)
class Assembled:
    """Windows to train on, and what a fitted model is to predict.

    Attributes:
        data: What a model is trained on.
        rows: (N, F) scaled; with symbols (N, F + 1).
        has_window: (N,) where a full window ends.
    """

    data: Prepared
    rows: FloatArray
    has_window: BoolArray


def assemble(
    rows: Rows,
    is_train: BoolArray,
    is_valid: BoolArray,
    schema: Schema,
    window: int,
    *,
    weights: FloatArray | None = None,
    scaling: Scaling | None = None,
) -> Assembled:
    """Scale rows by what training rows tell, and collect the windows that end at chosen rows.

    Args:
        rows: All rows, those of the test part too: they are only scaled.
        is_train: (N,) rows to train on.
        is_valid: (N,) rows to stop early by.
        schema: What columns are called. With symbols, `rows.codes` are told to the model.
        window: W.
        weights: (N,) weights of the rows' losses; all alike by default.
        scaling: What a former training told, whose weights go on; by default training rows tell.

    Raises:
        DataError: No window ends at a training row that has a target, or a weight is wrong.
    """
    weights = np.ones(len(rows.features)) if weights is None else weights
    has_window = window_ends(finite_rows(rows.features), window, rows.follows)
    is_target = has_window & finite_rows(rows.targets) & (weights != 0)
    is_train = is_train & is_target
    if not is_train.any():
        raise DataError(
            f"No training window: of {len(rows.features)} rows "
            f"{int(finite_rows(rows.features).sum())} have finite features, and nowhere do "
            f"{window} of them in a row end at a training row with a target. Give more rows, or a "
            f"smaller window."
        )
    if scaling is None:
        held = rows_held(is_train, window)
        scaling = Scaling.fit(rows.features, rows.targets, held, is_train)
    scaled, has_window = apply_scaling(rows, scaling, window, tells_symbols=bool(schema.symbols))
    tensor = torch.from_numpy(scaled)
    targets = scaling.scale_targets(rows.targets)
    train, valid = (
        build_window_set(tensor, targets, weights, part & has_window, window)
        for part in (is_train, is_valid)
    )
    data = Prepared(train, valid if len(valid) else None, schema, scaling)
    return Assembled(data, scaled, has_window)


def balance_symbols(data: Prepared, codes: IntArray) -> Prepared:
    """Give the windows of each symbol the same weight in sum, in training and in validation.

    Args:
        data: Windows over rows of several symbols.
        codes: (N,) number of each row's symbol.
    """
    valid = None if data.valid is None else _evenly(data.valid, codes)
    return replace(data, train=_evenly(data.train, codes), valid=valid)


def _evenly(windows: WindowSet, codes: IntArray) -> WindowSet:
    own = np.unique(codes[windows.ends.numpy()], return_inverse=True)[1]
    sums = np.bincount(own, weights=windows.weights.numpy())
    # The mean stays as it was, so that penalties and rates mean what they meant.
    factors = sums.sum() / (len(sums) * sums[own])
    return replace(windows, weights=windows.weights * windows.weights.new_tensor(factors))


def apply_scaling(
    rows: Rows, scaling: Scaling, window: int, *, tells_symbols: bool
) -> tuple[npt.NDArray[np.float32], BoolArray]:
    """Return what a model sees of rows, (N, F) or with symbols (N, F + 1), and where windows end.

    Args:
        rows: Rows in their own units.
        scaling: What training rows told.
        window: W.
        tells_symbols: Whether the number of the symbol stands in a last column.
    """
    scaled = scaling.scale_rows(rows.features)
    # Far from what was seen in training, scaling may lead out of the range of float32.
    has_window = window_ends(finite_rows(rows.features) & finite_rows(scaled), window, rows.follows)
    if tells_symbols:
        scaled = np.column_stack([scaled, rows.codes.astype(np.float32)])
    return to_float32(scaled), has_window
