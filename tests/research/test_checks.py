from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.candles import PRICES
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.features.labels import future_return
from freqai_lstm_plugins.research.checks import (
    MAKES_MISSING,
    MEANINGS,
    CheckLimits,
    check_candles,
    missing_rows,
    summary,
    summary_lines,
    write_checks,
)

WEEKDAYS = pd.date_range("2024-01-01", periods=120, freq="B", tz="UTC").as_unit("ms")


def candles(dates=WEEKDAYS, seed=0):
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(rng.normal(0, 0.01, len(dates)).cumsum())
    frame = pd.DataFrame({"date": dates, "open": close, "high": close * 1.01, "low": close * 0.99})
    return frame.assign(close=close, volume=1000.0)


def checked(frame, **limits):
    """Check one symbol beside a sound one that has all dates."""
    return check_candles({"X": frame, "whole": candles()}, CheckLimits(**limits))


def found(result, check):
    """Return the positions of the weekdays at which a check found something in X."""
    rows = result.found[(result.found["symbol"] == "X") & (result.found["check"] == check)]
    return WEEKDAYS.get_indexer(rows["date"]).tolist()


def checks_of(result):
    return set(result.found.loc[result.found["symbol"] == "X", "check"])


def missing_days(result):
    frame = result.candles["X"]
    return WEEKDAYS.get_indexer(frame.loc[frame["close"].isna(), "date"]).tolist()


def test_sound_candles_come_back_as_they_are():
    frame = candles(seed=1)
    result = checked(frame)
    assert result.found.empty
    pd.testing.assert_frame_equal(result.candles["X"], frame)
    assert result.calendar.equals(WEEKDAYS.rename("date"))
    assert summary_lines(result) == []
    assert missing_rows(result).empty


BAD_ROWS = {
    "not_finite": {"volume": np.inf},
    "not_positive": {"close": 0.0},
    "negative_volume": {"volume": -1.0},
    "high_below_low": {"high": 1.0},
    "close_outside": {"close": 60.0},
    "open_outside": {"open": 1.0},
}


@pytest.mark.parametrize(("check", "cells"), BAD_ROWS.items())
def test_a_bad_row_is_found_and_becomes_missing(check, cells):
    frame = candles()
    frame.loc[40, list(cells)] = list(cells.values())
    result = checked(frame)
    assert found(result, check) == [40]
    assert missing_days(result) == [40]
    # Its neighbours stay, and so does the calendar.
    assert len(result.candles["X"]) == len(WEEKDAYS)
    assert result.candles["X"].loc[40].drop("date").isna().all()
    assert missing_rows(result)["date"].tolist() == [WEEKDAYS[40]]
    assert check in missing_rows(result)["reasons"].iloc[0]


def test_an_empty_cell_is_a_bad_row():
    frame = candles()
    frame.loc[7, "low"] = np.nan
    assert found(checked(frame), "not_finite") == [7]


def test_a_price_of_zero_makes_the_next_return_infinite_and_none_of_both_is_a_label():
    frame = candles()
    frame.loc[40, "close"] = 0.0
    result = checked(frame)
    assert found(result, "infinite_return") == [41]
    label = future_return(result.candles["X"], 1)
    assert np.isfinite(label["label"].drop([40, 119])).all()
    assert np.isnan(label["label"][40])


def test_round_off_of_prices_is_no_contradiction():
    frame = candles()
    frame["high"] = frame[["open", "close"]].max(axis=1)
    frame["high"] = frame["high"].astype("float32").astype("float64")
    assert checked(frame).found.empty


def test_rows_out_of_order_are_sorted_and_said():
    frame = candles()
    swapped = frame.iloc[[*range(10), 11, 10, *range(12, 120)]]
    result = checked(swapped)
    assert found(result, "order") == [10]
    pd.testing.assert_frame_equal(result.candles["X"], frame)


def test_a_row_that_stands_twice_counts_once():
    frame = candles()
    result = checked(pd.concat([frame, frame.iloc[[5, 5]]], ignore_index=True))
    assert found(result, "repeated") == [5]
    assert result.found.loc[result.found["check"] == "repeated", "value"].item() == 3
    pd.testing.assert_frame_equal(result.candles["X"], frame)


