"""Forecasts of rows that the forecasting model was not trained on.

Inside the training windows lie a few expanding folds: each is forecast by members that were trained
on the windows before it whose targets are known before it begins. Everything that is learned is
learned again in each fold, standardization too: rows that come scaled by some affine map of all of
them are standardized anew by the fold's own past, in which that map drops out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray, finite_rows
from freqai_lstm_plugins.data.preparation import Prepared
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.splits import InnerFold, inner_folds
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.contract import Model
from freqai_lstm_plugins.models.ensemble.combine import Evidence

logger = logging.getLogger(__name__)

# Share of a fold's past by which its members stop early.
VALID_SHARE = 0.15
# A fold of fewer rows says nothing of which member is better.
LEAST_ROWS = 20

MakeModel = Callable[[], Model]


@dataclass(frozen=True)
class AllWindows:
    """Training and validation windows together, in the order of time.

    Attributes:
        rows: (N, F) float32 rows; with symbols the symbol's number in the last column.
        ends: (M,) rows at which a window ends, ascending.
        targets: (M, K).
        weights: (M,).
        times: (M,) number of each window's candle in time.
    """

    rows: FloatArray
    ends: IntArray
    targets: FloatArray
    weights: FloatArray
    times: IntArray

    def __len__(self) -> int:
        return len(self.ends)


def all_windows(data: Prepared) -> AllWindows:
    """Join the windows of both parts."""
    parts = [data.train] if data.valid is None else [data.train, data.valid]
    ends = np.concatenate([part.ends.numpy() for part in parts])
    order = np.argsort(ends, kind="stable")
    targets = np.concatenate([part.targets.double().numpy() for part in parts])[order]
    weights = np.concatenate([part.weights.double().numpy() for part in parts])[order]
    ends = ends[order]
    times = ends if data.times is None else data.times[ends]
    return AllWindows(data.train.rows.numpy(), ends, targets, weights, times)


def choose_folds(times: IntArray, label_period: int, folds: int) -> list[InnerFold]:
    """Return `folds` expanding folds over the last half of the times, or fewer where rows are few.

    Args:
        times: (M,) numbers of candles.
        label_period: Candles that a target looks ahead.
        folds: How many are wished for.

    Returns:
        No fold where there are too few rows for one.
    """
    for count in range(folds, 0, -1):
        try:
            # A target that is known at a fold's first candle is already known too late.
            found = inner_folds(times, times + label_period, folds=count)
        except DataError:
            continue
        if min(min(len(fold.train), len(fold.test)) for fold in found) >= LEAST_ROWS:
            if count < folds:
                logger.warning(
                    "%d windows are too few for %d folds, so there are %d: %d would do.",
                    len(times),
                    folds,
                    count,
                    wanted_rows(folds, label_period),
                )
            return found
    return []


def wanted_rows(folds: int, label_period: int) -> int:
    """Return how many windows are enough for so many folds."""
    return 2 * folds * LEAST_ROWS + 2 * label_period


def forecast_folds(
    data: Prepared, members: Mapping[str, MakeModel], label_period: int, folds: int
) -> tuple[list[Evidence], dict[str, str]]:
    """Forecast each fold by members that were trained on its past.

    Args:
        data: Windows of the whole training slice.
        members: Makes a model that is not trained yet, by the member's name.
        label_period: Candles that a target looks ahead.
        folds: Folds, over the last half of the windows.

    Returns:
        For each target the forecasts of all folds, in the units of `data`; and for each member that
        failed in a fold the reason. Without folds the evidence is empty.
    """
    windows = all_windows(data)
    chosen = choose_folds(windows.times, label_period, folds)
    forecasts = np.full((len(windows), windows.targets.shape[1], len(members)), np.nan)
    numbers = np.full(len(windows), -1)
    failures: dict[str, str] = {}
    for number, fold in enumerate(chosen):
        part, scaling = fold_data(data, windows, fold, label_period)
        numbers[fold.test] = number
        for k, (name, make) in enumerate(members.items()):
            if name in failures:
                continue
            try:
                found = _forecast(make(), part, windows.ends[fold.test])
            # Whatever one member raises, the others go on.
            except Exception as error:
                failures[name] = f"{type(error).__name__}: {error}"
                logger.warning("Member %s fails in fold %d: %s", name, number, error)
                continue
            forecasts[fold.test, :, k] = scaling.unscale_targets(found)
    tested = numbers >= 0
    evidence = [
        Evidence(
            forecasts[tested, k],
            windows.targets[tested, k],
            windows.weights[tested],
            numbers[tested],
            windows.times[tested],
        )
        for k in range(windows.targets.shape[1])
    ]
    return evidence, failures


def fold_data(
    data: Prepared, windows: AllWindows, fold: InnerFold, label_period: int
) -> tuple[Prepared, Scaling]:
    """Return what members of a fold are trained on, standardized by the fold's training rows.

    The last `VALID_SHARE` of the fold's past is for early stopping; the rows before it whose
    targets reach into it are left out.
    """
    is_train, is_valid = _early_and_late(windows.times, fold.train, label_period)
    has_symbol = bool(data.schema.symbols)
    features = windows.rows[:, :-1] if has_symbol else windows.rows
    targets = np.full((len(windows.rows), windows.targets.shape[1]), np.nan)
    targets[windows.ends] = windows.targets
    trained = np.zeros(len(windows.rows), dtype=bool)
    trained[windows.ends[is_train]] = True
    seen = _context(windows, is_train, data.train.window) & finite_rows(features)
    scaling = Scaling.fit(features, targets, seen, trained)
    rows = scaling.scale_rows(features)
    if has_symbol:
        rows = np.column_stack([rows, windows.rows[:, -1]])
    tensor = torch.from_numpy(rows)
    parts = [
        _window_set(tensor, windows, mask, scaling, data.train.window)
        for mask in (is_train, is_valid)
    ]
    valid = parts[1] if len(parts[1]) else None
    return Prepared(parts[0], valid, data.schema, scaling, data.times), scaling


def _early_and_late(
    times: IntArray, past: IntArray, label_period: int
) -> tuple[BoolArray, BoolArray]:
    is_past = np.zeros(len(times), dtype=bool)
    is_past[past] = True
    first_valid = np.quantile(times[is_past], 1 - VALID_SHARE, method="higher")
    is_valid = is_past & (times >= first_valid)
    is_train = is_past & (times + label_period < first_valid)
    # Where labels look so far ahead that nothing is left, all of the past is trained on.
    return (is_train, is_valid) if is_train.any() else (is_past, np.zeros_like(is_past))


def _context(windows: AllWindows, is_train: BoolArray, window: int) -> BoolArray:
    """Tell which rows training windows hold: (N,)."""
    changes = np.zeros(len(windows.rows) + 1, dtype=np.int64)
    np.add.at(changes, windows.ends[is_train] - window + 1, 1)
    np.add.at(changes, windows.ends[is_train] + 1, -1)
    return np.cumsum(changes[:-1]) > 0


def _window_set(
    rows: torch.Tensor, windows: AllWindows, mask: BoolArray, scaling: Scaling, window: int
) -> WindowSet:
    targets = scaling.scale_targets(windows.targets[mask])
    return WindowSet(
        rows=rows,
        ends=torch.from_numpy(windows.ends[mask]),
        targets=torch.from_numpy(targets.astype(np.float32)),
        weights=torch.from_numpy(windows.weights[mask].astype(np.float32)),
        window=window,
    )


def _forecast(model: Model, part: Prepared, ends: IntArray) -> FloatArray:
    model.fit_windows(part)
    has_window = np.zeros(len(part.train.rows), dtype=bool)
    has_window[ends] = True
    return model.predict_windows(part.train.rows.numpy(), has_window).point[ends]
