"""A feature that is constant for one pair, as a step of FreqAI's pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from datasieve.transforms import VarianceThreshold

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.steps import FeatureStep, replace_steps

if TYPE_CHECKING:
    from datasieve.pipeline import Pipeline


class ConstantAsZero(FeatureStep):
    """Turns features without variance into zeros, where the host's step drops them.

    One net for all pairs needs the same columns for each, and what is constant for one pair may
    tell something about another. FreqAI pickles the step with its pipeline, so this class at this
    place is a promise to files on disk. Nothing is left to undo: what was constant stays zero.
    """

    def __init__(self) -> None:
        super().__init__(name="constant_as_zero")
        self.is_constant: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def learn(self, rows: Any) -> None:
        """Find the features of training rows (N, F) that are constant.

        Raises:
            DataError: All are.
        """
        values = np.asarray(rows, dtype=float)
        self.is_constant = (values == values[:1]).all(axis=0)
        if self.is_constant.all():
            raise DataError(f"every feature is constant over the {len(values)} training rows.")

    def change(self, rows: Any) -> Any:
        """Return rows (N, F) with zeros for those features."""
        if self.is_constant.any():
            return np.where(self.is_constant, 0.0, np.asarray(rows, dtype=float))
        return rows


def keeping_columns(pipeline: Pipeline) -> Pipeline:
    """Replace the host's step that drops constant features in a pipeline not fitted yet."""
    return replace_steps(pipeline, VarianceThreshold, lambda step: ConstantAsZero())
