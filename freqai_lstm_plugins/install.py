"""Writes the strategy, the model files and a config into a freqtrade user directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from freqai_lstm_plugins.errors import UserDirError
from freqai_lstm_plugins.files import write_text

PACKAGE = Path(__file__).parent
MODELS_DIR = PACKAGE / "freqaimodels"
TEMPLATE_DIR = PACKAGE / "userdir"
STRATEGY = "LeaFreqAIStrategy"

State = Literal["written", "up to date", "changed by you, kept", "replaced, old one kept as .bak"]


@dataclass(frozen=True)
class InstalledFile:
    """A file of the user directory, and what became of it."""

    path: Path
    state: State

    @property
    def is_kept(self) -> bool:
        """Whether a changed file stood in the way, so that ours was not written."""
        return self.state == "changed by you, kept"


def template_files() -> Iterator[tuple[Path, str]]:
    """Yield each template with its place inside a user directory."""
    for model in sorted(MODELS_DIR.glob("*.py")):
        yield model, f"freqaimodels/{model.name}"
    yield TEMPLATE_DIR / "strategies" / f"{STRATEGY}.py", f"strategies/{STRATEGY}.py"
    # A user directory often has a config.json of its own.
    yield TEMPLATE_DIR / "config.json", "config-lea.json"


def install(userdir: Path, *, force: bool = False) -> list[InstalledFile]:
    """Write the package's files into `userdir`.

    A file that differs from ours is kept, unless `force` is given; then it stays beside ours with
    the suffix `.bak`.

    Args:
        userdir: A freqtrade user directory. Missing folders are made.
        force: Replace files that differ.

    Raises:
        UserDirError: The directory cannot be written, or a file's place leads out of it.
    """
    try:
        userdir.mkdir(parents=True, exist_ok=True)
        root = userdir.resolve()
        places = [(source, _inside(root, relative)) for source, relative in template_files()]
        return [_install_file(source, place, force=force) for source, place in places]
    except OSError as error:
        raise UserDirError(
            f"Cannot write to the user directory {userdir}: {error.strerror or error}. Choose "
            f"another --userdir, or make it writable."
        ) from error


def _inside(root: Path, relative: str) -> Path:
    place = root / relative
    target = place.resolve()
    if not target.is_relative_to(root) and not target.is_relative_to(PACKAGE):
        raise UserDirError(
            f"{place} leads out of the user directory, to {target}. Remove the link."
        )
    return place


def _install_file(source: Path, place: Path, *, force: bool) -> InstalledFile:
    text = source.read_text(encoding="utf-8")
    if not place.exists():
        write_text(place, text)
        return InstalledFile(place, "written")
    present = place.read_bytes()
    if present == text.encode("utf-8"):
        return InstalledFile(place, "up to date")
    if not force:
        return InstalledFile(place, "changed by you, kept")
    backup = _free_backup(place)
    backup.write_bytes(present)
    write_text(place, text)
    return InstalledFile(place, "replaced, old one kept as .bak")


def _free_backup(place: Path) -> Path:
    backup = place.with_name(f"{place.name}.bak")
    number = 1
    while backup.exists():
        backup = place.with_name(f"{place.name}.bak{number}")
        number += 1
    return backup
