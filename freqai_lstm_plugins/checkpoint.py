"""The one reader and writer of model files.

A model file is a zip that `torch.save` makes of one dictionary of plain data and CPU tensors, from
which the net can be rebuilt. `"pytrainer"` is there for freqtrade alone: it asks that object to
turn the dictionary into a model.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
import pickle
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from freqai_lstm_plugins.errors import (
    CheckpointError,
    NewerFormatError,
    NotACheckpointError,
)
from freqai_lstm_plugins.files import replacing

FORMAT_NAME = "freqai_lstm_plugins"
FORMAT_VERSION = 2

# Each kind of model that a file may hold, by the class whose `from_checkpoint` reads it. Paths, not
# classes: the format knows no model, and a file that is only inspected imports none.
KINDS = {
    "regressor": "freqai_lstm_plugins.models.regressor.SequenceRegressor",
    "classifier": "freqai_lstm_plugins.models.classifier.SequenceClassifier",
}


class PyTrainer:
    """The object that freqtrade finds in a model file under `"pytrainer"`.

    It has no state. Its dotted path is part of the file format and never changes.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[type[PyTrainer], tuple[()]]:
        return PyTrainer, ()

    def load_from_checkpoint(self, content: dict[str, Any]) -> Any:
        """Turn the dictionary of a model file into a model."""
        checkpoint = Checkpoint.from_content(content, "the model file")
        return model_class(checkpoint.kind).from_checkpoint(checkpoint)


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds.

    Attributes:
        net: Name of the net in `NETS`, or of the FreqAI model whose `build_net` makes it.
        is_own_net: Whether the net is a user's own, so that its class is not in this package.
        net_settings: Arguments of the net.
        train_settings: Fields of `TrainConfig`.
        window: W, rows a window.
        feature_names: Names of the F features, in the order that the net takes them.
        label_names: Names of the K targets, in the order that the net gives them.
        state_dict: The net's weights.
        target_mean: The forecast that knows nothing, in the net's units: (K,) mean training
            targets, or the frequency of each class.
        single_target: Whether the target was given as a vector, so that predictions are one too.
        scaling: Feature and target means and deviations where the model scales by itself.
        history: `History.to_dict()` of the training.
        data_settings: The step of time between rows, and how rows were split for validation.
        optimizer_state: AdamW's state where continual learning needs it.
        kind: `regressor` or `classifier`.
        classes: For each target of a classifier the names of its classes.
        calibration: How far a regressor's intervals reach, where it has any.
        symbols: Names of the symbols that the net is told, where it is told any.
        versions: Versions of the packages that wrote the file.
    """

    net: str
    is_own_net: bool
    net_settings: dict[str, Any]
    train_settings: dict[str, Any]
    window: int
    feature_names: list[str]
    label_names: list[str]
    state_dict: dict[str, Tensor]
    target_mean: list[float]
    history: dict[str, Any]
    data_settings: dict[str, Any] = field(default_factory=dict)
    single_target: bool = False
    scaling: dict[str, list[float]] | None = None
    optimizer_state: dict[str, Any] | None = None
    kind: str = "regressor"
    classes: list[list[Any]] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    symbols: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=lambda: package_versions())

    def to_content(self) -> dict[str, Any]:
        """Return the dictionary that is stored, with every tensor on the CPU."""
        content = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        content["state_dict"] = _on_cpu(self.state_dict)
        content["optimizer_state"] = _on_cpu(self.optimizer_state)
        return {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            **content,
            "pytrainer": PyTrainer(),
        }

    @classmethod
    def from_content(cls, content: Any, what: str) -> Checkpoint:
        """Build a checkpoint from a stored dictionary.

        Raises:
            NotACheckpointError: The dictionary is not of this package, or incomplete.
            NewerFormatError: It was written by a newer version of this package.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT_NAME:
            raise NotACheckpointError(
                f"{what} was not written by freqai_lstm_plugins: it is another kind of model file."
            )
        version = content.get("format_version")
        if not isinstance(version, int) or version < 1:
            raise NotACheckpointError(f"{what} names no valid format version, but {version!r}.")
        if version > FORMAT_VERSION:
            raise NewerFormatError(
                f"{what} has format version {version}; this version of freqai_lstm_plugins reads "
                f"up to {FORMAT_VERSION}. Upgrade freqai_lstm_plugins, or train again."
            )
        values = {}
        for item in dataclasses.fields(cls):
            if item.name in content:
                values[item.name] = content[item.name]
            # What has a default came later than the format.
            elif item.default is item.default_factory is dataclasses.MISSING:
                raise NotACheckpointError(f"{what} is incomplete: it holds no {item.name!r}.")
        checkpoint = cls(**values)
        _check_types(vars(checkpoint), what)
        return checkpoint

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.state_dict.values())


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
    "kind": (str,),
    "classes": (list,),
    "calibration": (dict, type(None)),
    "symbols": (list,),
    "versions": (dict,),
}


