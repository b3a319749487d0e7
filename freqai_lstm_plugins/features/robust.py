"""Scaling by median and median deviation, which outliers hardly move."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from freqai_lstm_plugins.errors import DataError

MAD_TO_STD = 1.4826
"""Standard deviation of normal values over their median absolute deviation."""

MEAN_TO_STD = 1.2533
"""Standard deviation of normal values over their mean absolute deviation."""

ROUND_OFF = 1e-12
"""A deviation of at most this share of the median is none."""


class RobustZScore:
    """Bring features to (value - median) / (1.4826 x MAD), clipped at 3 on both sides.

    A scikit-learn transformer that needs no scikit-learn: `fit` takes training rows, `transform`
    any others. NaN takes no part in fitting and stays NaN; infinity takes no part and is clipped.
    A feature that was constant in training gives 0 in every row. Where more than half of its
    values are equal, so that the MAD is 0, the mean absolute deviation stands in for it.

    A pickle of it needs this class at this place, which is a promise to files on disk.

    Args:
        clip: Where to cut off, in standard deviations; None for nowhere.

    Attributes:
        median_: Medians (F,) of the training rows.
        scale_: Standard deviations (F,), as the MAD tells them; 0 for a constant feature.
        n_features_in_: F.
        feature_names_in_: Names of the features, where a frame with names was fitted.

    Source: qlib 0.9.7, `RobustZScoreNorm` in qlib/data/dataset/processor.py; the fallback is ours.
    """

    def __init__(self, clip: float | None = 3.0) -> None:
        self.clip = clip

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn medians and deviations from training rows (N, F).

        Raises:
            DataError: There is no row, or `clip` is not above zero.
        """
        if self.clip is not None and not self.clip > 0:
            raise DataError(f"clip is {self.clip!r}; it must be above zero, or None.")
        rows = _matrix(X)
        if not len(rows):
            raise DataError("There are no rows to fit a RobustZScore on.")
        rows = np.where(np.isfinite(rows), rows, np.nan)
        with warnings.catch_warnings():
            # A feature that is never known has no median, and is taken for constant.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.median_ = np.nanmedian(rows, axis=0)
            self.scale_ = _deviation(np.abs(rows - self.median_))
        is_constant = ~(self.scale_ > ROUND_OFF * np.abs(self.median_))
        self.scale_[is_constant] = 0.0
        self.n_features_in_ = rows.shape[1]
        if isinstance(X, pd.DataFrame):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def transform(self, X: Any) -> Any:
        """Scale rows (N, F); a frame gives a frame.

        Raises:
            DataError: It is not fitted, or the features are others than in training.
        """
        rows = self._checked(X)
        varies = self.scale_ > 0
        # Far beyond the training rows the quotient may leave float64, to be clipped like the rest.
        with np.errstate(over="ignore"):
            scaled = (rows - self.median_) / np.where(varies, self.scale_, 1.0)
        scaled = np.where(varies | np.isnan(rows), scaled, 0.0)
        if self.clip is not None:
            np.clip(scaled, -self.clip, self.clip, out=scaled)
        return _like(X, scaled)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit on rows (N, F) and scale them."""
        return self.fit(X, y).transform(X)

    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`; what was clipped stays clipped."""
        return _like(X, self._checked(X) * self.scale_ + self.median_)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the features, which scaling leaves as they are."""
        if input_features is not None:
            return np.asarray(input_features, dtype=object)
        numbered = [f"x{place}" for place in range(self.n_features_in_)]
        return getattr(self, "feature_names_in_", np.asarray(numbered, dtype=object))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name, from which scikit-learn makes copies."""
        return {"clip": self.clip}

    def set_params(self, **params: Any) -> Self:
        """Change settings.

        Raises:
            DataError: There is no such setting.
        """
        for name, value in params.items():
            if name != "clip":
                raise DataError(f"RobustZScore has no setting {name!r}; it has 'clip'.")
            self.clip = value
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether `fit` was called."""
        return hasattr(self, "median_")

    def __sklearn_tags__(self) -> Any:
        """Describe the transformer to scikit-learn, which alone asks."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(allow_nan=True),
        )

    def _checked(self, X: Any) -> npt.NDArray[np.float64]:
        if not self.__sklearn_is_fitted__():
            raise DataError("This RobustZScore is not fitted: call fit with training rows first.")
        rows = _matrix(X)
        if rows.shape[1] != self.n_features_in_:
            raise DataError(
                f"{rows.shape[1]} features were given to a RobustZScore that was fitted on "
                f"{self.n_features_in_}."
            )
        names = getattr(self, "feature_names_in_", None)
        if names is not None and isinstance(X, pd.DataFrame) and list(X.columns) != list(names):
            other = next(pair for pair in zip(X.columns, names, strict=True) if pair[0] != pair[1])
            raise DataError(
                f"Features differ from those in training, or their order does: {other[0]!r} "
                f"stands where {other[1]!r} stood."
            )
        return rows


def _deviation(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mad = MAD_TO_STD * np.nanmedian(distances, axis=0)
    return np.where(mad > 0, mad, MEAN_TO_STD * np.nanmean(distances, axis=0))


def _matrix(X: Any) -> npt.NDArray[np.float64]:
    rows = np.asarray(X, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"Rows must have the shape (N, F), and {rows.shape} was given.")
    return rows


def _like(X: Any, values: npt.NDArray[np.float64]) -> Any:
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(values, index=X.index, columns=X.columns)
    return values
