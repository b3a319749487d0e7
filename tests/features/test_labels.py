from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features.labels import (
    clipped,
    cross_sectional_rank,
    cross_sectional_zscore,
    future_return,
    given_label,
    qlib_return,
    volatility_scaled_return,
)

NAN = np.nan


def candles(close, start="2024-01-01"):
    dates = pd.date_range(start, periods=len(close), freq="D", tz="UTC").as_unit("ms")
    return pd.DataFrame({"date": dates, "close": np.asarray(close, dtype=float)})


def day_of(known_at):
    """Return days of January, 0 where there is none."""
    return known_at.dt.day.fillna(0).astype(int).tolist()


def test_a_return_ends_h_candles_later():
    label = future_return(candles([1, 2, 4, 5]), 2)
    assert label["label"].tolist()[:2] == [3.0, 1.5]
    assert label["label"].isna().tolist() == [False, False, True, True]
    assert day_of(label["known_at"]) == [3, 4, 0, 0]


def test_bars_are_those_of_the_symbol_so_a_halt_makes_them_long():
    label = future_return(candles([1, 2, NAN, NAN, 4, 8]), 1)
    np.testing.assert_array_equal(label["label"], [1, 1, NAN, NAN, 1, NAN])
    assert day_of(label["known_at"]) == [2, 5, 0, 0, 6, 0]


def test_the_index_of_the_candles_is_kept():
    frame = candles([1, 2, 4]).set_axis([7, 8, 9])
    assert future_return(frame, 1).index.tolist() == [7, 8, 9]


def test_a_scaled_return_counts_in_trailing_volatilities():
    frame = candles([100, 110, 99, 99, 108.9])
    label = volatility_scaled_return(frame, 1, 2)
    # Returns 0.1, -0.1, 0, 0.1: two of them have the deviations sqrt(0.02) and sqrt(0.005).
    expected = [NAN, NAN, 0 / np.sqrt(0.02), 0.1 / np.sqrt(0.005), NAN]
    np.testing.assert_allclose(label["label"], expected, atol=1e-12)
    assert day_of(label["known_at"]) == [0, 0, 4, 5, 0]


def test_without_volatility_there_is_no_scaled_return():
    label = volatility_scaled_return(candles([1, 1, 1, 1, 2, 3]), 1, 2)
    assert label["label"].isna().tolist() == [True, True, True, True, False, True]


def test_the_return_of_qlib_begins_at_the_next_close():
    label = qlib_return(candles([1, 2, 3, 6]))
    np.testing.assert_array_equal(label["label"], [0.5, 1.0, NAN, NAN])
    assert day_of(label["known_at"]) == [3, 4, 0, 0]


def test_a_given_column_is_known_h_rows_later():
    table = candles([1, 2, 3]).assign(**{"&-up": [0.1, NAN, 0.3]})
    label = given_label(table, "&-up", 1)
    np.testing.assert_array_equal(label["label"], [0.1, NAN, NAN])
    assert day_of(label["known_at"]) == [2, 0, 0]
    with pytest.raises(DataError, match="date and &-down lacks &-down"):
        given_label(table, "&-down", 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: future_return(frame, 3),
        lambda frame: volatility_scaled_return(frame, 2, 5),
        qlib_return,
    ],
)
def test_nothing_after_known_at_changes_a_label(make):
    close = np.exp(np.random.default_rng(0).normal(0, 0.02, 60).cumsum())
    close[[7, 20, 21]] = NAN
    frame = candles(close)
    label = make(frame)
    for row in label.index[label["label"].notna()]:
        end = int(frame.index[frame["date"] == label.loc[row, "known_at"]][0])
        # It is there with its last candle, and not before.
        assert make(frame[: end + 1]).loc[row].equals(label.loc[row])
        assert np.isnan(make(frame[:end]).loc[row, "label"])


def test_a_label_is_clipped_on_both_sides():
    label = clipped(future_return(candles([1, 4, 1, 1]), 1), 0.5)
    np.testing.assert_array_equal(label["label"], [0.5, -0.5, 0.0, NAN])
    with pytest.raises(DataError, match="above 0, not 0"):
        clipped(label, 0)


def panel(**closes):
    frames = {symbol: candles(close) for symbol, close in closes.items()}
    labels = {symbol: future_return(frame, 1) for symbol, frame in frames.items()}
    return labels, {symbol: frame["date"] for symbol, frame in frames.items()}


