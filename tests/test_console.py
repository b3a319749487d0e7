"""How commands end that somebody stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import typer

from freqai_lstm_plugins.commands import console
from freqai_lstm_plugins.commands.console import stoppable


def stop_by(*numbers, say="Stopped."):
    """Run a command to which these signals are sent at once."""
    with stoppable() as stop:
        stop.say = lambda: say
        try:
            os.kill(os.getpid(), numbers[0])
            pytest.fail("goes on")
        finally:
            for number in numbers[1:]:
                os.kill(os.getpid(), number)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_is_stopped_says_so_once_with_the_status_of_shells(name, status, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(typer.Exit) as ended:
        stop_by(number, say="Stopped. 3 of 5.")
    assert ended.value.exit_code == status
    assert capsys.readouterr().err == "Stopped. 3 of 5.\n"
    assert signal.getsignal(number) is before


def test_a_signal_that_is_sent_twice_at_once_is_one(capsys, monkeypatch):
    # As `timeout` does. A machine that stands still between the two must not end the tests.
    monkeypatch.setattr(console, "SECOND_THOUGHT", 600.0)
    with pytest.raises(typer.Exit) as ended:
        stop_by(signal.SIGTERM, signal.SIGTERM)
    assert ended.value.exit_code == 143
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_stop_in_a_text_that_is_executed_keeps_its_status(tmp_path):
    # Of a module Python takes a KeyboardInterrupt out of such a text for its own end, by SIGINT.
    (tmp_path / "stops.py").write_text(
        "import typer\n"
        "from freqai_lstm_plugins.commands.console import stoppable\n"
        "try:\n"
        "    with stoppable():\n"
        "        exec('import os, signal; os.kill(os.getpid(), signal.SIGTERM)')\n"
        "except typer.Exit as ended:\n"
        "    raise SystemExit(ended.exit_code)\n"
    )
    command = [sys.executable, "-m", "stops"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (143, b"Stopped.\n")
