"""Prediction intervals: calibrated on validation rows, and what theory promises of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import DataConfig
from freqai_lstm_plugins.data.preparation import prepare
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.intervals import Calibration, require_rows

W = 4
SMALL = {"window": W, "hidden_size": 4, "num_layers": 1, "max_epochs": 2, "progress": False}


def calibrated(interval, points, targets, bounds=None):
    """Calibrate one target given as vectors."""
    columns = [np.asarray(values, dtype=float).reshape(-1, 1) for values in (points, targets)]
    if bounds is not None:
        bounds = tuple(np.asarray(end, dtype=float).reshape(-1, 1) for end in bounds)
    return Calibration.fit(interval, columns[0], bounds, columns[1], columns[1])


def test_the_margin_is_the_score_that_covers_the_share_of_rows_and_one_more():
    # Nine errors 1 to 9: 0.8 * (9 + 1) = the eighth of them.
    calibration = calibrated(0.8, np.zeros(9), [3, -1, 9, -7, 5, 2, -8, 4, 6])
    assert calibration.margins == [8.0]
    assert calibration.n_rows == 9
    lower, upper = calibration.bounds(np.array([[10.0], [-1.0]]), None)
    assert lower.tolist() == [[2.0], [-9.0]]
    assert upper.tolist() == [[18.0], [7.0]]


def test_each_target_has_its_own_margin():
    errors = np.arange(1.0, 10.0).reshape(-1, 1)
    targets = np.hstack([errors, -10 * errors])
    calibration = Calibration.fit(0.8, np.zeros((9, 2)), None, targets, targets)
    assert calibration.margins == [8.0, 80.0]


def test_quantiles_are_moved_by_how_far_targets_lay_outside_of_them():
    # Scores max(lower - y, y - upper): -1, -0.5, 2, 3. The fourth covers 0.8 of five.
    targets = [0.0, 0.5, 3.0, -4.0]
    bounds = (np.full(4, -1.0), np.full(4, 1.0))
    calibration = calibrated(0.8, np.zeros(4), targets, bounds)
    assert calibration.margins == [3.0]
    calibration = calibrated(0.5, np.zeros(4), targets, bounds)
    assert calibration.margins == [2.0]


def test_quantiles_that_were_too_wide_are_narrowed_but_hold_the_prediction():
    rng = np.random.default_rng(0)
    targets = rng.uniform(-1, 1, 199)
    ends = (np.full(199, -10.0), np.full(199, 10.0))
    calibration = calibrated(0.8, np.zeros(199), targets, ends)
    assert calibration.margins[0] == pytest.approx(-9.2, abs=0.1)
    wide = (np.array([[-10.0]]), np.array([[10.0]]))
    lower, upper = calibration.bounds(np.array([[0.0]]), wide)
    assert (lower.item(), upper.item()) == pytest.approx((-0.8, 0.8), abs=0.1)
    # Ends that would pass each other stop at the prediction.
    narrow = (np.array([[0.0]]), np.array([[2.0]]))
    lower, upper = calibration.bounds(np.array([[1.0]]), narrow)
    assert (lower.item(), upper.item()) == (1.0, 1.0)


def test_the_forecast_that_knows_nothing_reaches_between_quantiles_of_the_training_targets():
    train = np.arange(101.0).reshape(-1, 1)
    calibration = Calibration.fit(0.8, np.zeros((9, 1)), None, np.ones((9, 1)), train)
    assert calibration.blank_lower == pytest.approx([10.0])
    assert calibration.blank_upper == pytest.approx([90.0])


@pytest.mark.parametrize(
    ("interval", "needed"),
    [
        (0.5, 1),
        (0.55, 2),
        (0.8, 4),
        (0.9, 9),
        (0.95, 19),
        (0.99, 99),
        (0.999, 999),
        # What a user computes is a last digit off what they mean.
        (0.6 + 0.3, 9),
        (0.1 + 0.7 + 1e-16, 4),
        (math.nextafter(0.8, 1), 4),
        (math.nextafter(0.8, 0), 4),
        (0.01, 1),
    ],
)
def test_so_many_rows_are_needed_and_no_more(interval, needed):
    require_rows(interval, needed)
    with pytest.raises(DataError, match=f"needs at least {needed} validation rows .* {needed - 1}"):
        require_rows(interval, needed - 1)


@given(st.integers(1, 999), st.integers(0, 2000))
def test_the_rank_is_that_of_exact_arithmetic(thousandths, n_rows):
    """Catches round-off that asks for one row more."""
    rank = -(-thousandths * (n_rows + 1) // 1000)
    if rank > n_rows:
        with pytest.raises(DataError, match="to be calibrated on"):
            require_rows(thousandths / 1000, n_rows)
        return
    targets = np.arange(1.0, n_rows + 1)
    assert calibrated(thousandths / 1000, np.zeros(n_rows), targets).margins == [rank]


@pytest.mark.parametrize("with_quantiles", [False, True])
@pytest.mark.parametrize(("interval", "n_rows"), [(0.8, 4), (0.8, 30), (0.9, 19), (0.5, 100)])
def test_coverage_is_exact_on_rows_that_can_be_exchanged(
    with_quantiles, interval, n_rows, record_figure
):
    """Over draws of calibration rows and of a new one, ceil(q (n + 1)) / (n + 1) are covered."""
    rng = np.random.default_rng(5)
    n_draws = 4000
    expected = math.ceil(round(interval * (n_rows + 1), 6)) / (n_rows + 1)
    hits = 0
    for _ in range(n_draws):
        # Errors of another size in each row, which the quantiles know of, though not how large.
        sizes = rng.uniform(0.5, 2, n_rows + 1)
        targets = (sizes * rng.standard_t(3, n_rows + 1)).reshape(-1, 1)
        points = np.full((n_rows + 1, 1), 0.1)
        ends = (-3 * sizes.reshape(-1, 1), 3 * sizes.reshape(-1, 1)) if with_quantiles else None
        known = None if ends is None else (ends[0][:-1], ends[1][:-1])
        new = None if ends is None else (ends[0][-1:], ends[1][-1:])
        calibration = Calibration.fit(interval, points[:-1], known, targets[:-1], targets[:-1])
        lower, upper = calibration.bounds(points[-1:], new)
        hits += bool((lower <= targets[-1]).item() and (targets[-1] <= upper).item())
    error = math.sqrt(expected * (1 - expected) / n_draws)
    how = "quantiles" if with_quantiles else "numbers"
    record_figure(
        f"coverage, {interval:g} calibrated on {n_rows} rows, {how}",
        f"{hits / n_draws:.4f} ± {error:.4f}, by theory {expected:.4f}",
    )
    assert abs(hits / n_draws - expected) < 4 * error


@pytest.mark.parametrize("with_quantiles", [False, True])
def test_the_margins_are_those_of_mapie(with_quantiles):
    """Catches a score or a rank that differs from an independent implementation's."""
    pytest.importorskip("mapie")
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import ConformalizedQuantileRegressor, SplitConformalRegressor
    from sklearn.linear_model import LinearRegression, QuantileRegressor

    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    y = x @ [1.0, -2.0] + rng.normal(size=300) * (1 + np.abs(x[:, 0]))
    train, known, new = slice(0, 100), slice(100, 223), slice(223, 300)
    if with_quantiles:
        levels = (0.1, 0.9, 0.5)
        models = [QuantileRegressor(quantile=q, alpha=0).fit(x[train], y[train]) for q in levels]
        theirs = ConformalizedQuantileRegressor(models, confidence_level=0.8, prefit=True)
        low, high, points = (model.predict(x).reshape(-1, 1) for model in models)
        ends = (low, high)
        options = {"symmetric_correction": True}
    else:
        model = LinearRegression().fit(x[train], y[train])
        theirs = SplitConformalRegressor(
            model, confidence_level=0.8, conformity_score=AbsoluteConformityScore(), prefit=True
        )
        points, ends, options = model.predict(x).reshape(-1, 1), None, {}
    theirs.conformalize(x[known], y[known])
    _, expected = theirs.predict_interval(x[new], **options)

    def part(rows):
        return None if ends is None else (ends[0][rows], ends[1][rows])

    targets = y.reshape(-1, 1)
    calibration = Calibration.fit(0.8, points[known], part(known), targets[known], targets[train])
    lower, upper = calibration.bounds(points[new], part(new))
    np.testing.assert_allclose(np.hstack([lower, upper]), expected[:, :, 0], rtol=0, atol=1e-10)


