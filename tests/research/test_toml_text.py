from __future__ import annotations

import datetime
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freqai_lstm_plugins.research.toml_text import to_toml

# TOML has no lone surrogates, and numbers without a size.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = TEXTS | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


@settings(max_examples=40)
@given(st.dictionaries(TEXTS, VALUES))
def test_what_is_written_is_read_again(values):
    assert tomllib.loads(to_toml(values)) == values


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), datetime.date(2024, 1, 1)])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(TypeError, match="neither a text, a finite number"):
        to_toml({"a": [value]})
