"""Scaling by median and median deviation as a step of FreqAI's pipelines."""

from __future__ import annotations

from typing import Any

from freqai_lstm_plugins.features.robust import RobustZScore
from freqai_lstm_plugins.freqai.steps import FeatureStep


class RobustZScoreStep(FeatureStep):
    """`RobustZScore` for a datasieve pipeline, fitted on the rows that FreqAI trains on.

    A model of your own takes it into its pipeline by overriding `define_data_pipeline`. FreqAI
    pickles it with the pipeline, so this class at this place is a promise to files on disk.

    Args:
        clip: Where to cut off, in standard deviations; None for nowhere.
    """

    def __init__(self, clip: float | None = 3.0) -> None:
        super().__init__(name="robust_z_score")
        self.scaler = RobustZScore(clip=clip)

    def learn(self, rows: Any) -> None:
        """Learn medians and deviations from training rows (N, F)."""
        self.scaler.fit(rows)

    def change(self, rows: Any) -> Any:
        """Scale rows (N, F)."""
        return self.scaler.transform(rows)

    def undo(self, rows: Any) -> Any:
        """Undo `change`; what was clipped stays clipped."""
        return self.scaler.inverse_transform(rows)