def make(n=200, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)) * [1, 10, 0.1] + [0, 5, -3]
    return rows, rows[:, 0] * 3 + 7 + rng.normal(size=n)


@pytest.fixture(scope="module", params=["mse", "quantile"])
def fitted(request):
    return SequenceRegressor(**SMALL, loss=request.param, interval=0.8).fit(*make())


def test_the_validation_rows_are_covered_as_often_as_was_asked_for(fitted):
    rows, targets = make()
    _, lower, upper = fitted.predict_interval(rows)
    # 197 targets, the last 30 of them validate; the net rounds to float32.
    share = np.mean((lower - 1e-4 <= targets)[170:] & (targets <= upper + 1e-4)[170:])
    assert fitted.calibration.n_rows == 30
    assert share == math.ceil(0.8 * 31) / 30


def test_the_interval_is_around_what_predict_says_and_blank_where_no_window_ends(fitted):
    rows, _ = make()
    rows[50] = np.nan
    interval = fitted.predict_interval(rows)
    np.testing.assert_array_equal(interval.point, fitted.predict(rows))
    blank = [0, 1, 2, 50, 51, 52, 53]
    for values in interval:
        assert values.shape == (200,)
        assert np.flatnonzero(np.isnan(values)).tolist() == blank
    known = ~np.isnan(interval.point)
    assert (interval.lower[known] <= interval.point[known]).all()
    assert (interval.point[known] <= interval.upper[known]).all()


