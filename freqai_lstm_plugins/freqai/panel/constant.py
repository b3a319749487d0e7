"""A feature that is constant for one pair, as a step of FreqAI's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from datasieve.transforms import VarianceThreshold
from datasieve.transforms.base_transform import BaseTransform

from freqai_lstm_plugins.errors import DataError

if TYPE_CHECKING:
    from datasieve.pipeline import Pipeline


class ConstantAsZero(BaseTransform):
    """Turns features without variance into zeros, where the host's step drops them.

    One net for all pairs needs the same columns for each, and what is constant for one pair may
    tell something about another. FreqAI pickles the step with its pipeline, so this class at this
    place is a promise to files on disk.
    """

    def __init__(self) -> None:
        super().__init__(name="constant_as_zero")
        self.is_constant: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Find the features (N, F) that are constant.

        Raises:
            DataError: All are.
        """
        values = np.asarray(X, dtype=float)
        self.is_constant = (values == values[:1]).all(axis=0)
        if self.is_constant.all():
            raise DataError(f"every feature is constant over the {len(values)} training rows.")
        return X, y, sample_weight, feature_list

    def transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        outlier_check: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Return rows (N, F) with zeros for those features."""
        if self.is_constant.any():
            X = np.where(self.is_constant, 0.0, np.asarray(X, dtype=float))
        return X, y, sample_weight, feature_list

    def inverse_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Return rows as they are: nothing is left of what was constant."""
        return X, y, sample_weight, feature_list


def keeping_columns(pipeline: Pipeline) -> Pipeline:
    """Replace the host's step that drops constant features in a pipeline not fitted yet."""
    pipeline.steps = [
        (name, ConstantAsZero() if type(step) is VarianceThreshold else step)
        for name, step in pipeline.steps
    ]
    return pipeline
