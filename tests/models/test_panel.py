"""Many symbols trained together: whose rows a window holds, and the shapes of answers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, load_model
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.nets import NETS

W = 4
SMALL = {"window": W, "hidden_size": 4, "num_layers": 1, "max_epochs": 2, "progress": False}
KNOWN = {"symbol_embedding": 2}


def rows_of(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 3))


def frame_of(n, seed, start="2025-01-01"):
    index = pd.date_range(start, periods=n, freq="5min")
    return pd.DataFrame(rows_of(n, seed), columns=list("abc"), index=index)


def target(part):
    """Return what the row before tells."""
    first = part["a"] if isinstance(part, pd.DataFrame) else part[:, 0]
    return np.roll(first, 1) if isinstance(part, np.ndarray) else first.shift(1).rename("up")


@pytest.fixture(scope="module")
def frames():
    return {"BTC": frame_of(60, 1), "ETH": frame_of(50, 2), "XRP": frame_of(40, 3)}


@pytest.fixture(scope="module")
def targets(frames):
    return {name: target(frame) for name, frame in frames.items()}


@pytest.fixture(scope="module", params=[{}, KNOWN], ids=["blind", "told"])
def fitted(request, frames, targets):
    return SequenceRegressor(**SMALL, **request.param).fit(frames, targets)


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.net_.parameters()])


def long_frame(parts, column="pair"):
    """Put the symbols' rows below each other in the order of time, as a table of candles has them.

    The first moment has the symbols in their order, each later one in another.
    """
    whole = pd.concat([part.assign(**{column: name}) for name, part in parts.items()])
    order = {name: i for i, name in enumerate(parts)}
    place = whole[column].map(order).to_numpy()
    first = whole.index == whole.index.min()
    shuffled = np.random.default_rng(0).permutation(len(whole))
    return whole.iloc[np.lexsort((np.where(first, place, shuffled), whole.index))]


# whose rows a window holds


def test_each_symbol_has_as_many_windows_as_alone(frames, targets):
    model = SequenceRegressor(**SMALL, valid_size=0).fit(frames, targets)
    # The first target of each is missing, but stands where no window ends.
    assert model.history_.n_train_windows == (60 - 3) + (50 - 3) + (40 - 3)


def test_no_prediction_depends_on_another_symbols_rows(fitted, frames):
    before = fitted.predict(frames)
    others = {**frames, "BTC": frames["BTC"] + 100, "XRP": frames["XRP"] * np.nan}
    after = fitted.predict(others)
    np.testing.assert_array_equal(after["ETH"], before["ETH"])
    assert after["XRP"].isna().all()
    assert not np.allclose(after["BTC"][W:], before["BTC"][W:])
    for predicted in before.values():
        assert np.flatnonzero(predicted.isna()).tolist() == [0, 1, 2]


def test_a_symbol_alone_gets_the_prediction_that_it_gets_among_others(fitted, frames):
    among = fitted.predict(frames)
    for name, frame in frames.items():
        alone = fitted.predict({name: frame})
        np.testing.assert_allclose(alone[name], among[name], rtol=1e-5, atol=1e-6)


def test_training_windows_hold_one_symbols_rows_alone(monkeypatch, frames, targets):
    """Catches a window, or a target, over the seam of two symbols."""
    given = []

    def keep(net, train, valid, *args, **options):
        given.append((train, valid))
        raise InterruptedError

    monkeypatch.setattr("freqai_lstm_plugins.models.fitted.fit", keep)
    marked = {
        name: frame.assign(a=float(i), b=np.arange(len(frame)))
        for i, (name, frame) in enumerate(frames.items())
    }
    wanted = {name: frame["a"] * 1000 + frame["b"] for name, frame in marked.items()}
    with pytest.raises(InterruptedError):
        SequenceRegressor(**SMALL, scale=False).fit(marked, wanted)
    for windows in given[0]:
        for end, (number,) in zip(windows.ends.tolist(), windows.targets.tolist(), strict=True):
            window = windows.rows[end - W + 1 : end + 1]
            assert len(window[:, 0].unique()) == 1
            assert window[:, 1].diff().tolist() == [1.0] * (W - 1)
            assert number == window[-1, 0] * 1000 + window[-1, 1]


@pytest.mark.parametrize("supervision", ["exact", "dense"])
@pytest.mark.parametrize("options", [{}, KNOWN], ids=["blind", "told"])
def test_rows_that_no_window_of_a_symbol_holds_change_nothing(supervision, options):
    """Catches sequences that reach from one symbol into the next."""
    parts = [rows_of(40, 1), rows_of(40, 2)]
    given = [target(part) for part in parts]
    model = SequenceRegressor(**SMALL, **options, supervision=supervision, scale=False)
    before = weights_of(model.fit(parts, given))
    # A third symbol without targets, and with values that nobody could overlook.
    more = [*parts, np.full((30, 3), 1e6)]
    model.fit(more, [*given, np.full(30, np.nan)])
    after = weights_of(model)
    if not options:
        assert torch.equal(after, before)
    assert after.isfinite().all()
    assert after.abs().max() < 10


# how rows are split


def test_validation_begins_at_one_moment_for_all_symbols(monkeypatch):
    given = []

    def keep(net, train, valid, *args, **options):
        given.extend([train, valid])
        raise InterruptedError

    monkeypatch.setattr("freqai_lstm_plugins.models.fitted.fit", keep)
    # The second symbol begins later, the third ends before validation begins.
    parts = {
        "A": frame_of(100, 1),
        "B": frame_of(50, 2, "2025-01-01 04:10"),
        "C": frame_of(60, 3),
    }
    moment = {
        name: pd.Series((part.index - parts["A"].index[0]) / pd.Timedelta("5min"), part.index)
        for name, part in parts.items()
    }
    model = SequenceRegressor(**SMALL, scale=False, valid_size=0.2, label_period=5)
    with pytest.raises(InterruptedError):
        model.fit(parts, moment)
    train, valid = (windows.targets[:, 0].numpy() for windows in given)
    # 97 + 47 + 57 targets; as many validate as come at the moment of the last fifth or later.
    times = np.sort(np.r_[3:100, 53:100, 3:60])
    begin = times[len(times) - round(0.2 * len(times))]
    assert valid.min() == begin
    assert len(valid) == 2 * (100 - begin)
    # Labels of the last 5 rows before it reach into validation.
    assert train.max() == begin - 6
    assert len(train) == (begin - 5 - 3) + (begin - 5 - 53) + 57


def test_the_purge_counts_from_the_moment_even_where_no_target_follows(monkeypatch):
    """Catches a symbol whose late rows are no targets, and whose labels look at them."""
    given = []

    def keep(net, train, valid, *args, **options):
        given.extend([train, valid])
        raise InterruptedError

    monkeypatch.setattr("freqai_lstm_plugins.models.fitted.fit", keep)
    parts = {"A": frame_of(100, 1), "B": frame_of(100, 2)}
    moment = {name: pd.Series(np.arange(100.0), part.index) for name, part in parts.items()}
    moment["B"].iloc[75:] = np.nan
    with pytest.raises(InterruptedError):
        SequenceRegressor(**SMALL, scale=False, valid_size=0.1, label_period=10).fit(parts, moment)
    train, valid = (windows.targets[:, 0].numpy() for windows in given)
    # 97 + 72 targets, of which the last 17 are those of A alone: rows 83 to 99.
    assert valid.tolist() == list(range(83, 100))
    assert train.max() == 83 - 10 - 1
    assert len(train) == 2 * (73 - 3)


def test_without_times_each_symbol_validates_on_its_own_last_targets():
    parts = [rows_of(103, 1), rows_of(23, 2)]
    model = SequenceRegressor(**SMALL, valid_size=0.2, label_period=3)
    model.fit(parts, [target(part) for part in parts])
    assert model.history_.n_valid_windows == 20 + 4
    assert model.history_.n_train_windows == 100 - 20 - 3 + 20 - 4 - 3


# what a net learns of a symbol


def offsets(n=150):
    """Two symbols whose targets differ by an offset that no feature tells."""
    parts = {name: frame_of(n, seed) for seed, name in enumerate(["LOW", "HIGH"])}
    shift = {"LOW": -3.0, "HIGH": 3.0}
    return parts, {name: 0.3 * part["b"] + shift[name] for name, part in parts.items()}


@pytest.mark.parametrize("net", sorted(NETS))
def test_a_net_that_is_told_the_symbol_learns_what_it_alone_tells(net):
    parts, wanted = offsets()
    options = {**SMALL, "max_epochs": 40, "learning_rate": 0.01, "dropout": 0.0, "batch_size": 32}
    if net == "tft":
        options["num_heads"] = 2
    told = SequenceRegressor(net, **options, **KNOWN).fit(parts, wanted)
    blind = SequenceRegressor(net, **options, loss="mse").fit(parts, wanted)
    assert told.score(parts, wanted) > 0.8
    assert blind.score(parts, wanted) < 0.5
    means = {name: values.mean() for name, values in told.predict(parts).items()}
    assert means["LOW"] == pytest.approx(-3, abs=1)
    assert means["HIGH"] == pytest.approx(3, abs=1)
    # Told that the rows are another symbol's, it answers for that one.
    swapped = told.predict({"LOW": parts["HIGH"], "HIGH": parts["LOW"]})
    assert swapped["LOW"].mean() < 0 < swapped["HIGH"].mean()


def test_dense_training_is_told_the_symbol_too():
    parts, wanted = offsets()
    options = {**SMALL, "max_epochs": 60, "learning_rate": 0.01, "dropout": 0.0, "batch_size": 32}
    model = SequenceRegressor(**options, **KNOWN, supervision="dense").fit(parts, wanted)
    assert model.score(parts, wanted) > 0.8


def test_the_order_of_symbols_at_prediction_does_not_matter(fitted, frames):
    before = fitted.predict(frames)
    names = ["XRP", "BTC"]
    after = fitted.predict({name: frames[name] for name in names})
    assert list(after) == names
    for name in names:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-5, atol=1e-6)


def test_an_unknown_symbol_is_refused_where_the_net_is_told(frames, targets):
    model = SequenceRegressor(**SMALL, **KNOWN).fit(frames, targets)
    with pytest.raises(MismatchError, match="on the symbols BTC, ETH, XRP, not 'DOGE'"):
        model.predict({"DOGE": frames["BTC"]})
    with pytest.raises(MismatchError, match="on the symbols BTC, ETH, XRP, and X names none"):
        model.predict(frames["BTC"])
    with pytest.raises(MismatchError, match="not '1'"):
        SequenceRegressor(**SMALL, **KNOWN).fit([frames["BTC"]], [targets["BTC"]]).predict(
            [frames["BTC"], frames["BTC"]]
        )
    with pytest.raises(MismatchError, match="not 'DOGE'"):
        model.fit(frames, targets, eval_set=({"DOGE": frames["BTC"]}, {"DOGE": targets["BTC"]}))
    # Of many symbols some are named.
    many = {f"S{i}": frames["XRP"] for i in range(9)}
    model.fit(many, dict.fromkeys(many, targets["XRP"]))
    with pytest.raises(MismatchError, match="S0, S1, S2, S3, S4 and 4 more, not 'BTC'"):
        model.predict(frames)


def test_a_net_that_is_not_told_takes_any_symbol(frames, targets):
    model = SequenceRegressor(**SMALL).fit(frames, targets)
    assert model.symbols_ == []
    alone = model.predict(frames["BTC"])
    np.testing.assert_allclose(model.predict({"DOGE": frames["BTC"]})["DOGE"], alone, rtol=1e-5)


# shapes


@pytest.mark.parametrize("options", [{}, KNOWN], ids=["blind", "told"])
@pytest.mark.parametrize("loss", ["mse", "quantile"])
def test_one_long_frame_is_the_same_as_a_dictionary_of_frames(frames, targets, options, loss):
    options = {**SMALL, **options, "loss": loss, "interval": 0.8}
    by_name = SequenceRegressor(**options).fit(frames, targets)
    columns = {name: frame.assign(up=targets[name]) for name, frame in frames.items()}
    long = long_frame(columns)
    x, y = long[["pair", "a", "b", "c"]], long["up"]
    assert list(x["pair"].unique()) == list(frames)
    assert x.index.is_monotonic_increasing
    by_row = SequenceRegressor(**options, symbol="pair").fit(x, y)
    assert torch.equal(weights_of(by_row), weights_of(by_name))
    assert by_row.calibration == by_name.calibration
    expected = by_name.predict(frames)
    predicted = by_row.predict(x)
    assert predicted.index.equals(x.index)
    for name in frames:
        pd.testing.assert_series_equal(
            predicted[x["pair"] == name], expected[name], check_freq=False
        )
    lower = by_row.predict_interval(x).lower
    np.testing.assert_array_equal(
        lower[x["pair"] == "ETH"], by_name.predict_interval(frames).lower["ETH"]
    )
    assert by_row.score(x, y) == by_name.score(frames, targets)


def test_a_long_frames_weights_follow_its_rows(frames, targets):
    weights = {name: pd.Series(np.arange(len(f)) % 3, f.index) for name, f in frames.items()}
    by_name = SequenceRegressor(**SMALL).fit(frames, targets, weights)
    columns = {
        name: frame.assign(up=targets[name], weight=weights[name]) for name, frame in frames.items()
    }
    long = long_frame(columns)
    by_row = SequenceRegressor(**SMALL, symbol="pair")
    by_row.fit(long[["a", "b", "pair", "c"]], long["up"], long["weight"])
    assert torch.equal(weights_of(by_row), weights_of(by_name))


def test_a_list_is_a_dictionary_whose_keys_are_numbers(frames, targets):
    by_name = SequenceRegressor(**SMALL, **KNOWN).fit(frames, targets)
    listed = SequenceRegressor(**SMALL, **KNOWN)
    listed.fit(list(frames.values()), list(targets.values()))
    assert listed.symbols_ == ["0", "1", "2"]
    assert torch.equal(weights_of(listed), weights_of(by_name))
    predicted = listed.predict(tuple(frames.values()))
    assert isinstance(predicted, list)
    for one, other in zip(predicted, by_name.predict(frames).values(), strict=True):
        pd.testing.assert_series_equal(one, other)


def test_arrays_come_back_as_arrays_and_columns_as_columns(frames, targets):
    arrays = {name: frame.to_numpy() for name, frame in frames.items()}
    vectors = {name: values.to_numpy() for name, values in targets.items()}
    predicted = SequenceRegressor(**SMALL).fit(arrays, vectors).predict(arrays)
    assert {name: values.shape for name, values in predicted.items()} == {
        "BTC": (60,),
        "ETH": (50,),
        "XRP": (40,),
    }
    both = {name: np.c_[values, -values] for name, values in vectors.items()}
    predicted = SequenceRegressor(**SMALL).fit(arrays, both).predict(arrays)
    assert predicted["XRP"].shape == (40, 2)
    # Lists of numbers are vectors too.
    lists = [list(values) for values in vectors.values()]
    model = SequenceRegressor(**SMALL).fit(list(arrays.values()), lists)
    assert [values.shape for values in model.predict(list(arrays.values()))] == [
        (60,),
        (50,),
        (40,),
    ]
    point, lower, upper = (
        SequenceRegressor(**SMALL, interval=0.5).fit(arrays, both).predict_interval(arrays)
    )
    assert point["ETH"].shape == lower["ETH"].shape == upper["ETH"].shape == (50, 2)


def test_a_classifier_takes_many_symbols_too(frames, targets, tmp_path):
    ways = {name: np.where(values > 0, "up", "down") for name, values in targets.items()}
    model = SequenceClassifier(**SMALL, **KNOWN).fit(frames, ways)
    predicted, probabilities = model.predict(frames), model.predict_proba(frames)
    assert list(probabilities["ETH"]) == ["down", "up"]
    assert set(predicted["ETH"].dropna()) <= {"up", "down"}
    assert 0 <= model.score(frames, ways) <= 1
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip").predict_proba(frames)
    pd.testing.assert_frame_equal(loaded["XRP"], probabilities["XRP"])


def test_a_saved_model_knows_its_symbols(fitted, frames, tmp_path):
    fitted.save(tmp_path / "model.zip")
    loaded = SequenceRegressor.load(tmp_path / "model.zip")
    assert loaded.symbols_ == fitted.symbols_
    assert loaded.symbol_embedding == fitted.symbol_embedding
    for name, values in loaded.predict(frames).items():
        np.testing.assert_array_equal(values, fitted.predict(frames)[name])


def test_an_eval_set_of_many_symbols(frames, targets):
    model = SequenceRegressor(**SMALL, **KNOWN)
    some = {"XRP": frame_of(20, 9), "BTC": frame_of(30, 8)}
    model.fit(frames, targets, eval_set=(some, {name: target(part) for name, part in some.items()}))
    assert model.history_.n_valid_windows == 17 + 27
    assert model.history_.n_train_windows == 57 + 47 + 37


def test_sample_weights_of_many_symbols(frames, targets):
    weights = {name: np.ones(len(frame)) for name, frame in frames.items()}
    weights["ETH"][:] = 0
    model = SequenceRegressor(**SMALL, valid_size=0).fit(frames, targets, weights)
    assert model.history_.n_train_windows == 57 + 37
    with pytest.raises(DataError, match="sample_weight must be a dictionary with the same symbols"):
        model.fit(frames, targets, weights["BTC"])


# symbols with holes


def test_a_symbol_that_is_too_short_is_of_no_use_and_no_harm(frames, targets):
    short = frame_of(W - 1, 7)
    model = SequenceRegressor(**SMALL, **KNOWN)
    model.fit({**frames, "NEW": short}, {**targets, "NEW": target(short)})
    assert model.symbols_ == ["BTC", "ETH", "XRP", "NEW"]
    predicted = model.predict({"NEW": short, "BTC": frames["BTC"], "XRP": frames["XRP"][:0]})
    assert predicted["NEW"].isna().all()
    assert len(predicted["NEW"]) == W - 1
    assert len(predicted["XRP"]) == 0
    assert predicted["BTC"][W:].notna().all()


def test_a_symbol_without_a_finite_row_is_of_no_use_and_no_harm(frames, targets):
    empty = frame_of(30, 7) * np.nan
    with_it = SequenceRegressor(**SMALL)
    with_it.fit({**frames, "GONE": empty}, {**targets, "GONE": pd.Series(1.0, empty.index)})
    without = SequenceRegressor(**SMALL).fit(frames, targets)
    assert torch.equal(weights_of(with_it), weights_of(without))
    assert with_it.predict({"GONE": empty})["GONE"].isna().all()


def test_windows_break_at_each_symbols_own_gaps(frames, targets):
    holed = {**frames, "ETH": frames["ETH"].drop(frames["ETH"].index[20])}
    given = {**targets, "ETH": targets["ETH"].drop(targets["ETH"].index[20])}
    model = SequenceRegressor(**SMALL, step="5min", valid_size=0).fit(holed, given)
    assert model.history_.n_train_windows == 57 + (17 + 26) + 37
    gone = {name: np.flatnonzero(v.isna()).tolist() for name, v in model.predict(holed).items()}
    assert gone == {"BTC": [0, 1, 2], "ETH": [0, 1, 2, 20, 21, 22], "XRP": [0, 1, 2]}
    with pytest.raises(DataError, match="step = '5min' needs a DataFrame with a DatetimeIndex"):
        model.fit([part.to_numpy() for part in holed.values()], list(given.values()))


def test_symbols_that_follow_each_other_in_time_are_no_one_series():
    """Catches a seam that looks like the next candle."""
    first = frame_of(30, 1)
    second = frame_of(30, 2, str(first.index[-1] + pd.Timedelta("5min")))
    model = SequenceRegressor(**SMALL, step="5min", valid_size=0)
    model.fit({"A": first, "B": second}, {"A": target(first), "B": target(second)})
    assert model.history_.n_train_windows == 27 + 27


@pytest.mark.parametrize("zones", [("UTC", "UTC"), ("UTC", "Asia/Tokyo"), (None, "UTC")])
def test_symbols_of_any_time_zone_have_one_clock(frames, targets, zones):
    """Catches moments of one zone that are compared with those of another."""
    plain = {name: frames[name] for name in ("BTC", "ETH")}
    wanted = {name: targets[name] for name in plain}
    zoned = {
        name: frame if zone is None else frame.tz_localize("UTC").tz_convert(zone)
        for (name, frame), zone in zip(plain.items(), zones, strict=True)
    }
    one = SequenceRegressor(**SMALL, step="5min").fit(plain, wanted)
    other = SequenceRegressor(**SMALL, step="5min").fit(zoned, wanted)
    assert torch.equal(weights_of(one), weights_of(other))
    assert one.history_.n_valid_windows == other.history_.n_valid_windows


# what is refused

WRONG = {
    "targets in a list": (
        lambda x, y: (x, list(y.values())),
        "y must be a dictionary with the sam",
    ),
    "targets of other symbols": (
        lambda x, y: (x, {"BTC": y["BTC"]}),
        "y must be a dictionary with the same symbols as X",
    ),
    "a dictionary of targets for a list": (
        lambda x, y: (list(x.values()), y),
        "y must be a list of 3 parts, one a part of X",
    ),
    "too few parts": (
        lambda x, y: (list(x.values()), list(y.values())[:2]),
        "y must be a list of 3 parts",
    ),
    "a part too short": (
        lambda x, y: (x, {**y, "ETH": y["ETH"][:-1]}),
        r"y must have one row a row of X \(50\), its shape is \(49,\)",
    ),
    "no symbol": (lambda x, y: ({}, {}), "X holds no symbol: give at least one frame"),
    "other columns": (
        lambda x, y: ({**x, "ETH": x["ETH"].rename(columns={"a": "z"})}, y),
        "symbol 'ETH' has other columns than 'BTC'",
    ),
    "columns in another order": (
        lambda x, y: ({**x, "ETH": x["ETH"][["b", "a", "c"]]}, y),
        "symbol 'ETH' has other columns than 'BTC'",
    ),
    "a vector among matrices": (
        lambda x, y: ([x["BTC"].to_numpy(), np.zeros(50)], [y["BTC"], np.zeros(50)]),
        r"X must have shape \(rows, features\), not \(50,\)",
    ),
    "targets in another order": (
        lambda x, y: (
            x,
            {
                name: pd.DataFrame({"up": part, "down": -part})[
                    ["down", "up"] if name == "ETH" else ["up", "down"]
                ]
                for name, part in y.items()
            },
        ),
        "y must have the same columns for every symbol",
    ),
    "more targets of one": (
        lambda x, y: (
            x,
            {name: np.zeros((len(part), 1 + (name == "ETH"))) for name, part in y.items()},
        ),
        "y must have the same columns for every symbol",
    ),
    "time backwards": (
        lambda x, y: ({**x, "ETH": x["ETH"][::-1]}, y),
        "symbol 'ETH' are not in the order of time: 2025-01-01T04:00.* after 2025-01-01T04:05",
    ),
    "a time twice": (
        lambda x, y: ({**x, "ETH": x["ETH"].iloc[[0, *range(49)]]}, y),
        "symbol 'ETH' has two rows of 2025-01-01T00:00.* Keep one of them",
    ),
    "a name twice": (
        lambda x, y: ({"1": x["BTC"], 1: x["ETH"]}, {"1": y["BTC"], 1: y["ETH"]}),
        "two symbols are called '1'",
    ),
    "words": (
        lambda x, y: ({**x, "ETH": x["ETH"].assign(a="up")}, y),
        "X: column '[ac]' holds text .'up'., and a model takes real numbers alone",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_fits_no_shape_is_refused(frames, targets, name):
    change, message = WRONG[name]
    with pytest.raises(DataError, match=message) as caught:
        SequenceRegressor(**SMALL).fit(*change(frames, targets))
    assert "\n" not in str(caught.value)


def test_a_long_frame_that_is_none_is_refused(frames, targets):
    long = long_frame(frames)
    y = np.zeros(len(long))
    model = SequenceRegressor(**SMALL, symbol="pair")
    with pytest.raises(DataError, match="symbol = 'pair' needs a DataFrame with one such column"):
        model.fit(long.drop(columns="pair"), y)
    with pytest.raises(DataError, match="symbol = 'pair' needs a DataFrame with one such column"):
        model.fit(long[["pair", "a", "pair"]], y)
    with pytest.raises(DataError, match="symbol = 'pair' needs a DataFrame with one such column"):
        model.fit(frames["BTC"].to_numpy(), y)
    with pytest.raises(DataError, match="column 'pair' names no symbol in 1 rows"):
        model.fit(long.assign(pair=[None, *long["pair"][1:]]), y)
    with pytest.raises(DataError, match="two symbols are called '1'"):
        model.fit(long.assign(pair=pd.Series([1, "1"] * 75, dtype=object).to_numpy()), y)
    with pytest.raises(ConfigError, match="symbol must be the name of a column, not 3"):
        SequenceRegressor(symbol=3)


@pytest.mark.parametrize("values", [[7, 8], [1.5, 2.5], [True, False], pd.Categorical(["a", "b"])])
def test_symbols_may_be_called_by_any_value(values):
    part = frame_of(40, 1)
    x = pd.concat([part.assign(pair=values[0]), part.assign(pair=values[1])]).sort_index(
        kind="stable"
    )
    x["pair"] = pd.Series(list(x["pair"]), index=x.index, dtype=getattr(values, "dtype", None))
    model = SequenceRegressor(**SMALL, **KNOWN, symbol="pair").fit(x, np.arange(80.0))
    assert model.symbols_ == [str(value) for value in values]
    assert model.predict(x).shape == (80,)
    # Frames by their names are the same symbols.
    predicted = model.predict(dict.fromkeys(model.symbols_, part))
    np.testing.assert_allclose(
        predicted[model.symbols_[1]], model.predict(x)[x["pair"] == values[1]], rtol=1e-5
    )


def test_an_embedding_needs_symbols(frames, targets):
    with pytest.raises(DataError, match="symbol_embedding = 2 needs X to name symbols"):
        SequenceRegressor(**SMALL, **KNOWN).fit(frames["BTC"], targets["BTC"])


# memory


def test_rows_of_one_series_are_held_no_more_often_than_they_must_be():
    """Catches a copy of all features beside the scaled ones; what was given is not counted."""
    rows = rows_of(40_000, 1).astype(np.float32).repeat(20, axis=1)
    targets = rows[:, 0].copy()
    model = SequenceRegressor(**{**SMALL, "max_epochs": 1, "batch_size": 4096})
    tracemalloc.start()
    try:
        model.fit(rows, targets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * rows.nbytes
