"""Runs independent parts of one computation beside each other, each on one core.

torch shares every operation between cores and waits for all of them at its end. A recurrent net is
many small operations, which wait more than they work where the cores have other work too. Batches
of windows need no waiting. Parts should take milliseconds: Python runs its own code for one thread
at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def in_threads(function: Callable[[PartT], ResultT], parts: Sequence[PartT]) -> list[ResultT]:
    """Return the result of each part, computed without gradients in as many threads as torch has.

    The same parts give the same results whatever the number of threads.

    Args:
        function: Must not change what another part reads, and must draw no random numbers.
        parts: Shared out in turn.
    """
    n_threads = min(torch.get_num_threads(), len(parts))
    if n_threads <= 1:
        return [function(part) for part in parts]
    is_inference = torch.is_inference_mode_enabled()
    results: list[ResultT | None] = [None] * len(parts)

    def work(first: int) -> None:
        # Modes belong to threads.
        with torch.inference_mode(is_inference), torch.no_grad():
            for i in range(first, len(parts), n_threads):
                results[i] = function(parts[i])

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        others = [_executor().submit(work, first) for first in range(1, n_threads)]
        try:
            work(0)
        finally:
            for other in others:
                other.result()
    finally:
        torch.set_num_threads(before)
    return results  # type: ignore[return-value]


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max(os.cpu_count() or 2, 2) - 1,
                thread_name_prefix="freqai_lstm",
                # OpenMP's bound belongs to each thread.
                initializer=lambda: torch.set_num_threads(1),
            )
        return _pool


def _forget() -> None:
    """Forget the threads of the parent process, which a forked child does not have."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
