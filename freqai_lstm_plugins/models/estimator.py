"""`SequenceEstimator`: what regressor and classifier share, on arrays and DataFrames.

Rows must be in the order of time. A row with a NaN or an infinity breaks every window that would
hold it; a row whose target is missing is context for later rows, but no target.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from freqai_lstm_plugins.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from freqai_lstm_plugins.config import (
    DEFAULT_WINDOW,
    AnyNetConfig,
    NetConfig,
    TFTConfig,
    TrainConfig,
    field_names,
    parse_count,
    parse_settings,
    parse_train_settings,
    parse_window,
    split_settings,
)
from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, finite_rows, to_float32
from freqai_lstm_plugins.data.panel import Given, Inputs, numbers_of, read_inputs
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.splits import purged
from freqai_lstm_plugins.data.windows import WindowSet, build_window_set, window_ends
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    MismatchError,
    NotACheckpointError,
)
from freqai_lstm_plugins.names import require_names, shortened
from freqai_lstm_plugins.nets import build_net, net_class, not_finite, panel_net
from freqai_lstm_plugins.training.devices import choose_device, seeded, torch_threads
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.loop import count_epochs, fit, require_windows
from freqai_lstm_plugins.training.objectives import Answer
from freqai_lstm_plugins.training.prediction import predict_windows
from freqai_lstm_plugins.training.progress import epoch_progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NetFactory = Callable[[int, int], nn.Module]

_DATA_PARAMS = ("valid_size", "label_period", "step", "symbol", "symbol_embedding")
_OWN_PARAMS = ("net", "window", *_DATA_PARAMS, "scale", "progress")


@dataclasses.dataclass(frozen=True)
class Targets:
    """Targets as training takes them.

    Attributes:
        values: (N, K) numbers, or numbers of classes; NaN where a row has none.
        names: K names.
        classes: For each target the names of its classes; nothing for numbers.
    """

    values: FloatArray
    names: list[str]
    classes: list[list[Any]]


class SequenceEstimator(ABC):
    """A net that answers for each row from the W rows that end there.

    Attributes:
        net_: The fitted `nn.Module`.
        history_: `History` of the training.
        feature_names_in_: Names of the F features.
        label_names_: Names of the K targets.
        symbols_: Names of the symbols that the net knows; empty where it is not told the symbol.
    """

    kind: ClassVar[str]
    net_: nn.Module | None
    history_: History
    feature_names_in_: list[str]
    label_names_: list[str]
    symbols_: list[str]

    def __init__(
        self,
        net: str | NetFactory = "lstm",
        window: int = DEFAULT_WINDOW,
        *,
        valid_size: float = 0.15,
        label_period: int = 0,
        step: str | None = None,
        symbol: str | None = None,
        symbol_embedding: int = 0,
        scale: bool = True,
        progress: bool | None = None,
        **settings: Any,
    ) -> None:
        """Set every parameter; nothing is trained yet.

        Args:
            net: Name in `NETS`, or a function `(n_features, n_outputs) -> nn.Module` that makes a
                net of your own, (B, W, F) -> (B, O): one output a target, three a target with the
                loss `quantile`, one a class in a classifier.
            window: W, rows a window.
            valid_size: Last fraction of the targets that `fit` keeps for early stopping where no
                `eval_set` is given; 0 trains on all.
            label_period: Rows that a target looks ahead; so many targets are left out between
                training and validation.
            step: Time between two rows, such as `"5min"`. Windows then break where a DataFrame's
                DatetimeIndex jumps. Without it all rows of a symbol count as consecutive.
            symbol: Column that names the symbol where X is one DataFrame with rows of many symbols.
            symbol_embedding: Learned numbers that stand for the symbol beside each row's features,
                where many symbols are trained together; 0 does not tell the net the symbol. The net
                `tft` learns `hidden_size` numbers instead, whatever is given here above 0.
            scale: Standardize features and targets, fitted on training rows only.
            progress: Show a progress bar; by default where a terminal watches.
            **settings: Fields of `TrainConfig` and of the net's settings (`NetConfig`,
                `ALSTMConfig`, `TFTConfig`), under torch's or FreqAI's names.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        name = type(self).__name__
        if not isinstance(net, str) and not callable(net):
            raise ConfigError(f"net must be a name or a function that makes a net, not {net!r}.")
        self.net = net
        self.window = parse_window(window, "window")
        if not isinstance(valid_size, int | float) or not 0 <= valid_size < 1:
            raise ConfigError(
                f"valid_size must be a number from 0 up to, not including, 1, not {valid_size!r}."
            )
        self.valid_size = float(valid_size)
        self.label_period = parse_count(label_period, 0, "label_period")
        self.step = _checked_step(step)
        if symbol is not None and not isinstance(symbol, str):
            raise ConfigError(f"symbol must be the name of a column, not {symbol!r}.")
        self.symbol = None if symbol is None else str(symbol)
        self.symbol_embedding = parse_count(symbol_embedding, 0, "symbol_embedding")
        self.scale = scale
        self.progress = progress
        config = _net_config_class(net)
        # A net of one's own has its settings in its factory.
        configs = (config, TrainConfig) if isinstance(net, str) else (TrainConfig,)
        parts = split_settings(settings, configs, name)
        self.net_config: AnyNetConfig = parse_settings(config, parts.get(config, {}), name)
        self.train_config = parse_train_settings(parts[TrainConfig], name)
        self.check_answer_settings()
        self._name: str | None = None
        self._net_settings: dict[str, Any] = {}
        self._pending: dict[str, Tensor] | None = None
        self._scaling: Scaling | None = None
        self._target_mean: list[float] = []
        self._classes: list[list[Any]] = []
        self._optimizer_state: dict[str, Any] | None = None
        self._single_target = False
        self.symbols_ = []
        self.net_ = None

    # what a kind of answer decides

    @abstractmethod
    def check_answer_settings(self) -> None:
        """Raise ConfigError where loss, interval or class weights do not suit this estimator."""

    @abstractmethod
    def _read_targets(self, y: Any, inputs: Inputs, classes: list[list[Any]]) -> Targets:
        """Read targets in the shape of the features; `classes` are those known already."""

    @abstractmethod
    def _answer_for(self, train: WindowSet, classes: list[list[Any]]) -> Answer:
        """Return what the outputs of a net trained on `train` mean."""

    @property
    @abstractmethod
    def answer(self) -> Answer:
        """What the outputs of the fitted net mean."""

    @abstractmethod
    def _blank(self, train: WindowSet, answer: Answer) -> list[float]:
        """Return the forecast that knows nothing."""

    # scikit-learn habits

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every parameter with its value, as scikit-learn's `clone` wants them."""
        params = {name: getattr(self, name) for name in _OWN_PARAMS}
        # No copies: `clone` wants to find the very dictionary that it gave.
        if isinstance(self.net, str):
            params |= vars(self.net_config)
        return params | vars(self.train_config)

    def set_params(self, **params: Any) -> Self:
        """Change parameters; the model counts as not fitted afterwards."""
        own = {key: value for key, value in params.items() if key in _OWN_PARAMS}
        config = _net_config_class(own.get("net", self.net))
        parts = split_settings(
            {key: value for key, value in params.items() if key not in _OWN_PARAMS},
            (config, TrainConfig),
            type(self).__name__,
        )
        changed = {key: value for part in parts.values() for key, value in part.items()}
        kept = self.get_params()
        if own.get("net", self.net) != self.net:
            # Another net has other defaults; what was chosen goes with it where it has that.
            kept = {
                name: value for name, value in kept.items() if self._goes_with(name, own["net"])
            }
        # As in the constructor, steps alone decide how long to train.
        if changed.get("n_steps") is not None:
            kept["max_epochs"] = None
        self.__dict__ = type(self)(**{**kept, **own, **changed}).__dict__
        return self

    def _goes_with(self, name: str, net: str | NetFactory) -> bool:
        if name not in field_names(type(self.net_config)):
            return True
        is_chosen = getattr(self.net_config, name) != getattr(type(self.net_config)(), name)
        return is_chosen and isinstance(net, str) and name in field_names(_net_config_class(net))

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=True, multi_output=True),
            input_tags=InputTags(allow_nan=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __repr__(self) -> str:
        name = self.net if isinstance(self.net, str) else self.net_name
        state = "fitted" if self.is_fitted else "not fitted"
        return f"{type(self).__name__}(net={name!r}, window={self.window}, {state})"

    @property
    def is_fitted(self) -> bool:
        """Whether the model has been trained or loaded, so that it can predict."""
        return self.net_ is not None or self._pending is not None

    @property
    def net_name(self) -> str:
        """Name under which a model file keeps the net."""
        if self._name is not None:
            return self._name
        return self.net if isinstance(self.net, str) else getattr(self.net, "__name__", "own net")

    @property
    def class_names(self) -> list[list[Any]]:
        """For each target the names of its classes; nothing where targets are numbers."""
        return [list(names) for names in self._classes]

    @property
    def scaling(self) -> Scaling | None:
        """How features and targets are standardized; None where the model does not scale."""
        return self._scaling

    @property
    def target_mean(self) -> FloatArray:
        """The forecast that knows nothing, in the net's units.

        (K,) mean training target of a regressor, (O,) frequency of each class of a classifier.
        """
        return np.asarray(self._target_mean)

    # fit

    def fit(
        self,
        X: Given,
        y: Any,
        sample_weight: Any = None,
        eval_set: tuple[Given, Any] | None = None,
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

        Raises:
            DataError: Shapes differ, or too few consecutive rows are left for one window.
            TrainingError: The loss is no longer finite.
        """
        inputs = read_inputs(X, self.symbol)
        if self.symbol_embedding and not inputs.symbols:
            raise DataError(
                f"symbol_embedding = {self.symbol_embedding} needs X to name symbols, as a "
                f"dictionary symbol -> frame or with a column symbol. Else set it to 0."
            )
        targets = self._read_targets(y, inputs, [])
        weights = self._weights(sample_weight, inputs)
        has_window = self._has_window(inputs.rows, inputs)
        is_target = has_window & finite_rows(targets.values) & (weights > 0)
        is_train, is_valid = self._split(is_target, inputs, eval_set is not None)
        if not is_train.any():
            raise DataError(_no_window_message(inputs.rows, targets.values, weights, self.window))
        scaling = self._fit_scaling(inputs, targets.values, is_train) if self.scale else None
        known = inputs.symbols if self.symbol_embedding else []
        tensor = _row_tensor(inputs, scaling, known)
        values = self._scaled_targets(targets.values, scaling)
        # Far from what was seen in training, scaling may lead out of the range of float32.
        has_window = self._has_window(tensor.numpy(), inputs)
        train = build_window_set(tensor, values, weights, is_train & has_window, self.window)
        if eval_set is None:
            valid = build_window_set(tensor, values, weights, is_valid & has_window, self.window)
        else:
            valid = self._eval_windows(eval_set, inputs.names, targets, scaling, known)
        is_single = np.ndim(inputs.parts_of(y, "y")[0]) == 1
        fitted = self._train(
            train, valid, inputs.names, targets.names, classes=targets.classes, symbols=known
        )
        # All at once, so that a training that fails leaves a fitted model as it was.
        self.__dict__.update(fitted, _scaling=scaling, _single_target=is_single)
        return self

    def fit_windows(
        self,
        train: WindowSet,
        valid: WindowSet | None,
        feature_names: Sequence[str],
        label_names: Sequence[str],
        *,
        classes: Sequence[Sequence[Any]] = (),
        symbols: Sequence[str] = (),
        start_from: SequenceEstimator | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Train on windows whose rows and targets are scaled already.

        Args:
            train: Windows to learn from.
            valid: Windows for early stopping.
            feature_names: F names.
            label_names: K names.
            classes: For each target the names of its classes, where targets are their numbers.
            symbols: Names of the symbols whose numbers stand in the rows' last column, which then
                is no feature.
            start_from: A fitted model of the same shape whose weights and optimizer state to go on
                from. It is only read, so it may go on predicting in another thread.
            on_epoch: Called after each epoch.

        Raises:
            DataError: There is no training window.
            MismatchError: `start_from` knows other classes or symbols.
            TrainingError: The loss is no longer finite.
        """
        fitted = self._train(
            train,
            valid,
            feature_names,
            label_names,
            classes=classes,
            symbols=symbols,
            start_from=start_from,
            on_epoch=on_epoch,
        )
        self.__dict__.update(fitted)
        return self

    def _train(
        self,
        train: WindowSet,
        valid: WindowSet | None,
        feature_names: Sequence[str],
        label_names: Sequence[str],
        *,
        classes: Sequence[Sequence[Any]] = (),
        symbols: Sequence[str] = (),
        start_from: SequenceEstimator | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> dict[str, Any]:
        """Train as `fit_windows` does, and return the attributes that make the model fitted."""
        config = self.train_config
        device = choose_device(config.device)
        require_windows(train)
        known = [list(names) for names in classes]
        answer = self._answer_for(train, known)
        if start_from is not None:
            mine, theirs = (
                [repr(name) for names in several for name in names]
                for several in (known, start_from.class_names)
            )
            require_names("classes", mine, theirs)
            require_names("symbols", symbols, start_from.symbols_)
        with torch_threads(config.num_threads), seeded(config.seed):
            n_features = train.rows.shape[1] - bool(symbols)
            net = self._new_net(n_features, answer.n_outputs, len(symbols)).to(device)
            optimizer_state = None
            if start_from is not None:
                net.load_state_dict(start_from.require_net().state_dict())
                optimizer_state = start_from._optimizer_state
            n_epochs = count_epochs(config, train)
            with epoch_progress(self.progress, n_epochs, self.net_name, on_epoch) as report:
                trained = fit(
                    net,
                    train,
                    valid,
                    config,
                    answer,
                    optimizer_state=optimizer_state,
                    on_epoch=report,
                )
        return {
            "net_": net,
            "history_": trained.history,
            "feature_names_in_": list(feature_names),
            "label_names_": list(label_names),
            "symbols_": list(symbols),
            "_classes": known,
            "_target_mean": self._blank(train, answer),
            "_optimizer_state": trained.optimizer_state,
            "_pending": None,
            "_scaling": None,
            "_single_target": False,
        }

    def forget_optimizer(self) -> None:
        """Drop the optimizer's state, which only continual learning needs."""
        self._optimizer_state = None

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
        ends = np.flatnonzero(has_window)
        result = np.full((len(rows), self.answer.n_outputs), np.nan)
        if len(ends):
            tensor = torch.from_numpy(to_float32(rows))
            net = self.require_net()
            with torch_threads(num_threads or self.train_config.num_threads):
                outputs = predict_windows(net, tensor, torch.from_numpy(ends), self.window)
            result[ends] = outputs.numpy()
        return result

    def _outputs(self, X: Given) -> tuple[Inputs, FloatArray]:
        """Return the outputs (N, O) for a user's features."""
        inputs, tensor, has_window = self.net_rows(X)
        return inputs, self.predict_outputs(tensor.numpy(), has_window)

    def net_rows(self, X: Given) -> tuple[Inputs, Tensor, BoolArray]:
        """Return a user's features as the fitted net sees them, and where full windows end.

        Returns:
            inputs: What was read.
            rows: (N, F) scaled; with symbols (N, F + 1), the symbol's number last.
            has_window: (N,).
        """
        self.require_net()
        inputs = read_inputs(X, self.symbol)
        inputs.require_features(self.feature_names_in_)
        tensor = _row_tensor(inputs, self._scaling, self.symbols_)
        return inputs, tensor, self._has_window(tensor.numpy(), inputs)

    # files

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all."""
        write_checkpoint(self.to_checkpoint(), Path(path))

    @classmethod
    def load(cls, path: str | Path, net: NetFactory | None = None) -> Self:
        """Read a model from a file without executing anything that it holds.

        Args:
            path: A file that `save` or freqtrade wrote.
            net: The function that makes the net, where the file holds a net of your own.

        Raises:
            CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
        """
        model = cls.from_checkpoint(read_checkpoint(Path(path)))
        if net is not None:
            model.bind(net)
        elif model.net_ is None:
            raise MismatchError(
                f"{path} holds the weights of {model.net_name!r}, a net of your own: pass the "
                f"function that makes it, {cls.__name__}.load(path, net=make_net)."
            )
        return model

    def to_checkpoint(self) -> Checkpoint:
        """Return what a model file of this model holds."""
        net = self.require_net()
        is_own = not isinstance(self.net, str)
        settings = self._net_settings if is_own else dataclasses.asdict(self.net_config)
        scaling = None if self._scaling is None else self._scaling.to_dict()
        return Checkpoint(
            net=self.net_name,
            is_own_net=is_own,
            net_settings=settings,
            train_settings=dataclasses.asdict(self.train_config),
            data_settings={name: getattr(self, name) for name in _DATA_PARAMS},
            window=self.window,
            feature_names=self.feature_names_in_,
            label_names=self.label_names_,
            state_dict=net.state_dict(),
            target_mean=self._target_mean,
            scaling=scaling,
            single_target=self._single_target,
            history=self.history_.to_dict(),
            optimizer_state=self._optimizer_state,
            kind=self.kind,
            classes=self._classes,
            symbols=self.symbols_,
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Self:
        """Build a model from what a file holds; a net of one's own waits for `bind`.

        Raises:
            MismatchError: It is the file of another kind of model, or of another version.
        """
        if checkpoint.kind != cls.kind:
            raise MismatchError(
                f"The model file holds a {checkpoint.kind}, and {cls.__name__} is a {cls.kind}: "
                f"read it with freqai_lstm_plugins.load_model."
            )
        settings = checkpoint.train_settings | checkpoint.data_settings
        if not checkpoint.is_own_net:
            settings |= checkpoint.net_settings
        net = _unbound(checkpoint.net) if checkpoint.is_own_net else checkpoint.net
        try:
            model = cls(net, checkpoint.window, scale=checkpoint.scaling is not None, **settings)
            model._require_sizes_of(checkpoint)
            model.history_ = History.from_dict(checkpoint.history)
            if checkpoint.scaling is not None:
                model._scaling = Scaling(**checkpoint.scaling)
        except (FreqaiLSTMError, TypeError, KeyError) as error:
            raise MismatchError(
                f"The model file's net or settings are unknown here ({error}). Use the version of "
                f"freqai_lstm_plugins that wrote it, {checkpoint.versions}, or train again."
            ) from error
        model._name = checkpoint.net
        model._net_settings = dict(checkpoint.net_settings)
        model.feature_names_in_ = checkpoint.feature_names
        model.label_names_ = checkpoint.label_names
        model._target_mean = checkpoint.target_mean
        model._single_target = checkpoint.single_target
        model._optimizer_state = checkpoint.optimizer_state
        model._classes = checkpoint.classes
        model.symbols_ = checkpoint.symbols
        model._pending = checkpoint.state_dict
        if not checkpoint.is_own_net:
            model._load_pending()
        return model

    def _require_sizes_of(self, checkpoint: Checkpoint) -> None:
        """Raise ConfigError where settings and weights of a file cannot be of one net.

        Building a net that is far larger than its weights would take all memory, or for ever.
        """
        if checkpoint.symbols and not self.symbol_embedding:
            raise ConfigError("symbol_embedding = 0 beside the names of symbols")
        settings = {} if checkpoint.is_own_net else vars(self.net_config)
        if checkpoint.symbols and checkpoint.net != "tft":
            settings = {**settings, "symbol_embedding": self.symbol_embedding}
        for name, size in settings.items():
            # Each net has a matrix of hidden_size rows and columns.
            n_weights = size**2 if name == "hidden_size" else size
            if isinstance(size, int) and n_weights > checkpoint.n_parameters:
                raise ConfigError(
                    f"{name} = {size} is more than {checkpoint.n_parameters} weights are for"
                )

    def bind(self, factory: NetFactory, name: str | None = None) -> Self:
        """Give a loaded model the function that makes its own net.

        Raises:
            MismatchError: The weights do not fit the net that `factory` makes.
        """
        self.net = factory
        self._name = name or self._name
        if self._pending is not None:
            self._load_pending()
        return self

    def name_net(self, name: str, settings: dict[str, Any]) -> Self:
        """Set the name and the settings that a model file keeps for a net of one's own."""
        self._name = name
        self._net_settings = settings
        return self

    def require_net(self) -> nn.Module:
        """Return the fitted net.

        Raises:
            ConfigError: The model is not fitted.
            MismatchError: The model was loaded, and waits for its own net.
        """
        if self.net_ is not None:
            return self.net_
        if self._pending is None:
            raise ConfigError(
                f"This {type(self).__name__} is not fitted yet: call fit or load first."
            )
        raise MismatchError(
            f"This model file holds the weights of {self.net_name!r} and not its class. "
            f"Run with --freqaimodel {self.net_name}, which is expected in the file "
            f"user_data/freqaimodels/{self.net_name}.py."
        )

    @property
    def model(self) -> nn.Module:
        """The fitted net, under the name that FreqAI uses."""
        return self.require_net()

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

    def _new_net(self, n_features: int, n_outputs: int, n_symbols: int = 0) -> nn.Module:
        size = self.symbol_embedding if n_symbols else 0
        if n_symbols and not size:
            raise ConfigError(
                f"symbol_embedding = 0 tells the net no symbol, and there are {n_symbols}: set it "
                f"above 0."
            )
        if isinstance(self.net, str):
            if n_symbols and net_class(self.net).takes_symbols:
                net = build_net(self.net, n_features, n_outputs, self.net_config, n_symbols)
                return panel_net(net, n_symbols, 0)
            net = build_net(self.net, n_features + size, n_outputs, self.net_config)
        else:
            net = self._own_net(self.net, n_features + size, n_outputs)
        return panel_net(net, n_symbols, size) if n_symbols else net

    def _own_net(self, factory: NetFactory, n_features: int, n_outputs: int) -> nn.Module:
        net = factory(n_features, n_outputs)
        if not isinstance(net, nn.Module):
            raise ConfigError(
                f"{self.net_name}: building the net gave a {type(net).__name__}, not a torch "
                f"nn.Module."
            )
        if next(net.parameters(), None) is None:
            raise ConfigError(f"{self.net_name}: the net has no parameters that could be trained.")
        return net

    def _load_pending(self) -> None:
        assert self._pending is not None
        if broken := not_finite(self._pending):
            raise NotACheckpointError(
                f"The model file is damaged: its weights {shortened(broken)} are not finite. Train "
                f"the model again."
            )
        with seeded(0):
            n_outputs = self.answer.n_outputs
            net = self._new_net(len(self.feature_names_in_), n_outputs, len(self.symbols_))
        try:
            net.load_state_dict(self._pending)
        except RuntimeError as error:
            details = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
            raise MismatchError(
                f"The model file's weights do not fit the net {self.net_name!r} as it is built "
                f"now: {details}. Restore the net's settings, or train again under a new "
                f"identifier."
            ) from error
        self.net_ = net.to(_device_here(self.train_config.device)).eval()
        self._pending = None

    # rows

    def _require_targets(self, values: npt.NDArray[Any]) -> None:
        """Raise DataError where the targets (N, K) are not so many as the model predicts."""
        if values.shape[1] != len(self.label_names_):
            raise DataError(
                f"y has {values.shape[1]} targets, and the model was trained on "
                f"{len(self.label_names_)}."
            )

    def _weights(self, sample_weight: Any, inputs: Inputs) -> FloatArray:
        if sample_weight is None:
            return np.ones(len(inputs))
        weights, _ = inputs.arrange(
            sample_weight, "sample_weight", lambda part: numbers_of("sample_weight", part)
        )
        if weights.shape != (len(inputs), 1):
            raise DataError(
                f"sample_weight must have one number a row of X, its shape is {weights.shape}."
            )
        return weights[:, 0].astype(float)

    def _has_window(self, rows: FloatArray, inputs: Inputs) -> BoolArray:
        return window_ends(finite_rows(rows), self.window, inputs.follows(self.step))

    def _split(
        self, is_target: BoolArray, inputs: Inputs, has_eval_set: bool
    ) -> tuple[BoolArray, BoolArray]:
        """Return which targets are for training and which for validation."""
        if has_eval_set or self.valid_size == 0 or not is_target.any():
            return is_target, np.zeros_like(is_target)
        is_late = np.zeros_like(is_target)
        ranges = [np.flatnonzero(inputs.codes == code) for code in np.unique(inputs.codes)]
        if inputs.symbols and inputs.times is not None:
            # One moment for all symbols, so that none shows another's future.
            times = np.sort(inputs.times[is_target])
            n_valid = round(len(times) * self.valid_size)
            if n_valid:
                is_late = inputs.times >= times[len(times) - n_valid]
        else:
            for rows in ranges:
                own = rows[is_target[rows]]
                is_late[own[len(own) - round(len(own) * self.valid_size) :]] = True
        is_train = is_target & ~is_late
        for rows in ranges:
            # Rows that only came late say where validation begins, even if they are no targets.
            is_train[rows] = purged(is_train[rows], is_late[rows], self.label_period)
        return is_train, is_target & is_late

    def _fit_scaling(self, inputs: Inputs, targets: FloatArray, is_train: BoolArray) -> Scaling:
        seen = finite_rows(inputs.rows)
        for code in np.unique(inputs.codes):
            # Rows up to a symbol's last training target are context of training windows.
            rows = np.flatnonzero(inputs.codes == code)
            trained = np.flatnonzero(is_train[rows])
            seen[rows[trained[-1] + 1 if len(trained) else 0 :]] = False
        return Scaling.fit(inputs.rows, targets, seen, is_train)

    def _scaled_targets(self, targets: FloatArray, scaling: Scaling | None) -> FloatArray:
        return targets if scaling is None else scaling.scale_targets(targets)

    def _eval_windows(
        self,
        eval_set: tuple[Given, Any],
        names: list[str],
        targets: Targets,
        scaling: Scaling | None,
        known: list[str],
    ) -> WindowSet:
        inputs = read_inputs(eval_set[0], self.symbol)
        found = self._read_targets(eval_set[1], inputs, targets.classes)
        inputs.require_features(names)
        if found.values.shape[1] != targets.values.shape[1]:
            raise DataError(
                f"eval_set has {found.values.shape[1]} targets, y has {targets.values.shape[1]}."
            )
        tensor = _row_tensor(inputs, scaling, known)
        valid = build_window_set(
            tensor,
            self._scaled_targets(found.values, scaling),
            np.ones(len(inputs)),
            self._has_window(tensor.numpy(), inputs),
            self.window,
        )
        if len(valid) == 0:
            raise DataError(
                f"eval_set: nowhere in its {len(inputs)} rows do {self.window} consecutive usable "
                f"rows end at a target. Give more rows, or none to keep the last of X instead."
            )
        return valid


def _row_tensor(inputs: Inputs, scaling: Scaling | None, known: list[str]) -> Tensor:
    """Return what a net sees: (N, F) scaled features, with the symbol's number where it is told.

    Raises:
        MismatchError: A symbol is none of those `known` to the net.
    """
    rows = inputs.rows if scaling is None else scaling.scale_rows(inputs.rows)
    if known:
        unknown = [name for name in inputs.symbols if name not in known]
        if unknown or not inputs.symbols:
            what = f"not {unknown[0]!r}" if unknown else "and X names none"
            raise MismatchError(
                f"The model was trained on the symbols {shortened(known)}, {what}. Give X in the "
                f"shape that it was trained on, or train with symbol_embedding = 0."
            )
        numbers = np.array([known.index(name) for name in inputs.symbols], dtype=np.float32)
        rows = np.column_stack([to_float32(rows), numbers[inputs.codes]])
    return torch.from_numpy(to_float32(rows))


def _net_config_class(net: str | NetFactory) -> type[NetConfig] | type[TFTConfig]:
    return net_class(net).config if isinstance(net, str) else NetConfig


def _checked_step(step: Any) -> str | None:
    if step is None:
        return None
    try:
        sound = isinstance(step, str) and pd.Timedelta(step) > pd.Timedelta(0)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(f"step must be a time above 0 such as '5min', not {step!r}.")
    return str(step)


def _unbound(name: str) -> NetFactory:
    def build(n_features: int, n_outputs: int) -> nn.Module:
        raise MismatchError(f"The net {name!r} is defined in your own file, and not loaded yet.")

    build.__name__ = name
    return build


def _device_here(name: str) -> torch.device:
    # A model trained on an accelerator must load where there is none.
    try:
        return choose_device(name)
    except ConfigError:
        logger.warning("Device %r is not available here; the model runs on the CPU.", name)
        return torch.device("cpu")


def _no_window_message(
    rows: FloatArray, targets: FloatArray, weights: FloatArray, window: int
) -> str:
    finite = int(finite_rows(rows).sum())
    known = int(finite_rows(targets).sum())
    weighted = int((weights > 0).sum())
    return (
        f"No training window: of {len(rows)} rows {finite} have finite features, {known} have "
        f"targets and {weighted} have a weight above 0, but nowhere do {window} consecutive usable "
        f"rows end at a target that is left for training. Give more rows, a smaller window, or a "
        f"smaller valid_size or label_period."
    )
