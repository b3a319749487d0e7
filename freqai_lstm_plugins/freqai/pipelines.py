"""What is kept of FreqAI's pipelines once they are fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from datasieve.transforms import DissimilarityIndex, Noise

from freqai_lstm_plugins.freqai.outliers import RowwiseDBSCAN

if TYPE_CHECKING:
    from datasieve.pipeline import Pipeline


def forget_the_fit(pipeline: Pipeline) -> Pipeline:
    """Drop from a fitted pipeline what its `transform` never reads; what it gives stays the same.

    One pipeline a pair stays in memory and on disk, and the noise of the training rows, the
    verdicts on them and copies of them grow with their number. The dissimilarity index and DBSCAN
    keep one copy of the rows, as they measure the distance to them.
    """
    for _, step in pipeline.steps:
        if isinstance(step, Noise):
            step.noise = np.array([])
        elif isinstance(step, DissimilarityIndex):
            # Of the rows that were judged last; each transform sets them anew.
            step.di_values = np.array([])
        elif isinstance(step, RowwiseDBSCAN):
            step.forget_the_fit()
    return pipeline
