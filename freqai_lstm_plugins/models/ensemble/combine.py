"""How forecasts of several members become one: arrays in, arrays out.

Weights are never negative and sum to 1 in a row. Letters: N rows, M members.

Sources: for shrinkage towards equal weights, Diebold and Pauly, The use of prior information in
forecast combination, International Journal of Forecasting 6, 1990; for weights that follow losses,
Herbster and Warmuth, Tracking the best expert, Machine Learning 32, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray

# Shrinkage towards equal weights, as a share of the mean squared target a row; infinity is the
# plain mean. It comes first, so that it wins where the others are no better. The last one is next
# to nothing, and still makes members that say the same share their weight.
PENALTIES = (math.inf, 1.0, 0.1, 0.01, 1e-6)
# Learning rates of the weights that follow losses; 0 never follows, and comes first as well.
RATES = (0.0, 0.5, 2.0, 8.0)
HALF_LIVES = (50.0, 200.0, 800.0)


@dataclass(frozen=True)
class Evidence:
    """What members forecast on rows that they were not trained on.

    Attributes:
        forecasts: (N, M); NaN where a member has none.
        targets: (N,).
        weights: (N,) how much each row counts.
        folds: (N,) number of the fold that a row was forecast in, rising in time.
        positions: (N,) number of each row's candle, rising within a series.
        known_at: (N,) number of the candle at which each row's target is known.
        series: (N,) number of the series that a row is of; rows stand series after series.
    """

    forecasts: FloatArray
    targets: FloatArray
    weights: FloatArray
    folds: IntArray
    positions: IntArray
    known_at: IntArray
    series: IntArray

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, chosen: BoolArray) -> Evidence:
        """Return some of the rows."""
        return Evidence(
            self.forecasts[chosen],
            self.targets[chosen],
            self.weights[chosen],
            self.folds[chosen],
            self.positions[chosen],
            self.known_at[chosen],
            self.series[chosen],
        )

    def before_fold(self, number: int) -> Evidence:
        """Return the rows of earlier folds whose targets are known before a fold begins."""
        first = self.positions[self.folds == number].min()
        return self.part((self.folds < number) & (self.known_at < first))

    def stretches(self) -> list[Evidence]:
        """Return the rows of each fold and series by themselves, each in the order of time."""
        return [
            self.part((self.folds == fold) & (self.series == series))
            for fold in np.unique(self.folds)
            for series in np.unique(self.series[self.folds == fold])
        ]


@dataclass(frozen=True)
class Follow:
    """How weights follow the members' losses.

    Attributes:
        rate: Learning rate; with 0 the weights stay as they are.
        half_life: Candles after which a loss counts half.
        share: Share of the starting weights that is always mixed in, so that a member that fell can
            come back.
        label_period: Candles after which a row's label is known.
        scale: Mean squared error of the members' mean, the unit of losses.
    """

    rate: float
    half_life: float
    share: float
    label_period: int
    scale: float


def equal_weights(n_members: int) -> FloatArray:
    """Return (M,) weights of the plain mean."""
    return np.full(n_members, 1 / n_members)


def combine_points(forecasts: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted forecast of each row, (N,).

    Args:
        forecasts: (N, M); a member's NaN leaves it out of that row.
        weights: (M,) or (N, M).

    Returns:
        NaN where no member of any weight has a forecast.
    """
    return _combined(_known(forecasts), renormalised(forecasts, weights))


def _known(forecasts: FloatArray) -> FloatArray:
    return np.where(np.isfinite(forecasts), forecasts, 0.0)


def _combined(known: FloatArray, used: FloatArray) -> FloatArray:
    """Return the sums (N,) of known forecasts by weights of sum 1, NaN where all weights are 0."""
    return np.where(used.any(axis=1), (used * known).sum(axis=1), np.nan)


def renormalised(forecasts: FloatArray, weights: FloatArray) -> FloatArray:
    """Return (N, M) weights of the members that have a forecast, of sum 1; 0 where none has."""
    used = np.isfinite(forecasts) * weights
    total = used.sum(axis=1, keepdims=True)
    return used / np.where(total > 0, total, 1.0)


