from __future__ import annotations

import logging
from datetime import UTC, timedelta
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import RunMode

from .conftest import make_candles

LABEL = "&-forward_return"
LOWER, UPPER = f"{LABEL}_lower", f"{LABEL}_upper"
GATES = ["trusted", "profitable", "trend", "volume", "unusual"]


@pytest.fixture
def row():
    """An analyzed candle at which every gate is open."""
    return pd.DataFrame(
        {
            "date": [pd.Timestamp("2025-06-02 10:00", tz="UTC")],
            "close": [100.0],
            "volume": [10.0],
            "volume_mean": [10.0],
            LABEL: [2.0],
            f"{LABEL}_mean": [0.0],
            f"{LABEL}_std": [0.5],
            "do_predict": [1],
            "volatility": [0.01],
            "expected_return": [0.02],
            "atr": [0.002],
            "btc_trend": [1.0],
        }
    )


def confirm(strategy, row, minutes=5, rate=100.0):
    strategy.dp.analyzed = row
    now = row["date"].iloc[-1] + timedelta(minutes=minutes)
    return strategy.confirm_trade_entry(
        "ETH/USDT", "limit", 1.0, rate, "GTC", now.to_pydatetime(), "prediction", "long"
    )


def stake(strategy, row, proposed=100.0, min_stake=5.0, max_stake=1000.0):
    strategy.dp.analyzed = row
    now = row["date"].iloc[-1] + timedelta(minutes=5)
    return strategy.custom_stake_amount(
        "ETH/USDT", now, 100.0, proposed, min_stake, max_stake, 1.0, "prediction", "long"
    )


def entries(strategy, row):
    frame = strategy.populate_entry_trend(row.copy(), {"pair": "ETH/USDT"})
    return frame.get("enter_long", pd.Series(np.nan, index=frame.index)).eq(1).tolist()


def test_open_gates_are_an_entry(strategy, row):
    assert strategy.entry_gates(row).iloc[0].to_dict() == dict.fromkeys(GATES, True)
    assert entries(strategy, row) == [True]
    assert confirm(strategy, row)


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("trusted", {"do_predict": 0}),
        ("trusted", {"do_predict": 2}),
        ("profitable", {"expected_return": 0.0024}),
        ("profitable", {"expected_return": np.nan}),
        ("unusual", {LABEL: 0.5}),
        ("unusual", {f"{LABEL}_mean": 1.6}),
        ("unusual", {f"{LABEL}_std": 0.0}),
        ("unusual", {LABEL: np.nan}),
        ("trend", {"btc_trend": -8.1}),
        ("trend", {"btc_trend": np.nan}),
        ("volume", {"volume": 2.9}),
        ("volume", {"volume": 0.0, "volume_mean": 0.0}),
    ],
)
def test_one_shut_gate_prevents_an_entry(strategy, row, gate, change, caplog):
    row = row.assign(**change)
    gates = strategy.entry_gates(row).iloc[0]
    assert [name for name in GATES if not gates[name]] == [gate]
    assert entries(strategy, row) == [False]
    with caplog.at_level(logging.INFO):
        assert not confirm(strategy, row)
    assert f"shut gates: {gate}" in caplog.text


def test_no_prediction_columns_are_no_entry_and_no_exit(strategy):
    candles = make_candles(50)
    frame = strategy.populate_entry_trend(candles, {"pair": "ETH/USDT"})
    frame = strategy.populate_exit_trend(frame, {"pair": "ETH/USDT"})
    assert not frame.get("enter_long", pd.Series(dtype=float)).eq(1).any()
    assert not frame.get("exit_long", pd.Series(dtype=float)).eq(1).any()


def test_the_zeros_of_an_untrained_model_are_no_entry_and_no_exit(strategy, row):
    zeros = {LABEL: 0, f"{LABEL}_mean": 0, f"{LABEL}_std": 0, "do_predict": 0}
    row = row.assign(**zeros, expected_return=0.0)
    assert entries(strategy, row) == [False]
    frame = strategy.populate_exit_trend(row, {"pair": "ETH/USDT"})
    assert "exit_long" not in frame or not frame["exit_long"].eq(1).any()


@pytest.mark.parametrize(("minutes", "is_confirmed"), [(5, True), (10, True), (10.1, False)])
def test_a_stale_candle_confirms_no_entry(strategy, row, minutes, is_confirmed):
    assert confirm(strategy, row, minutes=minutes) is is_confirmed


