"""Frames that are no sound candles: clear errors, or NaN exactly where a value is unknown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features import alpha158, alpha360
from freqai_lstm_plugins.features.alpha158 import feature_names
from tests.features.market import PRICES, make_candles, with_warts


def refused(candles, match, **arguments):
    both = arguments.keys() <= {"missing", "step"}
    for compute in (alpha158, alpha360) if both else (alpha158,):
        with pytest.raises(DataError, match=match) as caught:
            compute(candles, **arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*PRICES, "volume"])
def test_a_missing_column_is_named(name):
    refused(make_candles(9).drop(columns=name), f"lack the column '{name}'")


def test_upper_case_names_are_told_how_to_be_written():
    refused(make_candles(9).rename(columns=str.upper), "Rename 'OPEN' to lower case")


def test_a_misspelt_column_is_suggested():
    refused(make_candles(9).rename(columns={"close": "closed"}), "Did you mean 'closed'")


def test_a_column_that_stands_twice_is_refused():
    candles = make_candles(9)
    refused(pd.concat([candles, candles[["close"]]], axis=1), "'close' 2 times")


@pytest.mark.parametrize("name", ["close", "volume"])
def test_strings_are_no_numbers(name):
    refused(make_candles(9).astype({name: str}), f"'{name}' holds str.*pandas.to_numeric")


def test_integers_are_numbers():
    candles = make_candles(80).drop(columns="date").round().astype(int)
    pd.testing.assert_frame_equal(alpha158(candles), alpha158(candles.astype(float)))
    pd.testing.assert_frame_equal(alpha158(candles), alpha158(candles.astype("Int64")))


@pytest.mark.parametrize("compute", [alpha158, alpha360])
def test_features_have_double_precision_whatever_the_candles_have(compute):
    candles = make_candles(80).astype(dict.fromkeys([*PRICES, "volume"], "float32"))
    assert set(compute(candles).dtypes) == {np.dtype(float)}


def test_unsorted_dates_are_refused():
    refused(make_candles(9).iloc[::-1], "not in the order of their dates")
    refused(make_candles(9).set_index("date").iloc[[0, 2, 1]], "not in the order")


def test_duplicate_dates_are_refused():
    refused(make_candles(9).iloc[[0, 1, 1, 2]], "1 dates stand twice .first 2025-06-02 00:05")


def test_candles_without_a_date_are_refused():
    candles = make_candles(9)
    candles.loc[3, "date"] = pd.NaT
    refused(candles, "1 candles have no date")
    refused(candles.assign(date="soon"), "no ISO date in every row")
    refused(candles.assign(date=range(9)), r"'date' holds int64.*to_datetime\(date, unit='ms'\)")


def test_dates_as_text_are_read():
    candles = make_candles(80)
    as_text = candles.assign(date=candles["date"].astype(str))
    found = alpha158(as_text.drop(index=40), step="5m")
    pd.testing.assert_frame_equal(found, alpha158(candles.drop(index=40), step="5m"))


def test_dates_of_two_time_zone_objects_are_read():
    # What the exchange's candles behind those from disk look like.
    candles = make_candles(20)
    mixed = candles["date"].astype(object)
    mixed.iloc[10:] = [date.tz_convert("Asia/Tokyo") for date in candles["date"].iloc[10:]]
    pd.testing.assert_frame_equal(alpha158(candles.assign(date=mixed)), alpha158(candles))


def test_a_frame_of_two_symbols_is_refused():
    two = pd.concat([make_candles(9).assign(pair=pair) for pair in ("A/USDT", "B/USDT")])
    refused(two, "2 symbols in 'pair' .first 'A/USDT', 'B/USDT'")
    refused(two.set_index(["date", "pair"]), "2 symbols in 'pair'")
    refused(two.drop(columns="pair"), "stand twice.*one symbol a frame")


def test_one_symbol_with_its_name_is_taken():
    candles = make_candles(9)
    named = candles.assign(instrument="A").set_index(["date", "instrument"])
    np.testing.assert_array_equal(alpha158(named), alpha158(candles))
    refused(named.iloc[::-1], "not in the order")


def test_a_row_without_a_symbol_is_a_missing_candle_of_the_one():
    # What reindexing on a calendar leaves.
    candles = make_candles(9).assign(symbol="A")
    candles.loc[4, ["symbol", *PRICES, "volume"]] = np.nan
    assert alpha158(candles)["KMID"].isna().sum() == 1


def test_what_is_no_frame_is_refused():
    refused(make_candles(9)["close"], "DataFrame, and Series was given")


def test_fewer_rows_than_the_longest_window_give_nan_there():
    found = alpha158(make_candles(30))
    assert found["MA60"].isna().all()
    assert found["MA30"].notna().sum() == 1


@pytest.mark.parametrize("step", [None, "5m"])
@pytest.mark.parametrize("compute", [alpha158, alpha360])
def test_an_empty_frame_gives_an_empty_one(compute, step):
    candles = make_candles(9)
    for empty in (candles.iloc[:0], pd.DataFrame(columns=candles.columns)):
        found = compute(empty, step=step)
        assert len(found) == 0
        assert set(found.dtypes) == {np.dtype(float)}


def test_one_candle_gives_its_shape():
    found = alpha158(make_candles(1))
    assert found.iloc[0].notna().sum() == 13


@pytest.mark.parametrize(
    ("windows", "match"),
    [
        ((1, 5), "holds 1;.*at least 2"),
        ((0,), "holds 0"),
        ((5, 10, 5), "each one once"),
        ((), "at least one"),
        ((5.5,), "holds 5.5"),
        (("5",), "holds '5'"),
        ((True,), "holds True"),
    ],
)
def test_windows_that_are_none_are_refused(windows, match):
    refused(make_candles(9), match, windows=windows)


def test_one_window_need_not_be_in_a_list():
    assert "MA7" in alpha158(make_candles(9), 7)


def test_an_unknown_feature_is_refused_with_the_closest_one():
    refused(make_candles(9), "no feature 'RSQ5'. Did you mean 'RSQR5'", names=["RSQ5"])
    refused(make_candles(9), "windows 5, 10 has no feature 'MA60'", windows=(5, 10), names=["MA60"])
    refused(make_candles(9), "'MA5' 2 times", names=["MA5", "MA10", "MA5"])
    refused(make_candles(9), "has no feature 5", names=5)


def test_an_unknown_way_of_missing_is_refused():
    refused(make_candles(9), "'nan' or 'neutral'", missing="zero")


@pytest.mark.parametrize("step", ["soon", "1M", "-5m", 300])
def test_a_step_that_is_no_time_is_refused(step):
    refused(make_candles(9), "must be a time above zero", step=step)


def test_candles_off_the_step_are_refused():
    refused(make_candles(9), "at 2025-06-02 00:05.*no multiple of the step 7m", step="7m")
    refused(make_candles(9).drop(columns="date"), "step needs dates", step="5m")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", PRICES)
def test_a_price_that_cannot_be_is_unknown_where_it_is_read_and_nowhere_else(name, bad):
    candles = make_candles(200)
    plain = alpha158(candles)
    candles.loc[100, name] = bad
    found = alpha158(candles)
    assert not np.isinf(found.to_numpy()).any()
    pd.testing.assert_frame_equal(found.iloc[:100], plain.iloc[:100], check_exact=True)
    pd.testing.assert_frame_equal(found.iloc[161:], plain.iloc[161:], check_exact=True)
    reads_it = {"open": "KMID", "high": "MAX60", "low": "MIN60", "close": "MA60"}[name]
    assert np.isnan(found.loc[100, reads_it])
    untouched = [n for n in feature_names() if n.startswith(("VMA", "VSTD", "VSUM"))]
    pd.testing.assert_frame_equal(found[untouched], plain[untouched], check_exact=True)


def test_a_candle_whose_high_is_below_its_low_is_unknown():
    candles = make_candles(200)
    plain = alpha158(candles)
    candles.loc[100, ["high", "low"]] = candles.loc[100, ["low", "high"]].to_numpy() * [0.9, 1.1]
    found = alpha158(candles)
    assert found.loc[100, ["KMID", "MA5", "MAX60", "RANK10"]].isna().all()
    assert found.loc[100, "VMA5"] == plain.loc[100, "VMA5"]
    pd.testing.assert_frame_equal(found.iloc[161:], plain.iloc[161:], check_exact=True)


def test_a_negative_volume_is_unknown():
    candles = make_candles(100)
    candles.loc[90, "volume"] = -3.0
    found = alpha158(candles)
    assert found.loc[90, ["VMA5", "CORR5", "WVMA5", "VSUMP5"]].isna().all()
    assert found.loc[90, ["MA5", "RANK5"]].notna().all()


def test_no_volume_at_all_leaves_what_prices_tell():
    candles = make_candles(200)
    plain = alpha158(candles)
    found = alpha158(candles.assign(volume=0.0))
    assert found.iloc[60:].filter(regex=r"^(CORR|CORD|VMA|VSTD)").isna().all().all()
    prices = [n for n in feature_names() if not n.startswith(("C", "V", "WV"))]
    pd.testing.assert_frame_equal(found[prices], plain[prices], check_exact=True)


@pytest.mark.parametrize("missing", ["nan", "neutral"])
def test_nothing_is_ever_infinite(missing):
    candles = with_warts(make_candles(300))
    candles.loc[150:160, "volume"] = 0.0
    candles.loc[170, "close"] = 0.0
    candles.loc[180, "high"] = 1e300
    candles.loc[190, "volume"] = 1e300
    for compute in (alpha158, alpha360):
        assert not np.isinf(compute(candles, missing=missing).to_numpy()).any()
