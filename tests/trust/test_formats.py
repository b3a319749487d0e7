"""Model files that were written once keep loading, and keep predicting what they predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.checkpoint import FORMAT_VERSION
from tests.trust.formats.make import example_rows

FILES = sorted((Path(__file__).parent / "formats").glob("*.zip"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_committed_file_predicts_the_committed_numbers(path):
    """Catches a change of a net, of the reader or of a field's meaning under an old version."""
    expected = np.array(json.loads(path.with_suffix(".json").read_text()))
    predicted = SequenceRegressor.load(path).predict(example_rows())
    np.testing.assert_allclose(np.nan_to_num(predicted, nan=-999.0), expected, atol=1e-5)
    assert np.isnan(predicted[:4]).all()


def test_there_is_a_small_file_of_each_format():
    """Catches a new format without its file."""
    assert {path.stem.split("-")[1] for path in FILES} == {
        str(version) for version in range(1, FORMAT_VERSION + 1)
    }
    assert all(path.stat().st_size < 100_000 for path in FILES)
