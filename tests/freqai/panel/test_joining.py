from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.panel import joining
from freqai_lstm_plugins.freqai.panel.joining import JoinedRows, time_of_cut


def dates(first: int, count: int) -> pd.Series:
    return pd.Series(
        pd.date_range("2025-01-01", periods=count, freq="h") + pd.Timedelta(hours=first)
    )


def windows(rows: torch.Tensor, *ends: int, weight: float = 1.0) -> WindowSet:
    count = len(ends)
    targets, weights = torch.arange(float(count))[:, None], torch.full((count,), weight)
    return WindowSet(rows, torch.tensor(ends, dtype=torch.int64), targets, weights, 2)


def prepared(n_rows: int, value: float, train: tuple[int, ...], valid: tuple[int, ...]) -> dict:
    rows = torch.full((n_rows, 2), value)
    moments = np.arange(n_rows) + 100
    return {
        "train_windows": windows(rows, *train),
        "valid_windows": windows(rows, *valid),
        "times": moments,
        "known_at": moments + 1,
    }


def joined(balance: str = "candles", *, has_symbol: bool = False, n_rows: int = 30) -> dict:
    table = JoinedRows(n_rows, 2, 2, has_symbol=has_symbol)
    table.add("A/B", prepared(5, 1.0, (1, 2, 3), (4,)))
    table.add("C/B", prepared(3, 2.0, (1,), (2,)))
    return table.finish(balance)


@pytest.mark.parametrize("n_rows", [30, 6], ids=["as counted", "more than counted"])
def test_rows_stand_pair_after_pair_and_windows_keep_to_theirs(n_rows):
    found = joined(n_rows=n_rows)
    train = found["train_windows"]
    assert train.rows.tolist() == [[1.0, 1.0]] * 5 + [[2.0, 2.0]] * 3
    assert train.ends.tolist() == [1, 2, 3, 6]
    assert found["valid_windows"].ends.tolist() == [4, 7]
    assert found["valid_symbols"].tolist() == ["A/B", "C/B"]
    assert found["times"].tolist() == [100, 101, 102, 103, 104, 100, 101, 102]
    assert found["symbols"] == []


def test_the_last_column_tells_the_pair_where_the_net_is_to_know_it():
    found = joined(has_symbol=True)
    assert found["train_windows"].rows[:, -1].tolist() == [0.0] * 5 + [1.0] * 3
    assert found["symbols"] == ["A/B", "C/B"]


@pytest.mark.parametrize(
    ("balance", "weights"), [("candles", [1.0, 1.0, 1.0, 1.0]), ("pairs", [2 / 3] * 3 + [2.0])]
)
def test_pairs_or_candles_count_the_same(balance, weights):
    found = joined(balance)["train_windows"].weights
    assert found.tolist() == pytest.approx(weights)
    assert float(found.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("balance", "weights", "mean"),
    [("candles", [0.8, 0.8, 0.8, 1.6], 2.5), ("pairs", [2 / 3] * 3 + [2.0], 3.0)],
)
def test_the_mean_of_the_weights_outlives_the_joining(balance, weights, mean):
    table = JoinedRows(30, 2, 2, has_symbol=False)
    for pair, own, count in (("A/B", 2.0, 3), ("C/B", 4.0, 1)):
        data = prepared(5, 1.0, tuple(range(1, 1 + count)), ())
        data["train_windows"] = replace(data["train_windows"], mean_weight=own)
        table.add(pair, data)
    found = table.finish(balance)["train_windows"]
    assert found.weights.tolist() == pytest.approx(weights)
    assert found.mean_weight == pytest.approx(mean)


@pytest.mark.parametrize("balance", ["candles", "pairs"])
def test_pairs_without_a_test_split_have_no_validation(balance):
    table = JoinedRows(30, 2, 2, has_symbol=False)
    for pair in ("A/B", "C/B"):
        table.add(pair, prepared(5, 1.0, (1, 2), ()))
    found = table.finish(balance)
    assert (len(found["train_windows"]), len(found["valid_windows"])) == (4, 0)


def test_more_rows_than_memory_are_refused_in_rows_and_bytes(monkeypatch):
    free = SimpleNamespace(available=1_000_000)
    monkeypatch.setattr(joining.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(joining.np, "empty", lambda *shape, **more: pytest.fail("allocated"))
    with pytest.raises(
        DataError, match=r"50 pairs have 2,000 rows of 201 numbers, .* 2 MB, and 1 MB"
    ):
        JoinedRows(2000, 50, 200, has_symbol=True)


def test_the_cut_leaves_the_newest_share_of_all_pairs_rows_together():
    """Ten rows of one pair and ten of a later one: a fifth of all are four of the later pair."""
    known = [dates(0, 12), dates(4, 12)]
    cut = time_of_cut(known, 0.2, 2, reverse=False)
    late = sum(int((part.iloc[:-2] >= cut).sum()) for part in known)
    assert late == 4
    assert time_of_cut(known, 0, 2, reverse=False) is None
    assert time_of_cut(known, 0.8, 2, reverse=True) == cut
