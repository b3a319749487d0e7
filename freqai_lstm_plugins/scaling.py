"""Standardizes features and targets with what training rows tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.windows import BoolArray, finite_rows

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Scaling:
    """Means and deviations of F features and K targets; a constant column has deviation 1."""

    feature_mean: list[float]
    feature_std: list[float]
    target_mean: list[float]
    target_std: list[float]

    @classmethod
    def fit(cls, rows: FloatArray, targets: FloatArray, is_train: BoolArray) -> Self:
        """Measure training rows.

        Args:
            rows: (N, F); rows that are not finite do not count.
            targets: (N, K).
            is_train: (N,) rows whose targets are trained on. Rows up to the last of them are
                context of training windows, so their features are training features too.
        """
        seen = rows[: np.flatnonzero(is_train)[-1] + 1]
        seen, known = seen[finite_rows(seen)], targets[is_train]
        return cls(
            seen.mean(axis=0).tolist(),
            _deviation(seen),
            known.mean(axis=0).tolist(),
            _deviation(known),
        )

    def scale_rows(self, rows: FloatArray) -> FloatArray:
        """Standardize features (N, F)."""
        scaled: FloatArray = (rows - np.asarray(self.feature_mean)) / np.asarray(self.feature_std)
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


def _deviation(values: FloatArray) -> list[float]:
    std = values.std(axis=0)
    # Round-off must not blow up a constant column.
    is_constant = std <= 1e-12 * np.abs(values).max(axis=0)
    deviation: list[float] = np.where(is_constant, 1.0, std).tolist()
    return deviation
