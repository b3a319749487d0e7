from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.data.splits import (
    assert_no_peeking,
    fixed_dates,
    fold_rows,
    inner_folds,
    purged,
    walk_forward,
    why_unusable,
)
from freqai_lstm_plugins.errors import DataError


def days(count, start="2024-01-01"):
    return pd.date_range(start, periods=count, freq="D", tz="UTC").as_unit("ms")


def known(dates, horizon):
    """Return when labels of `horizon` bars are known, bars being those of `dates`."""
    return pd.Series(dates).shift(-horizon)


def rows_of(mask):
    return np.flatnonzero(mask).tolist()


def test_tests_follow_one_another_to_the_end_of_the_calendar():
    calendar = days(20)
    folds = walk_forward(calendar, folds=3, test_bars=4, valid_fraction=0)
    assert [fold.number for fold in folds] == [0, 1, 2]
    tests = [rows_of(fold.test.holds(calendar)) for fold in folds]
    assert tests == [list(range(8, 12)), list(range(12, 16)), list(range(16, 20))]
    trains = [rows_of(fold.train.holds(calendar)) for fold in folds]
    assert trains == [list(range(8)), list(range(12)), list(range(16))]


def test_a_rolling_window_keeps_its_length():
    calendar = days(20)
    folds = walk_forward(calendar, folds=2, test_bars=4, train_bars=6, valid_fraction=0)
    trains = [rows_of(fold.train.holds(calendar)) for fold in folds]
    assert trains == [list(range(6, 12)), list(range(10, 16))]


def test_validation_is_cut_from_the_end_of_training():
    calendar = days(24)
    (fold,) = walk_forward(calendar, folds=1, test_bars=4, valid_fraction=0.25)
    rows = fold_rows(fold, calendar, known(calendar, 1))
    # Rows 14 and 19 are purged: their labels are known at rows 15 and 20, where parts begin.
    assert rows_of(rows.train) == list(range(14))
    assert rows_of(rows.valid) == list(range(15, 19))
    assert rows_of(rows.test) == list(range(20, 24))
    assert (rows.purged, rows.embargoed, rows.unlabelled) == (2, 0, 0)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_the_row_whose_label_touches_the_test_is_out(horizon):
    calendar = days(30)
    (fold,) = walk_forward(calendar, folds=1, test_bars=10, valid_fraction=0)
    rows = fold_rows(fold, calendar, known(calendar, horizon))
    assert rows_of(rows.train) == list(range(20 - horizon))
    assert rows.purged == horizon


@pytest.mark.parametrize("horizon", [1, 3])
def test_times_and_positions_purge_alike_where_no_bar_is_missing(horizon):
    calendar = days(30)
    (fold,) = walk_forward(calendar, folds=1, test_bars=10, valid_fraction=0)
    rows = fold_rows(fold, calendar, known(calendar, horizon))
    positional = purged(fold.train.holds(calendar), rows.test, horizon)
    np.testing.assert_array_equal(rows.train, positional)


def test_a_halt_purges_rows_that_positions_would_keep():
    calendar = days(30)
    # No bars from row 15 to 21: the label of row 14 is known at row 22, within the test.
    dates = calendar.delete(list(range(15, 22)))
    (fold,) = walk_forward(calendar, folds=1, test_bars=10, valid_fraction=0)
    rows = fold_rows(fold, dates, known(dates, 1))
    assert rows_of(rows.train) == list(range(14))
    assert rows.purged == 1


def test_an_embargo_adds_bars_to_the_gap():
    calendar = days(24)
    (fold,) = walk_forward(calendar, folds=1, test_bars=4, valid_fraction=0.25, embargo=3)
    rows = fold_rows(fold, calendar, known(calendar, 1))
    assert rows_of(rows.train) == list(range(11))
    assert rows_of(rows.valid) == [15]
    assert (rows.purged, rows.embargoed) == (2, 6)


def test_rows_without_a_label_are_counted_and_not_trained_on():
    calendar = days(24)
    (fold,) = walk_forward(calendar, folds=1, test_bars=4, valid_fraction=0)
    late = known(calendar, 1)
    late[[3, 4]] = pd.NaT
    rows = fold_rows(fold, calendar, late)
    assert not rows.train[[3, 4]].any()
    assert rows.unlabelled == 2
    # The newest row is predicted, whether or not its label is known.
    assert rows.test[-1]


def test_symbols_of_a_panel_share_the_dates():
    calendar = days(20)
    (fold,) = walk_forward(calendar, folds=1, test_bars=5, valid_fraction=0)
    first, second = calendar, calendar[12:]
    dates = first.append(second)
    late = pd.concat([known(first, 1), known(second, 1)])
    rows = fold_rows(fold, dates, late)
    assert rows_of(rows.train) == [*range(14), *range(20, 22)]
    assert rows_of(rows.test) == [*range(15, 20), *range(23, 28)]


