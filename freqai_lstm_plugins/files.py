"""Writing files so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from freqai_lstm_plugins.errors import causes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The disk is full, or a user's share of it, or it may only be read.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place once the block ends well.

    The bytes reach the disk before the name does. On an error the temporary file is removed and
    `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def is_unwritable(error: BaseException) -> bool:
    """Whether an error comes of a disk that is full or may only be read, whatever wraps it."""
    return any(isinstance(one, OSError) and one.errno in UNWRITABLE for one in causes(error))