def _check_types(values: Mapping[str, Any], what: str) -> None:
    for name, types in _TYPES.items():
        if not isinstance(values[name], types):
            kind = type(values[name]).__name__
            raise NotACheckpointError(f"{what} is damaged: {name!r} is a {kind}.")
    for name in ("feature_names", "label_names", "symbols"):
        if not all(isinstance(item, str) for item in values[name]):
            raise NotACheckpointError(f"{what} is damaged: {name!r} holds more than names.")
    if len(set(values["symbols"])) < len(values["symbols"]):
        raise NotACheckpointError(f"{what} is damaged: 'symbols' holds a name twice.")
    if not all(isinstance(tensor, Tensor) for tensor in values["state_dict"].values()):
        raise NotACheckpointError(f"{what} is damaged: 'state_dict' holds more than tensors.")
    _check_classes(values, what)
    n_blank = sum(map(len, values["classes"])) or len(values["label_names"])
    if values["window"] < 1 or not _are_numbers(values["target_mean"], n_blank):
        raise NotACheckpointError(f"{what} is damaged: its window or target_mean cannot be right.")
    _check_calibration(values, what)
    _check_scaling(values, what)
    epochs, best = values["history"].get("epochs"), values["history"].get("best_epoch")
    if not isinstance(epochs, list) or best not in range(1, len(epochs) + 1):
        raise NotACheckpointError(f"{what} is damaged: its history names no best epoch.")


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
    )


def _check_scaling(values: Mapping[str, Any], what: str) -> None:
    scaling = values["scaling"]
    if scaling is None:
        return
    for name, names in (("feature", "feature_names"), ("target", "label_names")):
        for key in (f"{name}_mean", f"{name}_std"):
            numbers = scaling.get(key)
            is_sound = _are_numbers(numbers, len(values[names]))
            if not is_sound or (key.endswith("std") and min(numbers, default=1.0) <= 0):
                raise NotACheckpointError(f"{what} is damaged: its scaling has a wrong {key!r}.")


def _check_classes(values: Mapping[str, Any], what: str) -> None:
    classes = values["classes"]
    is_sound = all(
        isinstance(names, list)
        and all(isinstance(name, str | int | float) and name == name for name in names)
        and len(set(names)) == len(names) > 1
        for names in classes
    )
    expected = len(values["label_names"]) if values["kind"] == "classifier" else 0
    if not is_sound or len(classes) != expected:
        raise NotACheckpointError(f"{what} is damaged: its classes cannot be right.")


def _check_calibration(values: Mapping[str, Any], what: str) -> None:
    calibration = values["calibration"]
    if calibration is None:
        return
    ends = [calibration.get(name) for name in ("margins", "blank_lower", "blank_upper")]
    interval, n_rows = calibration.get("interval"), calibration.get("n_rows")
    is_sound = (
        values["kind"] == "regressor"
        and len(calibration) == 5
        and all(_are_numbers(numbers, len(values["label_names"])) for numbers in ends)
        and isinstance(interval, float)
        and 0 < interval < 1
        and isinstance(n_rows, int)
    )
    if not is_sound:
        raise NotACheckpointError(f"{what} is damaged: its calibration cannot be right.")


def model_class(kind: str) -> Any:
    """Return the class of the models that files call `kind`.

    Raises:
        NotACheckpointError: No kind of model has that name.
    """
    if kind not in KINDS:
        raise NotACheckpointError(
            f"The model file is damaged: it holds a {kind!r}, and the kinds of models are "
            f"{', '.join(KINDS)}."
        )
    module, _, name = KINDS[kind].rpartition(".")
    return getattr(importlib.import_module(module), name)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        # A copy, because torch stores the whole storage that a view stands on.
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value


def package_versions() -> dict[str, str]:
    """Return the versions that matter to whoever has to read a file later."""
    from freqai_lstm_plugins import __version__

    return {
        "freqai_lstm_plugins": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a model file, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written, or the settings hold more than plain data.
    """
    try:
        with replacing(path) as stream:
            torch.save(checkpoint.to_content(), stream)
    except OSError as error:
        raise CheckpointError(f"Cannot write the model file {path}: {error}.") from error
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"Cannot write the model file {path}: its settings must be plain data ({error})."
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a model file without executing anything that it holds.

    Raises:
        NotACheckpointError: The file is missing, damaged, or not of this package.
        NewerFormatError: The file was written by a newer version of this package.
    """
    if not path.is_file():
        raise NotACheckpointError(f"There is no model file {path}.")
    try:
        archive = _sound_archive(path)
        # Never taken back: torch keeps one list for all threads, and another may be reading.
        torch.serialization.add_safe_globals([PyTrainer])
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except NotACheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise NotACheckpointError(
            f"{path} holds more than plain data and tensors, so it was not written by "
            f"freqai_lstm_plugins and is not read."
        ) from error
    # A damaged archive makes torch raise whatever its parser stumbles on.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotACheckpointError(f"{path} is damaged: {reason}") from error
    return Checkpoint.from_content(content, str(path))


def _sound_archive(path: Path) -> io.BytesIO:
    """Return the archive written anew from what its checksums vouch for.

    torch compares no checksums, and reads more out of a zip's directory than zipfile does: one
    wrong bit on the disk would be another model.
    """
    if not zipfile.is_zipfile(path):
        raise NotACheckpointError(f"{path} is damaged or no model file: it is not a whole zip.")
    sound = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(sound, "w") as copy:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise NotACheckpointError(
                f"{path} was not written by freqai_lstm_plugins: it is a TorchScript file."
            )
        for name in archive.namelist():
            # Reading a record compares its checksum.
            copy.writestr(name, archive.read(name))
    sound.seek(0)
    return sound
