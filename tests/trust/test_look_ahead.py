"""No prediction and no weight knows a candle that came later."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR, WINDOW
from tests.freqai.walk import PER_DAY, ClassStrategy, SmallStrategy, backtest, weights
from tests.trust.cases import CASES, ONE_NET

DAYS = 5
TRAIN_DAYS = 2
FIRST = TRAIN_DAYS * PER_DAY


@pytest.fixture(scope="module")
def market():
    return synthetic_market([PAIR], "15m", DAYS * PER_DAY, seed=1)[PAIR]


@pytest.fixture(scope="module")
def original(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    predicted, _ = backtest(folder, market)
    return predicted, weights(folder)


def disturbed(market: pd.DataFrame, first: int, how: str, seed: int) -> pd.DataFrame:
    """Change every candle from row `first` on."""
    rng = np.random.default_rng(seed)
    changed = market.copy()
    n = len(market) - first
    prices = ["open", "high", "low", "close"]
    if how == "prices":
        factor = np.exp(np.cumsum(rng.normal(0, 0.05, n)))
        changed.loc[first:, prices] = changed.loc[first:, prices].mul(factor, axis=0)
    elif how == "volume":
        changed.loc[first:, "volume"] *= rng.uniform(0.01, 100, n)
    elif how == "missing values":
        changed.loc[first:, "volume"] = np.nan
    elif how == "missing candles":
        kept = np.r_[np.ones(first, dtype=bool), rng.random(n) > 0.3]
        # Without the newest candle the backtest would end a slice earlier.
        kept[-1] = True
        changed = changed[kept].reset_index(drop=True)
    return changed


def trained_by(row: int) -> int:
    """Count the trainings that were over when candle `row` was the first unknown one."""
    return 0 if row < FIRST else (row - FIRST) // PER_DAY + 1


DISTURBANCES = given(
    row=st.integers(FIRST + 1, DAYS * PER_DAY - 1),
    how=st.sampled_from(["prices", "volume", "missing values", "missing candles"]),
    seed=st.integers(0, 1000),
)
UNHURRIED = {"suppress_health_check": list(HealthCheck)}


def assert_the_past_stays(
    market, original, row, how, seed, strategy=SmallStrategy, tolerance=1e-9, **changes
):
    before, weights_before = original
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        after, _ = backtest(folder, disturbed(market, row, how, seed), strategy, **changes)
        weights_after = weights(folder)
    columns = [name for name in before if name not in market]
    pd.testing.assert_frame_equal(
        after[columns].iloc[:row],
        before[columns].iloc[:row],
        check_exact=False,
        rtol=0,
        atol=tolerance,
    )
    known = sorted(weights_before)[: trained_by(row)]
    assert known
    assert {name: weights_after.get(name) for name in known} == {
        name: weights_before[name] for name in known
    }


@settings(max_examples=20, **UNHURRIED)
@DISTURBANCES
def test_a_later_candle_changes_no_earlier_prediction_and_no_earlier_weight(
    market, original, row, how, seed
):
    """Catches a window, a scaling, a label or a training that reaches past its candle."""
    assert_the_past_stays(market, original, row, how, seed)


TRAINING = "freqai__model_training_parameters__trainer_kwargs"
KINDS = {
    "interval": (SmallStrategy, {f"{TRAINING}__interval": 0.8}),
    "quantiles": (
        SmallStrategy,
        {f"{TRAINING}__interval": 0.8, f"{TRAINING}__loss": "quantile"},
    ),
    # The round-off of probabilities is that of numbers about 1, not of returns.
    "classes": (ClassStrategy, {"freqaimodel": "LeaLSTMClassifier", "tolerance": 1e-6}),
    # So is that of an ensemble's weights.
    **{
        case.name: (SmallStrategy, {**case.changes, "tolerance": 1e-6})
        for case in CASES
        if case is not ONE_NET
    },
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, market, tmp_path_factory):
    strategy, changes = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    settings = {key: value for key, value in changes.items() if key != "tolerance"}
    predicted, _ = backtest(folder, market, strategy, **settings)
    return (predicted, weights(folder)), strategy, changes


@settings(max_examples=5, **UNHURRIED)
@DISTURBANCES
def test_a_later_candle_changes_no_earlier_interval_and_no_earlier_class(
    market, kind, row, how, seed
):
    """Catches a calibration, a class or its weight, or that of a member, that knows a later one."""
    original, strategy, changes = kind
    assert_the_past_stays(market, original, row, how, seed, strategy, **changes)


def test_the_disturbance_is_seen_by_later_predictions(market, original):
    """Makes sure that the test above compares anything: later predictions do change."""
    before, _ = original
    row = FIRST + 20
    with tempfile.TemporaryDirectory() as name:
        after, _ = backtest(Path(name), disturbed(market, row, "volume", 0))
    changed = (after["&-return"] - before["&-return"]).abs().to_numpy() > 1e-9
    assert changed[row : row + WINDOW].any()
    assert changed[FIRST + PER_DAY :].mean() > 0.9


class Oracle(SmallStrategy):
    """Adds the label itself as a feature, `lag` candles after it is known at the earliest."""

    lag = 0

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        rng = np.random.default_rng(5)
        label = pd.Series(rng.normal(size=len(dataframe)), index=dataframe.index)
        # The newest row that may know label r is r + lag.
        return dataframe.assign(**{"%-oracle": label.shift(self.lag).fillna(0.0), "hidden": label})

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe.assign(**{"&-return": dataframe["hidden"]})


class FromOldestRow(Oracle):
    """The label r stands in the oldest row that the window of candle r + W - 1 holds."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe.assign(**{"&-return": dataframe["hidden"].shift(WINDOW - 1)})


class BeforeTheWindow(Oracle):
    """The label stands one row before the oldest row of the window."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe.assign(**{"&-return": dataframe["hidden"].shift(WINDOW)})


class NextRow(Oracle):
    """The label stands in the row after the newest of the window."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe.assign(**{"&-return": dataframe["hidden"].shift(-1)})


@pytest.mark.parametrize(
    ("strategy", "is_learned"),
    [(Oracle, True), (FromOldestRow, True), (BeforeTheWindow, False), (NextRow, False)],
)
def test_an_oracle_inside_the_window_is_learned_and_one_candle_outside_is_not(
    tmp_path, market, record_figure, strategy, is_learned
):
    """Catches windows that end a candle early or late, in training and in prediction alike."""
    long = synthetic_market([PAIR], "15m", 9 * PER_DAY, seed=2)[PAIR]
    predicted, model = backtest(
        tmp_path,
        long,
        strategy,
        train_days=7,
        slice_days=2,
        freqai__model_training_parameters__learning_rate=0.02,
        freqai__model_training_parameters__trainer_kwargs__n_epochs=40,
        freqai__model_training_parameters__trainer_kwargs__patience=10,
        freqai__model_training_parameters__model_kwargs={"hidden_dim": 16, "n_layer": 1},
    )
    rows = predicted["do_predict"].to_numpy() == 1
    built = strategy(model.config)
    labelled = built.set_freqai_targets(built.feature_engineering_standard(long.copy(), {}), {})
    known = rows & labelled["&-return"].notna().to_numpy()
    assert known.sum() > 180
    found = np.corrcoef(predicted["&-return"][known], labelled["&-return"][known])[0, 1]
    record_figure(f"oracle: correlation, {strategy.__name__}", f"{found:+.2f}")
    # Three deviations of a correlation of 190 independent rows about 0.
    assert found > 0.8 if is_learned else abs(found) < 0.22
