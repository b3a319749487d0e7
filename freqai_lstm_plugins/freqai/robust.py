"""Scaling by median and median deviation as a step of FreqAI's pipelines."""

from __future__ import annotations

from typing import Any

from datasieve.transforms.base_transform import BaseTransform

from freqai_lstm_plugins.features.robust import RobustZScore


class RobustZScoreStep(BaseTransform):
    """`RobustZScore` for a datasieve pipeline, fitted on the rows that FreqAI trains on.

    A model of your own takes it into its pipeline by overriding `define_data_pipeline`. FreqAI
    pickles it with the pipeline, so this class at this place is a promise to files on disk.

    Args:
        clip: Where to cut off, in standard deviations; None for nowhere.
    """

    def __init__(self, clip: float | None = 3.0) -> None:
        super().__init__(name="robust_z_score")
        self.scaler = RobustZScore(clip=clip)

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Learn medians and deviations from training rows (N, F)."""
        self.scaler.fit(X)
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
        """Scale rows (N, F)."""
        return self.scaler.transform(X), y, sample_weight, feature_list

    def inverse_transform(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        feature_list: Any = None,
        **kwargs: Any,
    ) -> tuple[Any, Any, Any, Any]:
        """Undo `transform`; what was clipped stays clipped."""
        return self.scaler.inverse_transform(X), y, sample_weight, feature_list
