"""One rule of order for all shapes of input, and indexes of two levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.panel import read_inputs
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.errors import DataError

N = 20
SMALL = {"window": 3, "hidden_size": 4, "num_layers": 1, "max_epochs": 1, "progress": False}


def frame(seed=0, start="2025-01-01"):
    index = pd.date_range(start, periods=N, freq="5min")
    values = np.random.default_rng(seed).normal(size=(N, 2))
    return pd.DataFrame(values, columns=["a", "b"], index=index)


def reindexed(given, change):
    return given.set_axis(pd.DatetimeIndex(change(list(given.index))))


SHAPES = {
    "one frame": (lambda part: (part, None), "the frame"),
    "a dictionary": (lambda part: ({"A": frame(1), "B": part}, None), "symbol 'B'"),
    "a list": (lambda part: ([frame(1), part], None), "symbol '1'"),
    "a column": (
        lambda part: (pd.concat([frame(1).assign(s="A"), part.assign(s="B")]), "s"),
        "symbol 'B'",
    ),
    "levels": (
        lambda part: (pd.concat({"A": frame(1), "B": part}, names=["s", "t"]), None),
        "symbol 'B'",
    ),
}
CHANGES = {
    "turned round": (lambda times: times[::-1], "not in the order of time"),
    "two rows changed": (
        lambda times: [*times[:5], times[6], times[5], *times[7:]],
        "not in the order of time",
    ),
    "a time twice": (lambda times: [*times[:5], times[4], *times[6:]], "two rows of 2025"),
    "no time": (lambda times: [*times[:5], pd.NaT, *times[6:]], "1 rows have no time"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", CHANGES)
def test_rows_that_are_not_in_the_order_of_time_are_refused(shape, change):
    (build, whose), (how, message) = SHAPES[shape], CHANGES[change]
    read_inputs(*build(frame()))
    with pytest.raises(DataError, match=message) as caught:
        read_inputs(*build(reindexed(frame(), how)))
    assert whose in str(caught.value)


def test_every_way_in_keeps_to_the_order():
    given, turned = frame(), frame()[::-1]
    model = SequenceRegressor(**SMALL).fit(given, given["a"])
    for call in (
        lambda: SequenceRegressor(**SMALL).fit(turned, turned["a"]),
        lambda: SequenceRegressor(**SMALL).fit(given, given["a"], eval_set=(turned, turned["a"])),
        lambda: model.predict(turned),
        lambda: model.score(turned, turned["a"]),
    ):
        with pytest.raises(DataError, match="the rows of the frame are not in the order of time"):
            call()


def test_numbers_that_run_backwards_are_refused_and_other_indexes_promise_nothing():
    plain = frame().reset_index(drop=True)
    with pytest.raises(DataError, match="the index runs backwards, from 19 to 0"):
        read_inputs(plain[::-1])
    for index in ([*range(10), *range(10)], list("bca") * 6 + ["x", "y"], [3, 1, 2, *range(4, 21)]):
        assert len(read_inputs(plain.set_axis(index))) == N


def test_periods_are_times():
    periods = frame().set_axis(pd.period_range("2025-01-01", periods=N, freq="5min"))
    assert read_inputs(periods).times is not None
    with pytest.raises(DataError, match="not in the order of time"):
        read_inputs(periods[::-1])


@pytest.mark.parametrize("what", ["y", "sample_weight", "eval_set"])
@pytest.mark.parametrize("shift", ["later", "turned round", "numbers"])
def test_what_belongs_to_other_rows_than_the_features_is_refused(what, shift):
    x = frame()
    other = x["a"]
    if shift == "later":
        other = other.set_axis(other.index + pd.Timedelta("5min"))
    other = other[::-1] if shift == "turned round" else other
    other = other.reset_index(drop=True) if shift == "numbers" else other
    given = {"X": x, "y": x["a"], "config": DataConfig(window=3)}
    values = {"y": other, "sample_weight": other.abs(), "eval_set": (x, other)}
    given[what] = values[what]
    with pytest.raises(DataError, match=r"has another index than X: row 0 is .* in X. Give both"):
        prepare(**given)
    # Arrays are taken in the order of X.
    prepare(x, np.asarray(other), DataConfig(window=3))


def test_the_same_index_of_another_type_is_the_same():
    """Catches a StopIteration: pandas calls int64 and Int64 different, and no label of them is."""
    x = frame().reset_index(drop=True)
    y = x["a"].set_axis(x.index.astype("Int64"))
    assert not y.index.equals(x.index)
    assert len(prepare(x, y, DataConfig(window=3)).train) > 0


def test_panels_are_compared_part_by_part():
    frames = {"A": frame(), "B": frame(1)}
    targets = {name: part["a"] for name, part in frames.items()}
    prepare(frames, targets, DataConfig(window=3))
    targets["B"] = targets["B"][::-1]
    with pytest.raises(DataError, match="y has another index than X"):
        prepare(frames, targets, DataConfig(window=3))


@pytest.mark.parametrize("levels", [["datetime", "instrument"], ["instrument", "datetime"]])
def test_a_level_of_the_index_names_the_symbol(levels):
    """The shape of qlib's frames, whose rows are in the order of time."""
    parts = {"SH600000": frame(), "SZ000001": frame(1)}
    whole = pd.concat(parts, names=["instrument", "datetime"]).reorder_levels(levels)
    whole = whole.sort_index(level="datetime", sort_remaining=False)
    model = SequenceRegressor(**SMALL, symbol_embedding=2).fit(whole, whole["a"])
    assert model.symbols_ == list(parts)
    predicted = model.predict(whole)
    assert predicted.index.equals(whole.index)
    for name, told in model.predict(parts).items():
        np.testing.assert_array_equal(predicted.xs(name, level="instrument"), told)
        assert told.isna().sum() == 2
    same = SequenceRegressor(**SMALL, symbol="instrument").fit(whole, whole["a"])
    assert same.predict(whole).notna().sum() == 2 * (N - 2)


def test_other_levels_are_refused_with_what_to_name():
    x = frame()
    times = pd.MultiIndex.from_arrays([x.index, x.index], names=["a", "b"])
    words = pd.MultiIndex.from_arrays([list("ab") * 10, list("cd") * 10], names=["a", "b"])
    three = pd.MultiIndex.from_arrays([x.index, ["s"] * N, ["t"] * N], names=["a", "b", "c"])
    for index in (times, words, three):
        with pytest.raises(DataError, match=r"an index of the levels 'a', 'b'.*symbol names"):
            read_inputs(x.set_axis(index))
    sound = x.set_axis(pd.MultiIndex.from_arrays([x.index, ["s"] * N], names=["a", "b"]))
    with pytest.raises(DataError, match="levels 'a', 'b'"):
        read_inputs(sound, symbol="c")
    with pytest.raises(DataError, match="levels 'a', 'b'"):
        read_inputs({"A": sound, "B": sound})
