"""Ways in which a comparison fools itself, each set up on purpose through the real pipeline.

Every trap makes a figure jump that is honest without it: the figures here are those that a report
shows, of models that were trained by jobs on tables.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.assembly import Rows, assemble
from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.data.splits import fold_rows
from freqai_lstm_plugins.features.labels import KNOWN_AT
from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.experiment import experiment_hash, parse_experiment
from freqai_lstm_plugins.research.findings import find
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.metrics import scores
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import load_predictions

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

N, TEST = 400, 100
TREES = {"n_estimators": 60, "num_leaves": 31, "min_child_samples": 5, "learning_rate": 0.2}


def market(rng, n=N, symbols="ABC", signal=0.0):
    """Return candles by symbol with a column `%signal` that tells the next return.

    `signal` is the correlation of the column with it; with 0 the column is noise.
    """
    frames = {}
    for symbol in symbols:
        returns = 0.01 * rng.normal(size=n)
        noise = rng.normal(size=n)
        ahead = np.append(returns[1:], 0.0) / 0.01
        close = 100 * np.exp(np.cumsum(returns))
        opened = np.concatenate([[100], close[:-1]])
        frames[symbol] = pd.DataFrame(
            {
                "date": pd.bdate_range("2020-01-01", periods=n, tz="UTC"),
                "open": opened,
                "high": np.maximum(opened, close),
                "low": np.minimum(opened, close),
                "close": close,
                "volume": rng.uniform(1e3, 2e3, n),
                "%signal": signal * ahead + np.sqrt(1 - signal**2) * noise,
                "%other": rng.normal(size=n),
            }
        )
    return frames


def compared(frames, place, **changes):
    """Run an experiment on candles, a job after the other."""
    data = place / "data"
    data.mkdir(parents=True)
    for symbol, frame in frames.items():
        frame.to_parquet(data / f"{symbol}.parquet")
    values = {
        "seeds": [1],
        "data": {"folder": str(data)},
        "features": {"window": 3, "sets": ["columns"]},
        "split": {"folds": 1, "test_bars": TEST},
        "models": {"lightgbm": TREES},
        "portfolio": {"k": 1},
    }
    run = train(start(parse_experiment({**values, **changes}), place / "out"), workers=1)
    assert run.failures.empty
    return run


def forecasts(run):
    return check_predictions(load_predictions(run.plan.jobs, run.out, run.experiment.seeds))


def rank_ic(run, model="ridge"):
    return scores(keep_common(forecasts(run))).droplevel("seed").loc[model, "ts_rank_ic"]


def early_ic(run, n_rows=3):
    """Return lightgbm's IC in the rows right after a training, whose labels share most bars."""
    table = forecasts(run)
    table = table[table["model"] == "lightgbm"].sort_values("date")
    early = table.groupby(["symbol", "fold"]).head(n_rows)
    return early["prediction"].corr(early["label"])


# leaks


def without_purge(fold, frame):
    """Give back to the training what only the purge had taken from it."""
    inside = fold.train.holds(pd.DatetimeIndex(frame["date"]))
    labelled = inside & frame["label"].notna().to_numpy()
    return replace(fold_rows(fold, frame["date"], frame[KNOWN_AT]), train=labelled)


def purged_and_not(place, monkeypatch, seed):
    """Return the IC right after the trainings, as it is and without the purge."""
    # Labels of nine bars next to one another share eight, and a tree that sees the time alone
    # forecasts what the newest training rows knew.
    frames = market(np.random.default_rng(seed), n=360, symbols="AB")
    for frame in frames.values():
        frame["%other"] = frame["%signal"] = np.arange(len(frame), dtype=float)
    options = {
        "label": {"horizon": 9},
        "split": {"folds": 15, "test_bars": 10, "valid_fraction": 0.0},
        "features": {"window": 1, "sets": ["columns"]},
        "models": {"lightgbm": {**TREES, "min_child_samples": 1}},
    }
    honest = compared(frames, place / "honest", **options)
    with monkeypatch.context() as patched:
        patched.setattr(jobs_module, "split_rows", without_purge)
        refused = train(start(honest.experiment, place / "refused"), workers=1)
        assert len(refused.failures) == refused.n_left
        assert refused.failures["reason"].str.contains("which is not before").all()
        patched.setattr(jobs_module, "assert_no_peeking", lambda *_: None)
        leaky = compared(frames, place / "leaky", **options)
    return early_ic(honest), early_ic(leaky)


def test_without_the_purge_jobs_refuse_and_the_ic_rises_where_they_do_not(tmp_path, monkeypatch):
    honest, leaky = purged_and_not(tmp_path, monkeypatch, seed=5)
    assert leaky > honest + 0.3