def test_rows_without_a_window_have_the_ends_of_the_forecast_that_knows_nothing(fitted):
    rows, targets = make()
    outputs = fitted.predict_outputs(rows, np.zeros(200, dtype=bool))
    lower, upper = fitted.bounds(outputs)
    scaling = fitted.scaling
    trained = (targets[3:170] - scaling.target_mean) / scaling.target_std
    np.testing.assert_allclose(lower, np.full((200, 1), np.quantile(trained, 0.1)), rtol=1e-5)
    np.testing.assert_allclose(upper, np.full((200, 1), np.quantile(trained, 0.9)), rtol=1e-5)


def test_a_wider_share_has_a_wider_interval():
    rows, targets = make()
    widths = []
    for interval in (0.5, 0.9):
        model = SequenceRegressor(**SMALL, interval=interval).fit(rows, targets)
        _, lower, upper = model.predict_interval(rows)
        widths.append(np.nanmean(upper - lower))
    assert widths[0] < widths[1]


def test_intervals_change_no_prediction_of_a_net_without_quantiles():
    rows, targets = make()
    without = SequenceRegressor(**SMALL).fit(rows, targets)
    with_interval = SequenceRegressor(**SMALL, interval=0.8).fit(rows, targets)
    np.testing.assert_array_equal(with_interval.predict(rows), without.predict(rows))
    assert without.calibration is None
    with pytest.raises(ConfigError, match=r"trained without intervals: set interval.*train it ag"):
        without.predict_interval(rows)


def test_an_eval_set_is_what_intervals_are_calibrated_on():
    rows, targets = make()
    model = SequenceRegressor(**SMALL, interval=0.8)
    model.fit(rows, targets, eval_set=make(60, seed=1))
    assert model.calibration.n_rows == 57
    wilder_rows, wilder = make(60, seed=1)
    wild = SequenceRegressor(**SMALL, interval=0.8)
    wild.fit(rows, targets, eval_set=(wilder_rows, wilder * 3))
    assert wild.calibration.margins[0] > model.calibration.margins[0]


def test_a_validation_part_that_is_too_small_is_refused_before_training():
    rows, targets = make()
    for options, n_rows in (({"valid_size": 0}, 0), ({"valid_size": 0.01}, 2)):
        model = SequenceRegressor(**SMALL, interval=0.8, **options)
        with pytest.raises(DataError, match=rf"at least 4 validation rows .* there are {n_rows}\."):
            model.fit(rows, targets)
        assert not model.is_fitted


def test_a_model_that_learns_on_calibrates_anew():
    """Catches margins of the weights before."""
    data = prepare(*make(), DataConfig(window=W))
    valid = data.valid
    model = SequenceRegressor(**SMALL, interval=0.8).fit_windows(data)
    before = copy.deepcopy(model.calibration)
    further = SequenceRegressor(**SMALL, interval=0.8)
    further.fit_windows(data, start_from=model)
    assert model.calibration == before
    assert further.calibration.margins != before.margins
    assert further.calibration.blank_lower == before.blank_lower
    outputs = further.predict_outputs(valid.rows.numpy(), np.isin(range(200), valid.ends))
    lower, upper = further.bounds(outputs[valid.ends])
    covered = (lower - 1e-6 <= valid.targets.numpy()) & (valid.targets.numpy() <= upper + 1e-6)
    assert covered.mean() == math.ceil(0.8 * 31) / 30


def test_a_training_without_an_interval_forgets_the_former_calibration():
    model = SequenceRegressor(**SMALL, interval=0.8).fit(*make())
    assert model.calibration is not None
    assert model.set_params(interval=None).fit(*make()).calibration is None


@pytest.mark.parametrize("options", [{}, {"symbol_embedding": 2}], ids=["blind", "told"])
def test_each_symbol_with_enough_rows_has_its_own_margin(options, tmp_path):
    """Catches one margin for all, which holds all of a calm symbol and too little of a wild one."""
    rng = np.random.default_rng(2)
    sizes = {"calm": 0.1, "wild": 3.0}
    x = {name: rng.normal(size=(400, 3)) for name in sizes}
    y = {name: size * rng.normal(size=400) for name, size in sizes.items()}
    x["new"], y["new"] = rng.normal(size=(60, 3)), rng.normal(size=60)
    model = SequenceRegressor(**SMALL, interval=0.8, **options).fit(x, y)
    # The symbol with 9 validation rows has the margin of all.
    assert list(model.calibration.by_symbol) == ["calm", "wild"]
    model.save(tmp_path / "model.zip")
    told = SequenceRegressor.load(tmp_path / "model.zip").predict_interval(x)
    for name in sizes:
        known = slice(350, 400)
        held = (told.lower[name] <= y[name]) & (y[name] <= told.upper[name])
        assert held[known].mean() == pytest.approx(0.8, abs=0.12), name
    width = {name: np.nanmean(told.upper[name] - told.lower[name]) for name in x}
    assert 5 * width["calm"] < width["new"] < width["wild"]
    _, rows, has_window = model.net_rows(x)
    said = model.predict_windows(rows.numpy(), has_window)
    if options:
        expected = np.concatenate(list(told.lower.values()))
        unscaled = model.scaling.unscale_targets(said.lower)[:, 0]
        np.testing.assert_allclose(unscaled, expected, rtol=1e-6)
