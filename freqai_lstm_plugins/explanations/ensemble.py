"""What an ensemble looks at: its members' attributions by its weights.

Nets are attributed by integrated gradients, trees by their own contributions, linear models by
coefficients times values. A sum of forecasts has the sum of their attributions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.explanations.explanation import (
    DEFAULT_STEPS,
    Explanation,
    attribute_windows,
    choose,
    explain_windows,
    explanation_of,
)
from freqai_lstm_plugins.models.ensemble.combine import renormalised
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.models.tabular import TabularRegressor

if TYPE_CHECKING:
    from torch import Tensor

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray


def explain_fitted(
    model: EnsembleRegressor | SequenceEstimator,
    rows: Tensor,
    ends: Tensor,
    *,
    target: str | int | None = None,
    label_class: Any = None,
) -> Explanation:
    """Explain windows of rows that are scaled already, by a net or by an ensemble.

    Arguments and what is raised are as of `explain_windows`.
    """
    if isinstance(model, EnsembleRegressor):
        return explain_ensemble(model, rows, ends, target=target, label_class=label_class)
    return explain_windows(model, rows, ends, target=target, label_class=label_class)


def explain_ensemble(
    model: EnsembleRegressor,
    rows: Tensor,
    ends: Tensor,
    *,
    target: str | int | None = None,
    label_class: Any = None,
    steps: int = DEFAULT_STEPS,
) -> Explanation:
    """Explain windows of rows that are scaled already.

    Weights that follow labels are those to start from, since no labels are at hand.

    Args:
        model: A fitted ensemble.
        rows: (N, F) float32; with symbols (N, F + 1).
        ends: (M,) rows at which the windows end, at least one.
        target: Name or number of the target; the first by default.
        label_class: None, as an ensemble predicts numbers.
        steps: Points on the way from the baseline, for nets.

    Raises:
        ConfigError: There is no such target, or a class is asked for.
    """
    number = choose("target", target, model.label_names_, 0)
    name = model.label_names_[number]
    if label_class is not None:
        raise ConfigError(
            f"label_class is {label_class!r}, but {name!r} is a number: it has no classes."
        )
    weights = _weights(model, rows.numpy(), ends.numpy(), number)
    total: FloatArray = np.zeros((len(ends), model.window, len(model.feature_names_in_)))
    moved: FloatArray = np.zeros(len(ends))
    for place, member in enumerate(model.require_fitted().models):
        if not weights[:, place].any():
            continue
        found, by = _member_attributions(member, rows, ends, number, steps)
        total += weights[:, place, None, None] * found
        moved += weights[:, place] * by
    names = model.feature_names_in_
    return explanation_of(name, "scaled target", total, moved, names, ends.numpy())


def _weights(model: EnsembleRegressor, rows: FloatArray, ends: IntArray, target: int) -> FloatArray:
    """Return the weights (M, members) at each window."""
    has_window = np.zeros(len(rows), dtype=bool)
    has_window[ends] = True
    said = model.predict_windows(rows, has_window)
    return renormalised(said.members[ends, target], said.weights[ends, target])


def _member_attributions(
    member: Any, rows: Tensor, ends: Tensor, target: int, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Return attributions (M, W, F) of one member, and how far its answers moved (M,)."""
    if isinstance(member, SequenceEstimator):
        return attribute_windows(member, rows, ends, target, steps=steps)
    if isinstance(member, TabularRegressor):
        return member.attributions(rows.numpy(), ends.numpy(), target)
    # A naive forecast looks at no feature.
    return np.zeros(1), np.zeros(1)
