"""Forecasts of rows that the forecasting model was not trained on.

Inside the training windows lie a few expanding folds: each is forecast by members that were trained
on the windows before it whose targets are known before it begins. Everything that is learned is
learned again in each fold, standardization too: rows that come scaled by some affine map of all of
them are standardized anew by the fold's own past, in which that map drops out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from freqai_lstm_plugins.data.preparation import Prepared
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.splits import InnerFold, inner_folds
from freqai_lstm_plugins.data.windows import WindowSet, build_window_set, rows_held
from freqai_lstm_plugins.errors import DataError, MissingExtraError, StoppedError
from freqai_lstm_plugins.models.contract import Model, Predictions
from freqai_lstm_plugins.models.ensemble.combine import Evidence
from freqai_lstm_plugins.training.history import Epoch

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

# Share of a fold's past by which its members stop early.
VALID_SHARE = 0.15
# A fold of fewer rows says nothing of which member is better.
LEAST_ROWS = 20

# What ends the training of the whole ensemble, and not that of one member.
FATAL = (StoppedError, MissingExtraError)

MakeModel = Callable[[], Model]
OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class OutOfFold:
    """What members say of one target on rows that they were not trained on.

    Attributes:
        evidence: Their forecasts.
        lower: (N, M) lower ends of their intervals; NaN where one gives none.
        upper: (N, M).
    """

    evidence: Evidence
    lower: FloatArray
    upper: FloatArray

    def __len__(self) -> int:
        return len(self.evidence)

    def part(self, chosen: BoolArray) -> OutOfFold:
        """Return some of the rows."""
        return OutOfFold(self.evidence.part(chosen), self.lower[chosen], self.upper[chosen])

    def of_members(self, kept: list[int]) -> OutOfFold:
        """Return what some of the members say."""
        evidence = replace(self.evidence, forecasts=self.evidence.forecasts[:, kept])
        return OutOfFold(evidence, self.lower[:, kept], self.upper[:, kept])


def no_evidence(n_members: int) -> OutOfFold:
    """Return forecasts of no row."""
    nothing, none = np.empty((0, n_members)), np.empty(0, dtype=np.int64)
    evidence = Evidence(nothing, np.empty(0), np.empty(0), none, none, none, none)
    return OutOfFold(evidence, nothing, nothing)


@dataclass(frozen=True)
class AllWindows:
    """Training and validation windows together, in the order of time.

    Attributes:
        rows: (N, F) float32 rows; with symbols the symbol's number in the last column.
        ends: (M,) rows at which a window ends, ascending.
        targets: (M, K).
        weights: (M,) on one scale for both parts.
        times: (M,) number of each window's candle in time.
        known_at: (M,) number of the candle at which each target is known.
        series: (M,) number of the series that a window is of.
    """

    rows: FloatArray
    ends: IntArray
    targets: FloatArray
    weights: FloatArray
    times: IntArray
    known_at: IntArray
    series: IntArray

    def __len__(self) -> int:
        return len(self.ends)


def all_windows(data: Prepared, label_period: int) -> AllWindows:
    """Join the windows of both parts.

    Args:
        data: Windows of the whole training slice.
        label_period: Candles after which a target is known, where `data` does not tell.
    """
    train, valid = data.train, data.valid
    rows, ends = train.rows, [train.ends]
    if valid is not None and valid.rows is train.rows:
        ends.append(valid.ends)
    elif valid is not None:
        # Rows of their own, which a user gave for validation, come after those of training.
        rows, ends = torch.cat([rows, valid.rows]), [train.ends, valid.ends + len(rows)]
    parts = [train] if valid is None else [train, valid]
    joined = torch.cat(ends).numpy()
    order = np.argsort(joined, kind="stable")
    targets = np.concatenate([part.targets.double().numpy() for part in parts])[order]
    # Weights of each part have the mean 1 in it, which says nothing of one beside the other.
    weights = np.concatenate([p.mean_weight * p.weights.double().numpy() for p in parts])[order]
    joined = joined[order]
    numbers = _of_rows(data.times, len(rows), np.arange(len(rows)))
    known_at = _of_rows(data.known_at, len(rows), numbers + label_period)
    # Series stand one after the other, so where time goes back another one begins.
    series = np.cumsum(np.diff(numbers, prepend=numbers[:1] - 1) <= 0)
    return AllWindows(
        rows.numpy(),
        joined,
        targets,
        weights,
        numbers[joined],
        np.maximum(known_at, numbers)[joined],
        series[joined],
    )


def _of_rows(given: IntArray | None, n_rows: int, default: IntArray) -> IntArray:
    # Rows that a user gave for validation have no numbers.
    return default if given is None or len(given) != n_rows else given


def choose_folds(
    times: IntArray, known_at: IntArray, label_period: int, folds: int
) -> list[InnerFold]:
    """Return `folds` expanding folds over the last half of the times, or fewer where rows are few.

    Args:
        times: (M,) numbers of candles.
        known_at: (M,) numbers of the candles at which targets are known.
        label_period: Candles that a target looks ahead, to tell how many rows would do.
        folds: How many are wished for.

    Returns:
        No fold where there are too few rows for one.
    """
    for count in range(folds, 0, -1):
        try:
            # A target that is known at a fold's first candle is already known too late.
            found = inner_folds(times, known_at, folds=count)
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
    data: Prepared,
    members: Mapping[str, MakeModel],
    label_period: int,
    folds: int,
    on_epoch: OnEpoch | None = None,
) -> tuple[list[OutOfFold], dict[str, str]]:
    """Forecast each fold by members that were trained on its past.

    Args:
        data: Windows of the whole training slice.
        members: Makes a model that is not trained yet, by the member's name.
        label_period: Candles that a target looks ahead.
        folds: Folds, over the last half of the windows.
        on_epoch: Called after each pass of each member.

    Returns:
        For each target the forecasts of all folds, in the units of `data`; and for each member that
        failed in a fold the reason. Without folds the evidence is empty.
    """
    windows = all_windows(data, label_period)
    chosen = choose_folds(windows.times, windows.known_at, label_period, folds)
    numbers = np.full(len(windows), -1)
    for number, fold in enumerate(chosen):
        numbers[fold.test] = number
    tested = numbers >= 0
    places = np.cumsum(tested) - 1
    n_labels = windows.targets.shape[1]
    # Forecasts, lower ends and upper ends of each window that a fold tests.
    said = np.full((3, int(tested.sum()), n_labels, len(members)), np.nan)
    failures: dict[str, str] = {}
    for fold in chosen:
        # By itself, so that a fold's rows are gone before those of the next one are made.
        said[:, places[fold.test]] = _forecast_fold(
            data, windows, fold, members, failures, on_epoch
        )
    return [
        OutOfFold(
            Evidence(
                said[0, :, k],
                windows.targets[tested, k],
                windows.weights[tested],
                numbers[tested],
                windows.times[tested],
                windows.known_at[tested],
                windows.series[tested],
            ),
            said[1, :, k],
            said[2, :, k],
        )
        for k in range(n_labels)
    ], failures


def _forecast_fold(
    data: Prepared,
    windows: AllWindows,
    fold: InnerFold,
    members: Mapping[str, MakeModel],
    failures: dict[str, str],
    on_epoch: OnEpoch | None,
) -> FloatArray:
    """Return forecasts and ends of intervals of a fold's rows, (3, N, K, M); note what fails."""
    past, scaling = fold_data(data, windows, fold)
    said = np.full((3, len(fold.test), windows.targets.shape[1], len(members)), np.nan)
    for k, (name, make) in enumerate(members.items()):
        if name in failures:
            continue
        try:
            model = make().fit_windows(past, on_epoch=on_epoch)
            _forecast(model, past, scaling, windows, fold, said[..., k])
        except FATAL:
            raise
        # Whatever else one member raises, the others go on.
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
            begins = windows.times[fold.test].min()
            logger.warning(
                "Member %s is left out, it fails in the fold from candle %d on: %s",
                name,
                begins,
                error,
            )
    return said


