"""What trees and linear models share: they see the newest row of a window, or some of its rows.

Such a model learns each target by itself. It trains on the windows that nets train on, so it has
the same targets, weights and validation windows, and a row without a window has no forecast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.config import parse_settings, setting
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.models.contract import Predictions
from freqai_lstm_plugins.models.intervals import Calibration, require_rows
from freqai_lstm_plugins.models.plain import (
    read_calibration,
    read_history,
    read_numbers,
    read_schema,
    read_window,
)
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.loop import require_windows
from freqai_lstm_plugins.training.objectives import quantile_levels

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray
    from freqai_lstm_plugins.data.preparation import Prepared, Schema
    from freqai_lstm_plugins.data.windows import WindowSet

OnEpoch = Callable[[Epoch], None]
Float32Array = npt.NDArray[np.float32]


def _are_lags(value: list[Any]) -> bool:
    counts = all(isinstance(lag, int) and not isinstance(lag, bool) and lag >= 0 for lag in value)
    return counts and len(set(value)) == len(value) > 0


@dataclass(frozen=True)
class TabularConfig:
    """Settings of every model that sees rows of a window at once.

    Attributes:
        lags: Which rows of a window the model sees, counted back from the newest, 0; all below W.
        loss: `mse`, `mae`, or `quantile`: the median and two quantiles around it, each learned by
            itself.
        interval: Share of the targets that the predicted interval is to hold, such as 0.8; null
            predicts no interval. With the loss `quantile` the interval changes from row to row.
        seed: Seed of whatever the model draws.
        num_threads: CPU threads; null takes one.
    """

    lags: list[int] = field(
        default_factory=lambda: [0],
        metadata={"rule": "a list of different whole numbers from 0 on", "check": _are_lags},
    )
    loss: Literal["mse", "mae", "quantile"] = setting("mse", "", lambda v: True)
    interval: float | None = setting(
        None, "a number between 0 and 1, such as 0.8, or null", lambda v: 0 < v < 1
    )
    seed: int = setting(42, "an integer from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)
    num_threads: int | None = setting(
        None, "an integer from 1 to 1024, or null", lambda v: 1 <= v <= 1024
    )

    @property
    def levels(self) -> tuple[float | None, ...]:
        """What is learned of each target: quantiles, or None for its mean or median."""
        return quantile_levels(self.interval) if self.loss == "quantile" else (None,)


@dataclass(frozen=True)
class Table:
    """Rows to learn one target from.

    Attributes:
        x: (M, F * lags) features; with symbols, the symbol's number in one more column, the last.
        y: (M,) targets.
        weights: (M,).
        n_symbols: Symbols that the last column numbers; 0 where it is a feature.
    """

    x: Float32Array
    y: FloatArray
    weights: FloatArray
    n_symbols: int


@dataclass(frozen=True)
class Learned:
    """What one target's training gave: plain data to predict from, and losses by epoch."""

    state: Any
    history: History


@dataclass(frozen=True)
class TabularFitted:
    """A fitted model, whole.

    Attributes:
        schema: Names of features, labels and symbols.
        window: W of the training windows.
        learned: For each target the plain data of each of its levels.
        history: Losses of the first target's middle level.
        calibration: How far intervals reach, as plain data; None without intervals.
        target_mean: (K,) mean training target, the forecast that knows nothing.
    """

    schema: Schema
    window: int
    learned: list[list[Any]]
    history: History
    calibration: dict[str, Any] | None
    target_mean: list[float]


