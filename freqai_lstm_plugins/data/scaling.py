"""Standardizes features and targets with what training rows tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, chunks, finite_rows, to_float32

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Scaling:
    """Means and deviations of F features and K targets; a constant column has deviation 1."""

    feature_mean: list[float]
    feature_std: list[float]
    target_mean: list[float]
    target_std: list[float]

    @classmethod
    def fit(
        cls, rows: FloatArray, targets: FloatArray, is_held: BoolArray, is_train: BoolArray
    ) -> Self:
        """Measure training rows.

        Args:
            rows: (N, F).
            targets: (N, K).
            is_held: (N,) rows that training windows hold.
            is_train: (N,) rows whose targets are trained on.
        """
        return cls(*_moments(rows, is_held), *_moments(targets, is_train))

    @classmethod
    def none(cls, n_features: int, n_targets: int) -> Self:
        """Leave features and targets as they are."""
        zeros, ones = [0.0] * max(n_features, n_targets), [1.0] * max(n_features, n_targets)
        return cls(zeros[:n_features], ones[:n_features], zeros[:n_targets], ones[:n_targets])

    def scale_rows(self, rows: FloatArray) -> npt.NDArray[np.float32]:
        """Standardize features (N, F) to float32; rows that are not finite become NaN."""
        mean, std = np.asarray(self.feature_mean), np.asarray(self.feature_std)
        scaled = np.empty(rows.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            # Far more in float64 at once than what a processor keeps at hand is slower too.
            for part in chunks(len(rows), 512):
                scaled[part] = to_float32((rows[part] - mean) / std)
        # Scaling may bring back into float32's range what fitting took for missing.
        scaled[~finite_rows(rows)] = np.nan
        return scaled

    def scale_targets(self, targets: FloatArray) -> FloatArray:
        """Standardize targets (N, K)."""
        scaled: FloatArray = (targets - np.asarray(self.target_mean)) / np.asarray(self.target_std)
        return scaled

    def unscale_targets(self, targets: FloatArray) -> FloatArray:
        """Turn standardized targets (N, K) back into the users' units."""
        unscaled: FloatArray = targets * np.asarray(self.target_std) + np.asarray(self.target_mean)
        return unscaled

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain data for a model file."""
        return asdict(self)


def _moments(values: FloatArray, counts: BoolArray) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the rows that count, a constant column's being 1."""
    n_rows = int(counts.sum())
    parts = [part for part in chunks(len(values)) if counts[part].any()]

    def total(of: Callable[[FloatArray], FloatArray]) -> FloatArray:
        sums = [of(values[part][counts[part]].astype(np.float64)).sum(axis=0) for part in parts]
        return np.sum(sums, axis=0)

    mean = total(lambda x: x) / n_rows
    std = np.sqrt(total(lambda x: np.square(x - mean)) / n_rows)
    # Round-off must not blow up a constant column.
    is_constant = std <= 1e-12 * np.sqrt(total(np.square) / n_rows)
    return mean.tolist(), np.where(is_constant, 1.0, std).tolist()
