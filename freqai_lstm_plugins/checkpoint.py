"""The one reader and writer of model files.

A model file is a zip that `torch.save` makes of one dictionary of plain data and CPU tensors: an
envelope that says what the file is, and the state of one model, which that model's class alone
understands. `"pytrainer"` is there for freqtrade alone: it asks that object to turn the dictionary
into a model.
"""

from __future__ import annotations

import importlib
import io
import pickle
import platform
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freqai_lstm_plugins.errors import (
    CheckpointError,
    NewerFormatError,
    NotACheckpointError,
)
from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_NAME = "freqai_lstm_plugins"
FORMAT_VERSION = 3

# Each kind of model that a file may hold, by the class whose `from_state` takes its state. Paths,
# not classes: the format knows no model, and a file that is only looked at imports none.
KINDS = {
    "regressor": "freqai_lstm_plugins.models.regressor.SequenceRegressor",
    "classifier": "freqai_lstm_plugins.models.classifier.SequenceClassifier",
    "lightgbm": "freqai_lstm_plugins.models.boosting.LightGBM",
    "xgboost": "freqai_lstm_plugins.models.boosting.XGBoost",
    "ridge": "freqai_lstm_plugins.models.linear.Ridge",
    "naive_zero": "freqai_lstm_plugins.models.naive.NaiveZero",
    "naive_last": "freqai_lstm_plugins.models.naive.NaiveLast",
    "ensemble": "freqai_lstm_plugins.models.ensemble.regressor.EnsembleRegressor",
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
        return model_class(checkpoint.kind).from_state(checkpoint.state)


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds.

    Attributes:
        kind: Name in `KINDS` of the kind of model.
        state: What the model's `to_state` gave. Not looked into here: `from_state` does.
        versions: Versions of the packages that wrote the file.
    """

    kind: str
    state: dict[str, Any]
    versions: dict[str, str] = field(default_factory=lambda: package_versions())

    def to_content(self) -> dict[str, Any]:
        """Return the dictionary that is stored, with every tensor on the CPU."""
        return {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "state": _on_cpu(self.state),
            "versions": self.versions,
            "pytrainer": PyTrainer(),
        }

    @classmethod
    def from_content(cls, content: Any, what: str) -> Checkpoint:
        """Open the envelope of a stored dictionary, of this format or an older one.

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
        for older in range(version, FORMAT_VERSION):
            content = UPGRADES[older](content)
        for name, kind in (("kind", str), ("state", dict), ("versions", dict)):
            if name not in content:
                raise NotACheckpointError(f"{what} is incomplete: it holds no {name!r}.")
            if not isinstance(content[name], kind):
                found = type(content[name]).__name__
                raise NotACheckpointError(f"{what} is damaged: {name!r} is a {found}.")
        require_kind(content["kind"])
        return cls(content["kind"], content["state"], content["versions"])


def _upgrade_1(content: dict[str, Any]) -> dict[str, Any]:
    """Add what came after the first format: classes, intervals, symbols."""
    later = {
        "data_settings": {},
        "single_target": False,
        "scaling": None,
        "optimizer_state": None,
        "kind": "regressor",
        "classes": [],
        "calibration": None,
        "symbols": [],
        "versions": {},
    }
    return {**later, **content}


def _upgrade_2(content: dict[str, Any]) -> dict[str, Any]:
    """Put the state of the model, which lay open, into the envelope."""
    content = _upgrade_1(content)
    envelope = {"format", "format_version", "kind", "versions", "pytrainer"}
    state = {key: value for key, value in content.items() if key not in envelope}
    return {"kind": content["kind"], "versions": content["versions"], "state": state}


# From each older format to the next one.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _upgrade_1, 2: _upgrade_2}


def require_kind(kind: str) -> str:
    """Return the dotted path of the class of models that files call `kind`.

    Raises:
        NotACheckpointError: No kind of model has that name.
    """
    if kind not in KINDS:
        raise NotACheckpointError(
            f"The model file is damaged: it holds a {kind!r}, and the kinds of models are "
            f"{', '.join(KINDS)}."
        )
    return KINDS[kind]


def model_class(kind: str) -> Any:
    """Return the class of the models that files call `kind`.

    Raises:
        NotACheckpointError: No kind of model has that name.
    """
    module, _, name = require_kind(kind).rpartition(".")
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
    return {
        "freqai_lstm_plugins": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a model file, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written, or the state holds more than plain data.
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
        _require_bounds(content, path)
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


def _require_bounds(content: Any, path: Path) -> None:
    """Refuse content that would grow beyond what the file holds once it is used.

    A few bytes can stand for a tensor of stride 0 with 10^12 numbers, or for lists that hold the
    same list again and again; copied, compared or shown, they would take all memory.

    Raises:
        NotACheckpointError: It would.
    """
    size = path.stat().st_size
    n_bytes, n_values, waiting = 0, 0, [content]
    while waiting:
        value = waiting.pop()
        n_values += 1
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise NotACheckpointError(f"{path} is damaged: it holds an unknown kind of tensor.")
            n_bytes += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise NotACheckpointError(f"{path} is damaged: it holds a number of too many digits.")
        if max(n_bytes, n_values) > size:
            raise NotACheckpointError(f"{path} is damaged: it claims more than its bytes can hold.")


def _sound_archive(path: Path) -> io.BytesIO:
    """Return the archive written anew from what its checksums vouch for.

    torch compares no checksums, and reads more out of a zip's directory than zipfile does: one
    wrong bit on the disk would be another model.
    """
    if not zipfile.is_zipfile(path):
        raise NotACheckpointError(f"{path} is damaged or no model file: it is not a whole zip.")
    sound = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(sound, "w") as copy:
        records = archive.infolist()
        is_packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        # torch packs nothing, so what claims more bytes than there are is made to fill the memory.
        if is_packed or sum(record.file_size for record in records) > path.stat().st_size:
            raise NotACheckpointError(
                f"{path} was not written by freqai_lstm_plugins: its records claim more bytes than "
                f"the file has."
            )
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise NotACheckpointError(
                f"{path} was not written by freqai_lstm_plugins: it is a TorchScript file."
            )
        for name in archive.namelist():
            # Reading a record compares its checksum.
            copy.writestr(name, archive.read(name))
    sound.seek(0)
    return sound
