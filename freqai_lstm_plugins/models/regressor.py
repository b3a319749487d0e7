"""`SequenceRegressor`: fit, predict, save and load on arrays and DataFrames."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from freqai_lstm_plugins.checkpoint import Checkpoint
from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, finite_rows
from freqai_lstm_plugins.data.panel import Given, Inputs, numbers_of
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.estimator import SequenceEstimator, Targets
from freqai_lstm_plugins.models.intervals import Bounds, Calibration, require_rows
from freqai_lstm_plugins.nets import net_class
from freqai_lstm_plugins.training.devices import torch_threads
from freqai_lstm_plugins.training.objectives import Numbers, Quantiles, quantile_levels
from freqai_lstm_plugins.training.prediction import predict_windows


class Interval(NamedTuple):
    """Predictions with the ends of their intervals, each in the shape that `predict` gives."""

    point: Any
    lower: Any
    upper: Any


class SequenceRegressor(SequenceEstimator):
    """A net that predicts K numbers for each row from the W rows that end there.

    >>> model = SequenceRegressor(net="gru", window=8, hidden_dim=16, n_epochs=5)
    >>> model.get_params()["hidden_size"]
    16
    """

    kind: ClassVar[str] = "regressor"
    _calibration: Calibration | None = None

    def check_answer_settings(self) -> None:
        """Raise ConfigError where a setting is one of classifiers."""
        name = type(self).__name__
        if self.train_config.loss == "cross_entropy":
            raise ConfigError(
                f"{name}: loss = 'cross_entropy' is for classes: take mse, mae, huber or quantile, "
                f"or a classifier."
            )
        if self.train_config.class_weight is not None:
            raise ConfigError(f"{name}: class_weight is for classifiers. Leave it out.")

    @property
    def loss(self) -> str:
        """The loss of training: `mse`, `mae`, `huber` or `quantile`."""
        if self.train_config.loss != "auto":
            return self.train_config.loss
        return net_class(self.net).default_loss if isinstance(self.net, str) else "mse"

    @property
    def answer(self) -> Numbers | Quantiles:
        """What the outputs of the fitted net mean."""
        return self._answer_of(len(self.label_names_), ())

    def _answer_of(self, n_targets: int, deviations: tuple[float, ...]) -> Numbers | Quantiles:
        if self.loss == "quantile":
            return Quantiles(n_targets, quantile_levels(self.train_config.interval))
        return Numbers(n_targets, self.loss, deviations)

    def _answer_for(self, train: WindowSet, classes: list[list[Any]]) -> Numbers | Quantiles:
        deviations = torch.std(train.targets, dim=0, correction=0)
        # A constant target's is 1, as in scaling: a bound of 0 would count no error.
        deviations = torch.where(deviations > 0, deviations, 1.0)
        return self._answer_of(train.targets.shape[1], tuple(deviations.tolist()))

    def _read_targets(self, y: Any, inputs: Inputs, classes: list[list[Any]]) -> Targets:
        values, names = inputs.arrange(y, "y", lambda part: numbers_of("y", part))
        return Targets(values, names or [f"y{i}" for i in range(values.shape[1])], [])

    def _blank(self, train: WindowSet, answer: Any) -> list[float]:
        mean: list[float] = train.targets.mean(dim=0).tolist()
        return mean

    # intervals

    def _train(
        self, train: WindowSet, valid: WindowSet | None, *args: Any, **options: Any
    ) -> dict[str, Any]:
        """Train as the base class does, and calibrate intervals.

        Raises:
            DataError: There are too few validation windows to calibrate intervals on.
        """
        interval = self.train_config.interval
        if interval is not None:
            require_rows(interval, 0 if valid is None else len(valid))
        fitted = super()._train(train, valid, *args, **options)
        fitted["_calibration"] = None
        if interval is not None and valid is not None:
            answer = self._answer_of(train.targets.shape[1], ())
            with torch_threads(self.train_config.num_threads):
                outputs = predict_windows(fitted["net_"], valid.rows, valid.ends, valid.window)
            fitted["_calibration"] = Calibration.fit(
                interval,
                answer.points(outputs.double()).numpy(),
                _quantile_bounds(answer, outputs.double()),
                valid.targets.double().numpy(),
                train.targets.double().numpy(),
            )
        return fitted

    @property
    def calibration(self) -> Calibration | None:
        """How intervals were calibrated; None where the setting `interval` asks for none."""
        return self._calibration

    def points(self, outputs: FloatArray) -> FloatArray:
        """Return the predictions (N, K), in scaled units, that outputs (N, O) stand for."""
        points: FloatArray = self.answer.points(torch.from_numpy(outputs)).numpy()
        return points

    def bounds(self, outputs: FloatArray) -> Bounds:
        """Return the calibrated ends of the intervals, (N, K) each, in scaled units.

        Rows without a window get the interval of the forecast that knows nothing.

        Raises:
            ConfigError: The model was trained without the setting `interval`.
        """
        calibration = self._calibration
        if calibration is None:
            raise ConfigError(
                "The model was trained without intervals: set interval, for example to 0.8, and "
                "train it again."
            )
        bounds = _quantile_bounds(self.answer, torch.from_numpy(outputs))
        lower, upper = calibration.bounds(self.points(outputs), bounds)
        is_blank = np.isnan(outputs[:, 0])
        lower[is_blank], upper[is_blank] = calibration.blank_lower, calibration.blank_upper
        return lower, upper

    # predict

    def predict(self, X: Given) -> Any:
        """Predict each row from the window that ends there.

        Args:
            X: (N, F) features in the order of time, or many symbols' as in `fit`.

        Returns:
            (N,) or (N, K) predictions as the targets were given, as a Series or DataFrame with the
            index of `X` where `X` is a DataFrame, and one of them for each symbol where `X` is a
            list or a dictionary. NaN where no full, finite window ends.

        Raises:
            MismatchError: The features, or the symbols, are not those of the training.
        """
        inputs, outputs = self._outputs(X)
        return inputs.restore(self._unscaled(self.points(outputs)), *self._shape)

    def predict_interval(self, X: Given) -> Interval:
        """Predict each row, with the interval that is to hold the target.

        How often it does was measured on validation rows (see `calibration`).

        Args:
            X: As in `predict`.

        Returns:
            `point`, `lower` and `upper`, each as `predict` gives it; NaN where no window ends.

        Raises:
            ConfigError: The model was trained without the setting `interval`.
            MismatchError: The features, or the symbols, are not those of the training.
        """
        inputs, outputs = self._outputs(X)
        ends = [self.points(outputs), *self.bounds(outputs)]
        ends = [np.where(np.isnan(outputs[:, :1]), np.nan, values) for values in ends]
        return Interval(*(inputs.restore(self._unscaled(values), *self._shape) for values in ends))

    def predict_rows(
        self, rows: FloatArray, has_window: BoolArray, num_threads: int | None = None
    ) -> FloatArray:
        """Predict rows that are scaled already: (N, K) in scaled units; arguments as in
        `predict_outputs`.
        """
        return self.points(self.predict_outputs(rows, has_window, num_threads))

    def score(self, X: Given, y: Any) -> float:
        """Return R² of the predictions, over the rows that have a prediction and a target."""
        inputs, outputs = self._outputs(X)
        predicted = self._unscaled(self.points(outputs))
        targets = self._read_targets(y, inputs, []).values
        self._require_targets(targets)
        known = finite_rows(predicted) & finite_rows(targets)
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        errors = np.square(targets[known] - predicted[known]).sum(axis=0)
        spread = np.square(targets[known] - targets[known].mean(axis=0)).sum(axis=0)
        return float(np.mean(1 - errors / np.where(spread > 0, spread, 1)))

    @property
    def _shape(self) -> tuple[list[str], bool]:
        return self.label_names_, self._single_target

    def _unscaled(self, values: FloatArray) -> FloatArray:
        return values if self._scaling is None else self._scaling.unscale_targets(values)

    # files

    def to_checkpoint(self) -> Checkpoint:
        """Return what a model file of this model holds."""
        calibration = None if self._calibration is None else self._calibration.to_dict()
        return dataclasses.replace(super().to_checkpoint(), calibration=calibration)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Build a model from what a file holds; arguments and errors as in the base class."""
        model = super().from_checkpoint(checkpoint)
        if checkpoint.calibration is not None:
            model._calibration = Calibration(**checkpoint.calibration)
        return model

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import RegressorTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags


def _quantile_bounds(answer: Numbers | Quantiles, outputs: Tensor) -> Bounds | None:
    """Return the ends (N, K) that a net with quantiles gives by itself."""
    if not isinstance(answer, Quantiles):
        return None
    lower, upper = answer.bounds(outputs)
    return lower.numpy(), upper.numpy()