def test_ranks_compare_the_symbols_of_one_date():
    ranked = cross_sectional_rank(*panel(a=[1, 2, 2], b=[1, 3, 6], c=[1, 2, 8]))
    first = [ranked[symbol]["label"].iloc[0] for symbol in "abc"]
    second = [ranked[symbol]["label"].iloc[1] for symbol in "abc"]
    # Ranks 1.5, 3, 1.5 and 1, 2, 3, each less 2, in thirds times the root of 12.
    np.testing.assert_allclose(first, np.array([-0.5, 1, -0.5]) / 3 * 12**0.5)
    np.testing.assert_allclose(second, np.array([-1, 0, 1]) / 3 * 12**0.5)
    assert ranked["a"]["label"].isna().tolist() == [False, False, True]


def test_ranks_of_many_symbols_have_deviation_one():
    rng = np.random.default_rng(0)
    labels, dates = panel(**{f"s{i}": [1, rng.uniform(0.5, 2)] for i in range(100)})
    values = [ranked["label"].iloc[0] for ranked in cross_sectional_rank(labels, dates).values()]
    assert np.mean(values) == pytest.approx(0, abs=1e-12)
    assert np.std(values) == pytest.approx(1, abs=1e-4)


def test_z_scores_have_mean_zero_and_deviation_one_on_each_date():
    scored = cross_sectional_zscore(*panel(a=[1, 2, 4], b=[1, 3, 6], c=[1, 4, 8], d=[1, 4, NAN]))
    first = np.array([scored[symbol]["label"].iloc[0] for symbol in "abcd"])
    assert first.mean() == pytest.approx(0, abs=1e-12)
    assert first.std(ddof=1) == pytest.approx(1)
    # All that have a label gained as much.
    assert [scored[symbol]["label"].iloc[1] for symbol in "abc"] == [0, 0, 0]
    assert np.isnan(scored["d"]["label"].iloc[1])


@pytest.mark.parametrize("compare", [cross_sectional_rank, cross_sectional_zscore])
def test_a_comparison_is_known_when_its_last_label_is(compare):
    compared = compare(*panel(a=[1, 2, 3, 4], b=[1, NAN, NAN, 4]))
    assert day_of(compared["a"]["known_at"]) == [4, 0, 0, 0]
    assert compared["a"]["label"].notna().tolist() == [True, False, False, False]
    assert compared["b"]["label"].notna().tolist() == [True, False, False, False]


@pytest.mark.parametrize("compare", [cross_sectional_rank, cross_sectional_zscore])
def test_symbols_of_other_lengths_are_compared_where_they_meet(compare):
    frames = {"a": candles([1, 2, 3, 4]), "b": candles([5, 4, 3], start="2024-01-02")}
    labels = {symbol: future_return(frame, 1) for symbol, frame in frames.items()}
    compared = compare(labels, {symbol: frame["date"] for symbol, frame in frames.items()})
    assert compared["a"]["label"].notna().tolist() == [False, True, True, False]
    assert compared["b"]["label"].notna().tolist() == [True, True, False]
    assert (compared["a"]["label"].to_numpy()[1:3] > compared["b"]["label"].to_numpy()[:2]).all()


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, "5"])
def test_a_horizon_that_is_none_is_refused(horizon):
    with pytest.raises(DataError, match="horizon must be an integer of at least 1"):
        future_return(candles([1, 2]), horizon)


def test_candles_that_cannot_be_labelled_are_refused():
    frame = candles([1, 2, 0])
    with pytest.raises(DataError, match=r"close of 2024-01-03 .* is not above 0"):
        future_return(frame, 1)
    with pytest.raises(DataError, match="lacks close"):
        future_return(frame[["date"]], 1)
    for wrong in (frame[:2].iloc[::-1], pd.concat([frame[:2], frame[:2]])):
        with pytest.raises(DataError, match="in order of their dates"):
            future_return(wrong, 1)


def test_fewer_candles_than_the_horizon_give_no_label():
    label = future_return(candles([1, 2]), 5)
    assert label["label"].isna().all()
    assert label["known_at"].isna().all()
    assert str(label["known_at"].dtype) == "datetime64[ms, UTC]"
