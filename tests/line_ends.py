"""Gives text files one line break at their end, for the check before a commit."""

from __future__ import annotations

import sys
from pathlib import Path


def mended(content: bytes) -> bytes:
    """Return a file's content with one line break at its end, or nothing where it is empty."""
    stripped = content.rstrip(b"\r\n")
    return stripped + b"\n" if stripped else b""


def main(names: list[str]) -> int:
    """Mend the files, and return how many had to be."""
    changed = 0
    for path in map(Path, names):
        content = path.read_bytes()
        if content != mended(content):
            path.write_bytes(mended(content))
            changed += 1
    return changed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
