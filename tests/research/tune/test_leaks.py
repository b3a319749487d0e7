"""What a search finds where there is nothing to find, and where there is something."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.study import REASON, SETTINGS, best_of, completed, finished

from .no_signal import LUCKY, SEEDS, require_luck, search_noise
from .studies import search, write_candles

pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2"):
    pytest.importorskip(needed)


def test_a_purge_removed_by_hand_is_noticed(tmp_path, monkeypatch):
    folder = write_candles(tmp_path / "data")
    real = jobs_module.split_rows

    def leaky(fold, frame):
        rows = real(fold, frame)
        rows.train[np.flatnonzero(rows.valid)[0] - 1] = True
        return rows

    monkeypatch.setattr(jobs_module, "split_rows", leaky)
    session = search(folder, tmp_path / "out", 2)
    reasons = [one.user_attrs[REASON] for one in finished(session.study)]
    assert len(reasons) == 2
    assert all("has a label that is known at" in reason for reason in reasons)


def write_planted(folder, lag, n=700):
    """Write random walks whose returns repeat those of `lag` bars before."""
    folder.mkdir()
    for number, symbol in enumerate("AB"):
        rng = np.random.default_rng([7, number])
        steps = rng.normal(size=n) * 0.01
        for row in range(lag, n):
            steps[row] = 0.9 * steps[row - lag] + 0.4 * steps[row]
        close = 100 * np.exp(np.cumsum(steps))
        opened = np.concatenate([[100], close[:-1]])
        frame = pd.DataFrame(
            {
                "date": pd.date_range("2020-01-01", periods=n, freq="h").astype(str),
                "open": opened,
                "high": np.maximum(opened, close) * 1.001,
                "low": np.minimum(opened, close) * 0.999,
                "close": close,
                "volume": rng.uniform(1e3, 2e3, n),
                "%-return": np.diff(np.log(close), prepend=np.log(100)),
            }
        )
        frame.to_csv(folder / f"{symbol}.csv", index=False)
    return folder


def test_a_search_over_windows_finds_what_only_the_long_one_sees(tmp_path):
    # What comes next is the return of 47 bars ago, the oldest row of a window of 48.
    folder = write_planted(tmp_path / "data", lag=48)
    session = search(
        folder,
        tmp_path / "out",
        10,
        model="ridge",
        ranges={
            "ridge": {
                "window": {"choices": [12, 24, 48]},
                "lags": {"choices": [[0], [0, 11], [0, 47]]},
                "alpha": {"value": 0.01},
            }
        },
        how=Search("grid"),
        changes={
            "seeds": [1],
            "features": {"sets": ["columns"], "window": 12},
            "label": {"horizon": 1},
            "models": {"ridge": {}},
        },
    )
    best = best_of(session.study)
    assert best.user_attrs[SETTINGS]["window"] == 48
    assert best.value > 0.5
    others = [one.value for one in completed(session.study) if one.number != best.number]
    assert max(others) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("model", LUCKY)
def test_on_labels_without_a_signal_the_winner_is_told_to_be_luck(tmp_path, model):
    require_luck([search_noise(tmp_path, model, seed) for seed in SEEDS])


def test_a_search_without_a_signal_is_told_to_be_luck(tmp_path):
    found = search_noise(tmp_path, "ridge", 0, n_trials=6)
    assert found.holds_zero
    assert not found.deflated >= 0.95