def test_a_missing_frame_confirms_no_entry(strategy, row):
    strategy.dp.analyzed = pd.DataFrame()
    now = row["date"].iloc[-1] + timedelta(minutes=5)
    assert not strategy.confirm_trade_entry(
        "ETH/USDT", "limit", 1.0, 100.0, "GTC", now, None, "long"
    )


def test_a_price_that_has_run_away_confirms_no_entry(strategy, row):
    # Expected: 2 %; costs: 0.24 %. Above 101.76 too little of the move is left.
    assert confirm(strategy, row, rate=101.7)
    assert not confirm(strategy, row, rate=101.8)


def test_costs_are_fee_and_slippage_of_both_sides(module, config):
    assert module.LeaFreqAIStrategy(config).costs == pytest.approx(2 * (0.001 + 0.0002))
    assert module.LeaFreqAIStrategy({**config, "fee": 0}).costs == pytest.approx(0.0004)


def test_the_expected_return_is_the_prediction_times_the_volatility(module, strategy):
    candles = make_candles(300)
    strategy.dp.candles["BTC/USDT", "5m"] = make_candles(300, seed=1)

    def start(dataframe, metadata, strategy):
        return dataframe.assign(**{LABEL: 0.5, "do_predict": 1})

    strategy.freqai = SimpleNamespace(start=start)
    frame = strategy.populate_indicators(candles, {"pair": "ETH/USDT"})
    expected = 0.5 * module.volatility(candles, strategy.horizon)
    pd.testing.assert_series_equal(frame["expected_return"], expected, check_names=False)


@pytest.mark.parametrize("pair", ["BTC/USDT", "ETH/USDT"])
def test_the_trend_gate_sees_btc_at_the_same_candle(module, strategy, pair):
    btc = make_candles(300, seed=1)
    strategy.dp.candles["BTC/USDT", "5m"] = btc
    # A frame that begins later and has one candle more than BTC has yet.
    candles = make_candles(301).iloc[50:].reset_index(drop=True)
    if pair == "BTC/USDT":
        candles = btc.iloc[50:].reset_index(drop=True)
        expected = module.trend(candles)
    else:
        expected = pd.concat([module.trend(btc).iloc[50:], pd.Series([np.nan])])
    found = strategy._btc_trend(candles, pair)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_btc_the_pairs_own_trend_decides_and_one_warning_says_so(module, strategy, caplog):
    candles = make_candles(300)
    for _ in range(2):
        found = strategy._btc_trend(candles, "ETH/USDT")
    pd.testing.assert_series_equal(found, module.trend(candles))
    assert caplog.text.count("no candles of BTC/USDT") == 1


def test_the_stake_currency_btc_has_no_pair_to_ask_for(module, config):
    strategy = module.LeaFreqAIStrategy({**config, "stake_currency": "BTC"})
    assert strategy.informative_pairs() == []


@pytest.mark.parametrize(
    ("prediction", "share"),
    [(0.5, 0.4), (1.0, 0.7), (1.5, 1.0), (9.0, 1.0), (-1.0, 0.4), (np.nan, 0.4)],
)
def test_the_stake_grows_with_the_prediction(strategy, row, prediction, share):
    assert stake(strategy, row.assign(**{LABEL: prediction})) == pytest.approx(100 * share)


def test_the_stake_respects_the_bounds_of_the_exchange(strategy, row):
    assert stake(strategy, row, proposed=6.0, min_stake=5.0) == 6.0
    assert stake(strategy, row.assign(**{LABEL: 0.5}), proposed=6.0, min_stake=5.0) == 5.0
    assert stake(strategy, row, proposed=100.0, max_stake=70.0) == 70.0
    assert stake(strategy, row, proposed=100.0, min_stake=None) == 100.0
    assert stake(strategy, row, proposed=100.0, min_stake=80.0, max_stake=70.0) == 70.0


