"""scikit-learn's scores over the rows that have a prediction.

The first W - 1 rows of every fold have no window, so scores of scikit-learn's own are all NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError


@dataclass(frozen=True)
class WindowScorer:
    """A scorer for `cross_val_score` and searches that leaves out rows without a window or target.

    >>> WindowScorer("neg_mean_squared_error")
    WindowScorer(metric='neg_mean_squared_error')

    Attributes:
        metric: Any of scikit-learn's names of scores.
    """

    metric: str

    def __call__(self, model: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score of a fitted model.

        Raises:
            DataError: No row has both a prediction and a target.
        """
        from sklearn.metrics import get_scorer

        predicted, given = np.asarray(model.predict(X), dtype=object), np.asarray(y, dtype=object)
        columns = np.column_stack([predicted, given])
        is_missing: npt.NDArray[np.bool_] = np.asarray(pd.isna(columns))
        known = np.logical_not(is_missing.any(axis=1))
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        weights = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight)}
        return float(
            get_scorer(self.metric)(
                _Told(model, X, known),
                np.flatnonzero(known).reshape(-1, 1),
                _native(given[known]),
                **{name: values[known] for name, values in weights.items()},
            )
        )


class _Told:
    """Stands for a fitted model before scikit-learn, which asks it for the known rows alone."""

    def __init__(self, model: Any, X: Any, known: npt.NDArray[np.bool_]) -> None:
        self.model, self.X, self.known = model, X, known

    def __sklearn_tags__(self) -> Any:
        return self.model.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @property
    def classes_(self) -> Any:
        return self.model.classes_

    def fit(self, X: Any, y: Any) -> None:
        """Do nothing; scikit-learn takes what cannot be fitted for no estimator."""

    def predict(self, rows: Any) -> Any:
        return _native(np.asarray(self.model.predict(self.X), dtype=object)[self.known])

    def predict_proba(self, rows: Any) -> Any:
        return np.asarray(self.model.predict_proba(self.X))[self.known]


def _native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return objects as an array of their own type."""
    return np.array(values.tolist())
