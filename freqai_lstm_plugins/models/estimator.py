"""`SequenceEstimator`: what regressor and classifier share, on arrays and DataFrames.

Rows must be in the order of time. A row with a NaN or an infinity breaks every window that would
hold it; a row whose target is missing is context for later rows, but no target.

The estimator is the face of five things that stand by themselves: `parameters`, the preparation of
rows (`data.preparation`), the training and what it leaves (`fitted`), and the file (`state`).
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from freqai_lstm_plugins.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, to_float32
from freqai_lstm_plugins.data.panel import Given, Inputs, read_inputs
from freqai_lstm_plugins.data.preparation import (
    Prepared,
    Schema,
    full_windows,
    prepare,
    scaled_rows,
)
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import DataError, FreqaiLSTMError, MismatchError
from freqai_lstm_plugins.models.building import stored_net
from freqai_lstm_plugins.models.fitted import Fitted, require_enough, require_same_names, train_net
from freqai_lstm_plugins.models.intervals import Calibration
from freqai_lstm_plugins.models.parameterized import ParameterizedNet
from freqai_lstm_plugins.models.state import SequenceState
from freqai_lstm_plugins.training.devices import torch_threads
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.prediction import predict_windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from freqai_lstm_plugins.data.targets import Targets
    from freqai_lstm_plugins.data.windows import WindowSet
    from freqai_lstm_plugins.models.contract import Predictions
    from freqai_lstm_plugins.models.parameters import NetFactory
    from freqai_lstm_plugins.training.objectives import Answer

# These stand beside the data settings in a file, or are of the moment.
_NOT_IN_DATA_SETTINGS = ("window", "scale", "progress")


class SequenceEstimator(ParameterizedNet):
    """A net that answers for each row from the W rows that end there."""

    kind: ClassVar[str]

    # what a kind of answer decides

    @staticmethod
    @abstractmethod
    def read_targets(y: Any, inputs: Inputs, classes: list[list[Any]]) -> Targets:
        """Read targets in the shape of the features; `classes` are those known already."""

    @abstractmethod
    def answer_for(self, data: Prepared) -> Answer:
        """Return what the outputs of a net trained on `data` mean."""

    @property
    @abstractmethod
    def answer(self) -> Answer:
        """What the outputs of the fitted net mean."""

    @abstractmethod
    def _blank(self, train: WindowSet, schema: Schema) -> list[float]:
        """Return the forecast that knows nothing."""

    def _calibrate(self, net: nn.Module, data: Prepared) -> Calibration | None:
        """Return how far the intervals of a trained net reach; None where there are none."""
        return None

    @abstractmethod
    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict rows (N, F), scaled as in the training, at which a full window ends."""

    # fit

    def fit(
        self,
        X: Given,
        y: Any,
        sample_weight: Any = None,
        eval_set: tuple[Given, Any] | None = None,
        *,
        on_epoch: Callable[[Epoch], bool | None] | None = None,
    ) -> Self:
        """Train on rows in the order of time.

        Many symbols are trained together where X is a list of frames or arrays, a dictionary symbol
        -> frame, or a DataFrame with the column `symbol`: windows never cross symbols, and batches
        mix them. Targets and weights then have the same shape.

        Args:
            X: (N, F) features.
            y: (N,) or (N, K) targets; NaN where a row has none.
            sample_weight: (N,) weights of the rows' losses.
            eval_set: (X, y) for early stopping, in place of the last `valid_size` of the targets:
                the last in time where many symbols have a DatetimeIndex, else of each symbol.
            on_epoch: Called after each epoch. Where it returns True the training ends with the best
                weights so far; what it raises ends it too, and leaves the model as it was.

        Raises:
            DataError: Shapes differ, or too few consecutive rows are left for one window.
            TrainingError: The loss is no longer finite.
        """
        data = prepare(
            X,
            y,
            self.data_config,
            read_targets=self.read_targets,
            sample_weight=sample_weight,
            eval_set=eval_set,
        )
        return self.fit_windows(data, on_epoch=on_epoch)

    def fit_windows(
        self,
        data: Prepared,
        *,
        start_from: SequenceEstimator | None = None,
        on_epoch: Callable[[Epoch], bool | None] | None = None,
    ) -> Self:
        """Train on windows whose rows and targets are scaled already.

        Args:
            data: Windows to learn from and to validate, and their names.
            start_from: A fitted model of the same shape whose weights and optimizer state to go on
                from. It is only read, so it may go on predicting in another thread.
            on_epoch: See `fit`.

        Raises:
            DataError: There are fewer training windows than `min_windows`.
            MismatchError: `start_from` knows other classes or symbols.
            TrainingError: The loss is no longer finite.
        """
        require_enough(data, self.train_config.min_windows)
        answer = self.answer_for(data)
        former = None if start_from is None else start_from.fitted
        if former is not None:
            require_same_names(data, former)
        net, trained = train_net(self._parameters, data, answer, former, on_epoch)
        # One assignment, so that a training that fails leaves a fitted model as it was.
        self._fitted = Fitted(
            net,
            None,
            data.schema,
            data.scaling,
            trained.history,
            self._blank(data.train, data.schema),
            trained.optimizer_state,
            self._calibrate(net, data),
        )
        return self

    def forget_optimizer(self) -> None:
        """Drop the optimizer's state, which only continual learning needs."""
        self._fitted = dataclasses.replace(self.fitted, optimizer_state=None)

    # predict

    def predict_outputs(
        self, rows: FloatArray, has_window: BoolArray, num_threads: int | None = None
    ) -> FloatArray:
        """Return the net's outputs for rows that are scaled already.

        Args:
            rows: (N, F); rows that no window holds may be NaN. With symbols (N, F + 1).
            has_window: (N,) where a full window ends.
            num_threads: CPU threads to use; by default the setting of the training.

        Returns:
            (N, O), NaN without a window.
        """
        net, ends = self.require_net(), np.flatnonzero(has_window)
        result = np.full((len(rows), self.answer.n_outputs), np.nan)
        if len(ends):
            tensor = torch.from_numpy(to_float32(rows))
            with torch_threads(num_threads or self.train_config.num_threads):
                outputs = predict_windows(net, tensor, torch.from_numpy(ends), self.window)
            result[ends] = outputs.numpy()
        return result

    def net_rows(self, X: Given) -> tuple[Inputs, Tensor, BoolArray]:
        """Return a user's features as the fitted net sees them, and where full windows end.

        Returns:
            inputs: What was read.
            rows: (N, F) scaled; with symbols (N, F + 1), the symbol's number last.
            has_window: (N,).
        """
        self.require_net()
        inputs = read_inputs(X, self.data_config.symbol)
        inputs.require_features(self.feature_names_in_)
        rows = scaled_rows(inputs, self.scaling, self.symbols_)
        return inputs, rows, full_windows(rows.numpy(), inputs, self.data_config)

    def require_targets(self, values: npt.NDArray[Any]) -> None:
        """Raise DataError where targets (N, K) are not so many as the model predicts."""
        if values.shape[1] != len(self.label_names_):
            raise DataError(
                f"y has {values.shape[1]} targets, and the model was trained on "
                f"{len(self.label_names_)}."
            )

    def plot_history(self, path: str | Path | None = None) -> Figure:
        """Draw the losses over the epochs, and write them to `path` where one is given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from freqai_lstm_plugins.training.history import plot_history

        self.require_net()
        figure = plot_history(self.history_, self.net_name)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    # files

    def to_state(self) -> dict[str, Any]:
        """Return plain data and tensors from which `from_state` builds the same model."""
        net, parameters, fitted = self.require_net(), self._parameters, self.fitted
        data = dataclasses.asdict(parameters.data)
        schema = fitted.schema
        state = SequenceState(
            net=parameters.net_name,
            is_own_net=parameters.is_own_net,
            net_settings=parameters.net_settings,
            train_settings=dataclasses.asdict(parameters.train),
            data_settings={k: v for k, v in data.items() if k not in _NOT_IN_DATA_SETTINGS},
            window=self.window,
            feature_names=schema.feature_names,
            label_names=schema.label_names,
            state_dict=net.state_dict(),
            target_mean=fitted.blank,
            history=fitted.history.to_dict(),
            single_target=schema.single_target,
            scaling=None if fitted.scaling is None else fitted.scaling.to_dict(),
            optimizer_state=fitted.optimizer_state,
            classes=schema.classes,
            calibration=None if fitted.calibration is None else fitted.calibration.to_dict(),
            symbols=schema.symbols,
        )
        return state.to_plain()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described; a net of one's own waits for `bind`.

        Raises:
            NotACheckpointError: Something in it cannot be right.
            MismatchError: It is sound, but of another version.
        """
        found = SequenceState.read(cls.kind, state)
        settings = found.train_settings | found.data_settings
        if not found.is_own_net:
            settings |= found.net_settings
        try:
            net = _unbound(found.net) if found.is_own_net else found.net
            model = cls(net, found.window, scale=found.scaling is not None, **settings)
            found.require_sizes(model._sizes(found))
            fitted = _fitted_of(found)
        except (FreqaiLSTMError, TypeError, KeyError) as error:
            raise MismatchError(
                f"The model file's net or settings are unknown here ({error}). Use the version of "
                f"freqai_lstm_plugins that wrote it, or train again."
            ) from error
        model._fitted = fitted
        if found.is_own_net:
            return model.name_net(found.net, dict(found.net_settings))
        model._build()
        return model

    def _sizes(self, state: SequenceState) -> dict[str, Any]:
        """Return the settings that say how large the net of a file is."""
        settings = {} if state.is_own_net else vars(self.net_config)
        if state.symbols and state.net != "tft":
            settings = {**settings, "symbol_embedding": self.data_config.symbol_embedding}
        return settings

    def _build(self) -> None:
        """Build the net that loaded weights wait for."""
        fitted = self.fitted
        assert fitted.weights is not None
        schema = fitted.schema
        sizes = (len(schema.feature_names), self.answer.n_outputs, len(schema.symbols))
        net = stored_net(self._parameters, fitted.weights, *sizes)
        self._fitted = dataclasses.replace(fitted, net=net, weights=None)

    def bind(self, factory: NetFactory, name: str | None = None) -> Self:
        """Give a loaded model the function that makes its own net.

        Raises:
            MismatchError: The weights do not fit the net that `factory` makes.
        """
        name = name or self._parameters.own_name
        self._parameters = dataclasses.replace(self._parameters, net=factory, own_name=name)
        if self._fitted is not None and self._fitted.net is None:
            self._build()
        return self

    def name_net(self, name: str, settings: dict[str, Any]) -> Self:
        """Set the name and the settings that a model file keeps for a net of one's own."""
        self._parameters = dataclasses.replace(
            self._parameters, own_name=name, own_settings=settings
        )
        return self

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all."""
        write_checkpoint(Checkpoint(self.kind, self.to_state()), Path(path))

    @classmethod
    def load(cls, path: str | Path, net: NetFactory | None = None) -> Self:
        """Read a model from a file without executing anything that it holds.

        Args:
            path: A file that `save` or freqtrade wrote.
            net: The function that makes the net, where the file holds a net of your own.

        Raises:
            CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
        """
        checkpoint = read_checkpoint(Path(path))
        if checkpoint.kind != cls.kind:
            raise MismatchError(
                f"The model file holds a {checkpoint.kind}, and {cls.__name__} is a {cls.kind}: "
                f"read it with freqai_lstm_plugins.load_model."
            )
        return with_net(cls.from_state(checkpoint.state), path, net)


EstimatorT = TypeVar("EstimatorT", bound=SequenceEstimator)


def with_net(model: EstimatorT, path: str | Path, net: NetFactory | None) -> EstimatorT:
    """Return a loaded model with its net.

    Raises:
        MismatchError: It has a net of its own, and nothing makes it, or `net` makes another one.
    """
    if net is not None:
        return model.bind(net)
    if model.net_ is None:
        raise MismatchError(
            f"{path} holds the weights of {model.net_name!r}, a net of your own: pass the "
            f"function that makes it, {type(model).__name__}.load(path, net=make_net)."
        )
    return model


def _fitted_of(state: SequenceState) -> Fitted:
    """Return what a file says that a training left; there is no net yet."""
    schema = Schema(
        state.feature_names, state.label_names, state.classes, state.symbols, state.single_target
    )
    return Fitted(
        net=None,
        weights=state.state_dict,
        schema=schema,
        scaling=None if state.scaling is None else Scaling(**state.scaling),
        history=History.from_dict(state.history),
        blank=state.target_mean,
        optimizer_state=state.optimizer_state,
        calibration=None if state.calibration is None else Calibration(**state.calibration),
    )


def _unbound(name: str) -> NetFactory:
    def build(_n_features: int, _n_outputs: int) -> nn.Module:
        raise MismatchError(f"The net {name!r} is defined in your own file, and not loaded yet.")

    build.__name__ = name
    return build
