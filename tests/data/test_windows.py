from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freqai_lstm_plugins.data.arrays import finite_rows
from freqai_lstm_plugins.data.splits import purged
from freqai_lstm_plugins.data.windows import (
    build_window_set,
    consecutive_in_time,
    gather_windows,
    rows_held,
    run_lengths,
    window_ends,
)
from freqai_lstm_plugins.errors import DataError


@pytest.mark.parametrize(("n_rows", "window"), [(10, 1), (10, 4), (10, 10), (10, 11), (1, 1)])
def test_n_consecutive_rows_give_n_minus_w_plus_1_windows(n_rows, window):
    ends = np.flatnonzero(window_ends(np.ones(n_rows, bool), window))
    assert len(ends) == max(n_rows - window + 1, 0)
    # The newest row always ends a window where there is one at all.
    assert not len(ends) or ends[-1] == n_rows - 1


def test_the_window_of_a_row_ends_at_that_row():
    rows = torch.arange(12.0).reshape(6, 2)
    windows = gather_windows(rows, torch.tensor([2, 5]), 3)
    assert windows.tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]


@given(
    usable=st.lists(st.booleans(), max_size=40),
    gaps=st.lists(st.booleans(), min_size=40, max_size=40),
    window=st.integers(1, 6),
)
def test_windows_are_those_that_a_look_at_each_of_them_finds(usable, gaps, window):
    is_usable = np.array(usable, dtype=bool)
    follows = ~np.array(gaps[: len(usable)], dtype=bool)
    expected = [
        end >= window - 1
        and all(is_usable[end - window + 1 : end + 1])
        and all(follows[end - window + 2 : end + 1])
        for end in range(len(usable))
    ]
    assert window_ends(is_usable, window, follows).tolist() == expected


@given(
    usable=st.lists(st.booleans(), max_size=30),
    gaps=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_a_run_counts_the_rows_back_to_the_last_break(usable, gaps):
    follows = ~np.array(gaps[: len(usable)], dtype=bool)
    expected = []
    for row, is_usable in enumerate(usable):
        before = expected[-1] if row and follows[row] else 0
        expected.append(before + 1 if is_usable else 0)
    assert run_lengths(np.array(usable, dtype=bool), follows).tolist() == expected


@given(n_rows=st.integers(1, 20), window=st.integers(1, 6), data=st.data())
def test_a_gathered_window_is_the_slice_of_rows_that_ends_there(n_rows, window, data):
    rows = torch.arange(float(n_rows * 2)).reshape(n_rows, 2)
    ends = np.flatnonzero(window_ends(np.ones(n_rows, bool), window))
    chosen = data.draw(st.lists(st.sampled_from(ends), max_size=5)) if len(ends) else []
    windows = gather_windows(rows, torch.tensor(chosen, dtype=torch.long), window)
    assert windows.shape == (len(chosen), window, 2)
    for end, found in zip(chosen, windows, strict=True):
        assert torch.equal(found, rows[end - window + 1 : end + 1])


def test_a_row_is_finite_if_it_is_so_in_the_float32_of_nets():
    rows = np.array([[0.0, 1.0], [np.nan, 1.0], [-np.inf, 1.0], [1e39, 1.0], [-3e38, 1e-50]])
    assert finite_rows(rows).tolist() == [True, False, False, False, True]


def test_no_rows_have_no_windows():
    assert run_lengths(np.zeros(0, bool)).tolist() == []


def test_rows_follow_each_other_at_exactly_one_step():
    times = np.array(["2025-01-01T00:00", "2025-01-01T00:05", "2025-01-01T00:05"], "M8[m]")
    assert consecutive_in_time(times, np.timedelta64(5, "m")).tolist() == [False, True, False]
    # The unit of time does not matter.
    nano = times.astype("M8[ns]")
    assert consecutive_in_time(nano, np.timedelta64(300, "s")).tolist() == [False, True, False]
    # Nothing follows a row without a time, and time runs forwards.
    odd = np.array(["2025-01-01T00:05", "NaT", "2025-01-01T00:10", "2025-01-01T00:05"], "M8[m]")
    assert not consecutive_in_time(odd, np.timedelta64(5, "m")).any()
    assert consecutive_in_time(times[:0], np.timedelta64(5, "m")).tolist() == []


def test_only_rows_with_window_target_and_weight_are_targets():
    targets = np.array([[1.0], [2.0], [np.nan], [4.0], [np.inf], [6.0]])
    weights = np.array([1.0, 1, 1, 0, 1, 2])
    has_window = np.array([False, True, True, True, True, True])
    windows = build_window_set(torch.zeros(6, 1), targets, weights, has_window, 2)
    assert windows.ends.tolist() == [1, 5]
    assert windows.targets.tolist() == [[2.0], [6.0]]
    np.testing.assert_allclose(windows.weights, [2 / 3, 4 / 3])


@pytest.mark.parametrize("unit", [1e-310, 1e-50, 1.0, 1e38, 1e307])
def test_weights_of_any_unit_are_the_same_weights(unit):
    """Catches weights that float32 takes for 0 or for infinity, so that nothing is learned."""
    given = np.array([1.0, 2, 3]) * unit
    windows = build_window_set(torch.zeros(3, 1), np.zeros((3, 1)), given, np.ones(3, bool), 1)
    np.testing.assert_allclose(windows.weights, [0.5, 1, 1.5], rtol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused(bad):
    with pytest.raises(DataError, match="weights must be finite and at least 0"):
        build_window_set(
            torch.zeros(2, 1), np.zeros((2, 1)), np.array([1.0, bad]), np.ones(2, bool), 1
        )


def test_the_purge_leaves_out_exactly_the_labels_that_reach_into_the_later_part():
    earlier = np.arange(10) < 6
    later = np.arange(10) >= 6
    # The label of row r knows row r + 2, so rows 4 and 5 know rows 6 and 7.
    assert np.flatnonzero(purged(earlier, later, 2)).tolist() == [0, 1, 2, 3]
    assert purged(earlier, later, 0).tolist() == earlier.tolist()
    # A span of rows between the parts counts too.
    assert np.flatnonzero(purged(np.arange(10) < 3, later, 4)).tolist() == [0, 1]
    assert not purged(earlier, later, 50).any()
    assert purged(earlier, np.zeros(10, bool), 5).tolist() == earlier.tolist()


@given(
    earlier=st.lists(st.booleans(), min_size=12, max_size=12),
    first_later=st.integers(0, 11),
    label_period=st.integers(0, 14),
)
def test_the_purge_keeps_every_label_that_ends_before_the_later_part(
    earlier, first_later, label_period
):
    rows = np.arange(12)
    expected = np.array(earlier) & (rows + label_period < first_later)
    given_rows = np.array(earlier)
    assert purged(given_rows, rows >= first_later, label_period).tolist() == expected.tolist()
    # What is given stays as it was.
    assert given_rows.tolist() == earlier


@given(ends=st.lists(st.booleans(), max_size=12), window=st.integers(1, 15))
def test_a_row_is_held_where_one_of_the_windows_lies_over_it(ends, window):
    expected = [any(ends[row : row + window]) for row in range(len(ends))]
    assert rows_held(np.array(ends, dtype=bool), window).tolist() == expected
