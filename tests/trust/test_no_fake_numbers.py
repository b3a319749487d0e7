"""Which candles have a prediction, counted over a backtest of many slices with holes cut in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.replay import aggregate, read_candles, synthetic_market
from tests.e2e.bot import real_candles
from tests.freqai.host import PAIR, WINDOW
from tests.freqai.walk import PER_DAY, SmallStrategy, backtest
from tests.trust.cases import CASES

DAYS = 14
TRAIN_DAYS = 3


def candles() -> pd.DataFrame:
    """Return 15m candles: real ones where the caller names some, made-up ones else."""
    folder = real_candles()
    if folder is not None:
        market = aggregate(read_candles(folder, [PAIR], "5m")[PAIR], "5m", "15m")
        days = market["date"].dt.floor("D")
        return market[days.isin(days.unique()[-DAYS - 1 : -1])].reset_index(drop=True)
    return synthetic_market([PAIR], "15m", DAYS * PER_DAY, seed=3)[PAIR]


class Holey(SmallStrategy):
    """The last candle of some hours has a feature that is missing or infinite."""

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        chance = np.random.default_rng(11).random(4000)
        # By time, so that a hole in the candles moves none of them.
        place = ((dataframe["date"].astype("int64") // 10**9) // 900 % 4000).to_numpy()
        drawn = chance[place.astype(int)]
        sparse = np.where(drawn < 0.004, np.nan, np.where(drawn < 0.008, -np.inf, drawn))
        return dataframe.assign(**{"%-sparse": sparse})


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave candles out at random, and fill others in as freqtrade does where none were traded."""
    rng = np.random.default_rng(7)
    drawn = rng.random(len(frame))
    frame = frame.copy()
    for row in np.flatnonzero((drawn > 0.01) & (drawn < 0.015)):
        if row:
            frame.loc[row, ["open", "high", "low", "close"]] = frame.loc[row - 1, "close"]
            frame.loc[row, "volume"] = 0.0
    return frame[drawn > 0.01].reset_index(drop=True)


def has_full_past(features: pd.DataFrame, candles: pd.DataFrame) -> list[bool]:
    """Tell, candle by candle and without any of the package's code, where W sound rows end."""
    sound = np.isfinite(features.to_numpy(float)).all(axis=1)
    flat = candles[["open", "high", "low", "close"]].nunique(axis=1) == 1
    sound &= ~(flat & (candles["volume"] == 0)).to_numpy()
    dates = list(candles["date"])
    told = []
    for end in range(len(candles)):
        first = end - WINDOW + 1
        whole = first >= 0 and bool(sound[first : end + 1].all())
        told.append(whole and dates[end] - dates[first] == pd.Timedelta(minutes=15) * (WINDOW - 1))
    return told


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def run(request, tmp_path_factory):
    market = with_gaps(candles())
    folder = tmp_path_factory.mktemp("walk")
    predicted, model = backtest(
        folder, market, Holey, train_days=TRAIN_DAYS, **request.param.changes
    )
    return market, predicted, model


def test_exactly_the_candles_with_a_full_past_have_a_prediction(run, record_figure):
    """Catches slices that begin blind, windows over a hole, and rows given up without need."""
    market, predicted, model = run
    strategy = Holey(model.config)
    features = strategy.feature_engineering_standard(
        strategy.feature_engineering_expand_basic(
            strategy.feature_engineering_expand_all(market.copy(), 8, {}), {}
        ),
        {},
    )
    expected = has_full_past(features.filter(like="%-"), market)
    start = market["date"].iloc[0].ceil("D") + pd.Timedelta(days=TRAIN_DAYS)
    inside = (market["date"] >= start).to_numpy()
    told = predicted["do_predict"].to_numpy() == 1
    wrong = inside & (told != np.array(expected))
    n_slices = DAYS - TRAIN_DAYS
    record_figure(
        f"no fake numbers, {type(model).__name__}: of {inside.sum()} candles in {n_slices} slices, "
        f"wrongly with or without",
        int(wrong.sum()),
    )
    assert market[wrong].empty
    # The holes are many, and the test does not pass by predicting nothing.
    assert 0.02 < (inside & ~told).sum() / inside.sum() < 0.6
    assert not told[~inside].any()


def test_no_value_is_a_zero_that_looks_like_a_prediction(run):
    """Catches a hole filled with 0 that a strategy would read as a forecast."""
    market, predicted, _ = run
    start = market["date"].iloc[0].ceil("D") + pd.Timedelta(days=TRAIN_DAYS)
    values = predicted.loc[market["date"] >= start, "&-return"]
    assert np.isfinite(values).all()
    assert (values != 0).all()