def disagreement(forecasts: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted deviation of the members from their forecast, (N,), in its units."""
    return point_and_disagreement(forecasts, weights)[1]


def point_and_disagreement(
    forecasts: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return what `combine_points` and `disagreement` give, in one pass: a bot asks each candle."""
    used, known = renormalised(forecasts, weights), _known(forecasts)
    point = _combined(known, used)
    # NaN where there is no point, as it goes through the sum.
    return point, np.sqrt((used * np.square(known - point[:, None])).sum(axis=1))


def stack_weights(evidence: Evidence, penalty: float) -> FloatArray:
    """Return the weights (M,) of least squared error, drawn towards equal ones.

    They minimise ||y - P w||² + penalty · n · v · ||w - 1/M||² over w >= 0, with the mean squared
    target v, and are scaled to sum 1.

    Args:
        evidence: Rows at which every member has a forecast.
        penalty: 0 does not draw, infinity gives equal weights.
    """
    from scipy.optimize import nnls

    n_members = evidence.forecasts.shape[1]
    if math.isinf(penalty) or n_members == 1 or not len(evidence):
        return equal_weights(n_members)
    root = np.sqrt(evidence.weights / evidence.weights.mean())
    size = math.sqrt(penalty * len(evidence) * float(np.mean(np.square(evidence.targets))))
    rows = np.concatenate([root[:, None] * evidence.forecasts, size * np.eye(n_members)])
    goals = np.concatenate([root * evidence.targets, np.full(n_members, size / n_members)])
    found, _ = nnls(rows, goals)
    total = float(found.sum())
    # All weights are 0 where no member points the right way: nobody knows better than the mean.
    return found / total if total > 0 else equal_weights(n_members)


def choose_penalty(evidence: Evidence, penalties: Sequence[float] = PENALTIES) -> float:
    """Return the penalty whose weights, from earlier folds, forecast the later folds best.

    Ties go to the penalty that is named first.
    """
    numbers = np.unique(evidence.folds)
    if len(numbers) < 2:
        return penalties[0]
    losses = []
    for penalty in penalties:
        total = 0.0
        for number in numbers[1:]:
            later = evidence.part(evidence.folds == number)
            weights = stack_weights(evidence.before_fold(number), penalty)
            errors = np.square(combine_points(later.forecasts, weights) - later.targets)
            total += float(np.sum(later.weights * errors))
        losses.append(total)
    return penalties[int(np.argmin(losses))]


def learn_weights(evidence: Evidence) -> tuple[FloatArray, float]:
    """Return the stacked weights (M,), and the penalty that was chosen for them."""
    penalty = choose_penalty(evidence)
    return stack_weights(evidence, penalty), penalty


def best_weights(evidence: Evidence) -> FloatArray:
    """Return all weight (M,) for the member of the least squared error, the first where it ties."""
    errors = np.square(evidence.forecasts - evidence.targets[:, None])
    weights = np.zeros(evidence.forecasts.shape[1])
    weights[int(np.argmin(evidence.weights @ errors))] = 1.0
    return weights


def following_weights(
    forecasts: FloatArray,
    targets: FloatArray,
    positions: IntArray,
    start: FloatArray,
    follow: Follow,
    known_at: IntArray | None = None,
) -> FloatArray:
    """Return the weights (N, M) at each row, from the labels that are known by then.

    At candle t they are start · exp(-rate · sum of the members' losses), each loss halved for every
    `half_life` candles since its label became known, scaled to sum 1, and mixed with `start`. They
    are a function of these rows alone, so a restart at any candle gives the same.

    Args:
        forecasts: (N, M) of rows since the members' training.
        targets: (N,) labels; NaN where nobody knows them yet.
        positions: (N,) number of each row's candle, rising.
        start: (M,) weights before anything is known.
        follow: How to follow.
        known_at: (N,) number of the candle at which each label is known; by default
            `follow.label_period` candles after its row.
    """
    if follow.rate == 0 or not len(positions):
        return np.tile(start, (len(positions), 1))
    losses = _relative_losses(forecasts, targets, start, follow.scale)
    if known_at is None:
        known_at = positions + follow.label_period
    sums = _discounted(losses, positions, known_at, follow.half_life)
    with np.errstate(divide="ignore"):
        # In logarithms, as sums of losses grow.
        logs = np.log(start) - follow.rate * sums
    logs -= logs.max(axis=1, keepdims=True)
    found = np.exp(logs)
    found /= found.sum(axis=1, keepdims=True)
    return (1 - follow.share) * found + follow.share * start


def _relative_losses(
    forecasts: FloatArray, targets: FloatArray, start: FloatArray, scale: float
) -> FloatArray:
    """Return squared errors (N, M) in units of `scale`; 0 where the label is not known."""
    losses = np.square(forecasts - targets[:, None]) / scale
    # A member without a forecast is taken to do as the others did.
    others = combine_points(losses, start)[:, None]
    losses = np.where(np.isnan(losses), others, losses)
    return np.nan_to_num(losses, nan=0.0)


def _discounted(
    losses: FloatArray, positions: IntArray, known_at: IntArray, half_life: float
) -> FloatArray:
    """Return at each row the sum of the losses known by then, older ones discounted: (N, M)."""
    from scipy.signal import lfilter

    # One line a candle, also for those without a row: age counts in candles.
    by_candle = np.zeros((int(positions[-1] - positions[0]) + 1, losses.shape[1]))
    places = known_at - positions[0]
    is_near = (places >= 0) & (places < len(by_candle))
    np.add.at(by_candle, places[is_near], losses[is_near])
    summed = lfilter([1.0], [1.0, -(0.5 ** (1 / half_life))], by_candle, axis=0)
    result: FloatArray = summed[positions - positions[0]]
    return result


def choose_follow(
    evidence: Evidence,
    start: FloatArray,
    label_period: int,
    *,
    share: float = 0.05,
    rates: Sequence[float] = RATES,
    half_lives: Sequence[float] = HALF_LIVES,
) -> Follow:
    """Return how to follow losses so that the evidence is forecast best; not at all where it ties.

    Losses of returns differ by thousandths, so a fixed rate would either do nothing or chase noise.
    Each fold starts anew, as a model does after its training, and each series by itself.
    """
    mean = combine_points(evidence.forecasts, equal_weights(evidence.forecasts.shape[1]))
    scale = float(np.mean(np.square(mean - evidence.targets))) or 1.0
    best, chosen = math.inf, None
    for rate in rates:
        for half_life in half_lives if rate else half_lives[:1]:
            follow = Follow(rate, half_life, share, label_period, scale)
            loss = _following_loss(evidence, start, follow)
            if chosen is None or loss < best:
                best, chosen = loss, follow
    assert chosen is not None
    return chosen


def _following_loss(evidence: Evidence, start: FloatArray, follow: Follow) -> float:
    total = 0.0
    for part in evidence.stretches():
        weights = following_weights(
            part.forecasts, part.targets, part.positions, start, follow, part.known_at
        )
        errors = np.square(combine_points(part.forecasts, weights) - part.targets)
        total += float(np.nansum(part.weights * errors))
    return total


def most_confident(
    forecasts: FloatArray, widths: FloatArray, max_width: float | None = None
) -> FloatArray:
    """Return weights (N, M): 1 for the member whose interval is narrowest at each row.

    Args:
        forecasts: (N, M).
        widths: (N, M) widths of the members' intervals, calibrated to one level.
        max_width: Where all are wider nobody is chosen, and the row's weights are all 0.
    """
    known = np.where(np.isfinite(forecasts) & np.isfinite(widths), widths, np.inf)
    chosen = known.argmin(axis=1)
    narrowest = known[np.arange(len(known)), chosen]
    bound = np.inf if max_width is None else max_width
    weights = np.zeros_like(known)
    counts = np.isfinite(narrowest) & (narrowest <= bound)
    weights[counts, chosen[counts]] = 1.0
    return weights


def effective_members(weights: FloatArray) -> float:
    """Return how many members of equal weight these weights (M,) amount to: 1 / sum of squares."""
    return float(1 / np.square(weights).sum())


def error_correlation(forecasts: FloatArray, targets: FloatArray) -> FloatArray:
    """Return the correlation (M, M) of the members' errors; NaN for a member without errors."""
    errors = forecasts - targets[:, None]
    errors = errors[np.isfinite(errors).all(axis=1)]
    if len(errors) < 2:
        return np.full((forecasts.shape[1],) * 2, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(errors, rowvar=False))
