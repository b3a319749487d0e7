"""Whatever numba does, a training goes on."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.nets.cpu import compiled

X = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)


@pytest.fixture
def fresh(monkeypatch):
    """The state of a process that has compiled nothing."""
    monkeypatch.setattr(compiled, "_has_failed", False)
    monkeypatch.setattr(compiled, "_made_ready", functools.cache(compiled._made_ready.__wrapped__))


def fit(name):
    return SequenceRegressor(name, 4, hidden_size=4, max_epochs=1, num_threads=1).fit(X, X[:, 0])


@pytest.mark.parametrize(
    "error",
    [EOFError(), OSError(28, "No space left on device"), AttributeError("no such type\nin numba")],
    ids=["damaged", "full", "other version"],
)
@pytest.mark.parametrize("broken", ["states", "back"])
def test_a_numba_that_fails_costs_speed_and_one_warning(fresh, monkeypatch, caplog, error, broken):
    """Some functions are read before others: no matter which of them fails."""
    kernel = getattr(compiled.compiled_steps("lstm", learn=True), broken)
    compiled._made_ready.cache_clear()

    def fail():
        raise error

    monkeypatch.setattr(kernel, "make_ready", fail)
    with caplog.at_level(logging.WARNING):
        model = fit("lstm")
        fit("gru")
        fit("lstm")
    assert np.isfinite(model.predict(X)[4:]).all()
    # So short a training is also told to be no better than a constant.
    (warning,) = [message for message in caplog.messages if "numba" in message]
    assert "run by torch alone" in warning
    assert (str(error).splitlines() or ["EOFError"])[0] in warning
    assert "delete the files *.nbi and *.nbc in" in warning


DAMAGED = """
import logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
import numpy as np
from freqai_lstm_plugins import SequenceRegressor
x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
for _ in range(2):
    model = SequenceRegressor("gru", 4, hidden_size=4, max_epochs=1, num_threads=1).fit(x, x[:, 0])
print(model.predict(x).shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_files_of_numba_that_a_crash_left_empty_cost_one_warning(tmp_path, ending):
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run():
        command = [sys.executable, "-c", DAMAGED]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    assert run() == "(60,)\n"
    files = list(tmp_path.rglob(f"*.{ending}"))
    assert files
    for path in files:
        path.write_bytes(b"")
    warning, shape = run().splitlines()
    assert "run by torch alone" in warning
    assert str(tmp_path) in warning
    assert shape == "(60,)"
