"""Hashes of the files that make up a saved FreqAI model, in a small file beside them.

FreqAI writes the metadata and the pipelines of a model as files of their own, one after the other
and without any check. The hashes tell a flipped byte, and files of two trainings under one name.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from freqai_lstm_plugins.errors import NotACheckpointError
from freqai_lstm_plugins.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

NET = "model.zip"
PARTS = (NET, "metadata.json", "feature_pipeline.pkl", "label_pipeline.pkl")


def part_of(stem: Path, part: str) -> Path:
    """Return one of the files of a model.

    Args:
        stem: Folder of the model, and the name that its files begin with.
        part: What the file's name ends with.
    """
    return stem.with_name(f"{stem.name}_{part}")


def write_hashes(stem: Path, net_stem: Path | None = None) -> None:
    """Write the hashes of a model's files, once all of them are written.

    Args:
        stem: Folder of the model, and the name that its files begin with.
        net_stem: The same of the net, where it is one for many pairs.
    """
    hashes = {part: _hash(path) for part, path in _files(stem, net_stem).items()}
    write_text(_sidecar(stem), json.dumps(hashes, indent=2) + "\n")


def _files(stem: Path, net_stem: Path | None) -> dict[str, Path]:
    return {part: part_of(stem, part) for part in PARTS} | {NET: part_of(net_stem or stem, NET)}


def require_unchanged(stem: Path, net_stem: Path | None = None) -> None:
    """Raise where a model's files are not those that were saved together.

    Files of earlier versions have no hashes, and pass. Arguments as in `write_hashes`.

    Raises:
        NotACheckpointError: A file differs from its hash, or the hashes are damaged.
        OSError: A file is missing.
    """
    path = _sidecar(stem)
    if not path.is_file():
        return
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotACheckpointError(f"{path} is damaged ({error}).") from error
    if not isinstance(hashes, dict) or set(hashes) != set(PARTS):
        raise NotACheckpointError(f"{path} is damaged: it must hold {', '.join(PARTS)}.")
    for part, file in _files(stem, net_stem).items():
        if _hash(file) != hashes[part]:
            raise NotACheckpointError(
                f"{file} is damaged, or from another training than the files beside "
                f"it: its bytes are not those that were saved."
            )


def _sidecar(stem: Path) -> Path:
    return part_of(stem, "sha256.json")


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
