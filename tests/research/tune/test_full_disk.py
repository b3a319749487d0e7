"""A disk that fills up under a search, as it really does: a small file system in memory."""

from __future__ import annotations

import pytest

from freqai_lstm_plugins.errors import DataError, UnwritableError
from freqai_lstm_plugins.research.tune.session import open_session
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished
from tests.research.test_full_disk import disk

from .studies import asked, call, search, write_candles, write_place

__all__ = ["disk"]

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

pytestmark = pytest.mark.slow


def tried(session):
    return [(one.value, one.user_attrs[SETTINGS]) for one in finished(session.study)]


@pytest.mark.parametrize("journal", [None, "journal:{}/journal.log"])
def test_a_disk_that_is_full_at_any_moment_loses_no_trial(tmp_path, disk, journal):
    folder, out = write_candles(tmp_path / "candles"), disk.path / "out"
    storage = journal and journal.format(disk.path)
    disk.change("size=1m")
    wanted = asked(folder, out, storage=storage)
    known, said = [], set()
    # A page more each time: it ends in the study, in tables, in results.
    for kilobytes in range(8, 900, 4):
        disk.change(f"size={kilobytes}k")
        try:
            session = search(folder, out, 6, storage=storage)
        except DataError as error:
            said.add(str(error).split(str(out))[0][:24])
            assert "\n" not in str(error)
        else:
            break
        disk.change("size=20m")
        session = open_session(wanted)
        now = tried(session)
        assert now[: len(known)] == known
        known = now
    assert len(completed(session.study)) == 6
    assert tried(session)[: len(known)] == known
    assert said == {}
