"""The benchmarks run, and what they find reaches the page."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from typer.testing import CliRunner

from benchmarks import limit, peak, report
from benchmarks.data import new_net
from benchmarks.measure import Ratio, Row, Spread, Stopwatch, alternate
from benchmarks.rows import ROWS
from benchmarks.sizes import QUICK, GrowthSize, MemorySize

pytestmark = pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")

TINY = dataclasses.replace(
    QUICK,
    rounds=1,
    features=(4,),
    live_rounds=1,
    predict_rows=20,
    pairs=2,
    memory=MemorySize(rows=200, features=4, window=4, steps=2),
    growth=GrowthSize(rows=60, features=8, window=4, factors=(1, 2)),
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
