"""Gives the compiled steps of a cell, or nothing where they cannot be had.

numba reads what it compiled from a folder of its own, and raises whatever it stumbles on there: a
file that a crash left empty, a full disk, a version that does not fit. So every function is made
ready before any of its numbers count, and from the first failure on torch's own layers run.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import torch

logger = logging.getLogger(__name__)

_lock = threading.RLock()
_has_failed = False


def runs_compiled(name: str, *, learn: bool = False) -> bool:
    """Whether the calling thread runs the steps of a cell compiled.

    They work on one core each. A thread whose torch may use several is better served by torch,
    whose helpers would otherwise busy the other cores while they wait.
    """
    return torch.get_num_threads() == 1 and compiled_steps(name, learn=learn) is not None


def compiled_steps(name: str, *, learn: bool = False) -> Any:
    """Return the compiled steps of the cell `lstm` or `gru`, or None.

    Args:
        name: The cell.
        learn: Make ready what gradients need too; a process that only predicts needs less.
    """
    with _lock:
        return None if _has_failed else _made_ready(name, learn)


@functools.cache
def _made_ready(name: str, learn: bool) -> Any:
    kernels = _kernels()
    if kernels is None:
        return None
    steps = kernels.STEPS[name]
    try:
        for kernel in steps if learn else (steps.states,):
            kernel.make_ready()
    except Exception as error:
        _give_up(error)
        return None
    return steps


@functools.cache
def _kernels() -> Any:
    """Return the module of compiled steps, or None where numba or SciPy is missing or disabled."""
    try:
        import numba
        import scipy.linalg  # noqa: F401  # numba's products

        if numba.config.DISABLE_JIT:
            return None
        if (numba_log := logging.getLogger("numba")).level == logging.NOTSET:
            # It tells each step of a compilation to whoever asked for debug messages of anything.
            numba_log.setLevel(logging.INFO)
        return importlib.import_module("freqai_lstm_plugins.nets.cpu.kernels")
    except ImportError as error:
        logger.debug("Recurrent layers run by torch alone: %s.", error)
    except Exception as error:  # A numba that does not fit its surroundings raises what it likes.
        _give_up(error)
    return None


def _give_up(error: Exception) -> None:
    global _has_failed
    _has_failed = True
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    logger.warning(
        "Recurrent layers run by torch alone in this process, as numba fails (%s). If that stays, "
        "make room on the disk, and delete the files *.nbi and *.nbc in %s.",
        reason,
        os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__",
    )


def _forget_lock() -> None:
    """Take a lock that no thread of the parent process holds."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
