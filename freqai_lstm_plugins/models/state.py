"""What a model file holds of a net: one value that knows what cannot be right about it.

A file may come from anywhere, so whatever is read is checked for its type, its size and its range
before a net is built of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from freqai_lstm_plugins.errors import ConfigError, MismatchError, NotACheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.checkpoint import Checkpoint

NET_KINDS = ("regressor", "classifier")


@dataclass(frozen=True)
class SequenceState:
    """A fitted net with everything that it needs to predict.

    Attributes:
        net: Name of the net in `NETS`, or of the FreqAI model whose `build_net` makes it.
        is_own_net: Whether the net is a user's own, so that its class is not in this package.
        net_settings: Arguments of the net.
        train_settings: Fields of `TrainConfig`.
        data_settings: Fields of `DataConfig` beside `window`, `scale` and `progress`.
        window: W, rows a window.
        feature_names: Names of the F features, in the order that the net takes them.
        label_names: Names of the K targets, in the order that the net gives them.
        state_dict: The net's weights.
        target_mean: The forecast that knows nothing, in the net's units: (K,) mean training
            targets, or the frequency of each class.
        history: `History.to_dict()` of the training.
        single_target: Whether the target was given as a vector, so that predictions are one too.
        scaling: Feature and target means and deviations where the model scales by itself.
        optimizer_state: AdamW's state where continual learning needs it.
        classes: For each target of a classifier the names of its classes.
        calibration: How far a regressor's intervals reach, where it has any.
        symbols: Names of the symbols that the net is told, where it is told any.
    """

    net: str
    is_own_net: bool
    net_settings: dict[str, Any]
    train_settings: dict[str, Any]
    data_settings: dict[str, Any]
    window: int
    feature_names: list[str]
    label_names: list[str]
    state_dict: dict[str, Tensor]
    target_mean: list[float]
    history: dict[str, Any]
    single_target: bool
    scaling: dict[str, list[float]] | None
    optimizer_state: dict[str, Any] | None
    classes: list[list[Any]]
    calibration: dict[str, Any] | None
    symbols: list[str]

    @classmethod
    def read(cls, kind: str, state: Mapping[str, Any]) -> Self:
        """Take the state of a file of that kind of model, `regressor` or `classifier`.

        Raises:
            NotACheckpointError: It is incomplete, or something in it cannot be right.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        missing = next((name for name in names if name not in state), None)
        if missing is not None:
            raise NotACheckpointError(f"The model file is incomplete: it holds no {missing!r}.")
        found = cls(**{name: state[name] for name in names})
        found._check_types()
        for check in _CHECKS:
            check(found, kind)
        return found

    def to_plain(self) -> dict[str, Any]:
        """Return what a file holds."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    def require_sizes(self, settings: Mapping[str, Any]) -> None:
        """Check a net's settings against its weights, before it is built.

        A net that is far larger than its weights would take all memory, or for ever.

        Raises:
            ConfigError: Settings and weights cannot be of one net.
        """
        if self.symbols and not self.data_settings.get("symbol_embedding"):
            raise ConfigError("symbol_embedding = 0 beside the names of symbols")
        for name, size in settings.items():
            if not isinstance(size, int):
                continue
            # Each layer has weights of its own, each net hidden_size rows and columns of them.
            n_weights = size**2 if name == "hidden_size" else size
            if name == "num_layers" and size > len(self.state_dict):
                raise ConfigError(f"{name} = {size} is more than {len(self.state_dict)} tensors")
            if n_weights > self.n_parameters:
                raise ConfigError(
                    f"{name} = {size} is more than {self.n_parameters} weights are for"
                )

    def _check_types(self) -> None:
        for name, types in _TYPES.items():
            value = getattr(self, name)
            # True is an integer of Python's, and no number of anything.
            if not isinstance(value, types) or (types == (int,) and isinstance(value, bool)):
                raise _damaged(f"{name!r} is a {type(value).__name__}")


_TYPES: dict[str, tuple[type, ...]] = {
    "net": (str,),
    "is_own_net": (bool,),
    "net_settings": (dict,),
    "train_settings": (dict,),
    "data_settings": (dict,),
    "window": (int,),
    "feature_names": (list,),
    "label_names": (list,),
    "state_dict": (dict,),
    "target_mean": (list,),
    "history": (dict,),
    "single_target": (bool,),
    "scaling": (dict, type(None)),
    "optimizer_state": (dict, type(None)),
    "classes": (list,),
    "calibration": (dict, type(None)),
    "symbols": (list,),
}


def read_state(checkpoint: Checkpoint) -> SequenceState:
    """Return what a model file holds of a net, without building it.

    Raises:
        NotACheckpointError: It cannot be right.
        MismatchError: The file holds a model of another kind, such as trees.
    """
    if checkpoint.kind not in NET_KINDS:
        raise MismatchError(f"The model file holds a {checkpoint.kind}, which is no net.")
    return SequenceState.read(checkpoint.kind, checkpoint.state)


def _damaged(reason: str) -> NotACheckpointError:
    return NotACheckpointError(f"The model file is damaged: {reason}. Train the model again.")


def _check_names(state: SequenceState, _kind: str) -> None:
    for name in ("feature_names", "label_names", "symbols"):
        if not all(isinstance(item, str) for item in getattr(state, name)):
            raise _damaged(f"{name!r} holds more than names")
    if len(set(state.symbols)) < len(state.symbols):
        raise _damaged("'symbols' holds a name twice")
    for settings in ("net_settings", "train_settings", "data_settings"):
        if not all(isinstance(key, str) for key in getattr(state, settings)):
            raise _damaged(f"{settings!r} holds more than settings")


def _check_weights(state: SequenceState, _kind: str) -> None:
    for name, tensor in state.state_dict.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise _damaged("'state_dict' holds more than tensors")
        if tensor.is_complex():
            raise _damaged(f"the weights {name!r} are complex")
        if not tensor.isfinite().all():
            raise _damaged(f"the weights {name!r} are not finite")


def _check_classes(state: SequenceState, kind: str) -> None:
    is_sound = all(
        isinstance(names, list)
        and all(isinstance(name, str | int | float) and name == name for name in names)
        and len(set(names)) == len(names) > 1
        for names in state.classes
    )
    expected = len(state.label_names) if kind == "classifier" else 0
    if not is_sound or len(state.classes) != expected:
        raise _damaged("its classes cannot be right")


def _check_window(state: SequenceState, _kind: str) -> None:
    n_blank = sum(map(len, state.classes)) or len(state.label_names)
    if state.window < 1 or not _are_numbers(state.target_mean, n_blank):
        raise _damaged("its window or target_mean cannot be right")


def _check_calibration(state: SequenceState, kind: str) -> None:
    calibration = state.calibration
    if calibration is None:
        return
    ends = [calibration.get(name) for name in ("margins", "blank_lower", "blank_upper")]
    interval, n_rows = calibration.get("interval"), calibration.get("n_rows")
    is_sound = (
        kind == "regressor"
        and set(calibration) <= _CALIBRATION
        and _are_margins(calibration.get("by_symbol", {}), len(state.label_names))
        and all(_are_numbers(numbers, len(state.label_names)) for numbers in ends)
        and isinstance(interval, float)
        and 0 < interval < 1
        and isinstance(n_rows, int)
    )
    if not is_sound:
        raise _damaged("its calibration cannot be right")


_CALIBRATION = {"interval", "margins", "blank_lower", "blank_upper", "n_rows", "by_symbol"}


def _are_margins(by_symbol: Any, count: int) -> bool:
    return isinstance(by_symbol, dict) and all(
        isinstance(name, str) and _are_numbers(margins, count)
        for name, margins in by_symbol.items()
    )


def _check_scaling(state: SequenceState, _kind: str) -> None:
    if state.scaling is None:
        return
    for name, names in (("feature", state.feature_names), ("target", state.label_names)):
        for key in (f"{name}_mean", f"{name}_std"):
            numbers = state.scaling.get(key)
            is_sound = _are_numbers(numbers, len(names))
            if not is_sound or (key.endswith("std") and min(numbers or [1.0]) <= 0):
                raise _damaged(f"its scaling has a wrong {key!r}")


def _check_history(state: SequenceState, _kind: str) -> None:
    history = state.history
    epochs, best = history.get("epochs"), history.get("best_epoch")
    if not isinstance(epochs, list) or best not in range(1, len(epochs) + 1):
        raise _damaged("its history names no best epoch")
    if not all(isinstance(epoch, dict) and _is_epoch(epoch) for epoch in epochs):
        raise _damaged("its history has a wrong epoch")
    counts = [history.get(name, 0) for name in ("n_train_windows", "n_valid_windows")]
    if not all(isinstance(n, int) and n >= 0 for n in counts):
        raise _damaged("its history has a wrong number of windows")
    figures = [history.get(name) for name in ("constant_loss", "rank_correlation")]
    if not all(value is None or _is_number(value) for value in figures):
        raise _damaged("its history has a wrong yardstick")


def _is_epoch(epoch: dict[str, Any]) -> bool:
    losses = [epoch.get(name) for name in ("train_loss", "learning_rate", "seconds")]
    valid, number = epoch.get("valid_loss"), epoch.get("number")
    is_sound = all(map(_is_number, losses)) and (valid is None or _is_number(valid))
    return is_sound and isinstance(number, int) and len(epoch) == 5


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


_CHECKS = (
    _check_names,
    _check_weights,
    _check_classes,
    _check_window,
    _check_calibration,
    _check_scaling,
    _check_history,
)


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))
