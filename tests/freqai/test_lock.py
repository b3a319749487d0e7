from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time

import pytest
from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.freqai.lock import LOCK_FILE, held, lock_identifier
from tests.freqai.host import make_model

HOLDER = """
import sys, time
from pathlib import Path
from freqtrade.enums import RunMode
from freqai_lstm_plugins.freqai.lock import lock_identifier
held = lock_identifier(Path(sys.argv[1]), "test", {"runmode": RunMode(sys.argv[2])})
print("held", flush=True)
time.sleep(60)
"""


def take(folder, mode, **more):
    return lock_identifier(folder, "test", {"runmode": mode, **more})


def test_a_second_bot_is_refused_in_one_line_that_names_the_first(tmp_path):
    held = take(tmp_path, RunMode.DRY_RUN)
    match = r"identifier 'test' is in use by another freqtrade \(process \d+, dry_run\): two would"
    with pytest.raises(ConfigError, match=match) as caught:
        take(tmp_path, RunMode.LIVE)
    assert "\n" not in str(caught.value)
    held.release()
    take(tmp_path, RunMode.LIVE).release()


@pytest.mark.parametrize("mode", [RunMode.BACKTEST, RunMode.HYPEROPT])
def test_backtests_share_an_identifier_among_themselves_and_with_no_bot(tmp_path, mode):
    first, second = take(tmp_path, RunMode.BACKTEST), take(tmp_path, mode)
    with pytest.raises(ConfigError, match="in use"):
        take(tmp_path, RunMode.DRY_RUN)
    first.release()
    with pytest.raises(ConfigError, match="in use"):
        take(tmp_path, RunMode.DRY_RUN)
    second.release()
    bot = take(tmp_path, RunMode.DRY_RUN)
    with pytest.raises(ConfigError, match="in use"):
        take(tmp_path, mode)
    bot.release()


def test_what_only_reads_takes_no_lock(tmp_path):
    bot = take(tmp_path, RunMode.LIVE)
    take(tmp_path, RunMode.BACKTEST, freqai_backtest_live_models=True).release()
    take(tmp_path, RunMode.OTHER).release()
    take(tmp_path, None).release()
    bot.release()


def test_a_killed_bot_leaves_no_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "dry_run"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"process {child.pid}, dry_run"):
            take(tmp_path, RunMode.DRY_RUN)
        child.kill()
    deadline = time.monotonic() + 60
    while True:
        try:
            take(tmp_path, RunMode.DRY_RUN).release()
        except ConfigError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break


def test_a_system_without_locks_is_told_so(tmp_path, monkeypatch, caplog):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    take(tmp_path, RunMode.DRY_RUN)
    assert "Nothing keeps a second bot from the identifier 'test'" in caplog.text
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_model_holds_the_lock_until_its_bot_stops(tmp_path):
    model = make_model(tmp_path, runmode=RunMode.DRY_RUN)
    with pytest.raises(OperationalException, match="in use by another freqtrade"):
        make_model(tmp_path, runmode=RunMode.DRY_RUN)
    model.shutdown()
    again = make_model(tmp_path, runmode=RunMode.DRY_RUN)
    again.shutdown()


def test_a_refused_start_leaves_no_lock(tmp_path):
    training = {"learning_rate": 0.1}
    make_model(tmp_path)
    with pytest.raises(OperationalException, match="other settings"):
        make_model(tmp_path, runmode=RunMode.DRY_RUN, freqai__model_training_parameters=training)
    make_model(tmp_path, runmode=RunMode.DRY_RUN).shutdown()


def test_who_wants_a_held_file_waits_until_it_is_free(tmp_path):
    """Catches two backtests that train the same slice at the same time."""
    path = tmp_path / "slice" / "training.lock"
    came = threading.Event()

    def want() -> None:
        with held(path):
            came.set()

    with held(path):
        waiting = threading.Thread(target=want)
        waiting.start()
        assert not came.wait(0.2)
    assert came.wait(60)
    waiting.join()
