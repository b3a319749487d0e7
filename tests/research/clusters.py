"""Dask clusters inside the test's process."""

from __future__ import annotations

import contextlib
import gc


@contextlib.contextmanager
def local_cluster(n_workers):
    """Start a scheduler, and workers that are threads of this process."""
    import distributed

    # Clients that failed take a lock when they are collected, which a cluster holds as it starts.
    gc.collect()
    with distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        yield cluster
