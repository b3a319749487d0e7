"""`SequenceRegressor`: fit, predict, save and load on arrays and DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, finite_rows
from freqai_lstm_plugins.data.preparation import Prepared, Schema, read_weights
from freqai_lstm_plugins.data.targets import read_numbers
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.contract import Predictions
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.models.intervals import Bounds, Calibration, require_rows
from freqai_lstm_plugins.nets import net_class
from freqai_lstm_plugins.training.devices import torch_threads
from freqai_lstm_plugins.training.objectives import Numbers, Quantiles, quantile_levels
from freqai_lstm_plugins.training.prediction import predict_windows

if TYPE_CHECKING:
    from freqai_lstm_plugins.config import TrainConfig
    from freqai_lstm_plugins.data.panel import Given, Inputs
    from freqai_lstm_plugins.data.windows import WindowSet


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
    read_targets = staticmethod(read_numbers)

    def check_answer_settings(self, config: TrainConfig) -> None:
        """Raise ConfigError where a setting is one of classifiers."""
        name = type(self).__name__
        if config.loss == "cross_entropy":
            raise ConfigError(
                f"{name}: loss = 'cross_entropy' is for classes: take mse, mae, huber or quantile, "
                f"or a classifier."
            )
        if config.class_weight is not None:
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

    def answer_for(self, data: Prepared) -> Numbers | Quantiles:
        """Return what the outputs of a net trained on `data` mean.

        Raises:
            DataError: There are too few validation windows to calibrate intervals on.
        """
        if self.train_config.interval is not None:
            n_rows = 0 if data.valid is None else len(data.valid)
            require_rows(self.train_config.interval, n_rows)
        targets = data.train.targets
        deviations = torch.std(targets, dim=0, correction=0)
        # A constant target's is 1, as in scaling: a bound of 0 would count no error.
        deviations = torch.where(deviations > 0, deviations, 1.0)
        return self._answer_of(targets.shape[1], tuple(deviations.tolist()))

    def _blank(self, train: WindowSet, schema: Schema) -> list[float]:
        mean: list[float] = train.targets.mean(dim=0).tolist()
        return mean

    # intervals

    def _calibrate(self, net: nn.Module, data: Prepared) -> Calibration | None:
        interval, valid = self.train_config.interval, data.valid
        if interval is None or valid is None:
            return None
        answer = self._answer_of(valid.targets.shape[1], ())
        with torch_threads(self.train_config.num_threads):
            outputs = predict_windows(net, valid.rows, valid.ends, valid.window).double()
        return Calibration.fit(
            interval,
            answer.points(outputs).numpy(),
            _quantile_bounds(answer, outputs),
            valid.targets.double().numpy(),
            data.train.targets.double().numpy(),
            data.valid_symbols,
        )

    @property
    def calibration(self) -> Calibration | None:
        """How intervals were calibrated; None where the setting `interval` asks for none."""
        return None if self._fitted is None else self._fitted.calibration

    def points(self, outputs: FloatArray) -> FloatArray:
        """Return the predictions (N, K), in scaled units, that outputs (N, O) stand for."""
        points: FloatArray = self.answer.points(torch.from_numpy(outputs)).numpy()
        return points

    def bounds(self, outputs: FloatArray, symbols: npt.NDArray[Any] | None = None) -> Bounds:
        """Return the calibrated ends of the intervals, (N, K) each, in scaled units.

        Rows without a window get the interval of the forecast that knows nothing.

        Args:
            outputs: (N, O).
            symbols: (N,) names of the rows' symbols, which may have margins of their own.

        Raises:
            ConfigError: The model was trained without the setting `interval`.
        """
        calibration = self.calibration
        if calibration is None:
            raise ConfigError(
                "The model was trained without intervals: set interval, for example to 0.8, and "
                "train it again."
            )
        bounds = _quantile_bounds(self.answer, torch.from_numpy(outputs))
        lower, upper = calibration.bounds(self.points(outputs), bounds, symbols)
        is_blank = np.isnan(outputs[:, 0])
        lower[is_blank], upper[is_blank] = calibration.blank_lower, calibration.blank_upper
        return lower, upper

    # predict

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict rows (N, F), scaled as in the training, at which a full window ends.

        Predictions are in the units of the training windows' targets, with the ends of intervals
        where the model has any; NaN where no window ends.
        """
        outputs = self.predict_outputs(rows, has_window)
        point = self.points(outputs)
        if self.calibration is None:
            return Predictions(point)
        blank = np.isnan(outputs[:, :1])
        symbols = None
        if self.symbols_:
            # Rows that no window holds may be anything.
            numbers = np.nan_to_num(rows[:, -1]).astype(np.int64)
            symbols = np.array(self.symbols_, dtype=object)[numbers]
        lower, upper = (np.where(blank, np.nan, end) for end in self.bounds(outputs, symbols))
        return Predictions(point, lower, upper)

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
        inputs, rows, has_window = self.net_rows(X)
        points = self.predict_rows(rows.numpy(), has_window)
        return self._restored(inputs, points)

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
        inputs, rows, has_window = self.net_rows(X)
        outputs = self.predict_outputs(rows.numpy(), has_window)
        blank = np.isnan(outputs[:, :1])
        symbols = inputs.symbol_names(np.arange(len(inputs)))
        ends = [self.points(outputs), *self.bounds(outputs, symbols)]
        return Interval(*(self._restored(inputs, np.where(blank, np.nan, v)) for v in ends))

    def predict_rows(
        self, rows: FloatArray, has_window: BoolArray, num_threads: int | None = None
    ) -> FloatArray:
        """Predict (N, K) in scaled units of scaled rows, the arguments of `predict_outputs`."""
        return self.points(self.predict_outputs(rows, has_window, num_threads))

    def score(self, X: Given, y: Any, sample_weight: Any = None) -> float:
        """Return R² of the predictions, over the rows that have a prediction and a target."""
        inputs, rows, has_window = self.net_rows(X)
        predicted = self._unscaled(self.predict_rows(rows.numpy(), has_window))
        targets = read_numbers(y, inputs, []).values
        self.require_targets(targets)
        known = finite_rows(predicted) & finite_rows(targets)
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        weights, targets = read_weights(sample_weight, inputs)[known], targets[known]
        mean = np.average(targets, axis=0, weights=weights)
        errors = np.average(np.square(targets - predicted[known]), axis=0, weights=weights)
        spread = np.average(np.square(targets - mean), axis=0, weights=weights)
        return float(np.mean(1 - errors / np.where(spread > 0, spread, 1)))

    def _restored(self, inputs: Inputs, values: FloatArray) -> Any:
        schema = self.fitted.schema
        return inputs.restore(self._unscaled(values), schema.label_names, schema.single_target)

    def _unscaled(self, values: FloatArray) -> FloatArray:
        return values if self.scaling is None else self.scaling.unscale_targets(values)

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