def test_rows_of_one_date_that_differ_are_missing():
    frame = candles()
    other = frame.iloc[[5]].assign(close=frame["high"][5])
    result = checked(pd.concat([frame, other], ignore_index=True))
    assert found(result, "contradiction") == [5]
    assert missing_days(result) == [5]


def test_a_date_that_only_others_have_is_a_gap():
    result = checked(candles().drop([30, 31, 50]))
    assert found(result, "gap") == [30, 31, 50]
    assert missing_days(result) == [30, 31, 50]


def test_late_listings_and_early_ends_are_said_and_not_filled():
    frame = candles()[20:-1]
    result = checked(frame)
    assert found(result, "late_start") == [20]
    assert found(result, "early_end") == [118]
    by_check = result.found.set_index("check")["value"]
    assert (by_check["late_start"], by_check["early_end"]) == (20, 1)
    pd.testing.assert_frame_equal(result.candles["X"], frame.reset_index(drop=True))


def test_symbols_that_never_meet_share_a_calendar():
    frames = {"a": candles()[:50], "b": candles()[70:]}
    result = check_candles(frames)
    assert len(result.calendar) == 100
    assert result.candles["a"]["date"].iloc[-1] < result.candles["b"]["date"].iloc[0]


def test_a_few_bars_without_volume_are_kept():
    frame = candles()
    frame.loc[[10, 11, 60], "volume"] = 0.0
    result = checked(frame)
    assert found(result, "no_volume") == [10, 11, 60]
    assert missing_days(result) == []


def test_bars_without_volume_are_missing_from_the_limit_on():
    frame = candles()
    frame.loc[40:69, "volume"] = 0.0
    result = checked(frame, no_volume_bars=20)
    assert found(result, "no_volume") == list(range(40, 59))
    assert found(result, "no_volume_stretch") == list(range(59, 70)) == missing_days(result)


def test_where_no_bar_has_volume_it_is_unknown():
    result = checked(candles().assign(volume=0.0))
    assert result.found.empty


def listed_late(jump=2.68):
    """Return 60 filled bars with odd trades, as vendors put before a listing, and 60 real ones."""
    frame = candles()
    frame.loc[:59, list(PRICES)] = frame["close"][60] / (1 + jump)
    frame.loc[:59, "volume"] = 0.0
    frame.loc[[10, 33], "volume"] = 100.0
    return frame


def test_what_was_filled_in_before_a_listing_is_missing_and_the_jump_no_return():
    result = checked(listed_late())
    assert found(result, "before_listing") == list(range(60))
    assert 60 in found(result, "large_move")
    worst = summary(result).set_index("check")["worst"]
    assert worst["large_move"] == pytest.approx(2.68)
    used = result.candles["X"]
    assert used["date"].iloc[0] == WEEKDAYS[60]
    assert future_return(used, 1)["label"].max() < 0.1


def test_a_symbol_that_is_hardly_ever_traded_keeps_its_history():
    frame = listed_late()
    frame.loc[60::2, "volume"] = 0.0
    result = checked(frame)
    assert found(result, "before_listing") == []
    assert result.candles["X"]["date"].iloc[0] == WEEKDAYS[0]


def test_large_moves_are_listed_and_kept():
    frame = candles()
    frame.loc[80:, list(PRICES)] *= 1.5
    result = checked(frame)
    assert found(result, "large_move") == [80]
    assert missing_days(result) == []


def test_bars_without_trades_make_no_move_large():
    frame = candles()
    idle = np.arange(120) % 3 > 0
    frame.loc[idle, "volume"] = 0.0
    close = frame["close"].where(~idle).ffill()
    close[81:] *= 1.5
    frame = frame.assign(**dict.fromkeys(PRICES, close))
    # With idle bars among them, more than half of the moves would be zero.
    assert found(checked(frame), "large_move") == [81]