def test_the_stop_is_a_few_usual_moves_away(strategy, row):
    strategy.dp.analyzed = row
    trade = SimpleNamespace(open_date_utc=row["date"].iloc[0])
    now = row["date"].iloc[0] + timedelta(minutes=5)

    def distance():
        return strategy.custom_stoploss("ETH/USDT", trade, now, 100.0, 0.0, False)

    assert distance() == pytest.approx(-2.0 * 0.002 * np.sqrt(strategy.horizon))
    strategy.dp.analyzed = row.assign(atr=1.0)
    assert distance() == strategy.stoploss
    strategy.dp.analyzed = row.assign(atr=np.nan)
    assert distance() is None
    strategy.dp.analyzed = pd.DataFrame()
    assert distance() is None


@pytest.mark.parametrize(
    ("minutes", "profit", "reason"),
    [
        (120, 0.0, None),
        (239, 0.0, None),
        (240, 0.0, "horizon_passed"),
        # 3 moves of 0.002 * sqrt(24).
        (120, 0.0293, None),
        (120, 0.0294, "target_reached"),
    ],
)
def test_a_trade_ends_at_its_target_or_after_its_time(strategy, row, minutes, profit, reason):
    opened = row["date"].iloc[0]
    now = opened + timedelta(minutes=minutes)
    strategy.dp.analyzed = row.assign(date=now - timedelta(minutes=5))
    trade = SimpleNamespace(open_date_utc=opened)
    assert strategy.custom_exit("ETH/USDT", trade, now, 100.0, profit) == reason


@pytest.mark.parametrize(
    ("change", "leaves"),
    [
        ({LABEL: -0.6}, True),
        ({LABEL: -0.4}, False),
        ({LABEL: -0.6, "do_predict": 0}, False),
        ({LABEL: -0.6, f"{LABEL}_std": 0.0}, False),
    ],
)
def test_a_trusted_prediction_that_turns_is_an_exit(strategy, row, change, leaves):
    frame = strategy.populate_exit_trend(row.assign(**change), {"pair": "ETH/USDT"})
    assert ("exit_long" in frame and frame["exit_long"].eq(1).any()) == leaves


def test_durations_follow_the_timeframe(strategy):
    strategy.timeframe = "1m"
    assert strategy.candle == timedelta(minutes=1)
    assert strategy.informative_pairs() == [("BTC/USDT", "1m")]


@pytest.mark.parametrize("interval", [None, 0.8])
def test_every_plotted_column_exists(strategy, interval):
    training = strategy.config["freqai"]["model_training_parameters"]["trainer_kwargs"]
    training["interval"] = interval
    strategy.dp.candles["BTC/USDT", "5m"] = make_candles(300, seed=1)
    predicted = {LABEL: 0.5, f"{LABEL}_mean": 0.0, f"{LABEL}_std": 0.1, "do_predict": 1}
    if interval:
        predicted |= {LOWER: 0.1, UPPER: 0.9}
    strategy.freqai = SimpleNamespace(start=lambda frame, *_: frame.assign(**predicted))
    frame = strategy.populate_indicators(make_candles(300), {"pair": "ETH/USDT"})
    frame = strategy.populate_entry_trend(frame, {"pair": "ETH/USDT"})
    frame = strategy.populate_exit_trend(frame, {"pair": "ETH/USDT"})
    plotted = {name for plot in strategy.plot_config["subplots"].values() for name in plot}
    assert plotted <= set(frame.columns)
    assert ({LOWER, UPPER} <= plotted) == bool(interval)
    lines = [line for plot in strategy.plot_config["subplots"].values() for line in plot.values()]
    filled = {line["fill_to"] for line in lines if "fill_to" in line}
    assert filled == ({UPPER} if interval else set())


@pytest.mark.parametrize("runmode", [RunMode.DRY_RUN, RunMode.BACKTEST])
def test_new_candles_can_be_appended_to_candles_from_disk(strategy, runmode, tmp_path):
    new = make_candles(300)
    new["date"] = new["date"].astype(pd.DatetimeTZDtype("us", UTC))
    make_candles(200).to_feather(tmp_path / "candles.feather")
    old = pd.read_feather(tmp_path / "candles.feather")
    drawer = SimpleNamespace(history_lock=Lock(), historic_data={"ETH/USDT": {"5m": old}})
    strategy.dp.runmode = runmode
    strategy.freqai = SimpleNamespace(start=lambda frame, *_: frame, dd=drawer)
    strategy.populate_indicators(new.copy(), {"pair": "ETH/USDT"})
    aligned = drawer.historic_data["ETH/USDT"]["5m"]
    if runmode is RunMode.BACKTEST:
        assert aligned is old
        return
    joined = pd.concat([aligned, new.iloc[200:]], ignore_index=True)
    assert joined["date"].dtype == new["date"].dtype
    assert joined["date"].equals(new["date"])


