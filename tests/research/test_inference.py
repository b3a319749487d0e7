"""Verdicts: against reference libraries, and against traps whose answer is known."""

from __future__ import annotations

import math
import sys

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from freqai_lstm_plugins.errors import ConfigError, DataError, MissingExtraError
from freqai_lstm_plugins.research import inference
from freqai_lstm_plugins.research.inference import (
    ALIKE,
    BETTER,
    WORSE,
    ask_superiority,
    choose_block,
    deflate_sharpe,
    describe,
    find_best_set,
    holm,
    judge,
)
from freqai_lstm_plugins.research.metrics import date_series
from tests.research.tables import table, together, with_ic

YEAR = 252.0


def series_of(**models):
    """Make a series of (dates,) or (dates, seeds) values a model."""
    columns = {
        (name, seed): values
        for name, given in models.items()
        for seed, values in enumerate(np.atleast_2d(np.transpose(given)))
    }
    return pd.DataFrame(columns).rename_axis(columns=["model", "seed"])


def verdicts(judgement):
    lines = judgement.comparisons
    return lines.set_index(["model", "against"])["verdict"].to_dict()


def ruled(series, **changes):
    settings = {"horizon": 1, "dates_per_year": YEAR, "n_draws": 500} | changes
    return judge(series, **settings)


def test_the_interval_of_independent_dates_is_that_of_the_normal_law():
    rng = np.random.default_rng(0)
    values = rng.normal(0.1, 1.0, size=2000)
    found = ruled(series_of(ridge=values), n_draws=2000).models.loc["ridge"]
    error = values.std() / math.sqrt(len(values))
    assert found["estimate"] == values.mean()
    assert found["error"] == pytest.approx(error, rel=0.1)
    assert found["upper"] - found["lower"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_dates_that_hang_together_widen_the_interval():
    rng = np.random.default_rng(1)
    steps = rng.normal(size=3009)
    # A mean of ten neighbours varies ten times as much as its dates seem to say.
    values = np.convolve(steps, np.ones(10) / 10, mode="valid")
    found = ruled(series_of(ridge=values), horizon=10, n_draws=1000)
    assert found.block >= 10
    assert found.models["error"].item() == pytest.approx(1 / math.sqrt(3000), rel=0.25)


def test_a_block_is_never_shorter_than_two_labels():
    noise = np.random.default_rng(2).normal(size=(400, 1))
    assert choose_block(pd.DataFrame(noise), 1) < 12
    assert choose_block(pd.DataFrame(noise), 12) == 24


def test_a_block_leaves_four_of_its_kind():
    walk = np.random.default_rng(2).normal(size=(40, 1)).cumsum(axis=0)
    assert choose_block(pd.DataFrame(walk), 1) <= 10


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(3)
    dates = rng.normal(0, 0.1, size=(500, 1))
    found = ruled(series_of(lstm=dates + np.array([-0.05, 0.0, 0.05]), ridge=dates[:, 0])).models
    assert found["n_seeds"].tolist() == [3, 1]
    assert found.loc["lstm", "error"] > 3 * found.loc["ridge", "error"]
    assert found.loc["lstm", "estimate"] == pytest.approx(found.loc["ridge", "estimate"])


def test_what_all_models_share_cancels_in_their_difference():
    rng = np.random.default_rng(4)
    market = rng.normal(size=300)
    found = ruled(series_of(lightgbm=market, tft=market + rng.normal(0.02, 0.05, size=300)))
    line = found.comparisons.iloc[0]
    assert line["verdict"] == BETTER
    assert line["upper"] - line["lower"] < 0.1 * (
        found.models.loc["tft", "upper"] - found.models.loc["tft", "lower"]
    )


def test_a_model_is_better_worse_or_not_to_be_told():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(400, 4))
    found = ruled(
        series_of(
            lightgbm=noise[:, 0] * 0.1,
            gru=noise[:, 1] * 0.1 + 0.05,
            lstm=noise[:, 2] * 0.1 - 0.05,
            tft=noise[:, 3] * 0.1 + 0.002,
        )
    )
    assert verdicts(found) == {
        ("gru", "lightgbm"): BETTER,
        ("lstm", "lightgbm"): WORSE,
        ("tft", "lightgbm"): ALIKE,
    }
    assert found.best_set == ("gru",)
    assert found.spa < 0.01
    lines = found.comparisons.set_index("model")
    assert math.isnan(lines.loc["gru", "more_years"])
    assert lines.loc["tft", "more_years"] > 0
    sentences = describe(found, "mean IC")
    assert sentences[0].startswith("By mean IC, at least one model is better than lightgbm (p = 0")
    assert sentences[1].startswith("Better than lightgbm: gru (+0.04")
    assert sentences[2].startswith("Worse than lightgbm: lstm (-0.05")
    assert sentences[3].startswith("Not distinguishable from lightgbm: tft (")
    assert sentences[3].endswith("more years).")
    assert sentences[4] == "Not to be told from the best: gru."