def test_moves_above_the_limit_of_the_market_are_listed():
    frame = candles()
    close = np.full(120, 10.0)
    close[50:] = 10.7
    close[70:] = 11.46
    frame = frame.assign(**dict.fromkeys(PRICES, close))
    assert found(checked(frame, price_limit=0.07), "price_limit") == [70]
    assert found(checked(frame), "price_limit") == []


def test_rounded_prices_break_no_limit():
    # 7 % of a price of 2.00 that was rounded to 0.01 on both sides of the move.
    frame = candles()
    close = np.full(120, 2.0)
    close[50:] = 2.15
    close[70:] = 2.32
    frame = frame.assign(**dict.fromkeys(PRICES, close))
    assert found(checked(frame, price_limit=0.07), "price_limit") == [70]


def test_a_close_that_stands_still_is_listed_and_kept():
    frame = candles()
    frame.loc[30:44, list(PRICES)] = frame["close"][30]
    result = checked(frame, stale_bars=10)
    assert found(result, "stale") == list(range(40, 45))
    assert missing_days(result) == []


def test_a_symbol_without_a_usable_row_is_left_out_and_said():
    result = checked(candles().assign(close=np.nan))
    assert list(result.candles) == ["whole"]
    assert "nothing_left" in checks_of(result)


def test_no_candles_at_all_are_refused():
    with pytest.raises(DataError, match="no candles"):
        check_candles({"X": candles(WEEKDAYS[:0])})


def test_every_row_is_used_or_in_the_list():
    frame = listed_late()
    frame.loc[[70, 75], "close"] = 0.0
    frame.loc[80, "open"] = 1.0
    shuffled = pd.concat([frame.drop([90, 91]), frame.iloc[[100]]]).sample(frac=1, random_state=0)
    result = checked(shuffled)
    missing = set(missing_rows(result).query("symbol == 'X'")["date"])
    used = set(result.candles["X"].dropna()["date"])
    assert used | missing == set(WEEKDAYS)
    assert not used & missing


def test_later_rows_change_nothing_of_earlier_ones():
    frame = candles()
    frame.loc[40:79, "volume"] = 0.0
    frame.loc[20, "close"] = 0.0
    whole = checked(frame).candles["X"]
    for count in (30, 50, 62, 79, 100):
        part = check_candles({"X": frame[:count], "whole": candles()}).candles["X"]
        pd.testing.assert_frame_equal(part, whole[: len(part)])


def test_a_summary_has_a_line_for_each_symbol_and_check():
    frame = candles()
    frame.loc[[20, 40], "close"] = [0.0, 60.0]
    result = checked(frame)
    table = summary(result).set_index("check")
    assert table.loc["close_outside", "rows"] == 2
    assert table.loc["close_outside", "worst_date"] == WEEKDAYS[20]
    assert table.loc["not_positive", "missing"]
    lines = summary_lines(result)
    assert "X: a price is zero or negative: 2024-01-29 (lowest price 0), now missing" in lines
    assert len(lines) == len(table)


def test_checks_are_saved_as_tables(tmp_path):
    frame = candles()
    frame.loc[20, "close"] = 0.0
    result = checked(frame)
    write_checks(result, tmp_path / "new")
    assert len(pd.read_csv(tmp_path / "new" / "rows.csv")) == len(result.found)
    assert set(pd.read_csv(tmp_path / "new" / "summary.csv")["check"]) == checks_of(result)
    (line,) = (tmp_path / "new" / "missing.csv").read_text().splitlines()[1:]
    assert line == "X,2024-01-29 00:00:00+00:00,not_positive; close_outside"


def test_every_check_has_its_meaning():
    assert set(MEANINGS) >= MAKES_MISSING


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"no_volume_bars": 1}, "no_volume_bars must be at least 2, not 1"),
        ({"robust_multiple": 0.5}, "robust_multiple must be at least 1"),
        ({"price_limit": 7}, "share between 0 and 1 such as 0.07, not 7"),
    ],
)
def test_limits_that_are_none_are_refused(limits, message):
    with pytest.raises(ConfigError, match=message):
        CheckLimits(**limits)
