from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.candles import (
    COLUMNS,
    bar_length,
    bars_per_year,
    between,
    content_hash,
    file_stem,
    find_files,
    read_candles,
    read_table,
    union_calendar,
)
from freqai_lstm_plugins.errors import DataError, MissingExtraError


def days(count, start="2024-01-01", freq="D"):
    return pd.date_range(start, periods=count, freq=freq, tz="UTC").as_unit("ms")


def candles(dates, close=10.0):
    price = np.broadcast_to(np.asarray(close, dtype=float), len(dates)).copy()
    return pd.DataFrame(
        {"date": dates, "open": price, "high": price, "low": price, "close": price, "volume": 1.0}
    )


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def csv(path, *rows):
    return write(path, "\n".join(("date,open,high,low,close,volume", *rows)) + "\n")


def test_the_same_candles_are_read_from_feather_parquet_and_csv(tmp_path):
    frame = candles(days(5), [1.0, 2.5, 3.25, 4.0, 5.0])
    frame.to_feather(tmp_path / "A.feather")
    frame.to_parquet(tmp_path / "B.parquet")
    frame.to_csv(tmp_path / "C.csv", index=False)
    read = {file.symbol: read_candles(file.path) for file in find_files(tmp_path)}
    assert list(read) == ["A", "B", "C"]
    for one in read.values():
        pd.testing.assert_frame_equal(one, frame)
    assert len({content_hash(one) for one in read.values()}) == 1


def test_freqtrade_names_give_pairs_and_timeframes(tmp_path):
    for name in ("BTC_USDT-1h", "ETH_USDT_USDT-1h-futures", "ETH_USDT_USDT-1h-mark", "BTC_USDT-5m"):
        candles(days(3)).to_feather(tmp_path / f"{name}.feather")
    found = find_files(tmp_path, timeframe="1h")
    assert [(file.symbol, file.timeframe) for file in found] == [
        ("BTC/USDT", "1h"),
        ("ETH/USDT:USDT", "1h"),
    ]
    assert [file_stem(file.symbol) for file in found] == ["BTC_USDT", "ETH_USDT_USDT"]


def test_several_timeframes_ask_for_a_choice(tmp_path):
    for name in ("BTC_USDT-1h", "BTC_USDT-5m"):
        candles(days(3)).to_feather(tmp_path / f"{name}.feather")
    with pytest.raises(DataError, match=r"several timeframes \(1h, 5m\)"):
        find_files(tmp_path)
    with pytest.raises(DataError, match=r"no candles of 4h; its timeframes are 1h, 5m"):
        find_files(tmp_path, timeframe="4h")


def test_plain_names_serve_any_timeframe(tmp_path):
    csv(tmp_path / "FPT.csv", "2024-01-01,1,1,1,1,1")
    assert [file.symbol for file in find_files(tmp_path, timeframe="1d")] == ["FPT"]


def test_symbols_come_in_the_order_asked_for_under_either_name(tmp_path):
    for pair in ("BTC_USDT", "ETH_USDT"):
        candles(days(3)).to_feather(tmp_path / f"{pair}-1h.feather")
    found = find_files(tmp_path, ["ETH/USDT", "BTC_USDT"])
    assert [file.symbol for file in found] == ["ETH/USDT", "BTC/USDT"]


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["FTP"], "no candles of FTP: did you mean FPT?"),
        (["ZZZ"], "no candles of ZZZ: it holds FPT, VHM"),
        (["FPT", "FPT"], "FPT is asked for twice"),
    ],
)
def test_a_symbol_that_cannot_be_had_is_named(tmp_path, symbols, message):
    for symbol in ("FPT", "VHM"):
        csv(tmp_path / f"{symbol}.csv", "2024-01-01,1,1,1,1,1")
    with pytest.raises(DataError) as caught:
        find_files(tmp_path, symbols)
    assert message in str(caught.value)


def test_a_symbol_in_two_files_is_refused(tmp_path):
    candles(days(3)).to_feather(tmp_path / "BTC_USDT-1h.feather")
    candles(days(3)).to_csv(tmp_path / "BTC_USDT-1h.csv", index=False)
    with pytest.raises(DataError, match=r"twice, as BTC_USDT-1h.csv and BTC_USDT-1h.feather"):
        find_files(tmp_path)


def test_folders_without_candles_say_so(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        find_files(tmp_path / "none")
    with pytest.raises(DataError, match="holds no feather, parquet or CSV files"):
        find_files(tmp_path)


def test_rows_come_through_as_they_stand(tmp_path):
    path = csv(
        tmp_path / "A.csv", "2024-01-02,1,1,1,0,-1", "2024-01-01,1,,1,1,1", "2024-01-01,1,,1,1,1"
    )
    frame = read_candles(path)
    assert list(frame["date"].dt.day) == [2, 1, 1]
    assert frame["close"].tolist() == [0.0, 1.0, 1.0]
    assert frame["high"].isna().tolist() == [False, True, True]


def test_names_may_be_upper_case_and_further_columns_are_left(tmp_path):
    path = write(
        tmp_path / "A.csv",
        "\ufeffDate,Open,High,Low,Close,Adj Close,Volume\n2024-01-01,1,2,3,4,5,6\n",
    )
    assert read_candles(path).iloc[0, 1:].tolist() == [1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01", "2024-03-01"),
        ("2024-03-01 09:15:00", "2024-03-01 09:15"),
        ("2024-03-01T09:15:00+07:00", "2024-03-01 02:15"),
        ("1709251200000", "2024-03-01"),
    ],
)
def test_dates_become_utc(tmp_path, text, expected):
    frame = read_candles(csv(tmp_path / "A.csv", f"{text},1,1,1,1,1"))
    assert frame["date"].iloc[0] == pd.Timestamp(expected, tz="UTC")
    assert str(frame["date"].dtype) == "datetime64[ms, UTC]"


