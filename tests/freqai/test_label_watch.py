"""Labels that change after they were first known are told of."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.freqai.label_watch import NEWEST, LabelWatch
from tests.freqai.host import PAIR, make_frame, make_model, next_candle, train
from tests.trust.cases import KWARGS

pytest.importorskip("lightgbm")


def smoothed(close, end, period):
    """A label that uses candles after the `period` that it is said to look ahead."""
    part = pd.Series(close[:end])
    label = part.rolling(9, center=True, min_periods=5).mean().shift(-period + 3)
    return label.to_numpy()


def shifted(close, end, period):
    return pd.Series(close[:end]).shift(-period).to_numpy()


def far(close, end, period):
    """A label that is there only five candles after it is said to be."""
    return pd.Series(close[:end]).shift(-period - 5).to_numpy()


def settling(close, end, period):
    """A label that is there at once, and is what it stays once it is said to be known."""
    label = shifted(close, end, period).copy()
    label[-period:] = close[end - period : end]
    return label


def sparse(close, end, period):
    """A label that many candles never have."""
    label = shifted(close, end, period).copy()
    label[np.arange(end) % 7 > 0] = np.nan
    return label


@pytest.mark.parametrize(
    ("label", "is_told"), [(shifted, 0), (smoothed, 1), (far, 1), (settling, 0), (sparse, 0)]
)
def test_a_label_that_changes_or_comes_late_is_told_once(caplog, label, is_told):
    close = np.cumsum(np.random.default_rng(0).normal(size=400))
    watch = LabelWatch(3)
    for end in range(200, 230):
        watch.look(PAIR, np.arange(end), {"&-x": label(close, end, 3)})
    assert caplog.text.count("label_period_candles = 3 after them") == is_told
    if is_told:
        assert "BTC/USDT: label &-x" in caplog.text
        assert "Raise that number" in caplog.text


def test_labels_that_are_never_there_are_no_news(caplog):
    watch = LabelWatch(3)
    for end in range(200, 205):
        watch.look(PAIR, np.arange(end), {"&-x": np.full(end, np.nan)})
    assert caplog.text == ""


def test_no_more_than_the_newest_labels_of_a_pair_are_remembered():
    watch = LabelWatch(3)
    for end in range(1000, 1020):
        watch.look(PAIR, np.arange(end), {"&-x": np.arange(end, dtype=float)})
    ((places, values),) = watch._seen.values()
    assert len(places) == len(values) == NEWEST


def test_a_bot_that_follows_a_changing_label_says_so(tmp_path, caplog):
    frame = make_frame(420)
    members = {"ridge": {}, "naive_zero": {}}
    changes = {KWARGS: {"members": members, "combine": "dynamic", "rates": [1.0]}}
    model = make_model(tmp_path, freqaimodel="LeaEnsembleRegressor", **changes)
    train(model, frame.iloc[:400])
    with caplog.at_level(logging.WARNING):
        for end in range(401, 405):
            next_candle(model, frame.iloc[:end])
    assert "looks further" not in caplog.text
    frame.loc[380:, "&-target"] += 5
    next_candle(model, frame.iloc[:405])
    assert "label &-target of" in caplog.text
