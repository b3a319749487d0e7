"""A whole search on made-up candles: trials that are counted, kept and never done twice."""

from __future__ import annotations

import pytest

for needed in ("optuna", "arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

from tests.research.tune.studies import search, write_candles

from freqai_lstm_plugins.research.tune.choice import ask_luck, choose, open_holdout, say
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.study import completed, finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"))


def test_walk(folder, tmp_path):
    session = search(folder, tmp_path)
    for t in completed(session.study):
        print(t.number, t.value, t.user_attrs, t.params)
    assert len(finished(session.study)) == 4
    c = choose(session, Runner())
    o = open_holdout(session, c, Runner())
    l = ask_luck(session, c, Runner())
    print("\n".join(say(c, o, l)))