class TabularRegressor(ABC):
    """A model of numbers that sees rows of a window at once.

    Attributes:
        config: Its settings.
        fitted: What a training left; None before.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type[TabularConfig]]

    def __init__(self, **settings: Any) -> None:
        """Set every parameter; nothing is trained yet.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        self.config = parse_settings(self.config_class, settings, self.kind)
        self.fitted: TabularFitted | None = None

    @abstractmethod
    def learn(
        self,
        train: Table,
        valid: Table | None,
        level: float | None,
        on_epoch: OnEpoch | None,
        former: Any = None,
    ) -> Learned:
        """Learn one target: its quantile `level`, or its mean or median where that is None.

        Args:
            train: Rows to learn from.
            valid: Rows to stop early by.
            level: The quantile.
            on_epoch: Called after each pass.
            former: What a former training of the same target gave, to go on from where the model
                knows how.
        """

    @abstractmethod
    def sound(self, state: Any, n_columns: int) -> Any:
        """Return what a file holds of one training, checked.

        Raises:
            MismatchError: No training of rows of `n_columns` columns can have given it.
            DataError: The same, in other words.
        """

    @abstractmethod
    def recall(self, state: Any, x: Float32Array) -> FloatArray:
        """Predict rows x (M, columns) -> (M,) from what `learn` gave."""

    @abstractmethod
    def contribute(self, state: Any, x: Float32Array) -> FloatArray:
        """Return what each column of x (M, columns) adds to the prediction, and last its base.

        Returns:
            (M, columns + 1), whose rows add up to the predictions.
        """

    def fit_windows(
        self,
        data: Prepared,
        *,
        start_from: TabularRegressor | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train on windows; those of `data.valid` decide when to stop, and calibrate intervals.

        Args:
            data: Windows to learn from and to validate.
            start_from: A fitted model of the same settings, targets and features to go on from:
                trees are added to its trees. It is only read.
            on_epoch: Called after each pass.

        Raises:
            DataError: There is no training window, or too few validation windows for an interval.
            ConfigError: A lag lies outside the window, or the targets are classes.
        """
        train, valid = (
            data.train,
            data.valid if data.valid is not None and len(data.valid) else None,
        )
        require_windows(train)
        self._check(data)
        learned: list[list[Any]] = []
        histories: list[History] = []
        for k in range(train.targets.shape[1]):
            table = self._table(train, k, data.schema)
            held = None if valid is None else self._table(valid, k, data.schema)
            levels = self.config.levels
            before = [None] * len(levels) if start_from is None else start_from.learned(k)
            found = [
                self.learn(table, held, level, on_epoch, former)
                for level, former in zip(levels, before, strict=True)
            ]
            learned.append([part.state for part in found])
            histories.append(found[len(found) // 2].history)
        fitted = TabularFitted(
            data.schema,
            train.window,
            learned,
            histories[0],
            None,
            train.targets.double().mean(dim=0).tolist(),
        )
        if self.config.interval is not None and valid is not None:
            fitted = self._calibrated(fitted, train, valid)
        self.fitted = fitted
        return self

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict the rows (N, F) at which a full window ends, in the targets' units.

        Raises:
            ConfigError: The model is not fitted.
        """
        fitted = self.require_fitted()
        ends = np.flatnonzero(has_window)
        x = self._inputs(np.asarray(rows, dtype=np.float32), ends, bool(fitted.schema.symbols))
        found = self._levels(fitted, x)
        point, lower, upper = _split_levels(found)
        bounds = None if lower is None or upper is None else (lower, upper)
        if fitted.calibration is not None:
            bounds = Calibration(**fitted.calibration).bounds(point, bounds)
        low, high = bounds if bounds is not None else (None, None)
        n_rows = len(rows)
        return Predictions(
            _placed(point, ends, n_rows),
            None if low is None else _placed(low, ends, n_rows),
            None if high is None else _placed(high, ends, n_rows),
        )

    def attributions(
        self, rows: FloatArray, ends: IntArray, target: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return what features add to the forecasts of windows, and how far these moved.

        Args:
            rows: (N, F), scaled as in the training.
            ends: (M,) rows at which the windows end.
            target: Number of the target.

        Returns:
            (M, W, F) attributions, 0 at lags that the model does not see, and (M,) the distance of
            each forecast from its base.
        """
        fitted, lags = self.require_fitted(), self.config.lags
        n_features = len(fitted.schema.feature_names)
        x = self._inputs(np.asarray(rows, dtype=np.float32), ends, bool(fitted.schema.symbols))
        levels = fitted.learned[target]
        found = self.contribute(levels[len(levels) // 2], x)
        spread = np.zeros((len(ends), fitted.window, n_features))
        for place, lag in enumerate(lags):
            part = found[:, place * n_features : (place + 1) * n_features]
            spread[:, fitted.window - 1 - lag] += part
        # What the symbol adds belongs to no feature, and is part of the base.
        return spread, spread.sum(axis=(1, 2))

    def learned(self, target: int) -> list[Any]:
        """Return what was learned of a target, level by level."""
        return self.require_fitted().learned[target]

    def require_fitted(self) -> TabularFitted:
        """Return what a training left.

        Raises:
            ConfigError: There was none.
        """
        if self.fitted is None:
            raise ConfigError(f"This {self.kind} model is not fitted yet: fit it, or load a file.")
        return self.fitted

    @property
    def history_(self) -> History:
        """Losses of the training, of the first target."""
        return self.require_fitted().history

    def to_state(self) -> dict[str, Any]:
        """Return plain data from which `from_state` builds the same model."""
        fitted = self.require_fitted()
        return {
            "settings": asdict(self.config),
            **asdict(fitted),
            "history": fitted.history.to_dict(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described.

        Raises:
            MismatchError: The state is not of such a model.
        """
        try:
            model = cls(**state["settings"])
            model.fitted = model._read(state)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise MismatchError(
                f"The model file holds no sound {cls.kind} model ({error}): train it again."
            ) from error
        return model

    def _read(self, state: dict[str, Any]) -> TabularFitted:
        schema = read_schema(state["schema"])
        n_labels, window = len(schema.label_names), read_window(state["window"])
        if max(self.config.lags) >= window:
            raise DataError(f"lag {max(self.config.lags)} lies outside windows of {window} rows")
        # A column of the symbol's number stands last.
        n_columns = len(schema.feature_names) * len(self.config.lags) + bool(schema.symbols)
        learned, n_levels = state["learned"], len(self.config.levels)
        if [len(levels) for levels in learned] != [n_levels] * n_labels:
            raise DataError(f"it has not learned {n_levels} levels of {n_labels} labels")
        return TabularFitted(
            schema,
            window,
            [[self.sound(part, n_columns) for part in levels] for levels in learned],
            read_history(state["history"]),
            read_calibration(state["calibration"], n_labels),
            read_numbers(state["target_mean"], n_labels, "target_mean"),
        )

    def require_window(self, window: int) -> None:
        """Raise ConfigError where a lag lies outside windows of that many rows."""
        if max(self.config.lags) >= window:
            raise ConfigError(
                f"{self.kind}: lag {max(self.config.lags)} lies outside windows of {window} rows. "
                f"Take lags below {window}, or larger windows."
            )

    def _check(self, data: Prepared) -> None:
        self.require_window(data.train.window)
        if data.schema.classes:
            raise ConfigError(f"{self.kind} predicts numbers, and the targets are classes.")
        if self.config.interval is not None:
            require_rows(self.config.interval, 0 if data.valid is None else len(data.valid))

    def _inputs(self, rows: Float32Array, ends: IntArray, has_symbol: bool) -> Float32Array:
        """Return what is seen of the windows that end at `ends`: (M, F * lags), the symbol last."""
        n_features = rows.shape[1] - has_symbol
        parts = [rows[ends - lag, :n_features] for lag in self.config.lags]
        return np.concatenate([*parts, rows[ends, n_features:]], axis=1)

    def _table(self, windows: WindowSet, target: int, schema: Schema) -> Table:
        ends = windows.ends.numpy()
        return Table(
            self._inputs(windows.rows.numpy(), ends, bool(schema.symbols)),
            windows.targets[:, target].double().numpy(),
            windows.weights.double().numpy(),
            len(schema.symbols),
        )

    def _levels(self, fitted: TabularFitted, x: Float32Array) -> FloatArray:
        """Return what each level says of rows x: (levels, M, K), rising."""
        found = [[self.recall(state, x) for state in states] for states in fitted.learned]
        # Quantiles that were learned one by one may cross.
        levels: FloatArray = np.sort(np.array(found, dtype=np.float64), axis=1)
        return levels.transpose(1, 2, 0)

    def _calibrated(
        self, fitted: TabularFitted, train: WindowSet, valid: WindowSet
    ) -> TabularFitted:
        assert self.config.interval is not None
        has_symbol = bool(fitted.schema.symbols)
        x = self._inputs(valid.rows.numpy(), valid.ends.numpy(), has_symbol)
        point, lower, upper = _split_levels(self._levels(fitted, x))
        calibration = Calibration.fit(
            self.config.interval,
            point,
            None if lower is None or upper is None else (lower, upper),
            valid.targets.double().numpy(),
            train.targets.double().numpy(),
        )
        return TabularFitted(
            fitted.schema,
            fitted.window,
            fitted.learned,
            fitted.history,
            calibration.to_dict(),
            fitted.target_mean,
        )


def _split_levels(
    levels: FloatArray,
) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    """Return point, lower and upper of (levels, M, K)."""
    middle = levels[len(levels) // 2]
    return (middle, levels[0], levels[-1]) if len(levels) > 1 else (middle, None, None)


def _placed(values: FloatArray, ends: IntArray, n_rows: int) -> FloatArray:
    """Spread values (M, K) over the rows at which windows end: (N, K), NaN elsewhere."""
    result = np.full((n_rows, values.shape[1]), np.nan)
    result[ends] = values
    return result