@pytest.fixture
def sure(module, config, strategy):
    """A strategy that asks for 0.1 % above the costs of 0.24 % at the near end."""
    config["lea_strategy"]["interval_margin"] = 0.001
    built = module.LeaFreqAIStrategy(config)
    built.dp = strategy.dp
    built.ft_load_hyper_params(False)
    return built


@pytest.mark.parametrize(("lower", "is_entry"), [(0.35, True), (0.33, False), (np.nan, False)])
def test_the_lower_end_of_the_interval_must_pay_for_the_costs(sure, row, lower, is_entry):
    row = row.assign(**{LOWER: lower, UPPER: 3.0})
    assert entries(sure, row) == [is_entry]
    assert confirm(sure, row) is is_entry


def test_without_the_option_the_interval_does_not_count(strategy, row):
    row = row.assign(**{LOWER: -1.0, UPPER: 3.0})
    assert list(strategy.entry_gates(row)) == GATES
    assert entries(strategy, row) == [True]


def test_a_model_without_intervals_is_told_of_once_and_the_other_gates_decide(sure, row, caplog):
    for _ in range(2):
        assert entries(sure, row) == [True]
    assert caplog.text.count("the model predicts no intervals") == 1


@pytest.fixture
def agreeing(module, config, strategy):
    """A strategy that asks for members within half a volatility of each other."""
    config["lea_strategy"]["max_disagreement"] = 0.5
    built = module.LeaFreqAIStrategy(config)
    built.dp = strategy.dp
    built.ft_load_hyper_params(False)
    return built


@pytest.mark.parametrize(("spread", "is_entry"), [(0.4, True), (0.6, False), (np.nan, False)])
def test_members_that_disagree_by_more_than_asked_open_no_trade(agreeing, row, spread, is_entry):
    assert entries(agreeing, row.assign(**{f"{LABEL}_disagreement": spread})) == [is_entry]


def test_a_model_without_members_is_told_of_once_and_the_other_gates_decide(
    agreeing, strategy, row, caplog
):
    for _ in range(2):
        assert entries(agreeing, row) == [True]
    assert caplog.text.count("the model shows no disagreement") == 1
    # By default nobody asks.
    assert entries(strategy, row.assign(**{f"{LABEL}_disagreement": 9.0})) == [True]


def test_the_zeros_of_an_untrained_model_are_no_sure_entry(sure, row):
    zeros = {LABEL: 0, LOWER: 0, UPPER: 0, f"{LABEL}_std": 0, "do_predict": 0}
    assert entries(sure, row.assign(**zeros, expected_return=0.0)) == [False]


@pytest.mark.parametrize(("upper", "is_entry"), [(-0.35, True), (-0.33, False), (np.nan, False)])
def test_a_short_entry_is_a_long_one_turned_round(sure, row, upper, is_entry):
    sure.can_short = True
    row = row.assign(
        **{LABEL: -2.0, LOWER: -3.0, UPPER: upper}, expected_return=-0.02, btc_trend=-1.0
    )
    frame = sure.populate_entry_trend(row.copy(), {"pair": "ETH/USDT"})
    assert "enter_long" not in frame or not frame["enter_long"].eq(1).any()
    assert ("enter_short" in frame and frame["enter_short"].eq(1).all()) == is_entry
    sure.dp.analyzed = row
    now = (row["date"].iloc[-1] + timedelta(minutes=5)).to_pydatetime()

    def confirmed(rate):
        return sure.confirm_trade_entry("ETH/USDT", "limit", 1.0, rate, "GTC", now, None, "short")

    assert confirmed(100.0) is is_entry
    # Of the 2 % to be expected too little is left.
    assert not confirmed(98.2)
    assert sure.stake_share(row.iloc[0], "short") == 1.0
    turned = row.assign(**{LABEL: 0.6})
    frame = sure.populate_exit_trend(turned, {"pair": "ETH/USDT"})
    assert frame["exit_short"].eq(1).all()
    assert "exit_long" not in frame or not frame["exit_long"].eq(1).any()
