"""The strategies for classes and for both sides, which share the rules of LeaFreqAIStrategy."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.strategy import IStrategy

from .conftest import FakeProvider, load_strategy, make_candles

CLASSES = ["down", "flat", "up"]


def build(name, config):
    built = getattr(load_strategy(name), name)(copy.deepcopy(config))
    built.dp = FakeProvider()
    built.ft_load_hyper_params(False)
    return built


@pytest.fixture
def direction(config):
    return build("LeaDirectionStrategy", config)


@pytest.fixture
def row():
    """An analyzed candle at which every gate is open for a long trade."""
    return pd.DataFrame(
        {
            "date": [pd.Timestamp("2025-06-02 10:00", tz="UTC")],
            "close": [100.0],
            "volume": [10.0],
            "volume_mean": [10.0],
            "&-direction": ["up"],
            "down": [0.1],
            "flat": [0.2],
            "up": [0.7],
            "do_predict": [1],
            "expected_return": [0.006],
            "btc_trend": [1.0],
        }
    )


def test_each_candle_is_named_by_what_follows_it(direction):
    direction.freqai = SimpleNamespace()
    candles = make_candles(600)
    named = direction.set_freqai_targets(candles, {"pair": "ETH/USDT"})["&-direction"]
    assert direction.freqai.class_names == CLASSES
    assert named.iloc[-direction.horizon :].isna().all()
    known = named.dropna()
    coming = candles["close"].shift(-direction.horizon) / candles["close"] - 1
    assert (coming[known.index][known == "up"] > 0).all()
    assert (coming[known.index][known == "down"] < 0).all()
    # No class is so rare that a model would never choose it.
    assert known.value_counts(normalize=True).loc[CLASSES].min() > 0.15


def test_the_expected_move_is_that_of_the_likelier_side(direction, row):
    assert direction.forecast(row).iloc[0] == pytest.approx(0.6)
    assert np.isnan(direction.forecast(row.drop(columns="up")).iloc[0])


@pytest.mark.parametrize(
    ("change", "shut"),
    [
        ({}, []),
        ({"up": 0.44}, ["likely"]),
        ({"up": np.nan}, ["likely"]),
        ({"do_predict": 0}, ["trusted"]),
        ({"expected_return": 0.002}, ["profitable"]),
    ],
)
def test_a_likely_rise_that_pays_is_an_entry(direction, row, change, shut):
    gates = direction.entry_gates(row.assign(**change)).iloc[0]
    assert list(gates.index[~gates]) == shut
    frame = direction.populate_entry_trend(row.assign(**change), {"pair": "ETH/USDT"})
    assert ("enter_long" in frame and frame["enter_long"].eq(1).any()) == (not shut)


@pytest.mark.parametrize(
    ("change", "leaves"),
    [
        ({}, False),
        ({"&-direction": "flat"}, False),
        ({"&-direction": "down"}, True),
        ({"&-direction": "down", "do_predict": 0}, False),
    ],
)
def test_the_opposite_class_is_an_exit(direction, row, change, leaves):
    frame = direction.populate_exit_trend(row.assign(**change), {"pair": "ETH/USDT"})
    assert ("exit_long" in frame and frame["exit_long"].eq(1).any()) == leaves


@pytest.mark.parametrize(("up", "share"), [(0.45, 0.4), (0.6, 0.7), (0.75, 1.0), (0.95, 1.0)])
def test_the_stake_grows_with_the_probability(direction, row, up, share):
    assert direction.stake_share(row.assign(up=up).iloc[0]) == pytest.approx(share)


def test_every_plotted_column_of_classes_exists(direction):
    direction.dp.candles["BTC/USDT", "5m"] = make_candles(300, seed=1)
    predicted = {"&-direction": "up", "down": 0.1, "flat": 0.2, "up": 0.7, "do_predict": 1}
    direction.freqai = SimpleNamespace(start=lambda frame, *_: frame.assign(**predicted))
    frame = direction.populate_indicators(make_candles(300), {"pair": "ETH/USDT"})
    frame = direction.populate_entry_trend(frame, {"pair": "ETH/USDT"})
    frame = direction.populate_exit_trend(frame, {"pair": "ETH/USDT"})
    plotted = {name for plot in direction.plot_config["subplots"].values() for name in plot}
    assert plotted <= set(frame.columns)


def test_both_sides_are_traded_on_futures_and_btcs_future_gates_them(config):
    config["trading_mode"] = TradingMode.FUTURES
    strategy = build("LeaLongShortStrategy", config)
    assert strategy.can_short
    assert strategy.sides == ("long", "short")
    assert strategy.informative_pairs() == [("BTC/USDT:USDT", "5m")]


class BaseClassifierModel:
    """Named as the base of FreqAI's classifiers."""


class BaseRegressionModel:
    """Named as the base of FreqAI's regressors."""


class SomeClassifier(BaseClassifierModel):
    pass


class SomeRegressor(BaseRegressionModel):
    pass


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("LeaFreqAIStrategy", SomeRegressor, None),
        ("LeaFreqAIStrategy", object, None),
        ("LeaDirectionStrategy", SomeClassifier, None),
        (
            "LeaFreqAIStrategy",
            SomeClassifier,
            "LeaFreqAIStrategy needs numbers, .* predicts classes: choose .* LeaLSTMRegressor",
        ),
        (
            "LeaDirectionStrategy",
            SomeRegressor,
            "LeaDirectionStrategy needs classes, .* predicts numbers: choose .* LeaLSTMClassifier",
        ),
    ],
)
def test_a_model_that_answers_something_else_is_refused(config, monkeypatch, name, model, message):
    strategy = build(name, config)
    monkeypatch.setattr(
        IStrategy, "load_freqAI_model", lambda self: setattr(self, "freqai", model())
    )
    if message is None:
        strategy.load_freqAI_model()
        return
    with pytest.raises(OperationalException, match=message) as error:
        strategy.load_freqAI_model()
    assert "\n" not in str(error.value)
