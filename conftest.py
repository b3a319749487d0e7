"""Leaves out what needs freqtrade or qlib where it is not installed, so that the rest runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent
NEEDS_FREQTRADE = (
    "freqai_lstm_plugins/freqai",
    "tests/freqai",
    "tests/e2e",
    "tests/userdir",
    "tests/replay/test_freqtrade.py",
    "tests/test_benchmarks.py",
    "tests/trust/test_determinism.py",
    "tests/trust/test_endurance.py",
    "tests/trust/test_look_ahead.py",
    "tests/trust/test_no_fake_numbers.py",
    "tests/trust/test_parity.py",
    "tests/trust/test_threads.py",
)


NEEDS_QLIB = ("freqai_lstm_plugins/qlib", "tests/qlib")

HAS_FREQTRADE = find_spec("freqtrade") is not None
LEFT_OUT = {
    *(() if HAS_FREQTRADE else NEEDS_FREQTRADE),
    *(() if find_spec("qlib") else NEEDS_QLIB),
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the files that need what is not installed."""
    place = collection_path.relative_to(ROOT)
    # None lets other rules decide.
    return True if LEFT_OUT & {path.as_posix() for path in (place, *place.parents)} else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that are marked as running freqtrade."""
    if HAS_FREQTRADE:
        return
    left_out = [item for item in items if item.get_closest_marker("freqtrade")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
