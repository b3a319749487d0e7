"""Runs independent parts of one computation beside each other, each on one core.

torch shares every operation between cores and waits for all of them at its end. A recurrent net is
many small operations, which wait more than they work where the cores have other work too. Batches
of windows need no waiting. Parts should take milliseconds: Python runs its own code for one thread
at a time.
"""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_own = threading.local()


def n_workers() -> int:
    """Return how many threads share what the calling thread gives `in_threads`; 1 without a team.

    That is the size of the team this thread leads.
    """
    return getattr(_own, "team", 1)


def callers_threads() -> int:
    """Return how many threads torch may use here, whatever `bounded` says in other threads.

    A thread that torch has not seen begins with what any thread has set last, so with a bound that
    may be another thread's own and for the time being only.
    """
    found = torch.get_num_threads()
    with _bounds_lock:
        is_new = not getattr(_own, "has_bound", False)
        return _outside if _n_bounded and is_new and found == _last_bound else found


_bounds_lock = threading.Lock()
_n_bounded = _last_bound = _outside = 0


@contextmanager
def bounded(count: int) -> Iterator[None]:
    """Let torch use `count` threads for what the calling thread does, and restore it after."""
    global _n_bounded, _last_bound, _outside
    before = callers_threads()
    if count == before == torch.get_num_threads():
        yield
        return
    had_bound = getattr(_own, "has_bound", False)
    with _bounds_lock:
        if not _n_bounded:
            _outside = before
        _n_bounded, _last_bound = _n_bounded + 1, count
    torch.set_num_threads(count)
    _own.has_bound = True
    try:
        yield
    finally:
        _own.has_bound = had_bound
        torch.set_num_threads(before)
        with _bounds_lock:
            _n_bounded, _last_bound = _n_bounded - 1, before


@contextmanager
def team(size: int) -> Iterator[None]:
    """Let the calling thread's work be shared by `size` threads with one core each.

    torch's own threads rest meanwhile: between two operations they keep their cores busy waiting,
    for milliseconds, which the team would lose.
    """
    before = n_workers()
    _own.team = size
    try:
        with bounded(1):
            yield
    finally:
        _own.team = before


def in_threads(function: Callable[[PartT], ResultT], parts: Sequence[PartT]) -> list[ResultT]:
    """Return the result of each part, computed without gradients by several threads.

    That is the calling thread's team, or else as many threads as its torch may use. The same parts
    give the same results whatever the number of threads.

    Args:
        function: Must not change what another part reads, and must draw no random numbers.
        parts: Shared out in turn.
    """
    # A team's torch has one thread, so the team is the larger number there.
    n_threads = min(max(n_workers(), torch.get_num_threads()), len(parts))
    if n_threads <= 1:
        return [function(part) for part in parts]
    is_inference = torch.is_inference_mode_enabled()
    results: list[ResultT | None] = [None] * len(parts)

    def work(first: int) -> None:
        # Modes belong to threads.
        with team(1), torch.inference_mode(is_inference), torch.no_grad():
            for i in range(first, len(parts), n_threads):
                results[i] = function(parts[i])

    others: list[Future[None]] = []
    try:
        others.extend(_executor().submit(work, first) for first in range(1, n_threads))
        work(0)
    finally:
        # Nobody reads or writes what is the caller's once this has returned or raised.
        wait(others)
        # What a thread sets last is what new threads start with.
        torch.set_num_threads(torch.get_num_threads())
    for other in others:
        other.result()
    return results  # type: ignore[return-value]


_blas_lock = threading.Lock()
_blas_users = 0
_blas_bounds: list[tuple[Any, int]] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep the BLAS of NumPy and SciPy, not torch's, to one thread for each of its callers.

    The bound belongs to the process: the first to enter sets it, the last to leave lifts it.
    Without SciPy and threadpoolctl nothing is bound.
    """
    global _blas_users
    with _blas_lock:
        _blas_users += 1
        if _blas_users == 1:
            for library in _blas():
                _blas_bounds.append((library, library.num_threads))
                library.set_num_threads(1)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                while _blas_bounds:
                    library, bound = _blas_bounds.pop()
                    library.set_num_threads(bound)


@functools.cache
def _blas() -> list[Any]:
    try:
        import scipy.linalg  # noqa: F401  # The controller knows what is loaded.
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return []
    libraries: list[Any] = ThreadpoolController().select(user_api="blas").lib_controllers
    return libraries


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max(os.cpu_count() or 2, 2) - 1,
                thread_name_prefix="freqai_lstm",
                initializer=_begin,
            )
        return _pool


def _begin() -> None:
    """Keep a thread of the pool to one core for good: OpenMP's bound belongs to each thread."""
    torch.set_num_threads(1)
    _own.has_bound = True


def _forget() -> None:
    """Forget the threads of the parent process, which a forked child does not have."""
    global _pool, _lock, _bounds_lock, _blas_lock, _blas_users
    _pool, _lock, _bounds_lock, _blas_lock = None, *(threading.Lock() for _ in range(3))
    _blas_users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