@pytest.mark.parametrize("text", ["03/01/2012", "20120103", "1709251200", "", "soon"])
def test_a_date_that_is_none_is_refused_with_its_row(tmp_path, text):
    path = csv(tmp_path / "A.csv", f"{text},1,1,1,1,1")
    with pytest.raises(DataError, match=r"A.csv: the date .* of row 1 is none: write 2012-01-03"):
        read_candles(path)


def test_a_number_that_is_none_is_refused_with_its_date(tmp_path):
    path = csv(tmp_path / "A.csv", '2024-01-01,1,1,1,"1,5",1')
    with pytest.raises(DataError, match=r"close of 2024-01-01 .* is '1,5', no number"):
        read_candles(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as csv"),
        ("date,open,high,low,close,volume\n", "holds no rows"),
        ("date,open,high,low,price,volume\n2024-01-01,1,1,1,1,1\n", "no column close"),
        ("time,open\n1,2\n", "needs one column named date; the file has time, open"),
    ],
)
def test_a_file_that_holds_no_candles_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_candles(write(tmp_path / "A.csv", text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["feather", "parquet"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, suffix):
    path = write(tmp_path / f"A.{suffix}", "no such thing")
    with pytest.raises(DataError, match=f"cannot be read as {suffix}") as caught:
        read_candles(path)
    assert "\n" not in str(caught.value)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    candles(days(3)).to_feather(tmp_path / "A.feather")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"\[research\]"):
        read_candles(tmp_path / "A.feather")


def test_a_table_keeps_all_its_columns(tmp_path):
    frame = pd.DataFrame({"%-rsi": [0.5], "date": days(1), "&-return": [0.1]})
    frame.to_parquet(tmp_path / "A.parquet")
    assert list(read_table(tmp_path / "A.parquet").columns) == ["date", "%-rsi", "&-return"]


def test_the_calendar_is_the_union_of_dates():
    weekdays = days(20, freq="B")
    frames = {"a": candles(weekdays[:12]), "b": candles(weekdays[8:].delete(2))}
    assert union_calendar(frames).equals(weekdays.rename("date"))


def test_an_outage_belongs_to_the_calendar_of_a_market_that_never_closes():
    hours = days(24 * 20, freq="h")
    calendar = union_calendar({"a": candles(hours.delete([100, 101, 102]))})
    assert calendar.equals(hours.rename("date"))


def test_months_and_weeks_make_no_market_that_never_closes():
    months = days(40, freq="MS")
    assert len(union_calendar({"a": candles(months.delete(5))})) == 39
    weeks = days(40, freq="W-SUN")
    assert len(union_calendar({"a": candles(weeks.delete(5))})) == 39


def test_a_calendar_needs_candles():
    with pytest.raises(DataError, match="no candles"):
        union_calendar({"a": candles(days(0))})
    with pytest.raises(DataError, match="two dates"):
        bars_per_year(days(1))


@pytest.mark.parametrize(
    ("freq", "count", "expected"), [("5min", 1000, 365.2425 * 288), ("h", 500, 8765.82)]
)
def test_bars_per_year_follow_from_the_calendar(freq, count, expected):
    assert bars_per_year(days(count, freq=freq)) == pytest.approx(expected)


def test_a_bar_is_as_long_as_most_are():
    assert bar_length(days(10, freq="B")) == pd.Timedelta(days=1)
    assert bar_length(days(10, freq="15min")) == pd.Timedelta(minutes=15)


def test_a_hash_tells_contents_apart_and_nothing_else():
    frame = candles(days(4), [1.0, np.nan, 0.0, 4.0])
    hashed = content_hash(frame)
    assert content_hash(frame[list(reversed(COLUMNS))]) == hashed
    assert content_hash(frame.assign(date=frame["date"].dt.tz_convert("Asia/Tokyo"))) == hashed
    assert content_hash(frame.assign(close=[1.0, np.nan, -0.0, 4.0])) == hashed
    assert content_hash(frame.assign(close=[1.0, np.nan, 0.0, np.nextafter(4.0, 5)])) != hashed
    assert content_hash(frame.rename(columns={"open": "opened"})) != hashed
    assert content_hash(frame.assign(date=days(4, "2024-01-02"))) != hashed
    assert content_hash(frame[:3]) != hashed


def test_an_end_includes_its_whole_day():
    frame = candles(days(72, freq="h"))
    assert between(frame, "2024-01-02", "2024-01-02")["date"].dt.day.tolist() == [2] * 24
    assert len(between(frame, None, "2024-01-01T05:00")) == 6
    # Some of these would be another moment in each run.
    for text in ("soon", "now", "today", "12:00", "NaT", "2024-13-01"):
        with pytest.raises(DataError, match=f"'{text}' is no date"):
            between(frame, text, None)


@pytest.mark.skipif("FREQAI_LSTM_CANDLES" not in os.environ, reason="no real candles")
def test_real_hourly_candles_have_the_bars_of_a_year():
    files = find_files(Path(os.environ["FREQAI_LSTM_CANDLES"]), timeframe="1h")
    frames = {file.symbol: read_candles(file.path) for file in files}
    assert bars_per_year(union_calendar(frames)) == pytest.approx(8765.82)
