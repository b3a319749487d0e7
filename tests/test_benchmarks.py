"""The benchmarks run, and what they find reaches the page."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import benchmarks.ensemble
from benchmarks import alpha158, candles, coverage, limit, peak, report
from benchmarks.compare import add_figures
from benchmarks.data import new_net
from benchmarks.load import Load, describe
from benchmarks.measure import Ratio, Row, Spread, Stopwatch, alternate
from benchmarks.rows import ROWS
from benchmarks.sizes import (
    QUICK,
    Alpha158Size,
    CoverageSize,
    GrowthSize,
    MemorySize,
    NetsSize,
    SupervisionSize,
)
from freqai_lstm_plugins import features
from freqai_lstm_plugins.nets import NETS
from freqai_lstm_plugins.replay import synthetic_market

pytestmark = pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")

TINY = dataclasses.replace(
    QUICK,
    rounds=1,
    features=(4,),
    live_rounds=1,
    predict_rows=20,
    pairs=2,
    memory=MemorySize(rows=200, features=4, window=4, steps=2),
    alpha158=Alpha158Size(rows=150, newest=70),
    growth=GrowthSize(rows=60, features=8, window=4, factors=(1, 2)),
    nets=NetsSize(features=(4,), batches=1, predict_rows=20, rounds=1),
    supervision=SupervisionSize(train_rows=120, test_rows=30, folds=2, seeds=1, pairs=2, epochs=1),
    coverage=CoverageSize(
        pairs={"1h": 2, "5m": 1},
        train_rows=120,
        test_rows={"1h": 30, "5m": 40},
        folds=2,
        seeds=2,
        intervals=(0.8,),
        hidden_size=2,
        epochs=1,
    ),
)


def example(name: str = "growth") -> Row:
    return Row(
        name,
        "A title",
        "What both sides do.",
        ratios=[Ratio("ours against theirs", Spread.of([1.0, 3.0, 2.0]), "at least 1")],
        absolute=[("ours", Spread.of([0.002]), "s")],
        notes=["A peer is not installed."],
        points={"rows": [(1.0, 0.1, 10.0), (2.0, 0.2, 20.0)]},
    )


def require_sound(row: Row) -> None:
    assert row.work
    assert row.ratios
    for ratio in row.ratios:
        spread = ratio.spread
        assert 0 < spread.low <= spread.median <= spread.high < math.inf
    assert json.loads(json.dumps(row.to_dict())) == json.loads(
        json.dumps(Row.from_dict(row.to_dict()).to_dict())
    )


@pytest.mark.parametrize("name", ["train", "predict", "live", "headline", "imports"])
def test_a_row_gives_finite_positive_ratios(name):
    row = ROWS[name](TINY)
    assert row.name == name
    require_sound(row)


@pytest.mark.slow
def test_the_row_of_one_net_for_all_pairs_gives_finite_positive_ratios():
    row = ROWS["panel"](dataclasses.replace(TINY, panel=QUICK.panel))
    require_sound(row)
    parts = ("the training itself", "features apart", "with features", "joined rows", "their rows")
    assert all(any(part in ratio.what for ratio in row.ratios) for part in parts)


@pytest.mark.parametrize("name", ["memory", "growth"])
def test_a_row_of_peaks_gives_finite_positive_ratios(name, monkeypatch):
    def in_child(action, **arguments):
        assert action in peak.ACTIONS
        return peak.Peak(1000, 0.01 * arguments["rows"] * arguments["window"])

    monkeypatch.setattr(peak, "is_measurable", lambda: True)
    monkeypatch.setattr(peak, "in_child", in_child)
    row = ROWS[name](dataclasses.replace(TINY, growth=GrowthSize(factors=(1, 2))))
    assert row.name == name
    require_sound(dataclasses.replace(row, ratios=row.ratios[:1]))


def test_the_row_of_ensembles_gives_finite_positive_ratios(monkeypatch):
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(peak, "is_measurable", lambda: True)
    monkeypatch.setattr(peak, "in_child", lambda action, **_: peak.Peak(1000, 0.1))
    # One run of each side is enough to see that it runs.
    monkeypatch.setattr(benchmarks.ensemble, "alternate", partial(alternate, warmups=0))
    row = ROWS["ensemble"](dataclasses.replace(TINY, window=6, ensemble=QUICK.ensemble))
    require_sound(row)
    assert {ratio.goal for ratio in row.ratios} == {
        "at most 1.1",
        "at most 3.3",
        "at most 1.05",
        "at most 1.2",
        "1",
    }


@pytest.mark.slow
def test_the_row_of_searches_gives_finite_positive_ratios():
    pytest.importorskip("optuna")
    row = ROWS["tune"](QUICK)
    require_sound(row)
    assert len(row.notes) == 2


def test_the_row_of_alpha158_has_a_page_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(peak, "in_child", lambda action, rows: peak.Peak(3000 * rows, 0.1))
    monkeypatch.setattr(alpha158, "GOLDEN", tmp_path)
    row = ROWS["alpha158"](TINY)
    require_sound(row)
    assert "No golden pair" in row.notes[0]
    assert "| 0.5 | RANK, RSV," in row.notes[1]
    page = tmp_path / "all.md"
    own = tmp_path / "alpha158.md"
    own.write_text(f"# Prose\n{report.BEGIN}\n{report.END}\n")
    report.write_pages(page, [row])
    assert not page.exists()
    assert own.read_text().startswith("# Prose\n")
    report.write_pages(page, [row, example()])
    assert "A title" in page.read_text()
    assert row.title in own.read_text()
    assert "A title" not in own.read_text()


def test_the_golden_table_tells_what_differs(tmp_path):
    dates = pd.date_range("2024-01-01", periods=80, freq="D")
    market = synthetic_market(["A/USDT"], "1d", 80, seed=1)["A/USDT"].assign(date=dates)
    made = features.alpha158(market, qlib_compatible=True).add_prefix("feature.")
    made["feature.MA5"] *= 1.01
    made.loc[7, "feature.KMID"] = np.nan
    made.insert(0, "instrument", "A")
    made.insert(0, "datetime", dates)
    made.to_parquet(tmp_path / "alpha158_qlib097.parquet")
    (tmp_path / "csv").mkdir()
    market.to_csv(tmp_path / "csv" / "A.csv", index=False)
    found = alpha158.golden_differences(tmp_path)
    assert found["relative"]["MA5"] == pytest.approx(0.01 / 1.01)
    assert found["nan"]["KMID"] == found["nan"].sum() == 1
    assert found["relative"].drop("MA5").max() < 1e-6
    assert "in 157 of 158 features" in alpha158.golden_table(tmp_path)


def test_the_row_of_nets_compares_every_net_with_the_lstm():
    row = ROWS["nets"](TINY)
    require_sound(row)
    compared = [ratio.what for ratio in row.ratios]
    assert [line.split(" | ")[1] for line in row.notes[0].splitlines()[2:]] == list(NETS)
    for name in list(NETS)[1:]:
        assert f"F 4, training: lstm against {name}" in compared
    assert "F 4, training: gru with dense supervision against gru" in compared


WORKERS_END = """
import os
from joblib import Parallel, delayed, parallel_config
from benchmarks.compare import end_workers

