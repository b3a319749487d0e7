"""The key of a job knows of defaults that are no longer those that the version shipped with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
import pytest

from freqai_lstm_plugins.config import NetConfig, setting
from freqai_lstm_plugins.data.splits import walk_forward
from freqai_lstm_plugins.models.registry import model_names, settings_classes
from freqai_lstm_plugins.research import defaults
from freqai_lstm_plugins.research.jobs import Job


@pytest.fixture
def job(monkeypatch):
    monkeypatch.setattr(defaults, "SHIPPED", {n: defaults.default_digest(n) for n in model_names()})
    yield Job(
        model="lstm",
        kind="lstm",
        settings={},
        tables=(),
        is_panel=False,
        symbol_embedding=0,
        feature_names=("close",),
        fold=walk_forward(pd.date_range("2020-01-01", periods=90, tz="UTC"), folds=1, test_bars=9)[
            0
        ],
        seed=1,
        window=5,
    )
    defaults.default_digest.cache_clear()


@dataclass(frozen=True)
class Smaller(NetConfig):
    """Settings of a net with another default."""

    hidden_size: int = setting(64, "an integer of at least 1", lambda v: v > 0)


def change_the_defaults_of(kind, monkeypatch):
    def changed(name):
        return (Smaller,) if name == kind else settings_classes(name)

    monkeypatch.setattr(defaults, "settings_classes", changed)
    defaults.default_digest.cache_clear()


def test_another_default_is_another_key_of_that_model_and_of_ensembles_with_it(job, monkeypatch):
    members = {"lstm": {}, "ridge": {}}
    jobs = {
        "lstm": job,
        "gru": replace(job, kind="gru"),
        "with": replace(job, kind="ensemble", settings={"members": members}),
        "without": replace(job, kind="ensemble", settings={"members": {"ridge": {}}}),
    }
    before = {name: one.key for name, one in jobs.items()}
    assert before == {name: one.key for name, one in jobs.items()}
    change_the_defaults_of("lstm", monkeypatch)
    changed = {name for name, one in jobs.items() if one.key != before[name]}
    assert changed == {"lstm", "with"}


def test_defaults_that_shipped_stand_in_no_key(job):
    for kind in model_names():
        settings = {"members": {"lstm": {}}} if kind == "ensemble" else {}
        assert defaults.changed_defaults(kind, settings) == {}