def test_the_years_that_are_missing_follow_from_the_error():
    rng = np.random.default_rng(6)
    noise = rng.normal(size=252)
    noise = (noise - noise.mean()) / noise.std() + 0.05
    line = ruled(series_of(lightgbm=np.zeros(252), tft=noise), n_draws=2000).comparisons.iloc[0]
    # (2.8 / 0.05)**2 dates of spread 1 find a mean of 0.05 in 80 of 100 samples.
    assert line["more_years"] == pytest.approx((2.8016 / 0.05) ** 2 / YEAR - 1, rel=0.2)


def test_where_seeds_disagree_more_years_do_not_help():
    rng = np.random.default_rng(7)
    runs = rng.normal(0, 0.01, size=(300, 2)) + np.array([0.3, -0.28])
    found = ruled(series_of(lightgbm=np.zeros(300), lstm=runs))
    assert math.isinf(found.comparisons["more_years"].item())
    assert "to tell takes more seeds" in describe(found, "mean IC")[1]


def test_models_that_answer_alike_stand_together():
    rng = np.random.default_rng(8)
    values = rng.normal(0.1, 0.3, size=300)
    found = ruled(series_of(lightgbm=values, ridge=values, naive_zero=np.zeros(300)))
    assert set(found.best_set) == {"lightgbm", "ridge"}
    line = found.comparisons.iloc[0]
    assert (line["model"], line["difference"], line["p"], line["verdict"]) == ("ridge", 0, 1, ALIKE)
    assert "the same answers" in " ".join(describe(found, "mean IC"))


def test_models_with_the_same_mean_can_be_compared():
    turns = pd.DataFrame({"lightgbm": [1.0, 0.0] * 50, "ridge": [0.0, 1.0] * 50})
    assert find_best_set(turns, 2, n_draws=100) == ("lightgbm", "ridge")


def test_two_baselines_are_compared_once():
    rng = np.random.default_rng(8)
    runs = {name: rng.normal(size=50) for name in ("lightgbm", "ridge")}
    assert list(verdicts(ruled(series_of(**runs, naive_zero=np.zeros(50))))) == [
        ("ridge", "lightgbm"),
        ("lightgbm", "naive_zero"),
        ("ridge", "naive_zero"),
    ]


def test_one_model_alone_is_compared_with_nothing():
    found = ruled(series_of(ridge=np.random.default_rng(9).normal(size=50)))
    assert found.comparisons.empty
    assert found.best_set is None
    assert found.spa is None
    assert describe(found, "mean IC") == []


def test_draws_are_the_same_for_the_same_seed():
    values = series_of(lightgbm=np.random.default_rng(0).normal(size=(60, 2)), ridge=np.ones(60))
    one, two, other = ruled(values), ruled(values), ruled(values, seed=1)
    pd.testing.assert_frame_equal(one.models, two.models)
    pd.testing.assert_frame_equal(one.comparisons, two.comparisons)
    assert not one.models.equals(other.models)


def test_a_further_model_does_not_change_the_draws_of_the_others():
    rng = np.random.default_rng(10)
    values = {"lightgbm": rng.normal(size=200), "tft": rng.normal(size=200)}
    two = ruled(series_of(**values))
    three = ruled(series_of(**values, ridge=rng.normal(size=200) * 0.1))
    if two.block == three.block:
        assert two.models["lower"]["tft"] == three.models["lower"]["tft"]


def test_a_sure_difference_is_found_however_many_comparisons_there_are(monkeypatch):
    monkeypatch.setattr(inference, "DRAWS", 100)
    rng = np.random.default_rng(11)
    noise = {f"noise{number}": rng.normal(size=60) for number in range(9)}
    series = series_of(lightgbm=rng.normal(size=60), better=3 + rng.normal(size=60), **noise)
    # Of 100 draws the least share is 1 in 101, and ten times that is above 5 %.
    assert verdicts(ruled(series, n_draws=100))["better", "lightgbm"] == ALIKE
    found = ruled(series, n_draws=None)
    assert (len(found.comparisons), found.n_draws) == (10, 500)
    assert verdicts(found)["better", "lightgbm"] == BETTER
    assert ruled(series[["lightgbm", "better"]], n_draws=None).n_draws == 100


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(11).random(12) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    assert holm(np.array([])).size == 0


def test_a_sharpe_ratio_is_deflated_by_how_many_were_looked_at():
    rng = np.random.default_rng(12)
    returns = pd.DataFrame(rng.normal(0.0, 0.01, size=(500, 4)), columns=list("abcd"))
    returns["b"] += 0.002
    returns["d"] = 0.0
    few, many = deflate_sharpe(returns, 4), deflate_sharpe(returns, 400)
    assert few.index.tolist() == ["a", "b", "c"]
    assert (many < few).all()
    assert few["b"] > 0.9 > few["a"]
    with pytest.raises(ConfigError, match="3 accounts were looked at, but 4 are given"):
        deflate_sharpe(returns, 3)
    assert 0 < deflate_sharpe(returns[["a"]], 10).item() < 1


