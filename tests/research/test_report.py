"""The page of a comparison and its tables: complete, self-contained, and the same in every form."""

from __future__ import annotations

import io
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import MissingExtraError
from freqai_lstm_plugins.research.charts import (
    COLOURS,
    Palette,
    draw_drawdown,
    draw_outcomes,
    thin,
)
from freqai_lstm_plugins.research.findings import EQUAL
from freqai_lstm_plugins.research.report import (
    Report,
    Run,
    build_sections,
    by_month,
    lay_out,
    to_csv,
    write_report,
)
from tests.research.reports import made_findings, made_run

MIB = 2**20


class Page(HTMLParser):
    """Collects headings, table cells, scripts and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.cells, self.headings = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th") and data.strip():
            self.cells.append(data)
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data)


@pytest.fixture(scope="module")
def report():
    return Report(made_run(), made_findings())


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(report, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text("utf-8")


def test_the_page_stands_alone_and_is_small(folder, text):
    assert (folder / "report.html").stat().st_size < 8 * MIB
    # Only places of the page itself, and an icon that is none.
    assert {address[:1] for address in Page(text).addresses} <= {"#", "d"}
    assert "default-src 'none'" in text
    assert text.count("plotly.js v") == 1


def test_the_verdict_stands_first_and_the_parts_in_their_order(text, report):
    assert Page(text).headings == [
        "Ranking",
        "One against the other",
        "All figures of each run",
        "Symbol by symbol",
        "Month by month",
        "What followed low and high predictions",
        "What trading them would have earned",
        "Accounts, one against the other",
        "Prediction against outcome",
        "Training curves",
        "Trainings",
        "Rows left out between training and test",
        "Jobs that failed or could not be done",
        "Data check",
        "Experiment",
    ]
    first = report.findings.verdicts[0]
    assert text.index(first) < text.index("<nav") < text.index("<h2>Ranking")


def test_tables_are_there_without_any_script(text, report):
    bare = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    cells = Page(bare).cells
    assert bare.count("<table>") == 14
    for name in ("estimate", "p_holm", "rank_icir", "S05", "2024-08", "break_even", "n_purged"):
        assert name in cells
    assert f"{report.findings.ranking['estimate'].iloc[0]:.4f}" in cells


def test_what_users_wrote_is_text_and_no_markup(text):
    assert "# &lt;script&gt;" in text
    assert "# <script>" not in text


def test_csv_files_hold_the_same_tables_with_all_digits(folder, report):
    read = pd.read_csv(folder / "tables" / "ranking.csv", index_col="model")
    pd.testing.assert_frame_equal(read, report.findings.ranking, check_names=False)
    names = {path.stem for path in (folder / "tables").iterdir()}
    palette = Palette(report.findings.ranking.index)
    assert names == {part.name for part in build_sections(report, palette)}


def test_markdown_has_the_verdict_and_the_tables(folder, report):
    text = (folder / "report.md").read_text("utf-8")
    assert f"- {report.findings.verdicts[0]}\n" in text
    assert "| model | estimate | lower | upper |" in text
    assert "limit of 7 % \\| and stayed there" in text
    assert "`tables/histories.csv`" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_parts_that_have_nothing_to_show_are_left_out(report, tmp_path):
    write_report(Report(Run("t", "s", "x = 1"), report.findings), tmp_path)
    headings = Page((tmp_path / "report.html").read_text("utf-8")).headings
    assert not {"Training curves", "Data check", "Jobs that failed or could not be done"} & set(
        headings
    )


def test_nothing_is_written_where_a_library_is_missing(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"'jinja2'.*freqai_lstm_plugins\[research\]"):
        write_report(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_a_column_have_the_same_decimals():
    frame = pd.DataFrame(
        {
            "ic": [0.01234, -0.5, math.nan, -0.000001],
            "years": [3.21, math.inf, 4.0, 250.0],
            "n": [1, 20, 3, 4],
            "verdict": ["better", None, "worse", "x"],
        }
    )
    view = lay_out(frame)
    columns = list(zip(*view.rows, strict=True))
    assert columns[0] == ("0.0123", "-0.5000", "\u2013", "0.0000")
    assert columns[1] == ("3.21", "\u221e", "4.00", "250.00")
    assert columns[2] == ("1", "20", "3", "4")
    assert columns[3] == ("better", "\u2013", "worse", "x")
    assert view.is_number == [True, True, True, False]


def test_a_probability_shows_on_which_side_of_its_level_it_lies():
    table = lay_out(pd.DataFrame({"p": [0.9, 0.02], "p_holm": [0.8, 0.0503]}))
    assert table.rows == [["0.9000", "0.8000"], ["0.0200", "0.0503"]]


def test_days_are_shown_without_hours_unless_they_have_some():
    days = pd.DataFrame({"date": pd.to_datetime(["2024-01-02", "2024-01-03"], utc=True)})
    assert lay_out(days).rows == [["2024-01-02"], ["2024-01-03"]]
    assert lay_out(days + pd.Timedelta("1h")).rows[0] == ["2024-01-02 01:00"]


def test_a_heat_map_shades_by_the_largest_number_of_all():
    frame = pd.DataFrame({"a": [1.0, -0.5], "b": [0.0, math.nan]}, index=["x", "y"])
    shades = lay_out(frame.rename_axis("symbol"), is_shaded=True).shades
    assert shades[0] == ["", "rgba(0,114,178,0.75)", "rgba(230,159,0,0.00)"]
    assert shades[1] == ["", "rgba(230,159,0,0.38)", ""]


def test_what_is_true_or_not_is_said_in_words():
    view = lay_out(pd.DataFrame({"rows": [3, 4], "missing": [True, False]}))
    assert view.rows == [["3", "yes"], ["4", "no"]]
    assert view.is_number == [True, False]


def test_wild_forecasts_of_one_model_do_not_dwarf_the_others():
    models = ["a", "b", "wild"]
    outcomes = pd.DataFrame(
        {
            "model": np.repeat(models, 2),
            "prediction": [-0.01, 0.01, -0.02, 0.02, -1.0, 0.5],
            "label": 0.0,
        }
    )
    chart = draw_outcomes(outcomes, Palette(models))
    assert chart.layout.xaxis.range == pytest.approx((-0.088, 0.088))
    tame = draw_outcomes(outcomes.head(4), Palette(models))
    assert tame.layout.xaxis.range == pytest.approx((-0.022, 0.022))


def test_a_long_table_says_where_the_rest_stands():
    frame = pd.DataFrame({"a": np.arange(205)})
    assert (len(lay_out(frame).rows), lay_out(frame).left_out) == (200, 5)
    assert len(pd.read_csv(io.StringIO(to_csv(frame)))) == 205


def test_months_are_means_of_their_dates():
    dates = pd.to_datetime(["2024-01-30", "2024-01-31", "2024-02-01"], utc=True)
    found = by_month(pd.DataFrame({"lstm": [1.0, 3.0, 5.0]}, index=dates))
    assert found["lstm"].to_dict() == {"2024-01": 2.0, "2024-02": 5.0}


def test_each_model_keeps_its_colour_and_equal_weight_is_grey():
    palette = Palette([f"m{number}" for number in range(10)])
    lines = [palette.line(f"m{number}") for number in range(10)]
    assert [line["color"] for line in lines[:8]] == list(COLOURS)
    assert len({(line["color"], line["dash"]) for line in lines}) == 10
    assert palette.line(EQUAL)["color"] not in COLOURS
    assert palette.key(["m8"]) == [("m8", COLOURS[0], "dashed")]


def test_a_loss_from_the_start_is_below_the_height():
    figure = draw_drawdown(pd.DataFrame({"lstm": [-0.5, 0.5]}), Palette(["lstm"]))
    assert list(figure.data[0].y) == [-0.5, -0.25]


def test_curves_are_thinned_evenly_to_their_ends():
    kept = thin(pd.DataFrame({"a": np.arange(9000)}))["a"]
    assert (len(kept), kept.iloc[0], kept.iloc[-1]) == (400, 0, 8999)
    assert kept.diff().dropna().between(22, 23).all()
