from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.freqai.columns import (
    answer_columns,
    holds_no_prediction,
    refuse_unsound_columns,
    refuse_unusable_features,
)
from tests.freqai.host import PAIR

CANDLES = ["date", "open", "high", "low", "close", "volume", "%-a", "%-b"]


def check(labels, extra=(), returns=()):
    refuse_unsound_columns(PAIR, pd.Index([*CANDLES, *labels]), labels, extra, returns)


def test_sound_columns_pass():
    check(["&-ret", "&-vol"], ["&-ret_lower", "&-ret_upper"], ["score"])
    check(["&s-up"], ["down", "up"])


@pytest.mark.parametrize("label", ["&-ret_%", "%&-ret", "%-&ret"])
def test_a_label_that_is_a_feature_too_is_refused(label):
    with pytest.raises(ConfigError, match=rf"{PAIR}: the column '{label}' is a label by its '&'"):
        check([label])


@pytest.mark.parametrize(
    ("labels", "extra", "returns", "both"),
    [
        (["&-r", "&-r_upper"], ["&-r_lower", "&-r_upper"], [], ("column '&-r_u", "label '&-r_u")),
        (["&-r", "&-r_mean"], [], [], ("'mean' that FreqAI keeps of '&-r'", "label '&-r_mean'")),
        (["&-r", "&-r_std"], [], [], ("'std' that FreqAI keeps of '&-r'", "label '&-r_std'")),
        (["&-r"], ["up", "up_mean"], [], ("'mean' that FreqAI keeps of 'up'", "'up_mean'")),
        (["&-r"], ["up", "up"], [], ("the predicted column 'up'", "the predicted column 'up'")),
        (["&-r"], ["do_predict"], [], ("column 'do_predict'", "a column of FreqAI's own")),
        (["&-r"], ["DI_values"], [], ("column 'DI_values'", "a column of FreqAI's own")),
        (["&-r"], ["close_price"], [], ("column 'close_price'", "a column of FreqAI's own")),
        (["&-r"], ["close"], [], ("column 'close'", "another column of the strategy's frame")),
        (["&-r"], [], ["&-r"], ("'&-r' of extra_returns_per_train", "the label '&-r'")),
        (["&-r"], [], ["close"], ("'close' of extra_returns_per_train", "the strategy's frame")),
    ],
)
def test_two_columns_of_one_name_are_refused_naming_both(labels, extra, returns, both):
    with pytest.raises(ConfigError) as caught:
        check(labels, extra, returns)
    for part in both:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_predicted_column_that_freqai_takes_for_a_feature_is_refused():
    with pytest.raises(ConfigError, match="'%-up' is to be a column of the predictions"):
        check(["&-r"], ["%-up"])


def test_what_stands_beside_predictions_is_no_answer():
    beside = ["&-r_mean", "&-r_std", "up_mean", "score", "do_predict", "DI_values", "high_price"]
    beside += ["date", "%%-shown", "low_price", "close_price", "date_pred"]
    stored = pd.DataFrame(columns=["&-r", "up", *beside])
    assert answer_columns(stored, {"score": 0}) == ["&-r", "up"]


def test_zeros_alone_are_no_prediction():
    zeros = pd.DataFrame({"&-r": [0, 0], "&-r_mean": 0, "do_predict": 0})
    assert holds_no_prediction(zeros)
    # Rows without a window hold the mean label, and a prediction that counts may be zero.
    assert not holds_no_prediction(zeros.assign(**{"&-r": 0.1}))
    assert not holds_no_prediction(zeros.assign(do_predict=[0, 1]))
    assert not holds_no_prediction(zeros.assign(**{"&-r": "down"}))


DATES = pd.date_range("2025-01-01", periods=3, tz="UTC")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["upperband", "x", None], "'%-b' holds .* values such as 'upperband', and a net needs"),
        (DATES, "'%-b' holds datetime64.*'2025-01-01"),
        (DATES - DATES[0], "'%-b' holds timedelta64"),
        (pd.Categorical(["a", "b", "a"]), "'%-b' holds category values such as 'a'"),
        ([1, 2j, 3], "'%-b' holds complex128"),
        ([np.nan] * 3, "'%-b' is missing in 3 of 3 candles"),
        ([np.inf, np.nan, -np.inf], "'%-b' is missing in 3 of 3 candles"),
        ([None] * 3, "'%-b' is missing in 3 of 3 candles"),
    ],
    ids=["text", "date", "span", "category", "complex", "NaN", "infinite", "None"],
)
def test_a_feature_without_numbers_is_refused_with_pair_and_column(values, message):
    frame = pd.DataFrame({"%-a": [1.0, 2.0, 3.0], "%-b": values})
    with pytest.raises(DataError, match=f"{PAIR}: the feature {message}"):
        refuse_unusable_features(frame, ["%-a", "%-b"], PAIR)


def test_numbers_of_any_kind_are_features():
    kinds = [[True, False, True], [1, None, 3], pd.array([1, None, 2], dtype="Int64")]
    kinds += [np.float32([1, 2, 3]), pd.Series([1, 2.5, None], dtype=object)]
    frame = pd.DataFrame({f"%-{number}": values for number, values in enumerate(kinds)})
    refuse_unusable_features(frame, list(frame), PAIR)
