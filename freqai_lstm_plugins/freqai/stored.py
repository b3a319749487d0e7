"""The files of a model under an identifier: its net, its metadata, its pipelines, their hashes.

A net for many pairs stands in a file of its own. Each of these pairs has metadata and pipelines
beside it, and the metadata name that file.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import cloudpickle
import rapidjson
from datasieve.pipeline import Pipeline
from freqtrade.freqai.data_drawer import (
    FEATURE_PIPELINE,
    LABEL_PIPELINE,
    METADATA,
    METADATA_NUMBER_MODE,
)

from freqai_lstm_plugins.checkpoint import read_checkpoint
from freqai_lstm_plugins.errors import NotACheckpointError
from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.freqai.sidecar import NET, part_of, require_unchanged, write_hashes
from freqai_lstm_plugins.models.registry import from_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

Companion = tuple[dict[str, Any], Pipeline, Pipeline]
"""A pair's metadata, and the pipelines of its features and of its labels."""

_PIPELINES = (FEATURE_PIPELINE, LABEL_PIPELINE)


def accept(value: Any) -> None:
    """Take whatever is given as it is."""


def read_usable(
    stem: Path,
    require: Callable[[Any], object] = accept,
    nets: dict[Path, Any] | None = None,
) -> tuple[Any | None, str]:
    """Read a saved model, or say why it cannot be used; arguments as in `read_model`.

    Returns:
        The model and an empty text, or None and the reason.
    """
    try:
        return read_model(stem, require, nets), ""
    # A pickle that is damaged, or of other packages, may raise anything.
    except Exception as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def read_model(
    stem: Path,
    require: Callable[[Any], object] = accept,
    nets: dict[Path, Any] | None = None,
) -> Any:
    """Read a model of ours with its metadata and pipelines.

    Args:
        stem: Folder of the model, and the name that its files begin with.
        require: Called with the net that was read. It makes a net of the user's own whole, and
            raises where the net is none that can be used.
        nets: The net for many pairs that was read last, by the stem of its file; it stands in
            memory once, and is added here.

    Raises:
        NotACheckpointError: A file is damaged, or of another training than the others.
        OSError: A file is missing.
    """
    metadata = read_metadata(stem)
    net_stem = net_of(stem, metadata)
    require_unchanged(stem, net_stem)
    known = {} if nets is None else nets
    model: Any = known.get(net_stem)
    if model is None:
        model = from_checkpoint(read_checkpoint(part_of(net_stem, NET)))
        # Before pairs get copies, which have one net among them.
        require(model)
    if net_stem != stem:
        known.clear()
        known[net_stem] = model
    features, labels = (_read_pipeline(part_of(stem, f"{name}.pkl")) for name in _PIPELINES)
    return with_companion(model, (metadata, features, labels))


def net_of(stem: Path, metadata: dict[str, Any]) -> Path:
    """Return the stem of the file that holds a model's net.

    Raises:
        NotACheckpointError: The metadata name no file beside them.
    """
    panel = metadata.get("panel")
    if panel is None:
        return stem
    name = panel.get("net") if isinstance(panel, dict) else None
    if not isinstance(name, str) or not name or "/" in name or "\\" in name:
        raise NotACheckpointError(f"{part_of(stem, METADATA)}.json is damaged: it names no net.")
    return stem.with_name(name)


def with_companion(model: Any, companion: Companion) -> Any:
    """Return a model of the same net for another pair; the net itself stands but once."""
    made = copy.copy(model)
    made.companion = companion
    return made


def lend_companion(model: Any, dk: FreqaiDataKitchen) -> None:
    """Give a kitchen the metadata and the pipelines that a model carries."""
    dk.data, dk.feature_pipeline, dk.label_pipeline = model.companion
    dk.training_features_list = dk.data["training_features_list"]
    dk.label_list = dk.data["label_list"]


def read_metadata(stem: Path) -> dict[str, Any]:
    """Read what freqtrade keeps of a training.

    Raises:
        NotACheckpointError: The names of features or labels are missing.
        OSError: There is no such file.
        ValueError: The file is no JSON.
    """
    path = part_of(stem, f"{METADATA}.json")
    with path.open("r") as text:
        metadata: Any = rapidjson.load(text, number_mode=METADATA_NUMBER_MODE)
    for key in ("training_features_list", "label_list"):
        if not isinstance(metadata, dict) or not isinstance(metadata.get(key), list):
            raise NotACheckpointError(f"{path} is damaged: it holds no {key}.")
    return metadata


def _read_pipeline(path: Path) -> Pipeline:
    with path.open("rb") as stream:
        pipeline = cloudpickle.load(stream)
    if not isinstance(pipeline, Pipeline):
        raise NotACheckpointError(f"{path} is damaged: it holds a {type(pipeline).__name__}.")
    return pipeline


def write_companion(stem: Path, companion: Companion, default: Callable[[Any], Any]) -> None:
    """Write a pair's metadata and pipelines beside the net that stands there already.

    Args:
        stem: Folder of the pair's files, and the name that they begin with.
        companion: What to write; the metadata name the net.
        default: Turns values of NumPy in the metadata into plain ones.
    """
    metadata, *pipelines = companion
    for part, pipeline in zip(_PIPELINES, pipelines, strict=True):
        with replacing(part_of(stem, f"{part}.pkl")) as stream:
            cloudpickle.dump(pipeline, stream)
    write_metadata(stem, metadata, default)
    write_hashes(stem, net_of(stem, metadata))


def write_metadata(stem: Path, metadata: dict[str, Any], default: Callable[[Any], Any]) -> None:
    """Write what freqtrade keeps of a training; arguments as in `write_companion`."""
    text = rapidjson.dumps(metadata, default=default, number_mode=METADATA_NUMBER_MODE)
    write_text(part_of(stem, f"{METADATA}.json"), text)
