"""What is left to train on, and what is said where nothing is."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.assembly import Rows, assemble
from freqai_lstm_plugins.data.preparation import Schema, prepare
from freqai_lstm_plugins.errors import DataError

CONFIG = DataConfig(window=3)


def rows(n=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_nothing_that_is_given_is_changed_and_the_same_is_prepared_again():
    x = rows()
    before = x.copy()
    first, second = (prepare(x, x[:, 0], CONFIG) for _ in range(2))
    np.testing.assert_array_equal(x, before)
    assert first.train.rows.equal(second.train.rows)
    assert first.train.ends.equal(second.train.ends)
    assert first.scaling == second.scaling


def test_a_column_without_a_number_is_named():
    x = pd.DataFrame(rows(), columns=["a", "b", "c"])
    for empty in (np.nan, np.inf):
        with pytest.raises(DataError, match="Column 'b' is missing or infinite in every row: fill"):
            prepare(x.assign(b=empty), x["a"], CONFIG)
    with pytest.raises(DataError, match="Give more rows"):
        prepare(x[:2], x["a"][:2], CONFIG)


def test_a_symbol_of_which_nothing_is_learned_is_named_with_the_column(caplog):
    parts = {name: pd.DataFrame(rows(seed=i), columns=list("abc")) for i, name in enumerate("AB")}
    parts["B"] = parts["B"].assign(c=np.nan)
    with caplog.at_level(logging.WARNING):
        prepare(parts, {name: part["a"] for name, part in parts.items()}, CONFIG)
    assert caplog.messages == [
        "Symbol 'B' has no training window: column 'c' is missing in all of its rows."
    ]


def test_validation_windows_know_their_symbol():
    parts = {"A": rows(), "B": rows(20, 1)}
    data = prepare(parts, {name: part[:, 0] for name, part in parts.items()}, CONFIG)
    assert data.valid_symbols.tolist() == ["A"] * 6 + ["B"] * 3
    assert prepare(rows(), rows()[:, 0], CONFIG).valid_symbols is None


def test_rows_of_many_symbols_know_their_place_in_time():
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    parts = {
        "A": pd.DataFrame(rows(), days, columns=list("abc")),
        "B": pd.DataFrame(rows(20, 1), days[20:], columns=list("abc")),
    }
    targets = {name: part["a"] for name, part in parts.items()}
    # Symbol after symbol, so that a row's own number says nothing of its time.
    assert prepare(parts, targets, CONFIG).times.tolist() == [*range(40), *range(20, 40)]
    assert prepare(parts["A"], targets["A"], CONFIG).times is None


def test_scaling_knows_the_rows_that_training_windows_hold_and_no_others():
    """The same ones where a split chooses the training rows and where somebody else does."""
    x, y = rows(), rows(seed=1)[:, :1]
    # Rows before a gap that are too few for a window, and others before the first target.
    x[2], y[:9] = np.nan, np.nan
    expected = x[[*range(7, 32)]]
    config = DataConfig(window=3, valid_size=0.25, label_period=0)
    found = prepare(x, y, config)
    assert found.train.ends.tolist() == list(range(9, 32))
    is_train = np.arange(40) < 32
    chosen = Rows(x, y, np.arange(40) > 0, np.zeros(40, dtype=np.int64))
    other = assemble(chosen, is_train, ~is_train, Schema(list("abc"), ["y"]), 3).data
    for data in (found, other):
        assert data.scaling is not None
        np.testing.assert_allclose(data.scaling.feature_mean, expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(data.scaling.target_std, y[9:32].std(axis=0), rtol=1e-12)