@pytest.mark.slow
def test_the_ic_rises_without_the_purge_whatever_the_market(tmp_path, monkeypatch):
    found = [purged_and_not(tmp_path / str(n), monkeypatch, [20, n]) for n in range(6)]
    assert min(leaky - honest for honest, leaky in found) > 0.3


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_feature_of_tomorrow_shows_in_figures_that_no_honest_market_has(ahead, tmp_path):
    frames = market(np.random.default_rng(2))
    for frame in frames.values():
        returns = frame["close"].pct_change().fillna(0.0)
        frame["%other"] = returns.shift(-ahead).fillna(0.0)
    found = rank_ic(compared(frames, tmp_path))
    # Of 300 test rows, chance gives 0.06 times a few.
    assert found > 0.95 if ahead else abs(found) < 0.2


def test_features_and_labels_of_a_row_are_those_of_a_shorter_history(tmp_path):
    frames = market(np.random.default_rng(3))
    sets = {"features": {"window": 3, "sets": ["indicators", "alpha158_20"]}}
    whole = compared(frames, tmp_path / "whole", **sets)
    short = compared(
        {symbol: frame.head(N - 30) for symbol, frame in frames.items()}, tmp_path / "short", **sets
    )
    for symbol, table in short.dataset.tables.items():
        early = pd.read_parquet(table.path)
        late = pd.read_parquet(whole.dataset.tables[symbol].path).head(len(early))
        unknown = ["label", "known_at"]
        pd.testing.assert_frame_equal(early.drop(columns=unknown), late.drop(columns=unknown))
        known = early["label"].notna()
        pd.testing.assert_frame_equal(early.loc[known, unknown], late.loc[known, unknown])


def test_adding_later_rows_changes_no_earlier_forecast(tmp_path):
    frames = market(np.random.default_rng(4), n=N + 40)
    dates = frames["A"]["date"].dt.strftime("%Y-%m-%d")
    split = {
        "kind": "dates",
        "train": [dates[0], dates[N - TEST - 1]],
        "test": [dates[N - TEST], dates[N - 2]],
    }
    models = {"lightgbm": TREES, "naive_last": {}}
    tables = []
    for n in (N, N + 40):
        cut = {symbol: frame.head(n) for symbol, frame in frames.items()}
        run = compared(cut, tmp_path / str(n), split=split, models=models)
        tables.append(forecasts(run))
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*(scores(keep_common(table)) for table in tables))


def test_scaling_does_not_move_when_test_rows_change():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(200, 4)), rng.normal(size=(200, 1))
    follows = np.arange(200) > 0
    is_train, is_valid = np.arange(200) < 100, (np.arange(200) >= 100) & (np.arange(200) < 130)
    schema = Schema([f"f{n}" for n in range(4)], ["label"], [], [])

    def scaling(shift):
        moved, aims = features.copy(), targets.copy()
        moved[100:], aims[100:] = 50 * moved[100:] + shift, 50 * aims[100:] - shift
        rows = Rows(moved, aims, follows, np.zeros(200, dtype=int))
        return assemble(rows, is_train, is_valid, schema, 5).data.scaling.to_dict()

    assert scaling(7.0) == scaling(1000.0)


# chance, and what is more than chance


def test_of_shuffled_labels_nothing_is_found(tmp_path):
    """Ridge's interval of 95 % holds 0 in 90 of 100 draws at least, which the long test counts.

    Of ten draws at that rate seven or fewer hold it once in a dozen times, so eight are asked for.
    """
    assert shuffled_draws(tmp_path, range(10)) >= 8


@pytest.mark.slow
def test_of_a_hundred_shuffles_at_most_ten_are_taken_for_skill(tmp_path):
    assert shuffled_draws(tmp_path, range(100)) >= 90


def shuffled_draws(place, seeds):
    return sum(holds_zero(place / str(seed), np.random.default_rng([7, seed])) for seed in seeds)


def holds_zero(place, rng, model="ridge", **options):
    frames = market(rng, signal=0.9)
    for frame in frames.values():
        # Which bar follows which is lost: the column tells of another bar than the next.
        frame["%signal"] = rng.permutation(frame["%signal"])
    low, high = interval(compared(frames, place, **options), model)
    return low <= 0 <= high


def interval(run, model):
    """Return the ends of a model's interval as the report ranks it: of rank IC over time."""
    table = forecasts(run)
    year = bars_per_year(run.dataset.calendar)
    ranking = find(table, horizon=1, dates_per_year=year, n_draws=500).ranking
    line = ranking.loc[model]
    return line["lower"], line["upper"]


NOISE = {
    f"ridge-{number}": {"kind": "ridge", "alpha": alpha, "lags": lags}
    for number, (alpha, lags) in enumerate(
        (alpha, lags) for alpha in (1e-4, 1e-1, 1.0) for lags in ([0], [0, 1], [0, 1, 2])
    )
} | {"lightgbm": {"n_estimators": 10}}


