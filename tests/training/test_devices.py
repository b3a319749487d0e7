"""How many cores a training and a prediction take."""

from __future__ import annotations

import threading

import pytest
import torch

from freqai_lstm_plugins.nets.cpu import bounded, callers_threads, team
from freqai_lstm_plugins.training import devices
from freqai_lstm_plugins.training.devices import cpu_quota, free_threads, torch_threads


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "_own_quota", lambda: None)


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def used(count=None):
    with torch_threads(count):
        return torch.get_num_threads()


def test_the_bound_that_the_caller_set_is_kept_and_a_setting_overrides_it(four_cores):
    with bounded(1):
        assert used() == 1
        assert used(3) == 3
    with bounded(3):
        assert used() == 3
    with bounded(9):
        assert used() == 4


def test_a_new_thread_keeps_the_bound_that_the_process_was_told(four_cores):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert in_thread(used) == 2
        torch.set_num_threads(1)
        assert in_thread(used) == 1
    finally:
        torch.set_num_threads(before)


def test_a_bound_for_one_training_is_none_for_the_thread_beside_it(four_cores):
    """A thread begins with what any thread has set last, and leaves it as the process was told."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with team(2):
            assert in_thread(used) == 2
            assert in_thread(callers_threads) == 2
        assert in_thread(torch.get_num_threads) == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


GROUPS = {
    "two cores": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "a part of a core": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    "one and a half": ("0::/a\n", {"a/cpu.max": "150000 100000\n"}, 2),
    "no bound": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "a bound above": ("0::/a/b\n", {"cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
    "the lowest bound": ("0::/a\n", {"cpu.max": "100000 100000", "a/cpu.max": "400000 100000"}, 1),
    "version 1": (
        "4:memory:/x\n3:cpu,cpuacct:/x\n",
        {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
        3,
    ),
    "version 1 from inside": (
        "3:cpuacct,cpu:/docker/x\n",
        {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        2,
    ),
    "version 1 without bound": (
        "3:cpu:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "nonsense": ("0::/\n", {"cpu.max": "many\n"}, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_of_a_container_is_read_from_either_version_of_its_groups(tmp_path, name):
    membership, files, expected = GROUPS[name]
    for path, text in files.items():
        (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / path).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert cpu_quota(tmp_path / "membership", tmp_path / "groups") == expected


def test_where_there_are_no_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "missing", tmp_path) is None


def test_the_quota_bounds_the_threads(four_cores, monkeypatch):
    assert free_threads() == 4
    monkeypatch.setattr(devices, "_own_quota", lambda: 2)
    assert free_threads() == 2
    assert in_thread(free_threads) == 1
