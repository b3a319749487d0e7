"""A lock in an identifier's folder, so that no two bots write over each other's files.

A bot holds the folder alone. Backtests share it among themselves, since what they write is the
same for the same slice and takes its place whole; beside a bot they may not run, for each of the
two would write the list of pairs and their models over the other's. A backtest of a bot's past
predictions (`--freqai-backtest-live-models`) only reads, and takes no lock.

The lock belongs to the operating system, so it ends with the process, however that ends.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from freqtrade.enums import RunMode

from freqai_lstm_plugins.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

LOCK_FILE = "freqai_lstm.lock"

_ALONE = {RunMode.LIVE, RunMode.DRY_RUN}
_SHARED = {RunMode.BACKTEST, RunMode.HYPEROPT, RunMode.WEBSERVER}


class IdentifierLock:
    """What a process holds of an identifier's folder, until `release` or its end.

    Attributes:
        is_reader: Whether the process only reads there, beside whoever writes.
    """

    def __init__(self, stream: IO[str] | None = None, *, is_reader: bool = False) -> None:
        self._stream = stream
        self.is_reader = is_reader

    def release(self) -> None:
        """Let others have the folder."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def lock_identifier(folder: Path, identifier: str, config: Mapping[str, Any]) -> IdentifierLock:
    """Take the lock that this kind of run needs.

    Args:
        folder: The identifier's folder.
        identifier: `freqai.identifier`.
        config: freqtrade's config, whose `runmode` says what kind of run this is.

    Raises:
        ConfigError: Another process holds the folder.
    """
    mode = config.get("runmode")
    is_reader = bool(config.get("freqai_backtest_live_models"))
    if is_reader or mode not in _ALONE | _SHARED:
        return IdentifierLock(is_reader=is_reader)
    try:
        # Not there on every system.
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        _warn(identifier, "this system has no fcntl")
        return IdentifierLock()
    folder.mkdir(parents=True, exist_ok=True)
    stream = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, (fcntl.LOCK_EX if mode in _ALONE else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(stream)
        stream.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            _warn(identifier, str(error))
            return IdentifierLock()
        raise ConfigError(
            f"The identifier {identifier!r} is in use by another freqtrade{holder}: two would "
            f"overwrite each other's models in {folder}. Stop that one, or choose another "
            f"freqai.identifier."
        ) from error
    stream.truncate(0)
    stream.write(f"{os.getpid()} {mode.value if isinstance(mode, RunMode) else mode}\n")
    stream.flush()
    return IdentifierLock(stream)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file alone for a while; another process that wants it waits.

    On systems without locks nothing is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl: Any = importlib.import_module("fcntl")
            fcntl.flock(stream, fcntl.LOCK_EX)
        except (ImportError, OSError) as error:
            logger.debug("%s is not locked: %s", path, error)
        yield


def _holder(stream: IO[str]) -> str:
    stream.seek(0)
    process, _, mode = stream.read().strip().partition(" ")
    return f" (process {process}, {mode})" if mode else ""


def _warn(identifier: str, why: str) -> None:
    logger.warning(
        "Nothing keeps a second bot from the identifier %r, as its folder cannot be locked (%s): "
        "start only one bot or backtest with it at a time.",
        identifier,
        why,
    )
