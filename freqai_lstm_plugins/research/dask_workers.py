"""What the workers of a dask cluster are told, so that trainings take no longer than elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import ConfigError, MissingExtraError

try:
    from distributed import WorkerPlugin
except ImportError as error:
    raise MissingExtraError("dask", "cluster", "A run on a dask cluster") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Worker

PLUGIN = "freqai-lstm"
# Names of glibc, and the size up to which it learns by itself to keep pieces for the next user.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 32 * 2**20


class Undisturbed(WorkerPlugin):
    """Keeps from a worker what slows trainings, which are many small steps.

    Its nanny asks the allocator to hand memory back early, and glibc then fetches each piece of
    more than 128 KiB anew from the system, page by page, in every step. And its sampling of stacks,
    a hundred times a second, takes Python's lock from the training.
    """

    _sampling: Any = None

    def setup(self, worker: Worker) -> None:
        """Let the worker keep its memory, and its stacks be."""
        keep_memory()
        self._sampling = worker.periodic_callbacks.pop("profile", None)
        if self._sampling is not None:
            self._sampling.stop()

    def teardown(self, worker: Worker) -> None:
        """Take up the sampling again, as the next user of the worker may look at it."""
        if self._sampling is not None:
            worker.periodic_callbacks["profile"] = self._sampling
            self._sampling.start()


@contextlib.contextmanager
def undisturbed(client: Any, address: str) -> Iterator[None]:
    """Spare a cluster's workers what slows trainings, those that join later too.

    Args:
        client: Of the cluster.
        address: Of its scheduler.

    Raises:
        ConfigError: A worker lacks what jobs need.
    """
    try:
        client.register_plugin(Undisturbed(), name=PLUGIN)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"--dask {address}: a worker cannot do the jobs ({error}): all workers must have the "
            "same versions of the packages as this process."
        ) from error
    yield
    # Only after work that went well: a cluster that is lost would be waited for in vain. Another
    # run may have taken it back already.
    with contextlib.suppress(OSError, ValueError):
        client.unregister_worker_plugin(PLUGIN)


def keep_memory() -> None:
    """Let glibc keep what this process frees, as it does by itself where nobody sets a limit."""
    # Other C libraries have no such call, and no such limits either.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES)