@pytest.mark.parametrize(
    ("n_dates", "horizon", "message"),
    [(39, 5, "39 dates .* 5 dates need 40"), (7, 1, "7 dates .* need 8")],
)
def test_too_few_dates_are_refused(n_dates, horizon, message):
    with pytest.raises(DataError, match=message):
        ruled(series_of(ridge=np.arange(float(n_dates))), horizon=horizon)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="horizon is 0"):
        ruled(series_of(ridge=np.arange(20.0)), horizon=0)


def test_what_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "arch.bootstrap", None)
    with pytest.raises(MissingExtraError, match=r"'arch'.*freqai_lstm_plugins\[research\]"):
        ruled(series_of(ridge=np.arange(20.0)))


# What must be caught. Each runs a few draws here and a hundred in the long runs.


def few_and_many(n_few):
    return pytest.mark.parametrize(
        "n_draws", [n_few, pytest.param(100, marks=pytest.mark.slow)], ids=["few", "hundred"]
    )


def overlapping(rng, n_dates, n_symbols, horizon):
    """Return labels over `horizon` days that share a market, and features that last for days."""
    days = rng.normal(size=(n_dates + horizon - 1, n_symbols)) + rng.normal(
        size=(n_dates + horizon - 1, 1)
    )
    labels = sum(days[lag : lag + n_dates] for lag in range(horizon))
    features = rng.normal(size=(n_dates, n_symbols, 8))
    for date in range(1, n_dates):
        features[date] += 0.8 * features[date - 1]
    return labels, features


def ridge_on_shuffled_labels(seed, n_dates=700, n_symbols=6, horizon=5):
    """Train ridge on shuffled labels of the first part, and judge what it says of the second."""
    rng = np.random.default_rng(seed)
    labels, features = overlapping(rng, n_dates, n_symbols, horizon)
    cut = n_dates * 3 // 7
    X, y = (
        features[: cut - horizon].reshape(-1, 8),
        rng.permutation(labels[: cut - horizon].ravel()),
    )
    weights = np.linalg.solve(X.T @ X + np.eye(8), X.T @ y)
    predictions = features[cut:] @ weights
    series = date_series(table(predictions, labels[cut:]), "ts_rank_ic")
    return ruled(series, horizon=horizon).models.loc["ridge"]


@few_and_many(20)
def test_shuffled_labels_leave_no_skill(n_draws, record_figure):
    found = [ridge_on_shuffled_labels(seed) for seed in range(n_draws)]
    holds_zero = sum(line["lower"] <= 0 <= line["upper"] for line in found)
    record_figure(f"intervals of ridge on shuffled labels that hold 0, of {n_draws}", holds_zero)
    # Of twenty draws of intervals that hold 19 in the mean, 16 are no surprise.
    assert holds_zero >= (0.9 if n_draws == 100 else 0.8) * n_draws


def winners_among_noise(seed, n_dates=250, n_symbols=6):
    rng = np.random.default_rng(seed)
    labels, _ = overlapping(rng, n_dates, n_symbols, 5)
    names = ["lightgbm", *(f"noise{number}" for number in range(9))]
    answers = [table(rng.normal(size=labels.shape), labels, model=name) for name in names]
    silent = table(np.zeros_like(labels), labels, model="naive_zero")
    found = ruled(date_series(together(*answers, silent), "ts_rank_ic"), horizon=5)
    named = set(found.comparisons.query("verdict == @BETTER")["model"]) - {"naive_zero"}
    return bool(named) or found.spa < 0.05


@few_and_many(10)
def test_ten_noise_models_have_no_winner(n_draws, record_figure):
    named = sum(winners_among_noise(seed) for seed in range(n_draws))
    record_figure(f"samples of ten noise models with no winner, of {n_draws}", n_draws - named)
    assert named <= 0.1 * n_draws


@pytest.mark.parametrize("measure", ["ts_ic", "cs_ic"])
@few_and_many(10)
def test_a_planted_signal_is_found_within_its_interval(n_draws, measure, record_figure):
    inside, told_apart = 0, 0
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        labels = rng.normal(size=(500, 8))
        both = together(
            table(with_ic(rng, labels, 0.1), labels),
            table(rng.normal(size=labels.shape), labels, model="lightgbm"),
            table(np.zeros_like(labels), labels, model="naive_zero"),
        )
        judgement = ruled(date_series(both, measure))
        line = judgement.models.loc["ridge"]
        inside += line["lower"] <= 0.1 <= line["upper"]
        told = verdicts(judgement)
        told_apart += told["ridge", "naive_zero"] == told["ridge", "lightgbm"] == BETTER
    record_figure(f"intervals of {measure} that hold the planted 0.1, of {n_draws}", inside)
    assert inside >= 0.9 * n_draws
    assert told_apart >= 0.9 * n_draws


def test_the_set_of_the_best_and_superiority_need_a_rival():
    values = pd.DataFrame({"lightgbm": np.arange(20.0), "ridge": np.arange(20.0)})
    assert ask_superiority(values, "lightgbm", 2) is None
    assert ask_superiority(values[["ridge"]], "lightgbm", 2) is None
    assert find_best_set(values, 2) == ("lightgbm", "ridge")
    assert find_best_set(values[["ridge"]], 2) is None
