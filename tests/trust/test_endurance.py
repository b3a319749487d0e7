"""Hundreds of trainings in one process leave memory, files and threads level."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest

from tests.freqai.host import PAIR, make_frame, make_model, predict, train
from tests.trust.cases import EPOCHS, EVERY_MODEL

SHORT = pytest.param(15, id="short")
LONG = pytest.param(600, id="long", marks=pytest.mark.slow)


def level() -> tuple[float, int, int]:
    """Return memory in MB, open files and threads of this process."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss / 1e6, process.num_fds(), threading.active_count()


@EVERY_MODEL
@pytest.mark.parametrize("continual", [False, True], ids=["afresh", "continual"])
@pytest.mark.parametrize("n_trainings", [SHORT, LONG])
def test_memory_files_and_threads_stay_level(tmp_path, record_figure, n_trainings, continual, case):
    """Catches a frame, a graph, an optimizer, a log or a thread that is kept a training."""
    n_trainings = max(n_trainings // case.cost, 8)
    frame = make_frame(600)
    model = make_model(
        tmp_path,
        **{
            "freqai__continual_learning": continual,
            "freqai__activate_tensorboard": True,
            EPOCHS: 1,
            **case.changes,
        },
    )
    levels = []
    for stamp in range(1, n_trainings + 1):
        # The host tells folders of models by ten digits.
        train(model, frame.iloc[stamp % 5 :], 1_700_000_000 + stamp)
        predict(model, frame)
        model.dd.purge_old_models()
        if stamp > n_trainings // 3:
            levels.append(level())
    memory, files, threads = np.array(levels).T
    # Medians of the first and the last tenth, and of three at least, since single readings jump.
    tenth = max(len(memory) // 10, 3)
    growth = np.median(memory[-tenth:]) - np.median(memory[:tenth])
    how = f"{case.name}, " + ("continual" if continual else "afresh")
    figure = (
        f"memory {np.median(memory[:tenth]):.0f} -> {np.median(memory[-tenth:]):.0f} MB, "
        f"files {files[0]:.0f} -> {files[-1]:.0f}, threads {threads[0]:.0f} -> {threads[-1]:.0f}"
    )
    record_figure(f"endurance, {how}, {n_trainings} trainings", figure)
    # A kept frame of the training would be 30 kB each.
    assert growth < 3 + 0.015 * n_trainings
    # Threads and files of tests before end when they please.
    assert min(files[-tenth:]) <= max(files[:tenth])
    assert min(threads[-tenth:]) <= max(threads[:tenth])
    folders = list(Path(tmp_path).glob("models/test/sub-train-*"))
    assert len(folders) <= 3


@EVERY_MODEL
def test_what_is_kept_a_pair_does_not_grow_with_the_rows_trained_on(tmp_path, case):
    """Catches training rows, windows or frames that stay with the model in memory."""
    sizes = []
    # Trees grow until they have all their leaves.
    for n_rows in (1500, 5000):
        model = make_model(tmp_path / str(n_rows), **case.changes)
        train(model, make_frame(n_rows))
        kept = (model.dd.model_dictionary[PAIR], model.dd.meta_data_dictionary.get(PAIR))
        sizes.append(len(cloudpickle.dumps(kept)))
    assert sizes[1] < 1.02 * sizes[0] + 2000
