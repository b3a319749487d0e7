"""Workers of a dask cluster train undisturbed, and are given back as they were."""

from __future__ import annotations

import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.research.started import start, train
from tests.research.test_run import experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)
distributed = pytest.importorskip("distributed")
dask_workers = pytest.importorskip("freqai_lstm_plugins.research.dask_workers")


def test_a_cluster_trains_undisturbed_and_is_left_as_it_was(tmp_path, monkeypatch):
    # The worker is a thread of this process, whose memory is not to be touched.
    monkeypatch.setattr(dask_workers, "keep_memory", lambda: None)
    write_candles(tmp_path / "data", "A")
    run = start(
        experiment(
            tmp_path / "data",
            models={"lightgbm": {"n_estimators": 5}},
            split={"folds": 1, "test_bars": 60},
        ),
        tmp_path / "out",
    )
    sampled = []
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        (worker,) = cluster.workers.values()
        sampling = worker.periodic_callbacks["profile"]
        ended = train(
            run,
            dask=cluster.scheduler_address,
            on_done=lambda _done: sampled.append(sampling.is_running()),
        )
        assert sampled == [False] * run.n_left
        assert worker.periodic_callbacks["profile"] is sampling
        assert sampling.is_running()
        assert dask_workers.PLUGIN not in worker.plugins
    assert ended.failures.empty
    assert ended.count_done() == run.n_left


class Mallopt:
    """A C library that notes what is asked of its allocator."""

    def __init__(self):
        self.asked = {}

    def mallopt(self, name, value):
        self.asked[name] = value


def test_memory_that_is_freed_is_kept_where_the_c_library_knows_how(monkeypatch):
    library = Mallopt()
    monkeypatch.setattr("ctypes.CDLL", lambda _name: library)
    dask_workers.keep_memory()
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's malloc.h.
    assert library.asked == {-3: 32 * 2**20, -1: 64 * 2**20}
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    dask_workers.keep_memory()


class Foreign:
    """A client of a cluster whose workers lack what jobs need."""

    def register_plugin(self, _plugin, name):
        raise ModuleNotFoundError(f"No module named 'freqai_lstm_plugins' ({name})")


def test_workers_without_the_package_are_one_line():
    with (
        pytest.raises(ConfigError, match=r"--dask tcp://x:1: a worker cannot do the jobs \(No mod"),
        dask_workers.undisturbed(Foreign(), "tcp://x:1"),
    ):
        pytest.fail("jobs are handed out")
