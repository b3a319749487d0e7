"""Where torch computes: devices, threads and random numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from freqai_lstm_plugins.errors import ConfigError


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
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r} cannot be used here ({reason}): set device to 'auto' or 'cpu'."
        ) from error
    return device


def free_threads() -> int:
    """Return how many CPU threads torch may use without crowding out others.

    In the main thread that is every core this process may run on. In any other thread (a bot
    trains beside its trading loop) one core is left to the rest of the process.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit) > 0:
        cores = min(cores, int(limit))
    if threading.current_thread() is threading.main_thread():
        return cores
    return max(cores - 1, 1)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Bound the CPU threads that torch uses in the calling thread, and restore the bound after."""
    before = torch.get_num_threads()
    wanted = count or free_threads()
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and restore its random state after it."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