def fold_data(data: Prepared, windows: AllWindows, fold: InnerFold) -> tuple[Prepared, Scaling]:
    """Return what members of a fold are trained on, standardized by the fold's training rows.

    The last `VALID_SHARE` of the fold's past is for early stopping; the rows before it whose
    targets reach into it are left out.

    Raises:
        DataError: Rows of one part would know another one, which is an error of this package.
    """
    is_train, is_valid = _early_and_late(windows, fold.train)
    require_apart("early stopping", windows.known_at[is_train], windows.times[is_valid])
    past = is_train | is_valid
    require_apart("the weights", windows.known_at[past], windows.times[fold.test])
    held = _span(windows.ends[past], data.train.window)
    targets = np.full((len(windows.rows), windows.targets.shape[1]), np.nan)
    targets[windows.ends] = windows.targets
    trained = np.zeros(len(windows.rows), dtype=bool)
    trained[windows.ends[is_train]] = True
    is_held = rows_held(trained, data.train.window)
    has_symbol = bool(data.schema.symbols)
    features = windows.rows[:, :-1] if has_symbol else windows.rows
    scaling = Scaling.fit(features, targets, is_held, trained)
    rows = torch.from_numpy(_scaled(windows.rows[held], scaling, has_symbol))
    train, valid = (
        _window_set(rows, windows, mask, scaling, data.train.window, held.start)
        for mask in (is_train, is_valid)
    )
    return Prepared(train, valid if len(valid) else None, data.schema, scaling), scaling


