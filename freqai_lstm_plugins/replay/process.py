"""Runs the real freqtrade as a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from freqai_lstm_plugins.errors import FreqaiLSTMError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

STOP_SECONDS = 30.0


class ChildError(FreqaiLSTMError):
    """freqtrade ended with an error, or did not do in time what it was waited for."""


class Freqtrade:
    """A freqtrade process whose output goes to a log file.

    Args:
        arguments: Command line after `freqtrade`.
        log: File that takes standard output and errors; it is appended to.
        threads: CPU threads that numeric libraries may use in the child.

    Raises:
        MissingExtraError: freqtrade is not installed.
    """

    def __init__(self, arguments: Sequence[str], log: Path, *, threads: int | None = None) -> None:
        if find_spec("freqtrade") is None:
            raise MissingExtraError("freqtrade", "freqtrade", "Running freqtrade")
        self.name = f"freqtrade {arguments[0]}"
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._start = log.stat().st_size if log.exists() else 0
        environment = {**os.environ, "COLUMNS": "500"}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "freqtrade", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def output(self) -> str:
        """Return what this process has written so far."""
        with self.log.open("rb") as stream:
            stream.seek(self._start)
            return stream.read().decode("utf-8", errors="replace")

    def wait(self, timeout: float) -> str:
        """Wait for the process to end, and return its output.

        Raises:
            ChildError: It ended with an error, or not within `timeout` seconds.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise self._failure(f"did not end within {timeout:.0f} seconds") from None
        if status:
            raise self._failure(f"ended with status {status}")
        return self.output()

    def wait_for(self, condition: Callable[[str], bool], what: str, timeout: float) -> str:
        """Wait until the output meets `condition`, and return it.

        Raises:
            ChildError: The process ended, or `timeout` seconds passed, before that.
        """
        deadline = time.monotonic() + timeout
        while True:
            has_ended = self.process.poll() is not None
            output = self.output()
            if condition(output):
                return output
            if has_ended:
                raise self._failure(f"ended with status {self.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self._failure(f"did not get to {what} within {timeout:.0f} seconds")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the process as Ctrl-C does, and harder where it does not listen."""
        if self.process.poll() is not None:
            return
        # A child of a background job of the shell inherits that SIGINT is ignored.
        for asked in (signal.SIGINT, signal.SIGTERM):
            self.process.send_signal(asked)
            try:
                self.process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue
        self.kill()

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self.process.kill()
        self.process.wait()

    def _failure(self, what: str) -> ChildError:
        lines = [line.strip() for line in self.output().splitlines() if line.strip()]
        telling = [line for line in lines if " - ERROR - " in line or "Error" in line] or lines
        last = telling[-1] if telling else "it wrote nothing"
        return ChildError(f"{self.name} {what}: {last}. Its whole output is in {self.log}.")
