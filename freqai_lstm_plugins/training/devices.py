"""Where torch computes: devices, threads and random numbers."""

from __future__ import annotations

import functools
import math
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import seeded
from freqai_lstm_plugins.nets.cpu import bounded, callers_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "choose_device",
    "cpu_quota",
    "free_threads",
    "require_device_name",
    "seeded",
    "torch_threads",
]


def choose_device(name: str) -> torch.device:
    """Turn a device setting into a device that exists here.

    Raises:
        ConfigError: The device is unknown to torch, or not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _unusable(name, error) from error
    return device


def require_device_name(name: str) -> None:
    """Raise ConfigError where torch knows no device of that name, on whatever machine."""
    try:
        torch.device("cpu" if name == "auto" else name)
    except RuntimeError as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> ConfigError:
    reason = str(error).splitlines()[0]
    return ConfigError(
        f"device {name!r} cannot be used here ({reason}): set device to 'auto' or 'cpu'."
    )


def free_threads() -> int:
    """Return how many CPU threads torch may use without crowding out others.

    In the main thread that is every core this process may run on, as far as its container's quota
    goes. In any other thread (a bot trains beside its trading loop) one core is left to the rest of
    the process.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit) > 0:
        cores = min(cores, int(limit))
    if (quota := _own_quota()) is not None:
        # Threads beyond it are stopped in the middle of what others wait for.
        cores = min(cores, quota)
    if threading.current_thread() is threading.main_thread():
        return cores
    return max(cores - 1, 1)


@functools.cache
def _own_quota() -> int | None:
    return cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def cpu_quota(membership: Path, root: Path) -> int | None:
    """Return the cores that Linux's control groups grant this process; None without a bound.

    Args:
        membership: Names the group of this process, as `/proc/self/cgroup` does.
        root: Where the groups are: both versions of them, each group's bound at least 1 core.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    bounds = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            bounds += [_bound_of(folder / "cpu.max") for folder in _and_above(root, group)]
        elif "cpu" in controllers.split(","):
            # Inside a container the tree may begin at its own group, which then is the root.
            for name in (controllers, "cpu"):
                folders = _and_above(root / name, group)
                bounds += [_bound_of_version_1(folder) for folder in folders]
    return min((max(math.ceil(bound), 1) for bound in bounds if bound), default=None)


def _and_above(root: Path, group: str) -> list[Path]:
    """Return the folders of a group and of all that hold it, each of which may bound it."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _bound_of(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _bound_of_version_1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Bound the CPU threads that torch uses in the calling thread, and restore the bound after.

    Args:
        count: Threads; None takes what is free, and no more than `torch.set_num_threads` was told.
    """
    with bounded(count or min(free_threads(), callers_threads())):
        yield