with parallel_config(backend="loky"):
    workers = set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(8)))
assert os.getpid() not in workers
end_workers()
for worker in workers:
    try:
        os.kill(worker, 0)
    except ProcessLookupError:
        print("ended")
"""


def test_a_comparison_leaves_no_workers_that_wait():
    pytest.importorskip("joblib")
    # A worker that is left keeps the process from ending for minutes.
    result = subprocess.run(
        [sys.executable, "-c", WORKERS_END],
        cwd=peak.ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert set(result.stdout.split()) == {"ended"}


@pytest.mark.slow
def test_the_row_of_comparisons_prints_every_ratio_and_ends():
    for needed in ("arch", "purgedcv", "distributed", "jinja2", "plotly"):
        pytest.importorskip(needed)
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "compare", "--quick"],
        cwd=peak.ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    for what in (
        "time of the jobs' part / (sum of job seconds / 2 workers)",
        "a finished run repeated / the first",
        "report / the whole run",
        "jobs on dask / by joblib, 2 workers",
        "peak memory, 6 symbols / 2",
        "cs_ic and cs_rank_ic against date by date",
    ):
        assert what in result.stdout


def test_correlations_across_symbols_are_those_of_each_date_by_itself():
    row = Row("compare", "", "")
    add_figures(row, QUICK.compare, rounds=1)
    apart = [float(note.rsplit(" ", 1)[1].rstrip(".")) for note in row.notes]
    assert len(apart) == 2
    assert max(apart) < 1e-12
    require_sound(dataclasses.replace(row, work="compares"))


@pytest.fixture
def a_market(tmp_path, monkeypatch):
    """Candles of two pairs where the rows look for real ones."""
    for timeframe in ("1h", "5m"):
        market = synthetic_market(["A/USDT", "B/USDT"], timeframe, 600, seed=1)
        for pair, frame in market.items():
            path = tmp_path / f"{pair.replace('/', '_')}-{timeframe}.feather"
            frame.to_feather(path)
    monkeypatch.setattr(candles, "CANDLES", tmp_path)


def test_forecasts_on_candles_are_compared_by_pair(a_market):
    row = ROWS["supervision"](TINY)
    assert "| A/USDT |" in row.notes[0]
    assert "over 4 pairs and folds" in row.notes[1]


def test_coverage_is_shown_in_all_and_by_pair(a_market):
    row = ROWS["coverage"](TINY)
    summary, errors, hourly, quick = row.notes
    # Two timeframes, two labels, three intervals.
    assert len(summary.splitlines()) == 2 + 2 * 2 * 3
    assert "standard error over 2 folds" in errors
    assert "| B/USDT | return |" in hourly
    assert "| B/USDT |" not in quick
    for _, spread, _ in row.absolute:
        assert 0 <= spread.low <= spread.median <= spread.high <= 1
    assert "nan" not in "".join(row.notes)


@pytest.mark.parametrize("name", ["supervision", "coverage"])
def test_a_row_without_candles_says_so(name, tmp_path, monkeypatch):
    monkeypatch.setattr(candles, "CANDLES", tmp_path)
    row = ROWS[name](TINY)
    assert "No candles of 1h" in row.notes[0]
    assert not row.absolute


def test_an_interval_pays_for_its_width_and_for_targets_outside():
    targets = np.array([[0.0], [1.0], [3.0], [-2.0]])
    lower, upper = np.array([[-1.0]]), np.array([[1.0]])
    # Two of four are outside, by 2 and by 1, each times 2 / 0.2.
    found = coverage.figures(lower, upper, targets, 0.8)
    np.testing.assert_allclose(found, [[0.5, 2.0, 2.0 + 10 * 3 / 4]])


def test_the_quantiles_have_the_best_score():
    targets = np.random.default_rng(0).standard_normal((20_000, 1))
    scores = [
        coverage.figures(np.array([[-end]]), np.array([[end]]), targets, 0.8)[0, coverage.SCORE]
        for end in (0.9, 1.2816, 1.8)
    ]
    assert scores[1] == min(scores)


def test_the_error_of_a_mean_is_that_of_independent_values():
    values = np.random.default_rng(0).standard_normal((2_000, 10))
    found = np.array([coverage.with_error(each) for each in values])
    assert math.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(found[:, 0].std(), rel=0.05)


def test_folds_follow_each_other_and_no_training_label_reaches_into_a_test():
    folds = list(candles.walk_forward(100, train_rows=40, test_rows=20, folds=3))
    assert [test for _, test in folds] == [slice(40, 60), slice(60, 80), slice(80, 100)]
    for train, test in folds:
        assert train.stop - 1 + candles.HORIZON < test.start
        assert train.start == test.start - 40


@pytest.mark.skipif(not peak.is_measurable(), reason="/proc tells the peak on Linux only")
def test_a_peak_counts_what_an_action_takes_and_nothing_before_it():
    held = bytearray(30_000_000)
    found = peak.measure(lambda: bytearray(20_000_000))
    assert 18_000_000 < found.bytes < 25_000_000
    assert found.seconds > 0
    assert len(held) == 30_000_000


def test_the_limit_does_the_products_of_every_batch():
    net = new_net(5, TINY.net)
    # Two layers: a projection of inputs each and a product a step but the first; two of the head.
    assert len(limit.products(net, 3, 6, backward=False)) == 2 * (1 + 5) + 2
    limit.side(net, 7, 3, 6, backward=True)()


def test_sides_take_turns_and_the_warm_up_does_not_count():
    calls: list[str] = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = alternate(sides, rounds=2)
    assert "".join(calls) == "ababab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_a_stopwatch_counts_a_call_inside_another_once():
    class Model:
        def outer(self):
            return self.inner()

        def inner(self):
            return sum(range(10_000))

    model, stopwatch, whole = Model(), Stopwatch(), Stopwatch()
    stopwatch.watch(model, "outer")
    stopwatch.watch(model, "inner")
    with whole.running():
        model.outer()
    assert 0 < stopwatch.lap() < whole.lap()
    assert stopwatch.lap() == 0


def test_results_are_written_between_the_markers_and_read_again(tmp_path):
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.write_page(page, [example()])
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert text.count("| ours against theirs | 2.00 | 1.00 to 3.00 | at least 1 |") == 1
    assert "| ours | 2 ms | 2 to 2 ms |" in text
    assert "![A title](page_growth.png)" in text
    assert (tmp_path / "page_growth.png").read_bytes().startswith(b"\x89PNG")
    report.write_json(results, [example()])
    assert report.read_rows(results)["growth"].ratios == example().ratios


def test_a_page_without_markers_is_not_overwritten(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.write_page(page, [example()])
    assert page.read_text() == "mine"


def test_the_command_keeps_the_rows_that_it_does_not_measure(tmp_path, monkeypatch):
    import typer

    from benchmarks.__main__ import main

    monkeypatch.setitem(ROWS, "imports", lambda size: example("imports"))
    monkeypatch.setattr("logging.disable", lambda level: None)
    app = typer.Typer()
    app.command()(main)
    results = tmp_path / "results.json"
    report.write_json(results, [example("headline")])
    arguments = ["imports", "--quick", "--json", str(results), "--doc", str(tmp_path / "page.md")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert list(report.read_rows(results)) == ["headline", "imports"]
    assert "torch threads" in report.read_rows(results)["imports"].machine
    assert CliRunner().invoke(app, ["trian"]).exit_code == 2


def test_the_load_of_others_is_told():
    load, deadline = Load(), time.monotonic() + 60
    if load.cores() is None:
        pytest.skip("this system does not tell what processes use")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        # A child counts as another until it has ended.
        while (busy := load.cores()) <= 0.5 and time.monotonic() < deadline:
            time.sleep(0.2)
        other.kill()
    assert busy > 0.5
    assert "others used" in describe(load)