def test_given_dates_include_their_last_day():
    calendar = pd.date_range("2024-01-01", "2024-01-10", freq="12h", tz="UTC").as_unit("ms")
    fold = fixed_dates(
        calendar,
        train=("2024-01-01", "2024-01-03"),
        valid=("2024-01-04", "2024-01-05"),
        test=("2024-01-07", "2024-01-08"),
    )
    rows = fold_rows(fold, calendar, known(calendar, 1))
    assert rows_of(rows.train) == list(range(5))
    # The day between validation and test keeps the last label of validation out of the test.
    assert rows_of(rows.valid) == list(range(6, 10))
    assert rows_of(rows.test) == list(range(12, 16))


def test_an_end_with_a_time_includes_its_bar():
    calendar = pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC").as_unit("ms")
    train, test = ("2024-01-01", "2024-01-01T06:00"), ("2024-01-01T07:00", "2024-01-02")
    fold = fixed_dates(calendar, train=train, test=test, valid_fraction=0)
    assert rows_of(fold.train.holds(calendar)) == list(range(7))
    assert rows_of(fold.test.holds(calendar)) == list(range(7, 48))


def test_given_dates_without_validation_cut_it_from_training():
    calendar = days(30)
    fold = fixed_dates(
        calendar,
        train=("2024-01-01", "2024-01-20"),
        test=("2024-01-21", "2024-01-30"),
        valid_fraction=0.2,
    )
    assert rows_of(fold.valid.holds(calendar)) == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            {"train": ("2024-01-01", "2024-01-10"), "test": ("2024-01-10", "2024-01-20")},
            "train dates end on 2024-01-10, and the test dates begin on 2024-01-10",
        ),
        (
            {"train": ("2024-01-01", "2024-01-10"), "test": ("2030-01-01", "2030-02-01")},
            "test dates 2030-01-01 to 2030-02-01 hold no bar; the data go from 2024-01-01",
        ),
        (
            {"train": ("2024-01-10", "2024-01-01"), "test": ("2024-01-12", "2024-01-20")},
            "train dates 2024-01-10 to 2024-01-01 hold no bar",
        ),
    ],
)
def test_dates_that_make_no_fold_are_refused(dates, message):
    with pytest.raises(DataError) as caught:
        fixed_dates(days(30), **dates)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 0}, "folds must be at least 1, not 0"),
        ({"test_bars": 0}, "test_bars must be at least 1"),
        ({"train_bars": 0}, "train_bars must be at least 1"),
        ({"embargo": -1}, "embargo must be at least 0"),
        ({"valid_fraction": 1.0}, "valid_fraction must be at least 0 and below 1"),
        ({"folds": 5}, "need 21 bars; the calendar has 20"),
        ({"train_bars": 15}, "15 bars before the first need 23 bars"),
        ({"train_bars": 2}, "Fold 0 has 2 bars to train on, too few for a validation part"),
    ],
)
def test_folds_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(DataError) as caught:
        walk_forward(days(20), **({"folds": 2, "test_bars": 4} | changes))
    assert message in str(caught.value)


def test_a_calendar_out_of_order_is_refused():
    with pytest.raises(DataError, match="in order, each once"):
        walk_forward(days(20)[::-1], folds=2, test_bars=4)


def test_a_leaked_row_is_found_whichever_rule_let_it_in():
    calendar = days(24)
    late = known(calendar, 2)
    (fold,) = walk_forward(calendar, folds=1, test_bars=4, valid_fraction=0.25, embargo=1)
    rows = fold_rows(fold, calendar, late)
    assert_no_peeking(fold, rows, calendar, late)
    # One row more at the end of either part, and rows in two parts at once.
    for part, row in (("train", 12), ("train", 20), ("valid", 17), ("valid", 20)):
        mask = getattr(rows, part).copy()
        assert not mask[row]
        mask[row] = True
        with pytest.raises(DataError, match=r"row of 2024-01-\d\d .* not before"):
            assert_no_peeking(fold, replace(rows, **{part: mask}), calendar, late)


def test_a_label_that_is_never_known_is_no_training_row():
    calendar = days(24)
    late = known(calendar, 1)
    (fold,) = walk_forward(calendar, folds=1, test_bars=4, valid_fraction=0)
    rows = fold_rows(fold, calendar, late)
    late[0] = pd.NaT
    with pytest.raises(DataError, match="known at NaT"):
        assert_no_peeking(fold, rows, calendar, late)