def is_without_winner(place, rng):
    """Compare ten models on noise: whether neither Holm nor SPA names one better than another.

    A bootstrap of blocks is too sure of itself where dates are few: with a hundred of them one draw
    in seven has a winner.
    """
    long = {"folds": 1, "test_bars": 600}
    table = forecasts(compared(market(rng, n=1100), place, models=NOISE, split=long))
    found = find(table, horizon=1, dates_per_year=260, n_draws=500)
    assert len(found.ranking) == len(NOISE) + 2
    assert "better than lightgbm (p = " in found.verdicts[0]
    no_lead = "no model is shown to be better" in found.verdicts[0]
    return no_lead and not (found.comparisons["verdict"] == "better").any()


def draws_without_winner(place, seeds):
    return sum(is_without_winner(place / str(n), np.random.default_rng([9, n])) for n in seeds)


def test_ten_models_of_noise_have_no_winner(tmp_path):
    """At least 90 of 100: of three draws at that rate one alone is without once in 36."""
    assert draws_without_winner(tmp_path, range(3)) >= 2


@pytest.mark.slow
def test_of_a_hundred_draws_of_ten_models_of_noise_at_most_ten_have_a_winner(tmp_path):
    assert draws_without_winner(tmp_path, range(100)) >= 90


@pytest.mark.slow
def test_a_net_finds_nothing_in_shuffled_labels_either(tmp_path):
    net = {"lstm": {"hidden_size": 8, "num_layers": 1, "max_epochs": 5}}
    kept = [
        holds_zero(tmp_path / str(seed), np.random.default_rng([8, seed]), "lstm", models=net)
        for seed in range(10)
    ]
    assert sum(kept) >= 9


@pytest.mark.parametrize("planted", [0.15, 0.4])
def test_a_planted_signal_is_found_within_its_interval(planted, tmp_path):
    frames = market(np.random.default_rng(11), n=900, symbols="ABCD", signal=planted)
    run = compared(frames, tmp_path, split={"folds": 1, "test_bars": 400})
    low, high = interval(run, "ridge")
    # The rank correlation of normal variables lies a little below their correlation.
    truth = 6 / np.pi * np.arcsin(planted / 2)
    assert 0 < low < truth < high


# symbols that go


def test_a_symbol_delisted_half_way_stays_in_the_average(tmp_path):
    frames = market(np.random.default_rng(6), symbols="ABCDEF", signal=0.3)
    left = N - TEST // 2
    frames["F"] = frames["F"].head(left)
    run = compared(frames, tmp_path)
    table = forecasts(run)
    sizes = table[table["model"] == "ridge"].groupby("symbol").size()
    assert sizes.to_dict() == {**dict.fromkeys("ABCDE", TEST), "F": TEST // 2}
    assert "early_end" in set(run.dataset.checked.found["check"])
    page = judge_run(run)
    per_symbol = pd.read_csv(page.parent / "tables" / "symbols.csv", index_col=0)
    assert list(per_symbol.index) == list("ABCDEF")
    assert np.isfinite(per_symbol.loc["F", "ridge"])
    accounts = pd.read_csv(page.parent / "tables" / "accounts.csv")
    assert np.isfinite(accounts[["annual_return", "volatility", "drawdown"]]).all(axis=None)


def test_two_runs_with_one_hash_give_the_same_figures(tmp_path):
    net = {"hidden_size": 4, "num_layers": 1, "max_epochs": 2}
    frames = market(np.random.default_rng(9), signal=0.2)
    options = {"models": {"lightgbm": TREES, "lstm": net}, "seeds": [1, 2]}
    first = compared(frames, tmp_path / "first", **options)
    second = train(start(first.experiment, tmp_path / "second"), workers=1)
    assert experiment_hash(first.experiment) == experiment_hash(second.experiment)
    pages = [judge_run(run) for run in (first, second)]
    tables = [
        {path.name: path.read_text() for path in page.parent.glob("tables/*.csv")} for page in pages
    ]
    # What it took is no figure of the models.
    for found in tables:
        del found["timings.csv"]
    assert tables[0] == tables[1]
    verdicts = [(page.parent / "verdict.txt").read_text() for page in pages]
    assert verdicts[0] == verdicts[1]


def test_doubled_costs_never_raise_a_return(tmp_path):
    frames = market(np.random.default_rng(12), signal=0.2, symbols="ABCDEF")
    page = judge_run(compared(frames, tmp_path))
    accounts = pd.read_csv(page.parent / "tables" / "accounts.csv")
    wide = accounts.pivot(index="model", columns="costs", values="annual_return")
    assert ((wide["none"] >= wide["once"]) & (wide["once"] >= wide["twice"])).all()
