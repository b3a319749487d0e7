"""Which pairs one net for many serves, by the metadata that FreqAI writes beside its file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_METADATA = "_metadata.json"


def served_pairs(net_stem: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the pairs of one net: the stem of each, and what its metadata say of the net.

    Metadata that cannot be read are those of no pair.

    Args:
        net_stem: Folder of the net's file, and what its name begins with.
    """
    stamp = net_stem.name.rpartition("_")[2]
    for path in sorted(net_stem.parent.glob(f"cb_*_{stamp}{_METADATA}")):
        try:
            panel = json.loads(path.read_text(encoding="utf-8"))["panel"]
            is_served = panel["net"] == net_stem.name and isinstance(panel["pairs"], list)
        # Metadata of a pair by itself, or of a training that failed, or damaged.
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if is_served:
            yield path.with_name(path.name.removesuffix(_METADATA)), panel
