"""Searches in tests leave out the wait for the disk, which is most of what a tiny trial takes.

What is written survives a killed process without it, and no test cuts the power.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_wait_for_the_disk():
    event = pytest.importorskip("sqlalchemy.event")
    engine = pytest.importorskip("sqlalchemy").engine.Engine

    def hasten(connection, _):
        if type(connection).__module__ == "sqlite3":
            connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        event.listen(engine, "connect", hasten)
        yield
        event.remove(engine, "connect", hasten)
