"""Alpha158: qlib's numbers where they are asked for, and sound ones where not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.alpha158 import neutral_table
from benchmarks.expressions import Slow, expressions, slow_alpha158
from freqai_lstm_plugins.features import ALPHA158_20, alpha158
from freqai_lstm_plugins.features.alpha158 import NEUTRAL, feature_names, neutral_value
from freqai_lstm_plugins.features.candles import read_candles
from tests.features.market import PRICES, make_candles, with_warts

ROOT = Path(__file__).parents[2]
GOLDEN = os.environ.get("FREQAI_LSTM_GOLDEN")
CANDLES = os.environ.get("FREQAI_LSTM_CANDLES")
VOLUME_ALONE = ("VMA", "VSTD", "WVMA", "VSUM")
seeds = st.integers(0, 10_000)


def assert_alike(found, expected, rtol=1e-6, atol=1e-8):
    assert list(found.columns) == list(expected.columns)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol, atol, err_msg=name)


def test_names_and_order_are_qlibs():
    names = list(alpha158(make_candles(3)).columns)
    assert names == list(expressions())
    assert len(names) == 158
    assert names[:3] == ["KMID", "KLEN", "KMID2"]
    assert names[12:15] == ["VWAP0", "ROC5", "ROC10"]
    assert names[-1] == "VSUMD60"


@pytest.mark.skipif(GOLDEN is None, reason="FREQAI_LSTM_GOLDEN names no folder")
@pytest.mark.parametrize("symbol", ["AAA", "BBB"])
def test_the_golden_pair_is_matched(symbol):
    folder = Path(GOLDEN)
    table = pd.read_parquet(folder / "alpha158_qlib097.parquet").set_index("datetime")
    expected = table[table["instrument"] == symbol].filter(regex=r"^feature\.")
    expected.columns = expected.columns.str.removeprefix("feature.")
    candles = pd.read_csv(folder / "csv" / f"{symbol}.csv", index_col="date", parse_dates=True)
    found = alpha158(candles.reindex(expected.index), qlib_compatible=True)
    assert_alike(found, expected.astype(float), rtol=1e-6, atol=0)


@pytest.mark.skipif(GOLDEN is None, reason="FREQAI_LSTM_GOLDEN names no folder")
def test_the_table_of_expressions_is_that_of_the_golden_pair():
    table = pd.read_csv(Path(GOLDEN) / "alpha158_expressions.csv")
    assert dict(zip(table["name"], table["expr"], strict=True)) == expressions()


@pytest.mark.parametrize("qlib_compatible", [False, True])
@pytest.mark.parametrize("price", [100.0, 1e-6])
def test_the_slow_way_gives_the_same(price, qlib_compatible):
    if qlib_compatible and price < 1:
        # float32 and 1e-12 make noise of such prices, on both sides another.
        price = 0.5
    candles = with_warts(make_candles(260, price=price)).drop(columns="date")
    found = alpha158(candles, qlib_compatible=qlib_compatible)
    slow = slow_alpha158(candles, qlib_compatible=qlib_compatible, exact=True)
    assert_alike(found, slow, atol=1e-7 if qlib_compatible else 1e-8)


@pytest.mark.slow
@pytest.mark.skipif(CANDLES is None, reason="FREQAI_LSTM_CANDLES names no folder")
@pytest.mark.parametrize(("divisor", "qlib_compatible"), [(1, False), (10_000, False), (1, True)])
def test_the_slow_way_gives_the_same_on_real_candles(divisor, qlib_compatible):
    files = sorted(Path(CANDLES).glob("*-1h.feather"))
    files += sorted((Path(CANDLES).parent / "vn30").glob("*.csv"))
    assert files
    for file in files:
        read = pd.read_feather if file.suffix == ".feather" else pd.read_csv
        candles = read(file)[[*PRICES, "volume"]].tail(500).reset_index(drop=True)
        candles[PRICES] /= divisor
        found = alpha158(candles, qlib_compatible=qlib_compatible)
        slow = slow_alpha158(candles, qlib_compatible=qlib_compatible, exact=True)
        assert_alike(found, slow, atol=1e-7 if qlib_compatible else 1e-8)


def test_a_window_that_is_not_full_gives_nan():
    found = alpha158(make_candles(62))
    first = found.notna().to_numpy().argmax(axis=0)
    known = dict(zip(found.columns, first, strict=True))
    assert {known[name] for name in found.columns[:13]} == {0}
    for window in (5, 10, 20, 30, 60):
        for stem in ("MA", "STD", "BETA", "RSQR", "RESI", "MAX", "MIN", "QTLU", "RANK", "RSV"):
            assert known[f"{stem}{window}"] == window - 1
        for stem in ("CORR", "VMA", "VSTD", "IMAX", "IMIN", "IMXD"):
            assert known[f"{stem}{window}"] == window - 1
        for stem in ("ROC", "CORD", "CNTP", "CNTD", "SUMP", "SUMD", "WVMA", "VSUMP", "VSUMD"):
            assert known[f"{stem}{window}"] == window


def test_qlib_fills_windows_from_the_first_candle_on():
    found = alpha158(make_candles(62), qlib_compatible=True)
    assert found["MA60"].iloc[0] == pytest.approx(1.0)
    assert found["ROC60"].isna().sum() == 60
    assert found.iloc[0].notna().sum() == 83


def test_the_moves_of_a_coin_far_below_a_cent_are_seen():
    candles = make_candles(100, price=1e-6)
    wiped = alpha158(candles, (10,), qlib_compatible=True)[["RSQR10", "CORR10"]]
    kept = alpha158(candles, (10,))[["RSQR10", "CORR10"]]
    assert wiped.isna().all().all()
    assert kept.iloc[10:].notna().all().all()


def test_a_flat_window_has_no_relation():
    candles = make_candles(120)
    candles.loc[40:80, PRICES] = 100.0
    found = alpha158(candles, (10,))
    assert found.loc[50:80, ["RSQR10", "CORR10", "CORD10"]].isna().all().all()
    assert (found.loc[50:80, ["STD10", "BETA10", "RESI10", "RSV10", "KMID2", "SUMD10"]] == 0).all(
        axis=None
    )


def test_a_window_that_is_constant_but_for_round_off_has_no_relation():
    candles = make_candles(60)
    # The same growth from candle to candle, to the last bits.
    close = 100 * 1.001 ** np.arange(60)
    candles[PRICES] = np.column_stack([close, close, close, close])
    assert len(np.unique(close[1:] / close[:-1])) > 1
    found = alpha158(candles, (10,))
    assert found["CORD10"].isna().all()
    assert found["RSQR10"].iloc[9:].notna().all()


def test_a_bar_without_volume_gives_nan_and_a_huge_number_in_qlib():
    candles = make_candles(100)
    candles.loc[90, "volume"] = 0.0
    names = [name for name in feature_names() if name.startswith(("VMA", "VSTD"))]
    assert alpha158(candles, names=names).loc[90].isna().all()
    assert alpha158(candles, names=names).loc[91, "VMA5":"VMA60"].notna().all()
    assert (alpha158(candles, names=names, qlib_compatible=True).loc[90] > 1e12).all()


def test_the_price_weighted_by_volume_is_taken_where_it_is_known():
    candles = make_candles(5)
    typical = (candles["high"] + candles["low"] + candles["close"]) / 3
    np.testing.assert_allclose(alpha158(candles)["VWAP0"], typical / candles["close"])
    candles["vwap"] = candles["low"]
    np.testing.assert_array_equal(alpha158(candles)["VWAP0"], candles["low"] / candles["close"])


def test_names_choose_features_and_their_order():
    candles = make_candles(80)
    chosen = alpha158(candles, names=ALPHA158_20)
    assert tuple(chosen.columns) == ALPHA158_20
    workflow = (ROOT / "examples" / "qlib" / "vn30.yaml").read_text(encoding="utf-8")
    listed = workflow.partition("col_list: [")[2].partition("]")[0]
    assert listed.replace(",", " ").split() == list(ALPHA158_20)
    assert len(set(ALPHA158_20)) == 20
    pd.testing.assert_frame_equal(chosen, alpha158(candles)[list(ALPHA158_20)])


def test_windows_choose_features():
    found = alpha158(make_candles(80), (7, 3))
    assert list(found.columns) == feature_names((7, 3))
    assert len(found.columns) == 13 + 2 * 29
    assert found["MA7"].first_valid_index() == 6


def test_the_index_is_the_frames():
    candles = make_candles(70).set_index("date")
    pd.testing.assert_index_equal(alpha158(candles).index, candles.index)


def test_neutral_values_stand_inside_the_history_alone():
    candles = with_warts(make_candles(320))
    plain, neutral = alpha158(candles), alpha158(candles, missing="neutral")
    pd.testing.assert_frame_equal(plain.iloc[:60], neutral.iloc[:60])
    assert neutral.iloc[60:].notna().all().all()
    was_known = plain.notna()
    pd.testing.assert_frame_equal(neutral.where(was_known), plain)
    for name in plain.columns[plain.iloc[60:].isna().any()]:
        filled = neutral[name].iloc[60:][plain[name].iloc[60:].isna()]
        assert set(filled) == {neutral_value(name)}


def test_every_feature_has_a_neutral_value():
    stems = [name if name in NEUTRAL else name.rstrip("0123456789") for name in feature_names()]
    assert set(stems) == set(NEUTRAL)
    assert neutral_value("CORR60") == neutral_value("RSQR5") == 0
    assert neutral_value("OPEN0") == neutral_value("MA5") == 1
    assert neutral_value("RANK10") == 0.5
    assert neutral_value("KMID2") == 0
    assert neutral_table() in (ROOT / "docs" / "alpha158.md").read_text(encoding="utf-8")


@given(seed=seeds, factor=st.floats(1e-6, 1e6))
@settings(max_examples=20)
def test_scaling_all_prices_changes_nothing(seed, factor):
    candles = with_warts(make_candles(160, seed))
    scaled = candles.assign(**{name: candles[name] * factor for name in PRICES})
    assert_alike(alpha158(scaled), alpha158(candles), rtol=1e-6, atol=1e-9)


@given(seed=seeds, factor=st.floats(1e-3, 1e6))
@settings(max_examples=20)
def test_scaling_all_volumes_changes_only_the_correlation_with_its_logarithm(seed, factor):
    candles = with_warts(make_candles(160, seed))
    scaled = candles.assign(volume=candles["volume"] * factor)
    names = [name for name in feature_names() if not name.startswith("CORR")]
    assert_alike(alpha158(scaled, names=names), alpha158(candles, names=names), atol=1e-9)


@given(seed=seeds, row=st.integers(1, 159))
@settings(max_examples=20)
@pytest.mark.parametrize("qlib_compatible", [False, True])
def test_a_later_candle_changes_no_earlier_value(qlib_compatible, seed, row):
    candles = with_warts(make_candles(160, seed))
    changed = candles.copy()
    changed.loc[row:, [*PRICES, "volume"]] *= 7
    before, after = (alpha158(each, qlib_compatible=qlib_compatible) for each in (candles, changed))
    pd.testing.assert_frame_equal(before.iloc[:row], after.iloc[:row], check_exact=True)


def test_a_look_into_the_future_would_be_noticed():
    slow, changed = make_candles(30), make_candles(30)
    changed.loc[20:, PRICES] *= 7
    before, after = (Slow(each.drop(columns="date")) for each in (slow, changed))
    text = "Ref($close, -2)/$close"
    difference = before.evaluate("AHEAD", text) != after.evaluate("AHEAD", text)
    assert difference.iloc[:20].any()


@given(seed=seeds, end=st.integers(62, 200), missing=st.sampled_from(["nan", "neutral"]))
@settings(max_examples=20)
def test_the_newest_row_needs_the_last_61_candles_and_no_more(seed, end, missing):
    candles = with_warts(make_candles(200, seed)).iloc[:end]
    whole = alpha158(candles, missing=missing).iloc[-1:]
    late = alpha158(candles.iloc[-61:], missing=missing).iloc[-1:]
    pd.testing.assert_frame_equal(whole, late, check_exact=True)


@given(seed=seeds, start=st.integers(1, 150), length=st.integers(1, 100))
@settings(max_examples=20)
@pytest.mark.parametrize("qlib_compatible", [False, True])
def test_a_gap_counts_as_candles_with_unknown_values(qlib_compatible, seed, start, length):
    candles = make_candles(320, seed)
    gap = candles.index[start : start + length]
    unknown = candles.copy()
    unknown.loc[gap, [*PRICES, "volume"]] = np.nan
    arguments = {"qlib_compatible": qlib_compatible, "missing": "neutral"}
    found = alpha158(candles.drop(index=gap), step="5m", **arguments)
    expected = alpha158(unknown, **arguments).drop(index=gap)
    pd.testing.assert_frame_equal(found.iloc[:start], expected.iloc[:start], check_exact=True)
    late = slice(start + 61, None)
    pd.testing.assert_frame_equal(found.iloc[late], expected.iloc[late], check_exact=True)
    if length <= 60:
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_without_a_step_candles_follow_each_other():
    candles = make_candles(100)
    gone = candles.drop(index=range(40, 50))
    pd.testing.assert_frame_equal(alpha158(gone), alpha158(gone.drop(columns="date")))
    assert alpha158(gone)["MA5"].notna().sum() > alpha158(gone, step="5m")["MA5"].notna().sum()


def test_a_gap_of_years_takes_no_memory():
    candles = make_candles(200)
    candles.loc[100:, "date"] += pd.Timedelta(days=1000)
    assert len(read_candles(candles, longest=60, step="5m").close) == 200 + 60
    found = alpha158(candles, step="5m")
    assert found["MA60"].iloc[100:159].isna().all()
    assert found["MA60"].iloc[159:].notna().all()


def test_the_frame_is_left_as_it_was():
    candles = with_warts(make_candles(90))
    before = candles.copy()
    alpha158(candles, missing="neutral", step="5m")
    alpha158(candles, qlib_compatible=True)
    pd.testing.assert_frame_equal(candles, before)
