"""What counts as a number, and what is refused by name."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.columns import numbers_of, objects_of
from freqai_lstm_plugins.errors import DataError

N = 4
WRONG = {
    "text": (["a", "b", "c", "d"], "text .'a'."),
    "numbers that are text": (["1", "2", "3", "4"], "text .'1'."),
    "text among numbers": (pd.Series([1.0, "upperband", None, 3], dtype=object), "text .'upper"),
    "text of its own type": (pd.Series(["a"] * N, dtype="string"), "text .'a'."),
    "categories of text": (pd.Series(["a"] * N, dtype="category"), "text .'a'."),
    "dates": (pd.date_range("2025-01-01", periods=N), "dates"),
    "dates with a zone": (pd.date_range("2025-01-01", periods=N, tz="UTC"), "datetime64.* values"),
    "dates among objects": (pd.Series([pd.Timestamp(0)] * N, dtype=object), "dates .1970"),
    "durations": (pd.to_timedelta([1] * N, unit="min"), "durations"),
    "periods": (pd.period_range("2025-01", periods=N, freq="M"), "period.* values"),
    "complex numbers": (np.arange(N) + 1j, "complex numbers"),
    "complex objects": (pd.Series([1j] * N, dtype=object), "complex numbers"),
    "lists": (pd.Series([[1]] * N, dtype=object), "a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_real_number_is_refused_with_its_column(name):
    values, kind = WRONG[name]
    frame = pd.DataFrame({"sound": np.arange(N), "wrong": values})
    with pytest.raises(DataError, match=rf"X: column 'wrong' holds {kind}.*Leave it out, or make"):
        numbers_of("X", frame)
    with pytest.raises(DataError, match=rf"y holds {kind}"):
        numbers_of("y", frame["wrong"])
    with pytest.raises(DataError, match="y holds "):
        numbers_of("y", frame["wrong"].to_numpy())


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True, False],
        np.arange(N, dtype=np.uint8),
        pd.array([1, 0, 1, 0], dtype="Int64"),
        pd.Series([1, 0, 1, 0], dtype="category"),
        pd.Series([1, Decimal(0), np.float32(1), False], dtype=object),
    ],
    ids=["booleans", "bytes", "nullable", "categories", "objects"],
)
def test_numbers_of_every_kind_are_numbers(values):
    expected = np.asarray(pd.Series(values).astype(float))
    frame = pd.DataFrame({"a": values})
    np.testing.assert_array_equal(numbers_of("X", frame)[:, 0], expected)
    np.testing.assert_array_equal(numbers_of("y", frame["a"]), expected)


def test_missing_values_of_every_kind_are_nan():
    for missing in (None, pd.NA, np.nan):
        column = pd.Series([1.0, missing], dtype=object)
        assert np.isnan(numbers_of("X", column.to_frame())[1, 0])
    assert np.isnan(numbers_of("X", pd.Series([1, None], dtype="Int64"))[1])


def test_masked_values_do_not_count():
    masked = np.ma.masked_array([1.0, 1e9, 3.0], mask=[False, True, False])
    np.testing.assert_array_equal(numbers_of("X", masked), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(numbers_of("X", masked.astype(int)), [1.0, np.nan, 3.0])
    words = np.ma.masked_array(["a", "b"], mask=[True, False])
    assert objects_of(words).tolist() == [None, "b"]


def test_float32_stays_float32():
    values = np.ones((2, 2), dtype=np.float32)
    assert numbers_of("X", values) is values
    assert numbers_of("X", pd.DataFrame(values)).dtype == np.float32
    assert numbers_of("X", pd.Series(values[0])).dtype == np.float32
    assert numbers_of("X", np.ma.masked_array(values)).dtype == np.float32
