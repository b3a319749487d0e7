"""Statistics of windows, by hand and beside numpy on one window at a time."""

from __future__ import annotations

import numpy as np
import pytest

from freqai_lstm_plugins.features import rolling

NAN = np.nan
ONE_VALUE = {
    "mean": (rolling.rolling_mean, np.mean),
    "sum": (rolling.rolling_sum, np.sum),
    "std": (rolling.rolling_std, lambda rows: np.std(rows, ddof=1)),
    "max": (rolling.rolling_max, np.max),
    "min": (rolling.rolling_min, np.min),
    "argmax": (rolling.rolling_argmax, lambda rows: np.argmax(rows) + 1),
    "argmin": (rolling.rolling_argmin, lambda rows: np.argmin(rows) + 1),
}


def one_by_one(function, values, window):
    return [
        function(values[row - window + 1 : row + 1]) if row >= window - 1 else NAN
        for row in range(len(values))
    ]


@pytest.fixture
def values():
    # Ties on purpose.
    return np.random.default_rng(0).integers(1, 20, size=50).astype(float)


@pytest.mark.parametrize("window", [2, 7, 50])
@pytest.mark.parametrize("name", ONE_VALUE)
def test_a_statistic_is_that_of_each_window(name, window, values):
    ours, theirs = ONE_VALUE[name]
    np.testing.assert_allclose(ours(values, window), one_by_one(theirs, values, window), rtol=1e-12)


def test_a_line_through_three_points():
    line = rolling.rolling_regression(np.array([1.0, 2.0, 6.0]), 3)
    # Slope 5/2 around the mean 3; the line ends at 5.5, and 12.5 of 14 squares are explained.
    assert line.slope[-1] == pytest.approx(2.5)
    assert line.residual[-1] == pytest.approx(0.5)
    assert line.rsquare[-1] == pytest.approx(12.5 / 14)
    assert np.isnan(line.slope[:2]).all()


def test_a_line_skips_unknown_rows_but_keeps_their_places():
    line = rolling.rolling_regression(np.array([1.0, NAN, 5.0, NAN]), 3, partial=True)
    # Two points that lie two rows apart.
    np.testing.assert_allclose(line.slope, [NAN, NAN, 2.0, NAN])
    np.testing.assert_allclose(line.residual, [NAN, NAN, 0.0, NAN], atol=1e-12)


def test_correlation_is_numpys(values):
    other = np.random.default_rng(1).normal(size=len(values))
    found = rolling.rolling_corr(values, other, 9)
    expected = [
        np.corrcoef(values[row - 8 : row + 1], other[row - 8 : row + 1])[0, 1]
        for row in range(8, len(values))
    ]
    np.testing.assert_allclose(found[8:], expected, rtol=1e-10)
    assert np.isnan(found[:8]).all()


def test_correlation_takes_rows_in_which_both_are_known():
    left, right = np.array([1.0, 2.0, NAN, 4.0]), np.array([2.0, NAN, 3.0, 1.0])
    assert rolling.rolling_corr(left, right, 4, partial=True)[-1] == pytest.approx(-1.0)


def test_quantiles_are_interpolated_and_ties_share_a_rank():
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert rolling.rolling_quantile(values, 4, 0.2)[-1] == pytest.approx(1.6)
    # Places 2 and 3 of 4.
    assert rolling.rolling_rank(values, 4)[-1] == 2.5 / 4


@pytest.mark.parametrize("name", ONE_VALUE)
def test_one_unknown_row_makes_every_window_that_holds_it_unknown(name, values):
    values[20] = NAN
    found = ONE_VALUE[name][0](values, 5)
    assert np.isnan(found[20:25]).all()
    assert np.isfinite(found[25:]).all()


@pytest.mark.parametrize("name", sorted(ONE_VALUE.keys() - {"argmax", "argmin"}))
def test_a_partial_window_tells_what_its_known_rows_tell(name, values):
    ours, theirs = ONE_VALUE[name]
    values[[0, 3, 4]] = NAN
    found = ours(values, 4, partial=True)
    assert np.isnan(found[0])
    assert found[4] == pytest.approx(theirs(values[1:3]))
    assert found[6] == pytest.approx(theirs(values[5:7]))


def test_a_partial_window_counts_places_from_the_first_row():
    found = rolling.rolling_argmax(np.array([1.0, 3.0, 2.0, 1.0, 1.0]), 3, partial=True)
    np.testing.assert_array_equal(found, [1, 2, 2, 1, 1])


def test_the_first_unknown_row_is_the_largest_of_a_partial_window():
    found = rolling.rolling_argmax(np.array([9.0, NAN, 2.0, NAN]), 3, partial=True)
    np.testing.assert_array_equal(found, [1, 2, 2, 1])
    assert np.isnan(rolling.rolling_argmax(np.full(3, NAN), 2, partial=True)).all()


@pytest.mark.parametrize("value", [0.1, 1e-9, 12345.678])
def test_equal_values_have_no_deviation_at_all(value):
    values = np.full(80, value)
    assert (rolling.rolling_std(values, 60)[59:] == 0).all()
    assert (rolling.rolling_mean(values, 60)[59:] == value).all()
    assert rolling.is_flat(values, 60)[59:].all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_one_tick_is_no_flat_window_whatever_the_price(scale):
    values = np.full(20, 100_000.0)
    values[10] += 0.01
    flat = rolling.is_flat(scale * values, 5)
    np.testing.assert_array_equal(np.flatnonzero(~flat[4:]) + 4, range(10, 15))


@pytest.mark.parametrize("name", ONE_VALUE)
def test_a_spike_that_left_the_window_is_not_felt(name, values):
    spiked = values.copy()
    spiked[10] = 1e15
    found, expected = (ONE_VALUE[name][0](rows, 5) for rows in (spiked, values))
    np.testing.assert_array_equal(found[15:], expected[15:])


def test_shift_leaves_the_first_rows_unknown():
    np.testing.assert_array_equal(rolling.shift(np.array([1.0, 2.0, 3.0]), 2), [NAN, NAN, 1.0])
    assert np.isnan(rolling.shift(np.array([1.0]), 5)).all()
