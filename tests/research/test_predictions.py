"""The table of predictions: what it refuses, and how it is laid out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common, widen
from tests.research.tables import table, together

NAN = float("nan")
GOOD = table([[1, 2], [3, 4]], [[5, 6], [7, 8]])


def test_a_table_is_put_in_order_and_keeps_its_rows():
    shuffled = GOOD.sample(frac=1, random_state=1).assign(note="x")
    checked = check_predictions(shuffled)
    assert checked["prediction"].tolist() == [1, 3, 2, 4]
    assert "note" not in checked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="label"), r"lack the columns \['label'\]"),
        (lambda frame: frame.iloc[:0], "is empty"),
        (lambda frame: frame.assign(date="2024"), "'date' holds .* not times"),
        (lambda frame: frame.assign(seed=0.5), "'seed' holds float64, not whole"),
        (lambda frame: frame.assign(label="x"), "'label' holds .* not floats"),
        (lambda frame: frame.assign(prediction=np.inf), "infinite in ridge, seed 0, S00 at 2024"),
        (lambda frame: together(frame, frame[:1]), "1 predictions stand twice: ridge, seed 0, S00"),
        (lambda frame: frame.assign(known_at=frame["date"] - pd.Timedelta("1h")), "before its can"),
        (lambda frame: frame.assign(lower=0.0), "'lower' alone"),
        (lambda frame: frame.assign(symbol=None), "'symbol' is empty"),
    ],
)
def test_a_table_that_is_wrong_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        check_predictions(change(GOOD))


def test_a_label_that_nobody_knows_yet_needs_no_time():
    frame = GOOD.assign(label=NAN, known_at=GOOD["known_at"].where(GOOD["label"] < 0))
    assert len(check_predictions(frame)) == 4


def test_models_are_compared_on_candles_that_all_of_them_answer():
    silent = table([[NAN, 2], [3, 4]], [[5, 6], [7, 8]], model="lstm", seed=1)
    common = keep_common(together(GOOD, silent))
    assert len(common) == 6
    first = GOOD["date"].iloc[0]
    assert not ((common["symbol"] == "S00") & (common["date"] == first)).any()


def test_lines_are_dates_or_symbols():
    by_date = widen(GOOD, "symbol")
    assert by_date.index.names == ["model", "seed", "date"]
    assert by_date.prediction.tolist() == [[1, 2], [3, 4]]
    by_symbol = widen(GOOD, "date")
    assert by_symbol.index.get_level_values("symbol").tolist() == ["S00", "S01"]
    assert by_symbol.label.tolist() == [[5, 7], [6, 8]]


def test_what_has_no_label_is_missing_on_both_sides():
    wide = widen(table([[1, 2], [3, 4]], [[5, NAN], [7, 8]]), "symbol")
    assert np.isnan(wide.prediction[0, 1])
    assert np.isnan(wide.label[0, 1])


def test_a_table_without_any_label_is_refused():
    with pytest.raises(DataError, match="nothing to judge"):
        widen(GOOD.assign(label=NAN), "symbol")
