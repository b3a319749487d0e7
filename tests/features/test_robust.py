"""Median and median deviation: what outliers hardly move."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.features import RobustZScore

sklearn = pytest.importorskip("sklearn")

COLUMN = np.array([[1.0], [2.0], [3.0], [4.0], [100.0]])


def test_rows_are_scaled_by_median_and_mad_and_clipped_at_three():
    scaled = RobustZScore().fit_transform(COLUMN)
    # Median 3, distances 2 1 0 1 97, so MAD 1.
    np.testing.assert_allclose(scaled[:, 0], np.array([-2, -1, 0, 1, 3 * 1.4826]) / 1.4826)


def test_without_a_clip_nothing_is_cut_off():
    assert RobustZScore(clip=None).fit_transform(COLUMN)[-1, 0] == pytest.approx(97 / 1.4826)


def test_normal_values_get_a_deviation_of_one():
    rows = np.random.default_rng(0).normal(5, 3, size=(50_000, 1))
    assert RobustZScore(clip=None).fit_transform(rows).std() == pytest.approx(1, rel=0.02)


def test_training_rows_alone_are_learnt_from():
    scaler = RobustZScore().fit(COLUMN)
    before = scaler.median_.copy(), scaler.scale_.copy()
    found = scaler.transform(np.array([[3.0], [1e9]]))
    np.testing.assert_array_equal(found, [[0.0], [3.0]])
    np.testing.assert_array_equal((scaler.median_, scaler.scale_), before)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9, np.nan])
def test_a_feature_that_was_constant_gives_zero_in_every_row(value):
    scaler = RobustZScore().fit(np.full((9, 1), value))
    found = scaler.transform(np.array([[value], [7.0], [np.inf], [np.nan]]))
    np.testing.assert_array_equal(found[1:3, 0], [0.0, 0.0])
    assert found[0, 0] == 0 or np.isnan(value)
    assert np.isnan(found[3, 0])


def test_round_off_does_not_make_a_constant_feature_move():
    column = np.array([[0.1], [0.1], [0.3 - 0.2], [0.1 * 3 / 3]])
    assert len(np.unique(column)) > 1
    np.testing.assert_array_equal(RobustZScore().fit_transform(column), np.zeros((4, 1)))


def test_a_feature_that_mostly_stands_still_is_scaled_by_its_mean_deviation():
    column = np.array([[0.0]] * 8 + [[1.0], [-1.0]])
    scaled = RobustZScore(clip=None).fit_transform(column)
    # Mean distance 0.2.
    np.testing.assert_allclose(scaled[-2:, 0], [1 / (1.2533 * 0.2), -1 / (1.2533 * 0.2)])
    assert (scaled[:8] == 0).all()


def test_unknown_values_take_no_part_and_stay_unknown():
    rows = np.vstack([COLUMN, [[np.nan]], [[np.inf]], [[-np.inf]]])
    scaler = RobustZScore().fit(rows)
    assert scaler.median_[0] == 3
    found = scaler.transform(rows)[-3:, 0]
    np.testing.assert_array_equal(found, [np.nan, 3.0, -3.0])


@given(st.lists(st.floats(allow_subnormal=False), min_size=1, max_size=30))
def test_the_result_is_never_beyond_the_clip(values):
    rows = np.clip(np.array(values)[:, None], -1e300, 1e300)
    found = RobustZScore().fit_transform(rows)
    assert not (np.abs(found) > 3).any()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(rows))


def test_what_was_not_clipped_comes_back():
    scaler = RobustZScore()
    np.testing.assert_allclose(
        scaler.inverse_transform(scaler.fit_transform(COLUMN))[:4], COLUMN[:4]
    )


def test_a_frame_gives_a_frame_and_keeps_its_names():
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.0, 5.0, 9.0]}, index=[3, 5, 8])
    scaler = RobustZScore()
    scaled = scaler.fit_transform(frame)
    assert list(scaled.columns) == list(scaler.get_feature_names_out()) == ["a", "b"]
    pd.testing.assert_index_equal(scaled.index, frame.index)
    with pytest.raises(DataError, match="'b' stands where 'a' stood"):
        scaler.transform(frame[["b", "a"]])
    scaler.fit(frame.to_numpy())
    assert list(scaler.get_feature_names_out()) == ["x0", "x1"]


def test_misuse_is_refused():
    with pytest.raises(DataError, match="not fitted"):
        RobustZScore().transform(COLUMN)
    with pytest.raises(DataError, match="no rows"):
        RobustZScore().fit(COLUMN[:0])
    with pytest.raises(DataError, match=r"shape \(N, F\)"):
        RobustZScore().fit(COLUMN[:, 0])
    with pytest.raises(DataError, match=r"2 features .* fitted on 1"):
        RobustZScore().fit(COLUMN).transform(np.zeros((2, 2)))
    with pytest.raises(DataError, match="clip is 0"):
        RobustZScore(clip=0).fit(COLUMN)
    with pytest.raises(DataError, match="no setting 'clipp'"):
        RobustZScore().set_params(clipp=2)


def test_scikit_learn_takes_it_for_one_of_its_own():
    from sklearn.base import clone
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    rows = np.random.default_rng(0).normal(size=(60, 3))
    pipeline = make_pipeline(RobustZScore(clip=2.0), Ridge())
    search = GridSearchCV(pipeline, {"robustzscore__clip": [1.0, None]}, cv=2)
    search.fit(rows, rows[:, 0])
    assert search.predict(rows).shape == (60,)
    copied = clone(pipeline[0])
    assert copied.get_params() == {"clip": 2.0}
    assert not copied.__sklearn_is_fitted__()


def test_a_pickle_scales_alike():
    scaler = RobustZScore().fit(COLUMN)
    again = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(again.transform(COLUMN), scaler.transform(COLUMN))


def test_its_place_is_a_promise():
    assert RobustZScore.__module__ == "freqai_lstm_plugins.features.robust"


def test_features_need_numpy_and_pandas_alone():
    code = (
        "import sys, freqai_lstm_plugins.features as features\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'freqtrade', 'datasieve', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)), features.alpha158.__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] alpha158"
