"""What out-of-fold forecasts say of the members: their weights, and how far forecasts are off."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.ensemble.combine import (
    Evidence,
    Follow,
    best_weights,
    choose_follow,
    combine_points,
    effective_members,
    equal_weights,
    error_correlation,
    following_weights,
    learn_weights,
    most_confident,
)
from freqai_lstm_plugins.models.ensemble.out_of_fold import OutOfFold, require_apart, wanted_rows
from freqai_lstm_plugins.models.ensemble.settings import DEFAULT_INTERVAL, EnsembleConfig
from freqai_lstm_plugins.models.intervals import margin_of, rows_for
from freqai_lstm_plugins.models.plain import read_number, read_numbers, read_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.data.arrays import FloatArray

logger = logging.getLogger(__name__)

# Share of the out-of-fold rows, at their end, that calibrate the interval and nothing else.
CALIBRATION_SHARE = 0.3
# What a sum of weights may differ from 1 by.
TOLERATED_SUM = 1e-6


@dataclass(frozen=True)
class Weighed:
    """What the out-of-fold rows say of one target.

    Attributes:
        weights: (M,) weights to start from.
        penalty: Shrinkage that was chosen; infinity is the plain mean.
        follow: How weights follow losses; None where they do not.
        widenings: (M,) what is added at both ends of each member's interval, so that all hold the
            same share; NaN for a member without intervals, None where they are not compared.
        margin: What is added at both ends of the ensemble's own interval; None without intervals.
        member_errors: (M,) mean squared errors out of fold; empty where there is no evidence.
        mean_error: That of the plain mean.
        own_error: That of the ensemble, on folds that its weights were not learned from.
        effective_members: How many members of equal weight the weights amount to.
        correlation: Mean correlation of two members' errors.
        n_rows: Out-of-fold rows.
    """

    weights: list[float]
    penalty: float
    follow: Follow | None
    widenings: list[float] | None
    margin: float | None
    member_errors: list[float]
    mean_error: float | None
    own_error: float | None
    effective_members: float
    correlation: float | None
    n_rows: int

    @classmethod
    def from_plain(cls, part: Mapping[str, Any], n_members: int) -> Weighed:
        """Build what a file holds.

        Raises:
            DataError: Its numbers are not of so many members.
        """
        follow = None if part["follow"] is None else _read_follow(part["follow"])
        found = cls(**{**part, "follow": follow})
        weights = read_numbers(found.weights, n_members, "weights")
        if min(weights) < 0 or abs(sum(weights) - 1) > TOLERATED_SUM:
            raise DataError(f"weights are {weights}, which are no shares of a whole")
        if found.widenings is not None:
            # A member without intervals has none to widen.
            known = [0.0 if value != value else value for value in found.widenings]
            read_numbers(known, n_members, "widenings")
        if found.member_errors:
            read_numbers(found.member_errors, n_members, "errors of members")
        for value in (found.margin, found.mean_error, found.own_error, found.correlation):
            if value is not None:
                read_number(value)
        read_whole(found.n_rows, 0, 2**62, "the number of out-of-fold rows")
        # Infinity draws all the way to equal weights.
        if found.penalty != float("inf"):
            read_number(found.penalty, "the penalty")
        read_number(found.effective_members, "the number of effective members")
        return found


def _read_follow(value: Mapping[str, Any]) -> Follow:
    found = Follow(**value)
    for number in (found.rate, found.half_life, found.share, found.scale):
        read_number(number, "a number by which weights follow losses")
    read_whole(found.label_period, 0, 2**31, "label_period")
    if found.rate < 0 or found.half_life <= 0 or found.scale <= 0 or not 0 < found.share < 1:
        raise DataError("weights cannot follow losses by its numbers")
    return found


def weigh(
    label: str, names: list[str], adaptive: list[bool], found: OutOfFold, config: EnsembleConfig
) -> Weighed:
    """Weigh members by what they forecast of one target, and calibrate the interval.

    Rows that weights are learned from calibrate nothing, and the other way round.

    Args:
        label: Name of the target, for messages.
        names: (M,) names of the members.
        adaptive: (M,) whether a member's interval is wider at some rows than at others.
        found: Their forecasts.
        config: How they are combined.

    Raises:
        DataError: There are too few rows for an interval.
    """
    found = found.part(np.asarray(np.isfinite(found.evidence.forecasts).all(axis=1)))
    learned, held = _halves(found, config)
    require_apart("the interval", learned.evidence.known_at, held.evidence.positions)
    weights, penalty = equal_weights(len(names)), float("inf")
    if _can_learn(label, len(names), learned, config):
        weights, penalty = _learned(learned.evidence, config.combine)
    follow = None
    if config.combine == "dynamic" and len(learned):
        follow = choose_follow(
            learned.evidence,
            weights,
            config.label_period,
            share=config.share,
            rates=config.rates,
            half_lives=config.half_lives,
        )
    widenings = None
    if config.combine == "confident":
        level = config.interval or DEFAULT_INTERVAL
        widenings = [
            _widening(learned, k, level) if is_adaptive else np.nan
            for k, is_adaptive in enumerate(adaptive)
        ]
    weighed = Weighed(
        weights.tolist(),
        penalty,
        follow,
        widenings,
        None,
        *_errors(found.evidence, config.combine),
        effective_members(weights),
        _mean_correlation(found.evidence),
        len(found),
    )
    if config.interval is not None:
        weighed = replace(weighed, margin=_margin(label, held, weighed, config))
    _log(label, names, weighed)
    return weighed


def _can_learn(label: str, n_members: int, learned: OutOfFold, config: EnsembleConfig) -> bool:
    """Tell whether weights are learned, and say so where they should be and cannot."""
    if n_members == 1 or config.combine not in ("stack", "dynamic", "best"):
        return False
    # How far to draw weights is chosen on a fold after those that they are from.
    needed = 1 if config.combine == "best" else 2
    if config.folds < needed:
        logger.warning(
            "%s: folds = %d cannot tell how far to draw weights, so all members count alike. Set "
            "folds to at least %d.",
            label,
            config.folds,
            needed,
        )
        return False
    if len(np.unique(learned.evidence.folds)) < needed:
        logger.warning(
            "%s: too few rows to weigh members, so all count alike: %d windows would do.",
            label,
            wanted_rows(needed, config.label_period),
        )
        return False
    return True


def _learned(evidence: Evidence, combine: str) -> tuple[FloatArray, float]:
    """Return the weights of some evidence, and the penalty that was chosen for them."""
    if combine == "best" and len(evidence):
        return best_weights(evidence), 0.0
    return learn_weights(evidence)


def _halves(found: OutOfFold, config: EnsembleConfig) -> tuple[OutOfFold, OutOfFold]:
    """Return the rows that weights are from, and those that calibrate the interval."""
    if config.interval is None:
        return found, found.part(np.zeros(len(found), dtype=bool))
    positions = found.evidence.positions
    cut = round(len(found) * (1 - CALIBRATION_SHARE))
    first = np.sort(positions)[cut] if cut < len(found) else np.inf
    return found.part(found.evidence.known_at < first), found.part(positions >= first)


def _widening(found: OutOfFold, member: int, interval: float) -> float:
    """Return what a member's interval lacks, or has too much of, to hold the share."""
    targets = found.evidence.targets
    scores = np.maximum(found.lower[:, member] - targets, targets - found.upper[:, member])
    known = scores[np.isfinite(scores)]
    # With too few rows a member keeps to the calibration on its own validation rows.
    return margin_of(interval, known) if len(known) >= rows_for(interval) else 0.0


