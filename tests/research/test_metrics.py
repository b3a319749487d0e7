"""Figures of predictions, against numbers worked out by hand and by scipy."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research import metrics
from tests.research.tables import table, together, with_ic

NAN = float("nan")
RNG = np.random.default_rng(5)
LABELS = RNG.normal(size=(40, 6))
PREDICTIONS = with_ic(RNG, LABELS, 0.4)
RUN = ("ridge", 0)


def ragged():
    """A symbol that is listed late, one that ends early, and ties."""
    labels, predictions = LABELS.round(1), PREDICTIONS.round(1)
    labels[:7, 0] = NAN
    predictions[30:, 1] = NAN
    return predictions, labels


def reference(predictions, labels, function):
    pairs = np.isfinite(predictions) & np.isfinite(labels)
    return [
        function(p[ok], y[ok]).statistic
        for p, y, ok in zip(predictions, labels, pairs, strict=True)
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(metrics.cs_ic, stats.pearsonr), (metrics.cs_rank_ic, stats.spearmanr)]
)
def test_correlation_across_symbols_is_that_of_scipy(ours, theirs):
    predictions, labels = ragged()
    found = ours(table(predictions, labels))[RUN]
    assert len(found) == 40
    np.testing.assert_allclose(found, reference(predictions, labels, theirs), rtol=0, atol=2e-15)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(metrics.ts_ic, stats.pearsonr), (metrics.ts_rank_ic, stats.spearmanr)]
)
def test_correlation_over_time_is_that_of_scipy(ours, theirs):
    predictions, labels = ragged()
    found = ours(table(predictions, labels))[RUN]
    assert found.index.tolist() == [f"S{number:02d}" for number in range(6)]
    np.testing.assert_allclose(
        found, reference(predictions.T, labels.T, theirs), rtol=0, atol=2e-15
    )


def test_a_perfect_order_is_one_and_its_mirror_minus_one():
    labels = [[1, 2, 3, 4, 5], [5, 3, 4, 1, 2]]
    found = metrics.cs_rank_ic(table([[1, 4, 9, 16, 25], [-5, -3, -4, -1, -2]], labels))
    assert found[RUN].tolist() == [1.0, -1.0]


def test_ratio_of_mean_and_spread_over_dates():
    # Two swaps of neighbours: 1 - 6 * 2 / (5 * 24) = 0.9, four of them 0.8.
    labels = [[1, 2, 3, 4, 5]] * 2
    by_date = metrics.cs_rank_ic(table([[2, 1, 3, 4, 5], [2, 1, 4, 3, 5]], labels))
    assert by_date[RUN].tolist() == pytest.approx([0.9, 0.8])
    assert metrics.icir(by_date)[RUN] == pytest.approx(0.85 / (0.1 / np.sqrt(2)))


def test_figures_across_symbols_are_absent_for_fewer_than_five():
    found = metrics.scores(table(PREDICTIONS[:, :4], LABELS[:, :4]))
    assert not {"cs_ic", "cs_rank_ic", "icir", "rank_icir", "top_minus_bottom"} & set(found)
    assert metrics.cs_ic(table(PREDICTIONS[:, :1], LABELS[:, :1])).empty
    assert not found.isna().any().any()
    with pytest.raises(DataError, match="cs_ic needs 5 symbols"):
        metrics.date_series(table(PREDICTIONS[:, :4], LABELS[:, :4]), "cs_ic")


def test_a_date_with_fewer_than_five_symbols_does_not_count():
    predictions = PREDICTIONS.copy()
    predictions[3, :2] = NAN
    found = metrics.cs_ic(table(predictions, LABELS))
    assert len(found) == 39


def test_a_forecast_that_orders_nothing_has_a_correlation_of_zero():
    found = metrics.scores(table(np.full((40, 6), 0.1), LABELS)).loc[RUN]
    assert found[["ts_ic", "ts_rank_ic", "cs_ic", "cs_rank_ic"]].tolist() == [0.0] * 4
    assert np.isnan(found["autocorrelation"])


def test_labels_that_are_all_the_same_have_no_correlation():
    labels = LABELS.copy()
    labels[:, 2] = 0.1
    labels[5] = 0.1
    assert np.isnan(metrics.ts_ic(table(PREDICTIONS, labels))[RUN]["S02"])
    assert len(metrics.cs_ic(table(PREDICTIONS, labels))) == 39


def test_errors_by_hand():
    frame = table([[1.0], [-2.0], [0.0], [3.0]], [[2.0], [-1.0], [-4.0], [0.0]])
    found = metrics.errors(frame).loc[RUN]
    assert found["n_rows"] == 4
    assert found["mse"] == (1 + 1 + 16 + 9) / 4
    assert found["mae"] == (1 + 1 + 4 + 3) / 4
    assert found["r2"] == 1 - 27 / 21
    # Two hits and half a hit of three; the label of zero has no sign.
    assert found["hit_rate"] == pytest.approx(2.5 / 3)
    assert found["majority"] == pytest.approx(2 / 3)


def test_the_naive_forecast_explains_nothing():
    assert metrics.errors(table(np.zeros((40, 6)), LABELS))["r2"].item() == 0.0


def test_coverage_and_width_count_rows_that_have_an_interval():
    frame = table([[0.0]] * 4, [[0.5], [2.0], [1.0], [9.0]])
    frame = frame.assign(lower=[-1.0, -1.0, 0.0, NAN], upper=[1.0, 1.0, 1.0, NAN])
    found = metrics.errors(frame).loc[RUN]
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["width"] == pytest.approx(5 / 3)
    assert "coverage" not in metrics.errors(frame.drop(columns=["lower", "upper"]))


def test_labels_by_quantile_of_the_predictions():
    predictions = [[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]]
    found = metrics.quantile_labels(table(predictions, [np.arange(10.0)])).loc[RUN]
    assert found.tolist() == [8.5, 6.5, 4.5, 2.5, 0.5]
    assert metrics.top_minus_bottom(table(predictions, [np.arange(10.0)]))[RUN] == -8.0
    over_time = metrics.quantile_labels(
        table(np.transpose(predictions), np.arange(10.0)[:, None]), "date"
    )
    assert over_time.loc[RUN].tolist() == [8.5, 6.5, 4.5, 2.5, 0.5]


def test_top_minus_bottom_of_a_forecast_without_order_is_absent():
    both = together(
        table(np.zeros((40, 6)), LABELS, model="naive_zero"), table(PREDICTIONS, LABELS)
    )
    assert metrics.top_minus_bottom(both).index.tolist() == [RUN]


def test_autocorrelation_compares_neighbouring_dates_alone():
    series = RNG.normal(size=30).cumsum()
    series[10] = NAN
    found = metrics.autocorrelation(table(series[:, None], np.ones((30, 1))))[RUN]
    before, now = series[:-1], series[1:]
    ok = np.isfinite(before) & np.isfinite(now)
    assert found == pytest.approx(stats.pearsonr(before[ok], now[ok]).statistic)


def test_skill_is_the_geometric_mean_over_tasks():
    # Squared errors of 1 in four tasks against 4, 1/4, 1 and 1: ratios 1/4, 4, 1, 1.
    labels = np.zeros((2, 2))
    one = table(np.ones((2, 2)), labels, fold=[0, 1])
    base = table([[2.0, 0.5], [1.0, 1.0]], labels, fold=[0, 1], model="lightgbm")
    found = metrics.skill(together(one, base), "lightgbm").loc["ridge"]
    assert found["skill"] == pytest.approx(0.0)
    assert found["win_rate"] == (1 + 0 + 0.5 + 0.5) / 4
    assert found["n_tasks"] == 4
    better = together(table(np.ones((2, 2)) / 2, labels, fold=[0, 1]), base)
    ratios = np.array([1 / 16, 1.0, 1 / 4, 1 / 4])
    found = metrics.skill(better, "lightgbm").loc["ridge"]
    assert found["skill"] == pytest.approx(1 - stats.gmean(ratios))
    with pytest.raises(DataError, match="No model is called 'lightbgm'"):
        metrics.skill(better, "lightbgm")


@pytest.mark.parametrize("measure", ["ts_ic", "ts_rank_ic", "cs_ic", "cs_rank_ic", "mse"])
def test_the_mean_over_dates_is_the_figure(measure):
    predictions, labels = ragged()
    frame = table(predictions, labels)
    expected = metrics.scores(frame)[measure].item()
    found = metrics.date_series(frame, measure)[RUN].mean()
    assert found == pytest.approx(-expected if measure == "mse" else expected, abs=1e-14)


def test_a_constant_forecast_gives_zero_on_each_date():
    assert not metrics.date_series(table(np.ones((40, 6)), LABELS), "ts_ic").to_numpy().any()


def test_influences_carry_the_spread_of_the_correlation():
    # The standard error of r is (1 - r**2) / sqrt(n) for normal numbers.
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(20_000, 1))
    found = metrics.date_series(table(with_ic(rng, labels, 0.5), labels), "ts_ic")[RUN]
    assert found.std() == pytest.approx(0.75, rel=0.05)


def test_each_run_has_a_line_of_its_own():
    frame = together(
        table(PREDICTIONS, LABELS, seed=1),
        table(-PREDICTIONS, LABELS, seed=2),
        table(PREDICTIONS, LABELS, model="tft"),
    )
    found = metrics.scores(frame)["ts_ic"]
    assert found.index.tolist() == [("ridge", 1), ("ridge", 2), ("tft", 0)]
    assert found[("ridge", 1)] == -found[("ridge", 2)] == found[("tft", 0)]


def by_groups(frame):
    """The correlations of `cs_ic` and `cs_rank_ic` as a loop over dates gives them."""
    groups = frame.groupby("date")
    pearson = groups.apply(lambda rows: rows["prediction"].corr(rows["label"]))
    ranks = groups.apply(lambda rows: rows["prediction"].corr(rows["label"], method="spearman"))
    return pearson, ranks


@pytest.mark.slow
def test_correlations_across_symbols_are_fifty_times_as_fast_as_a_loop(record_figure):
    labels = RNG.normal(size=(3459, 30))
    frame = table(with_ic(RNG, labels, 0.05), labels)
    start = time.perf_counter()
    pearson, ranks = by_groups(frame)
    loop = time.perf_counter() - start
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ours, our_ranks = metrics.cs_ic(frame), metrics.cs_rank_ic(frame)
        seconds.append(time.perf_counter() - start)
    np.testing.assert_allclose(ours[RUN], pearson, rtol=0, atol=2e-15)
    np.testing.assert_allclose(our_ranks[RUN], ranks, rtol=0, atol=2e-15)
    record_figure("cs_ic and cs_rank_ic: times as fast as a loop", f"{loop / min(seconds):.0f}")
    assert loop / min(seconds) >= 50


def test_tables_of_several_runs_equal_those_of_each_run_alone():
    one, two = table(PREDICTIONS, LABELS), table(LABELS * 2, LABELS, model="tft", seed=3)
    both = metrics.scores(together(one, two))
    alone = pd.concat([metrics.scores(one), metrics.scores(two)])
    pd.testing.assert_frame_equal(both, alone)