def _span(ends: IntArray, window: int) -> slice:
    """Return the rows from the first to the last that windows of these ends hold."""
    return slice(int(ends.min()) - window + 1, int(ends.max()) + 1)


def _scaled(rows: FloatArray, scaling: Scaling, has_symbol: bool) -> FloatArray:
    """Return standardized rows; with symbols the symbol's number stays in the last column."""
    if not has_symbol:
        return scaling.scale_rows(rows)
    return np.column_stack([scaling.scale_rows(rows[:, :-1]), rows[:, -1]])


def require_apart(what: str, known_at: IntArray, times: IntArray) -> None:
    """Check that nothing of what comes first is known only when what comes next has begun.

    Args:
        what: What the later rows are for.
        known_at: (M,) when the targets of the earlier rows are known.
        times: (N,) times of the later rows.

    Raises:
        DataError: Something is.
    """
    if len(known_at) and len(times) and known_at.max() >= times.min():
        raise DataError(
            f"Rows of {what} begin at candle {times.min()}, and a row before them has a target "
            f"that is known at candle {known_at.max()}: the two sets of rows are not apart."
        )


def _early_and_late(windows: AllWindows, past: IntArray) -> tuple[BoolArray, BoolArray]:
    times = windows.times
    is_past = np.zeros(len(times), dtype=bool)
    is_past[past] = True
    first_valid = np.quantile(times[is_past], 1 - VALID_SHARE, method="higher")
    is_valid = is_past & (times >= first_valid)
    is_train = is_past & (windows.known_at < first_valid)
    # Where labels look so far ahead that nothing is left, all of the past is trained on.
    return (is_train, is_valid) if is_train.any() else (is_past, np.zeros_like(is_past))


def _window_set(
    rows: torch.Tensor,
    windows: AllWindows,
    mask: BoolArray,
    scaling: Scaling,
    window: int,
    first: int,
) -> WindowSet:
    """Return windows of `rows`, of which the first one is row `first` of all."""
    ends = windows.ends[mask] - first
    targets = np.full((len(rows), windows.targets.shape[1]), np.nan)
    weights, has_window = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    targets[ends] = scaling.scale_targets(windows.targets[mask])
    weights[ends], has_window[ends] = windows.weights[mask], True
    return build_window_set(rows, targets, weights, has_window, window)


def _forecast(
    model: Model,
    past: Prepared,
    scaling: Scaling,
    windows: AllWindows,
    fold: InnerFold,
    said: FloatArray,
) -> None:
    """Put forecasts and ends of intervals of a fold's rows into `said` (3, N, K)."""
    rows, ends = tested_rows(past, scaling, windows, fold)
    has_window = np.zeros(len(rows), dtype=bool)
    has_window[ends] = True
    put(said, model.predict_windows(rows, has_window), ends)
    said[:] = scaling.unscale_targets(said)
    if not np.isfinite(said[0]).any():
        raise DataError(f"it has no forecast of any of {len(ends)} rows")


def tested_rows(
    past: Prepared, scaling: Scaling, windows: AllWindows, fold: InnerFold
) -> tuple[FloatArray, IntArray]:
    """Return the rows that the tested windows of a fold hold, and where these end.

    They are made after a member's training, so that the two need no memory at once.

    Args:
        past: What the fold's members are trained on.
        scaling: That of the fold.
        windows: Windows of the whole training slice.
        fold: The fold.
    """
    ends = windows.ends[fold.test]
    held = _span(ends, past.train.window)
    return _scaled(windows.rows[held], scaling, bool(past.schema.symbols)), ends - held.start


def put(said: FloatArray, found: Predictions, rows: IntArray | slice = slice(None)) -> None:
    """Put forecasts, lower and upper ends into `said` (3, N, K), which holds NaN.

    Args:
        said: Where to.
        found: What a model says.
        rows: Which of its rows; all by default.
    """
    for place, values in zip(said, (found.point, found.lower, found.upper), strict=True):
        if values is not None:
            place[:] = values[rows]
