"""Prediction intervals that held on rows which the net was not trained on.

Split conformal prediction: the interval is widened, or narrowed, until it would have covered the
wanted share of the validation targets. For a net without quantiles the interval is the prediction
plus and minus a margin; for quantiles it is their own interval moved outwards by a margin.

Sources: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, Distribution-Free Predictive Inference for
Regression, JASA 113, 2018; Romano, Patterson and Candès, Conformalized Quantile Regression, NeurIPS
2019. Their guarantee is for rows that could be exchanged for each other. Candles cannot: where the
market becomes wilder than the validation rows were, fewer targets are covered.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.data.arrays import FloatArray
from freqai_lstm_plugins.errors import DataError

ROUND_OFF = 1e-9
# With fewer, what a margin covers changes by more than 0.07 from one draw of rows to the next.
ROWS_FOR_OWN_MARGIN = 30

Bounds = tuple[FloatArray, FloatArray]  # lower and upper ends, (N, K) each


@dataclass(frozen=True)
class Calibration:
    """How far intervals reach, in the units of the net's targets.

    Attributes:
        interval: Share of the targets to be covered.
        margins: (K,) what is added at both ends; negative where quantiles were too wide.
        blank_lower: (K,) lower end of the forecast that knows nothing: a quantile of the training
            targets.
        blank_upper: (K,) its upper end.
        n_rows: Validation rows that the margins are from.
        by_symbol: For each symbol with enough validation rows its own margins (K,): one margin for
            all would hold too much of a calm symbol, and too little of a wild one.
    """

    interval: float
    margins: list[float]
    blank_lower: list[float]
    blank_upper: list[float]
    n_rows: int
    by_symbol: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        interval: float,
        points: FloatArray,
        bounds: Bounds | None,
        targets: FloatArray,
        train_targets: FloatArray,
        symbols: npt.NDArray[Any] | None = None,
    ) -> Self:
        """Measure validation rows.

        Args:
            interval: Share to be covered.
            points: (N, K) predictions.
            bounds: The quantiles' own ends; None for a net without quantiles.
            targets: (N, K).
            train_targets: (M, K).
            symbols: (N,) names of the rows' symbols.

        Raises:
            DataError: There are too few validation rows.
        """
        require_rows(interval, len(targets))
        lower, upper = bounds or (points, points)
        scores = np.maximum(lower - targets, targets - upper)
        tail, mean = (1 - interval) / 2, train_targets.mean(axis=0)
        # The mean of skewed targets may lie outside; it is what is forecast without a window.
        return cls(
            interval,
            _margins(interval, scores),
            np.minimum(np.quantile(train_targets, tail, axis=0), mean).tolist(),
            np.maximum(np.quantile(train_targets, 1 - tail, axis=0), mean).tolist(),
            len(targets),
            {} if symbols is None else _margins_by_symbol(interval, scores, symbols),
        )

    def bounds(
        self,
        points: FloatArray,
        bounds: Bounds | None,
        symbols: npt.NDArray[Any] | None = None,
    ) -> Bounds:
        """Return the calibrated ends, (N, K) each; a prediction always lies between its ends.

        Args:
            points: (N, K) predictions.
            bounds: The quantiles' own ends; None for a net without quantiles.
            symbols: (N,) names of the rows' symbols; a symbol that has no margins of its own gets
                those of all.
        """
        lower, upper = bounds or (points, points)
        margins = np.broadcast_to(np.asarray(self.margins), points.shape).copy()
        for name, own in self.by_symbol.items() if symbols is not None else ():
            margins[symbols == name] = own
        return np.minimum(lower - margins, points), np.maximum(upper + margins, points)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model file."""
        return asdict(self)


def _margins(interval: float, scores: FloatArray) -> list[float]:
    """Return the scores (N, K) -> (K,) that cover the share of new rows."""
    margins: list[float] = np.sort(scores, axis=0)[_rank(interval, len(scores)) - 1].tolist()
    return margins


def _margins_by_symbol(
    interval: float, scores: FloatArray, symbols: npt.NDArray[Any]
) -> dict[str, list[float]]:
    found = {}
    for name in dict.fromkeys(symbols.tolist()):
        own = scores[symbols == name]
        if len(own) >= ROWS_FOR_OWN_MARGIN and _rank(interval, len(own)) <= len(own):
            found[str(name)] = _margins(interval, own)
    return found


def _rank(interval: float, n_rows: int) -> int:
    """Return which of the sorted scores, counted from 1, covers the share of new rows."""
    # Round-off must not ask for one more: 0.55 * 20 is a little above 11.
    return math.ceil(interval * (n_rows + 1) - ROUND_OFF)


def margin_of(interval: float, errors: FloatArray) -> float:
    """Return what a forecast is off by at most in `interval` of new rows.

    Args:
        interval: Share to be covered.
        errors: (N,) sizes of errors on rows that nothing was fitted on.

    Raises:
        DataError: There are too few rows.
    """
    require_rows(interval, len(errors))
    return float(np.sort(errors)[_rank(interval, len(errors)) - 1])


def require_rows(interval: float, n_rows: int) -> None:
    """Raise DataError where `n_rows` validation rows cannot vouch for an interval."""
    if n_rows >= rows_for(interval):
        return
    raise DataError(
        f"interval = {interval:g} needs at least {rows_for(interval)} validation rows to be "
        f"calibrated on, and there are {n_rows}. Keep more rows for validation (valid_size), or "
        f"ask for a smaller interval."
    )


def rows_for(interval: float) -> int:
    """Return how many rows can vouch for an interval.

    >>> rows_for(0.8)
    4
    """
    return math.ceil((interval - ROUND_OFF) / (1 - interval))
