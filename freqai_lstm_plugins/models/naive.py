"""Forecasts that learn nothing: what every model has to beat."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.models.contract import Predictions
from freqai_lstm_plugins.models.plain import read_numbers, read_schema
from freqai_lstm_plugins.training.history import Epoch, History

if TYPE_CHECKING:
    from collections.abc import Callable

    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray
    from freqai_lstm_plugins.data.preparation import Prepared, Schema

# Column of rows that holds, for each label, its newest value that is known at the row.
LAST_KNOWN = "last known {}"


@dataclass(frozen=True)
class NaiveFitted:
    """Names and units of the windows that a naive forecast was given."""

    schema: Schema
    scaling: Scaling | None


class NaiveZero:
    """Forecasts 0 for every label, in the labels' own units: no return at all."""

    kind: ClassVar[str] = "naive_zero"

    def __init__(self) -> None:
        self.fitted: NaiveFitted | None = None

    def fit_windows(
        self, data: Prepared, *, on_epoch: Callable[[Epoch], None] | None = None
    ) -> Self:
        """Take note of names and units; nothing is learned, so `on_epoch` is never called."""
        if data.schema.classes:
            raise ConfigError(f"{self.kind} predicts numbers, and the targets are classes.")
        self.fitted = NaiveFitted(data.schema, data.scaling)
        return self

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict the rows (N, F) at which a full window ends."""
        fitted = self.require_fitted()
        point = np.full((len(rows), len(fitted.schema.label_names)), np.nan)
        point[has_window] = self.said(fitted, np.asarray(rows)[has_window])
        return Predictions(point)

    def said(self, fitted: NaiveFitted, rows: FloatArray) -> FloatArray:
        """Return the forecasts of rows (M, F) that have a window: (M, K)."""
        zeros = np.zeros((len(rows), len(fitted.schema.label_names)))
        return zeros if fitted.scaling is None else fitted.scaling.scale_targets(zeros)

    def require_fitted(self) -> NaiveFitted:
        """Return what `fit_windows` took note of.

        Raises:
            ConfigError: It was not called.
        """
        if self.fitted is None:
            raise ConfigError(f"This {self.kind} model is not fitted yet: fit it, or load a file.")
        return self.fitted

    @property
    def history_(self) -> History:
        """An empty history: there are no passes."""
        return History()

    def to_state(self) -> dict[str, Any]:
        """Return plain data from which `from_state` builds the same model."""
        return asdict(self.require_fitted())

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described.

        Raises:
            MismatchError: The state is not of such a model.
        """
        model = cls()
        try:
            schema, scaling = read_schema(state["schema"]), state["scaling"]
            model.fitted = NaiveFitted(schema, scaling and _read_scaling(scaling, schema))
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(
                f"The model file holds no sound {cls.kind} model ({error}): train it again."
            ) from error
        return model


def _read_scaling(value: dict[str, Any], schema: Schema) -> Scaling:
    found = Scaling(**value)
    for names, mean, std in (
        (schema.feature_names, found.feature_mean, found.feature_std),
        (schema.label_names, found.target_mean, found.target_std),
    ):
        read_numbers(mean, len(names), "means")
        if min(read_numbers(std, len(names), "deviations")) <= 0:
            raise DataError("a deviation is not above 0")
    return found


class NaiveLast(NaiveZero):
    """Forecasts the newest value of each label that is known at the row.

    Rows must hold it, in a column `last known` and the label's name for each label.
    """

    kind: ClassVar[str] = "naive_last"

    def said(self, fitted: NaiveFitted, rows: FloatArray) -> FloatArray:
        """Return the forecasts of rows (M, F) that have a window: (M, K)."""
        names = fitted.schema.feature_names
        wanted = [LAST_KNOWN.format(label) for label in fitted.schema.label_names]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise DataError(
                f"naive_last needs the feature {missing[0]!r}, which the rows do not hold."
            )
        columns = [names.index(name) for name in wanted]
        values = rows[:, columns].astype(np.float64)
        if fitted.scaling is None:
            return values
        # Back to the features' own units, which are the labels', and into those of targets.
        scaling = fitted.scaling
        mean, std = np.asarray(scaling.feature_mean), np.asarray(scaling.feature_std)
        return scaling.scale_targets(values * std[columns] + mean[columns])