def chosen_bounds(
    lower: FloatArray, upper: FloatArray, widenings: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the members' ends (N, M) moved to one level; an end never crosses the other."""
    middle = (lower + upper) / 2
    return np.minimum(lower - widenings, middle), np.maximum(upper + widenings, middle)


def confident_weights(
    forecasts: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    weighed: Weighed,
    max_width: float | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weights (N, M) of the narrowest intervals, and its ends (N,).

    Args:
        forecasts: (N, M).
        lower: (N, M) lower ends as the members give them; NaN where one gives none.
        upper: (N, M).
        weighed: Out-of-fold calibration.
        max_width: As in `EnsembleConfig`.
    """
    lower, upper = chosen_bounds(lower, upper, np.asarray(weighed.widenings))
    weights = most_confident(forecasts, upper - lower, max_width)
    is_chosen = weights > 0
    some = is_chosen.any(axis=1)
    ends = (np.where(is_chosen, end, 0.0).sum(axis=1) for end in (lower, upper))
    low, high = (np.where(some, end, np.nan) for end in ends)
    return weights, low, high


def _margin(label: str, held: OutOfFold, weighed: Weighed, config: EnsembleConfig) -> float:
    """Return what forecasts are off by at most in `interval` of the rows that calibrate."""
    evidence = held.evidence
    if config.combine == "confident":
        weights, low, high = confident_weights(
            evidence.forecasts, held.lower, held.upper, weighed, None
        )
        scores = np.maximum(low - evidence.targets, evidence.targets - high)
    else:
        weights = _weights_at(evidence, weighed)
        scores = np.abs(combine_points(evidence.forecasts, weights) - evidence.targets)
    known = scores[np.isfinite(scores)]
    assert config.interval is not None
    if len(known) < rows_for(config.interval):
        raise DataError(
            f"{label}: interval = {config.interval:g} needs at least {rows_for(config.interval)} "
            f"out-of-fold rows to be calibrated on, and there are {len(known)}. Train on more "
            f"rows, or ask for a smaller interval or none."
        )
    return margin_of(config.interval, known)


def _weights_at(evidence: Evidence, weighed: Weighed) -> FloatArray:
    """Return the weights (N, M) that each row would have had."""
    start = np.asarray(weighed.weights)
    if weighed.follow is None:
        return np.tile(start, (len(evidence), 1))
    weights = np.empty_like(evidence.forecasts)
    for series in np.unique(evidence.series):
        own = evidence.series == series
        part = evidence.part(own)
        weights[own] = following_weights(
            part.forecasts, part.targets, part.positions, start, weighed.follow, part.known_at
        )
    return weights


def _errors(found: Evidence, combine: str) -> tuple[list[float], float | None, float | None]:
    """Return mean squared errors out of fold: of each member, of their mean, of learned weights."""
    if not len(found):
        return [], None, None
    n_members = found.forecasts.shape[1]
    numbers = np.unique(found.folds)
    # Judged on the folds after those that the weights are from, as members are.
    judged = found.part(found.folds > numbers[0]) if len(numbers) > 1 else found
    members = [_error(judged, row) for row in np.eye(n_members)]
    mean = _error(judged, equal_weights(n_members))
    if combine == "mean":
        return members, mean, mean
    if combine == "confident" or len(numbers) < 2:
        return members, mean, None
    parts = [
        (found.part(found.folds == n), _learned(found.before_fold(n), combine)[0])
        for n in numbers[1:]
    ]
    total = sum(_error(part, weights) * len(part) for part, weights in parts)
    return members, mean, total / sum(len(part) for part, _ in parts)


def _error(part: Evidence, weights: FloatArray) -> float:
    return float(np.mean(np.square(combine_points(part.forecasts, weights) - part.targets)))


def _mean_correlation(found: Evidence) -> float | None:
    table = error_correlation(found.forecasts, found.targets)
    pairs = table[np.triu_indices(len(table), 1)]
    known = pairs[np.isfinite(pairs)]
    return float(known.mean()) if len(known) else None


def _log(label: str, names: list[str], weighed: Weighed) -> None:
    shares = ", ".join(
        f"{name} {weight:.2f}" for name, weight in zip(names, weighed.weights, strict=True)
    )
    logger.info("%s: weights %s, from %d out-of-fold rows", label, shares, weighed.n_rows)
    if weighed.own_error is None or weighed.mean_error is None or len(names) < 2:
        return
    best = int(np.argmin(weighed.member_errors))
    if weighed.own_error >= min(weighed.mean_error, weighed.member_errors[best]):
        logger.info(
            "%s: out of fold the ensemble (%.5g) is no better than its best member, %s (%.5g), or "
            "than the plain mean (%.5g).",
            label,
            weighed.own_error,
            names[best],
            weighed.member_errors[best],
            weighed.mean_error,
        )
