"""Model files that were written once keep loading, and keep predicting what they predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.checkpoint import FORMAT_VERSION
from tests.trust.formats.make import answers

FILES = sorted((Path(__file__).parent / "formats").glob("*.zip"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_committed_file_predicts_the_committed_numbers(path):
    """Catches a change of a net, of the reader or of a field's meaning under an old version."""
    expected = np.array(json.loads(path.with_suffix(".json").read_text()))
    told = answers(load_model(path))
    np.testing.assert_allclose(np.nan_to_num(told, nan=-999.0), expected, rtol=0, atol=1e-6)
    assert np.isnan(told[..., :4, :]).all()
    assert np.isfinite(told[..., 4:, :]).all()


def test_there_is_a_small_file_of_each_format():
    """Catches a new format without its file."""
    assert {path.stem.split("-")[1] for path in FILES} == {
        str(version) for version in range(1, FORMAT_VERSION + 1)
    }
    assert all(path.stat().st_size < 100_000 for path in FILES)


def test_there_is_a_file_of_each_kind_of_model():
    """Catches a kind whose files nobody watches."""
    kinds = {path.stem.removeprefix("format-3-") for path in FILES if "-3-" in path.stem}
    assert kinds == {"alstm", "classifier", "ensemble", "interval", "lstm", "panel", "tft"}
