"""What the training of one net for all pairs leaves, and where it stands on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.checkpoint import read_checkpoint
from freqai_lstm_plugins.freqai.sidecar import NET, part_of
from freqai_lstm_plugins.freqai.stored import net_of, write_companion
from freqai_lstm_plugins.models.registry import from_checkpoint
from freqai_lstm_plugins.models.served import served_pairs
from freqai_lstm_plugins.names import PANEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

logger = logging.getLogger(__name__)

# What every pair's metadata say of the net.
_FACTS = ("net", "asked", "pairs")


@dataclass(frozen=True)
class Panel:
    """One trained net, and the pairs that have pipelines for it.

    Attributes:
        net: The net.
        facts: What the metadata of each pair say of the net, under `panel`: `net`, the name of its
            file; `asked`, the pairs that it was to be trained on; `pairs`, those that it was.
        models: For each pair the same net with the pair's own metadata and pipelines.
    """

    net: Any
    facts: dict[str, Any]
    models: dict[str, Any]


def net_name(stamp: int) -> str:
    """Return what the name of the net's file begins with; `stamp` is the end of its slice."""
    return f"cb_{PANEL_NAME}_{stamp}"


def save_panel(panel: Panel, default: Callable[[Any], Any]) -> None:
    """Write the net, and then what belongs to each pair, into the folder that the pairs name.

    Args:
        panel: What to save.
        default: Turns values of NumPy in the metadata into plain ones.
    """
    folder = Path(next(iter(panel.models.values())).companion[0]["data_path"])
    folder.mkdir(parents=True, exist_ok=True)
    panel.net.save(part_of(folder / panel.facts["net"], NET))
    save_members(panel.models, default)


def save_members(models: Mapping[str, Any], default: Callable[[Any], Any]) -> None:
    """Write the metadata and pipelines of pairs, and their net where it is no longer on disk."""
    for model in models.values():
        metadata = model.companion[0]
        stem = Path(metadata["data_path"]) / metadata["model_filename"]
        net = part_of(net_of(stem, metadata), NET)
        if not net.is_file():
            model.save(net)
        write_companion(stem, model.companion, default)


def read_net(folder: Path, stamp: int, require: Callable[[Any], Any]) -> Any | None:
    """Return the net of a slice, or None where there is none that can be used.

    Args:
        folder: Where it stands.
        stamp: End of the slice.
        require: Raises where a net that can be read is none that can be used.
    """
    path = part_of(folder / net_name(stamp), NET)
    if not path.is_file():
        return None
    try:
        return require(from_checkpoint(read_checkpoint(path)))
    # A damaged file may raise anything.
    except Exception as error:
        logger.warning("The net of all pairs in %s counts for nothing: %s", path, error)
        return None


def read_facts(folder: Path, stamp: int) -> dict[str, Any] | None:
    """Return what the metadata of any pair say of a net, or None where none can be read."""
    for _, panel in served_pairs(folder / net_name(stamp)):
        if panel.keys() >= set(_FACTS):
            return {name: panel[name] for name in _FACTS}
    return None


def changed_pairs(then: Sequence[str], now: Sequence[str]) -> str:
    """Say in words how one list of pairs differs from another; nothing where it does not."""
    gone = [pair for pair in then if pair not in now]
    new = [pair for pair in now if pair not in then]
    parts = [f"without {', '.join(gone)}"] if gone else []
    parts += [f"with {', '.join(new)}"] if new else []
    return " and ".join(parts)
