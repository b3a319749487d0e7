"""The whole search inside each fold: what it sees, and what is judged."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.research.store import find_entries
from freqai_lstm_plugins.research.tune.nested import NESTED_FOLDER, OUTER_FOLDER, search_nested
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished
from freqai_lstm_plugins.research.tune.summary import nested_to_json, say_nested

from .studies import N, asked, write_candles

pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2"):
    pytest.importorskip(needed)

# Some that depend on their seeds, and some that do not.
RANGES = {"lightgbm": {"num_leaves": {"min": 2, "max": 8}, "subsample": {"choices": [0.6, 1.0]}}}
CHANGES = {"split": {"folds": 2, "test_bars": 60}}


def nested(folder, out, sessions, on_trial=None):
    return search_nested(
        asked(folder, out, ranges=RANGES, changes=CHANGES),
        3,
        Search(),
        Runner(),
        on_fold=lambda number, session: sessions.append((number, session)),
        on_trial=on_trial,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"))


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    out, sessions = tmp_path_factory.mktemp("out"), []
    return nested(folder, out, sessions), sessions, out


def dates_of(folder):
    return pd.to_datetime(pd.read_csv(folder / "A.csv")["date"], utc=True)


def test_each_fold_has_a_search_of_its_own_that_ends_before_its_test(done, folder):
    _, sessions, _ = done
    assert [number for number, _ in sessions] == [0, 1]
    dates = dates_of(folder)
    for (_, session), first_test in zip(sessions, (N - 120, N - 60), strict=True):
        assert len(finished(session.study)) == 3
        assert pd.Timestamp(session.cut.end) == dates[first_test - 1]
        assert session.task.started.dataset.calendar[-1] == dates[first_test - 1]


def test_winners_defaults_and_lightgbm_are_compared_over_all_folds(done):
    found, _, out = done
    pairs = found.verdict.judgement.comparisons[["model", "against"]].to_numpy().tolist()
    assert ["tuned", "defaults"] in pairs
    assert ["tuned", "lightgbm"] in pairs
    # No date of either fold is lost where one winner depends on its seed and the other does not.
    assert found.verdict.judgement.n_dates == 118
    assert found.verdict.page == out / NESTED_FOLDER / OUTER_FOLDER / "report" / "report.html"
    assert found.verdict.page.is_file()


def test_each_fold_is_forecast_by_its_own_winner(done):
    found, _, out = done
    for entry in find_entries(out / NESTED_FOLDER / OUTER_FOLDER):
        if entry.metadata["model"] != "tuned":
            continue
        winner = found.choices[entry.metadata["fold"]["number"]].winner
        assert winner.settings.items() <= entry.metadata["settings"].items()


class EnoughError(Exception):
    """What was to be seen has been seen."""


def test_rows_from_a_test_on_have_no_say_in_its_search(done, folder, tmp_path):
    _, sessions, _ = done
    noisy, seen = write_candles(tmp_path / "data", noise_after=N - 60), []

    def on_trial(_):
        if len(seen) == 2 and len(finished(seen[1][1].study)) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        nested(noisy, tmp_path / "out", seen, on_trial=on_trial)
    known, found = (
        [(one.value, one.user_attrs[SETTINGS]) for one in completed(session.study)]
        for session in (sessions[1][1], seen[1][1])
    )
    assert found == known


def test_it_is_told_in_sentences_and_as_plain_data(done):
    found, _, _ = done
    lines = say_nested(found)
    assert lines[0].startswith("Fold 0: ")
    assert lines[2].startswith("With a search in each fold, tuned against defaults: ")
    told = json.loads(json.dumps(nested_to_json(found), allow_nan=False))
    assert [one["fold"] for one in told["folds"]] == [0, 1]
    assert told["folds"][1]["settings"] == found.choices[1].winner.settings


def test_one_fold_of_fixed_dates_is_refused(folder, tmp_path):
    split = {
        "kind": "dates",
        "train": ["2020-01-01", "2020-10-31"],
        "valid": ["2020-11-01", "2021-02-28"],
        "test": ["2021-03-01", "2021-07-31"],
    }
    with pytest.raises(ConfigError, match="take --holdout, which does the same"):
        search_nested(asked(folder, tmp_path, changes={"split": split}), 3, Search(), Runner())
