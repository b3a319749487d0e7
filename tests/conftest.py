from __future__ import annotations

import os
import random
import signal
from importlib.util import find_spec

import numpy as np
import pytest
import torch

# Several torch processes share the cores of one machine; more threads than cores slow all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What the caller's shell says about terminals, the bot or proxies changes what commands print and
# do; freqtrade takes every FREQTRADE__ variable for a setting, and typer colours on GitHub.
SHELL = {"COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TERMINAL_WIDTH"}
for name in list(os.environ):
    if name.startswith("FREQTRADE__") or name in SHELL:
        del os.environ[name]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"

# A job in the background of a shell ignores SIGINT, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if find_spec("hypothesis") is not None:
    from hypothesis import HealthCheck, settings

    # A busy machine is no failure, and an example that nobody has seen before is no reason to stop
    # whoever runs the tests: --hypothesis-profile=drawn looks for such.
    UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("drawn", **UNHURRIED)
    settings.register_profile("same", **UNHURRIED, derandomize=True)
    settings.load_profile("same")

FIGURE = "figure"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Let each test draw the same numbers, whichever tests ran before it in this process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(0)


@pytest.fixture
def record_figure(record_property):
    """Take a measured figure into the table at the end: `record_figure(what, value)`."""

    def record(what: str, value: object) -> None:
        record_property(FIGURE, (what, str(value)))

    return record


def pytest_terminal_summary(terminalreporter):
    reports = [item for key in ("passed", "failed") for item in terminalreporter.stats.get(key, [])]
    figures = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == FIGURE and report.when == "call"
    ]
    if not figures:
        return
    width = max(len(what) for what, _ in figures)
    terminalreporter.section("figures")
    for what, value in sorted(figures):
        terminalreporter.write_line(f"{what:<{width}}  {value}")
