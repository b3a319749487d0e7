"""Outlier detection that judges each candle by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from datasieve.transforms import DBSCAN
from datasieve.utils import remove_outliers
from sklearn.neighbors import NearestNeighbors

from freqai_lstm_plugins.freqai.steps import replace_steps

if TYPE_CHECKING:
    from datasieve.pipeline import Pipeline


class RowwiseDBSCAN(DBSCAN):
    """FreqAI's DBSCAN with a verdict that does not depend on which rows come together.

    The host clusters all rows of a slice at once, so a later candle may decide whether an earlier
    one is an outlier, and a backtest differs from the bot. Here every new row meets the training
    rows alone: it is an inlier if it has enough neighbours, or is near a training row that has.
    """

    @classmethod
    def taking_over(cls, other: DBSCAN) -> RowwiseDBSCAN:
        """Make a step with the settings of the host's, which is not fitted yet."""
        made = cls(backend=other.backend, n_jobs=other.n_jobs)
        made._skl = other._skl  # noqa: SLF001 - our own attribute too, of the base that both have
        return made

    def fit(
        self,
        X: npt.NDArray[np.floating],
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Cluster training rows (N, F)."""
        fitted = super().fit(X, y, sample_weight, feature_list, **kwargs)
        trained = np.asarray(X, dtype=float)
        self._neighbours = NearestNeighbors(radius=self._skl.eps).fit(trained)
        # A row counts as a neighbour of its own, and a new row as one of each that it is near.
        crowd = np.array([len(near) for near in self._neighbours.radius_neighbors(trained)[1]])
        self._is_core = crowd + 1 >= self._skl.min_samples
        return fitted

    def forget_the_fit(self) -> None:
        """Drop the host's copies of the training rows and its verdicts on them."""
        self.train_features = np.array([])
        for name in ("labels_", "components_", "core_sample_indices_"):
            self._skl.__dict__.pop(name, None)

    def transform(
        self,
        X: npt.NDArray[np.floating],
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        outlier_check: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Judge rows (N, F): drop outliers, or mark them in `y` where `outlier_check` is set."""
        inliers = self._is_inlier(np.asarray(X, dtype=float))
        if outlier_check:
            # The steps before have marked their outliers in y with less than 1.
            y += inliers.astype(int)
            y -= 1
            return X, y, sample_weight, feature_list
        return *remove_outliers(X, y, sample_weight, inliers), feature_list

    def _is_inlier(self, X: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        return np.array(
            [
                len(near) + 1 >= self._skl.min_samples or bool(self._is_core[near].any())
                for near in self._neighbours.radius_neighbors(X)[1]
            ],
            dtype=bool,
        )


def judged_row_by_row(pipeline: Pipeline) -> Pipeline:
    """Replace the host's DBSCAN in a pipeline that is not fitted yet."""
    return replace_steps(pipeline, DBSCAN, RowwiseDBSCAN.taking_over)
