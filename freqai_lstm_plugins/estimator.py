"""`SequenceRegressor`: fit, predict, save and load on arrays and DataFrames.

Rows must be in the order of time. A row with a NaN or an infinity breaks every window that would
hold it; a row whose target is NaN is context for later rows, but no target.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from freqai_lstm_plugins.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_names,
    write_checkpoint,
)
from freqai_lstm_plugins.config import (
    DEFAULT_WINDOW,
    NetConfig,
    TrainConfig,
    field_names,
    parse_count,
    parse_settings,
    parse_train_settings,
    parse_window,
    split_settings,
)
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    MismatchError,
)
from freqai_lstm_plugins.nets import NETS, build_net
from freqai_lstm_plugins.progress import epoch_progress
from freqai_lstm_plugins.scaling import FloatArray, Scaling
from freqai_lstm_plugins.training import (
    Epoch,
    History,
    choose_device,
    count_epochs,
    fit,
    predict_windows,
    seeded,
    torch_threads,
)
from freqai_lstm_plugins.windows import (
    BoolArray,
    WindowSet,
    build_window_set,
    consecutive_in_time,
    finite_rows,
    purged,
    to_float32,
    window_ends,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NetFactory = Callable[[int, int], nn.Module]
Features = FloatArray | pd.DataFrame
Targets = FloatArray | pd.Series | pd.DataFrame

_DATA_PARAMS = ("valid_size", "label_period", "step")
_OWN_PARAMS = ("net", "window", *_DATA_PARAMS, "scale", "progress")


class SequenceRegressor:
    """A recurrent net that predicts K numbers for each row from the W rows that end there.

    Args:
        net: Name in `NETS`, or a function `(n_features, n_targets) -> nn.Module` that makes a net
            of your own, (B, W, F) -> (B, K).
        window: W, rows a window.
        valid_size: Last fraction of the targets that `fit` keeps for early stopping where no
            `eval_set` is given; 0 trains on all.
        label_period: Rows that a target looks ahead; so many targets are left out between
            training and validation.
        step: Time between two rows, such as `"5min"`. Windows then break where a DataFrame's
            DatetimeIndex jumps. Without it all rows count as consecutive.
        scale: Standardize features and targets, fitted on training rows only.
        progress: Show a progress bar; by default where a terminal watches.
        **settings: Fields of `NetConfig` and `TrainConfig`, under torch's or FreqAI's names.

    Attributes:
        net_: The fitted `nn.Module`.
        history_: `History` of the training.
        feature_names_in_: Names of the F features.
        label_names_: Names of the K targets.

    Raises:
        ConfigError: A setting is unknown or wrong.

    >>> model = SequenceRegressor(net="gru", window=8, hidden_dim=16, n_epochs=5)
    >>> model.get_params()["hidden_size"]
    16
    """

    net_: nn.Module | None
    history_: History
    feature_names_in_: list[str]
    label_names_: list[str]

    def __init__(
        self,
        net: str | NetFactory = "lstm",
        window: int = DEFAULT_WINDOW,
        *,
        valid_size: float = 0.15,
        label_period: int = 0,
        step: str | None = None,
        scale: bool = True,
        progress: bool | None = None,
        **settings: Any,
    ) -> None:
        if isinstance(net, str) and net not in NETS:
            build_net(net, 1, 1, NetConfig())
        if not isinstance(net, str) and not callable(net):
            raise ConfigError(f"net must be a name or a function that makes a net, not {net!r}.")
        self.net = net
        self.window = parse_window(window, "window")
        if not isinstance(valid_size, int | float) or not 0 <= valid_size < 1:
            raise ConfigError(
                f"valid_size must be a number from 0 up to, not including, 1, not {valid_size!r}."
            )
        self.valid_size = valid_size
        self.label_period = parse_count(label_period, 0, "label_period")
        self.step = _checked_step(step)
        self.scale = scale
        self.progress = progress
        # A net of one's own has its settings in its factory.
        configs = (NetConfig, TrainConfig) if isinstance(net, str) else (TrainConfig,)
        parts = split_settings(settings, configs, "SequenceRegressor")
        self.net_config = parse_settings(NetConfig, parts.get(NetConfig, {}), "SequenceRegressor")
        self.train_config = parse_train_settings(parts[TrainConfig], "SequenceRegressor")
        self._name: str | None = None
        self._net_settings: dict[str, Any] = {}
        self._pending: dict[str, Tensor] | None = None
        self._scaling: Scaling | None = None
        self._target_mean: list[float] = []
        self._optimizer_state: dict[str, Any] | None = None
        self._single_target = False
        self.net_ = None

    # scikit-learn habits

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every parameter with its value, as scikit-learn's `clone` wants them."""
        params = {name: getattr(self, name) for name in _OWN_PARAMS}
        if isinstance(self.net, str):
            params |= dataclasses.asdict(self.net_config)
        return params | dataclasses.asdict(self.train_config)

    def set_params(self, **params: Any) -> Self:
        """Change parameters; the model counts as not fitted afterwards."""
        parts = split_settings(
            {key: value for key, value in params.items() if key not in _OWN_PARAMS},
            (NetConfig, TrainConfig),
            "SequenceRegressor",
        )
        changed = {key: value for part in parts.values() for key, value in part.items()}
        own = {key: value for key, value in params.items() if key in _OWN_PARAMS}
        kept = self.get_params()
        if not isinstance(own.get("net", self.net), str):
            kept = {key: value for key, value in kept.items() if key not in field_names(NetConfig)}
        # As in the constructor, steps alone decide how long to train.
        if changed.get("n_steps") is not None:
            kept["max_epochs"] = None
        self.__dict__ = type(self)(**{**kept, **own, **changed}).__dict__
        return self

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(allow_nan=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self.is_fitted

    def __repr__(self) -> str:
        name = self.net if isinstance(self.net, str) else self.net_name
        state = "fitted" if self.is_fitted else "not fitted"
        return f"SequenceRegressor(net={name!r}, window={self.window}, {state})"

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
    def target_mean(self) -> FloatArray:
        """(K,) mean training target in the net's units: the forecast that knows nothing."""
        return np.asarray(self._target_mean)

    # fit

    def fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: FloatArray | None = None,
        eval_set: tuple[Features, Targets] | None = None,
    ) -> Self:
        """Train on rows in the order of time.

        Args:
            X: (N, F) features.
            y: (N,) or (N, K) targets; NaN where a row has none.
            sample_weight: (N,) weights of the rows' losses.
            eval_set: (X, y) for early stopping, in place of the last `valid_size` of the rows.

        Raises:
            DataError: Shapes differ, or too few consecutive rows are left for one window.
            TrainingError: The loss is no longer finite.
        """
        rows, names = self._rows(X)
        targets, labels = _targets(y, len(rows))
        weights = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight, float)
        if weights.shape != (len(rows),):
            raise DataError(f"sample_weight must have shape ({len(rows)},), not {weights.shape}.")
        has_window = self._has_window(rows, X)
        is_target = has_window & finite_rows(targets) & (weights > 0)
        is_train, is_valid = self._split(is_target, eval_set is not None)
        if not is_train.any():
            raise DataError(_no_window_message(rows, targets, weights, self.window))
        scaling = Scaling.fit(rows, targets, is_train) if self.scale else None
        scaled_rows, scaled_targets = _scaled(rows, scaling), _scaled_targets(targets, scaling)
        train = _masked_set(scaled_rows, scaled_targets, weights, is_train, self.window)
        if eval_set is None:
            valid = _masked_set(train.rows, scaled_targets, weights, is_valid, self.window)
        else:
            valid = self._eval_windows(eval_set, names, targets.shape[1], scaling)
        self.fit_windows(train, valid, names, labels)
        # Only now, so that a training that fails leaves a fitted model as it was.
        self._scaling, self._single_target = scaling, np.ndim(y) == 1
        return self

    def fit_windows(
        self,
        train: WindowSet,
        valid: WindowSet | None,
        feature_names: Sequence[str],
        label_names: Sequence[str],
        *,
        start_from: SequenceRegressor | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> Self:
        """Train on windows whose rows and targets are scaled already.

        Args:
            train: Windows to learn from.
            valid: Windows for early stopping.
            feature_names: F names.
            label_names: K names.
            start_from: A fitted model of the same shape whose weights and optimizer state to go on
                from. It is only read, so it may go on predicting in another thread.
            on_epoch: Called after each epoch.
        """
        config = self.train_config
        device = choose_device(config.device)
        n_features, n_targets = train.rows.shape[1], train.targets.shape[1]
        with torch_threads(config.num_threads), seeded(config.seed):
            net = self._new_net(n_features, n_targets).to(device)
            optimizer_state = None
            if start_from is not None:
                net.load_state_dict(start_from.require_net().state_dict())
                optimizer_state = start_from._optimizer_state
            n_epochs = count_epochs(config, max(len(train), 1))
            with epoch_progress(self.progress, n_epochs, self.net_name, on_epoch) as report:
                trained = fit(
                    net, train, valid, config, optimizer_state=optimizer_state, on_epoch=report
                )
        self.net_ = net
        self.history_ = trained.history
        self.feature_names_in_ = list(feature_names)
        self.label_names_ = list(label_names)
        self._target_mean = train.targets.mean(dim=0).tolist()
        self._optimizer_state = trained.optimizer_state
        self._pending = None
        return self

    def forget_optimizer(self) -> None:
        """Drop the optimizer's state, which only continual learning needs."""
        self._optimizer_state = None

    # predict

    def predict(self, X: Features) -> Any:
        """Predict each row from the window that ends there.

        Args:
            X: (N, F) features in the order of time.

        Returns:
            (N,) or (N, K) predictions as the targets were given, as a Series or DataFrame with the
            index of `X` where `X` is a DataFrame. NaN where no full, finite window ends.

        Raises:
            MismatchError: The features are not those that the model was trained on.
        """
        self.require_net()
        rows, names = self._rows(X)
        _require_features(X, names, self.feature_names_in_)
        scaled = _scaled(rows, self._scaling)
        predicted = self.predict_rows(scaled, self._has_window(scaled, X))
        if self._scaling is not None:
            predicted = self._scaling.unscale_targets(predicted)
        if isinstance(X, pd.DataFrame):
            frame = pd.DataFrame(predicted, index=X.index, columns=self.label_names_)
            return frame.iloc[:, 0] if self._single_target else frame
        return predicted[:, 0] if self._single_target else predicted

    def predict_rows(
        self, rows: FloatArray, has_window: BoolArray, num_threads: int | None = None
    ) -> FloatArray:
        """Predict rows that are scaled already.

        Args:
            rows: (N, F); rows that no window holds may be NaN.
            has_window: (N,) where a full window ends.
            num_threads: CPU threads to use; by default the setting of the training.

        Returns:
            (N, K) in scaled units, NaN without a window.
        """
        net = self.require_net()
        ends = np.flatnonzero(has_window)
        result = np.full((len(rows), len(self.label_names_)), np.nan)
        if len(ends):
            with torch_threads(num_threads or self.train_config.num_threads):
                tensor = torch.from_numpy(to_float32(rows))
                predicted = predict_windows(net, tensor, torch.from_numpy(ends), self.window)
            result[ends] = predicted.numpy()
        return result

    def score(self, X: Features, y: Targets) -> float:
        """Return R² of the predictions, over the rows that have a prediction and a target."""
        predicted = np.asarray(self.predict(X)).reshape(len(X), -1)
        targets, _ = _targets(y, len(X))
        known = finite_rows(predicted) & finite_rows(targets)
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        errors = np.square(targets[known] - predicted[known]).sum(axis=0)
        spread = np.square(targets[known] - targets[known].mean(axis=0)).sum(axis=0)
        return float(np.mean(1 - errors / np.where(spread > 0, spread, 1)))

    # files

    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all."""
        write_checkpoint(self.to_checkpoint(), Path(path))

    @classmethod
    def load(cls, path: str | Path, net: NetFactory | None = None) -> SequenceRegressor:
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
                f"function that makes it, SequenceRegressor.load(path, net=make_net)."
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
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> SequenceRegressor:
        """Build a model from what a file holds; a net of one's own waits for `bind`."""
        settings = checkpoint.train_settings | checkpoint.data_settings
        if not checkpoint.is_own_net:
            settings |= checkpoint.net_settings
        net = _unbound(checkpoint.net) if checkpoint.is_own_net else checkpoint.net
        try:
            model = cls(net, checkpoint.window, scale=checkpoint.scaling is not None, **settings)
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
        model._pending = checkpoint.state_dict
        if not checkpoint.is_own_net:
            model._load_pending()
        return model

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
            raise ConfigError("This SequenceRegressor is not fitted yet: call fit or load first.")
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
        from freqai_lstm_plugins.plots import plot_history

        self.require_net()
        figure = plot_history(self.history_, self.net_name)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    def _new_net(self, n_features: int, n_targets: int) -> nn.Module:
        if isinstance(self.net, str):
            return build_net(self.net, n_features, n_targets, self.net_config)
        net = self.net(n_features, n_targets)
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
        with seeded(0):
            net = self._new_net(len(self.feature_names_in_), len(self.label_names_))
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

    def _rows(self, X: Features) -> tuple[FloatArray, list[str]]:
        rows = _numbers("X", X)
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise DataError(f"X must have shape (rows, features), not {rows.shape}.")
        columns = X.columns if isinstance(X, pd.DataFrame) else range(rows.shape[1])
        prefix = "" if isinstance(X, pd.DataFrame) else "x"
        return rows, [f"{prefix}{name}" for name in columns]

    def _has_window(self, rows: FloatArray, X: Features) -> BoolArray:
        follows = None
        if self.step is not None:
            if not isinstance(X, pd.DataFrame) or not isinstance(X.index, pd.DatetimeIndex):
                raise DataError(
                    f"step = {self.step!r} needs a DataFrame with a DatetimeIndex, to see where "
                    f"time jumps."
                )
            step = pd.Timedelta(self.step).to_timedelta64()
            follows = consecutive_in_time(X.index.to_numpy(), step)
        return window_ends(finite_rows(rows), self.window, follows)

    def _split(self, is_target: BoolArray, has_eval_set: bool) -> tuple[BoolArray, BoolArray]:
        nothing = np.zeros_like(is_target)
        if has_eval_set or self.valid_size == 0:
            return is_target, nothing
        target_rows = np.flatnonzero(is_target)
        is_valid = nothing.copy()
        n_valid = round(len(target_rows) * self.valid_size)
        is_valid[target_rows[len(target_rows) - n_valid :]] = True
        return purged(is_target & ~is_valid, is_valid, self.label_period), is_valid

    def _eval_windows(
        self,
        eval_set: tuple[Features, Targets],
        names: list[str],
        n_targets: int,
        scaling: Scaling | None,
    ) -> WindowSet:
        X, y = eval_set
        rows, eval_names = self._rows(X)
        targets, _ = _targets(y, len(rows))
        _require_features(X, eval_names, names)
        if targets.shape[1] != n_targets:
            raise DataError(f"eval_set has {targets.shape[1]} targets, y has {n_targets}.")
        scaled, ones = _scaled(rows, scaling), np.ones(len(rows))
        has_window = self._has_window(scaled, X)
        valid = _masked_set(
            scaled, _scaled_targets(targets, scaling), ones, has_window, self.window
        )
        if len(valid) == 0:
            raise DataError(
                f"eval_set: nowhere in its {len(rows)} rows do {self.window} consecutive usable "
                f"rows end at a target. Give more rows, or none to keep the last of X instead."
            )
        return valid


def _scaled(rows: FloatArray, scaling: Scaling | None) -> FloatArray:
    if scaling is None:
        return rows
    return scaling.scale_rows(rows)


def _scaled_targets(targets: FloatArray, scaling: Scaling | None) -> FloatArray:
    return targets if scaling is None else scaling.scale_targets(targets)


def _require_features(X: Features, found: list[str], expected: list[str]) -> None:
    # An array has no names to compare.
    if isinstance(X, pd.DataFrame):
        require_names("features", found, expected)
    elif len(found) != len(expected):
        raise MismatchError(
            f"The model was trained on {len(expected)} features, {len(found)} are given."
        )


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


def _numbers(name: str, values: Features | Targets) -> FloatArray:
    try:
        if isinstance(values, pd.DataFrame):
            is_float32 = all(dtype == np.float32 for dtype in values.dtypes)
            kind = np.float32 if is_float32 else np.float64
            return values.to_numpy(dtype=kind, na_value=np.nan)
        # Other floats as they are: a matrix of float32 may be most of the memory there is.
        is_float32 = getattr(values, "dtype", None) == np.float32
        return np.asarray(values, dtype=np.float32 if is_float32 else np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds more than numbers: {error}.") from error


def _unbound(name: str) -> NetFactory:
    def build(n_features: int, n_targets: int) -> nn.Module:
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


def _targets(y: Targets, n_rows: int) -> tuple[FloatArray, list[str]]:
    if isinstance(y, pd.DataFrame):
        names = [str(name) for name in y.columns]
    elif isinstance(y, pd.Series) and y.name is not None:
        names = [str(y.name)]
    else:
        names = []
    targets = _numbers("y", y)
    targets = targets.reshape(-1, 1) if targets.ndim == 1 else targets
    if targets.ndim != 2 or len(targets) != n_rows or targets.shape[1] == 0:
        raise DataError(f"y must have one row a row of X ({n_rows}), its shape is {np.shape(y)}.")
    return targets, names or [f"y{i}" for i in range(targets.shape[1])]


def _masked_set(
    rows: FloatArray | Tensor,
    targets: FloatArray,
    weights: FloatArray,
    mask: BoolArray,
    window: int,
) -> WindowSet:
    tensor = rows if isinstance(rows, Tensor) else torch.from_numpy(to_float32(rows))
    return build_window_set(tensor, targets, weights, mask, window)


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