@settings(max_examples=100)
@given(
    gaps=st.sets(st.integers(0, 59), max_size=40),
    horizon=st.integers(1, 12),
    folds=st.integers(1, 4),
    test_bars=st.integers(1, 8),
    train_bars=st.one_of(st.none(), st.integers(10, 20)),
    valid_fraction=st.sampled_from([0.0, 0.2, 0.5]),
    embargo=st.integers(0, 6),
)
def test_no_fold_ever_peeks(gaps, horizon, folds, test_bars, train_bars, valid_fraction, embargo):
    calendar = days(60)
    dates = calendar.delete(sorted(gaps))
    late = known(dates, horizon)
    for fold in walk_forward(
        calendar,
        folds=folds,
        test_bars=test_bars,
        train_bars=train_bars,
        valid_fraction=valid_fraction,
        embargo=embargo,
    ):
        rows = fold_rows(fold, dates, late)
        assert_no_peeking(fold, rows, dates, late)
        parts = rows.train.astype(int) + rows.valid + rows.test
        assert parts.max(initial=0) <= 1
        # Every row of the training dates is in a part, or counted as left out.
        span = (fold.train.first <= dates) & (dates < fold.test.first)
        left_out = rows.purged + rows.embargoed + rows.unlabelled
        assert span.sum() == rows.train.sum() + rows.valid.sum() + left_out


def test_later_bars_change_no_row_of_given_dates():
    periods = {"train": ("2024-01-01", "2024-01-10"), "test": ("2024-01-11", "2024-01-15")}
    masks = []
    for count in (20, 40):
        calendar = days(count)
        rows = fold_rows(fixed_dates(calendar, **periods), calendar, known(calendar, 2))
        masks.append(np.stack([rows.train, rows.valid, rows.test])[:, :20])
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    ("dates", "horizon", "message"),
    [
        (days(10, "2024-01-21"), 1, "fold 0 has 0 training rows"),
        (days(10), 1, "fold 0 has 0 validation rows"),
        (days(20), 1, "fold 0 has 0 test rows"),
        (days(30), 19, r"0 training rows .* fewer than 1 \(11 rows purged"),
        (days(30), 1, None),
    ],
)
def test_a_symbol_without_rows_in_a_part_says_why(dates, horizon, message):
    (fold,) = walk_forward(days(30), folds=1, test_bars=10, valid_fraction=0.2)
    rows = fold_rows(fold, dates, known(dates, horizon))
    reason = why_unusable(fold, rows)
    if message is None:
        assert reason is None
    else:
        assert re.search(message, reason)


def test_inner_folds_forecast_the_last_half_from_what_was_known():
    folds = inner_folds(np.arange(12), np.arange(12) + 2)
    assert [fold.test.tolist() for fold in folds] == [[6, 7], [8, 9], [10, 11]]
    assert [fold.train.tolist() for fold in folds] == [
        list(range(4)),
        list(range(6)),
        list(range(8)),
    ]


def test_inner_folds_of_a_panel_share_the_times_of_its_symbols():
    times = np.concatenate([np.arange(8), np.arange(8)])
    first, second = inner_folds(times, times + 1, folds=2)
    assert first.train.tolist() == [0, 1, 2, 8, 9, 10]
    assert first.test.tolist() == [4, 5, 12, 13]
    assert second.test.tolist() == [6, 7, 14, 15]


def test_inner_folds_leave_out_rows_without_a_label():
    known_at = np.where(np.arange(12) % 5 == 0, np.nan, np.arange(12) + 1.0)
    folds = inner_folds(np.arange(12), known_at, folds=2)
    assert [fold.train.tolist() for fold in folds] == [[1, 2, 3, 4], [1, 2, 3, 4, 6, 7]]
    assert [fold.test.tolist() for fold in folds] == [[6, 7, 8], [9, 11]]


def test_inner_folds_take_dates_too():
    dates = days(12)
    by_date = inner_folds(dates, known(dates, 2), folds=2)
    by_row = inner_folds(np.arange(12), np.append(np.arange(2.0, 12), [np.nan, np.nan]), folds=2)
    for one, other in zip(by_date, by_row, strict=True):
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.test, other.test)


@pytest.mark.parametrize(
    ("count", "horizon", "changes", "message"),
    [
        (4, 1, {}, "there are 4 times"),
        (12, 7, {}, "Inner fold 0 of 3 has no rows to train on"),
        (12, 1, {"folds": 0}, "folds >= 1"),
        (12, 1, {"first_fraction": 1.0}, "between 0 and 1"),
    ],
)
def test_inner_folds_that_do_not_fit_are_refused(count, horizon, changes, message):
    with pytest.raises(DataError, match=message):
        inner_folds(np.arange(count), np.arange(count) + horizon, **changes)
