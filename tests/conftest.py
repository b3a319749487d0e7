from __future__ import annotations

import os
import signal
from importlib.util import find_spec

import pytest

# Several torch processes share the cores of one machine; more threads than cores slow all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What the caller's shell says about terminals, the bot or proxies changes what commands print and
# do; freqtrade takes every FREQTRADE__ variable for a setting.
for name in list(os.environ):
    if name.startswith("FREQTRADE__") or name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        del os.environ[name]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"

# A job in the background of a shell ignores SIGINT, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What a property says must not hang on how busy the machine is, or on what examples today draws;
# `--hypothesis-profile=default` draws others. The environment of qlib has no hypothesis.
if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("steady")

FIGURE = "figure"


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
