"""The robust step in a pipeline as FreqAI fits, pickles and asks it."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pandas as pd
from datasieve.pipeline import Pipeline
from datasieve.transforms import VarianceThreshold

from freqai_lstm_plugins.features import RobustZScore
from freqai_lstm_plugins.freqai.robust import RobustZScoreStep


def make_frame(rows):
    values = np.random.default_rng(rows).normal(size=(rows, 3))
    frame = pd.DataFrame(values, columns=["%-a", "%-b", "%-c"])
    return frame.assign(**{"%-c": 1.5})


def make_pipeline():
    return Pipeline([("robust", RobustZScoreStep()), ("constant", VarianceThreshold(threshold=0))])


def test_the_step_scales_by_what_training_rows_tell():
    train, test = make_frame(200), 100 * make_frame(50)
    pipeline = make_pipeline()
    trained, _, _ = pipeline.fit_transform(train)
    found, _, _ = pipeline.transform(test)
    scaler = RobustZScore().fit(train.to_numpy())
    expected = scaler.transform(test.to_numpy())[:, :2]
    np.testing.assert_array_equal(found, expected)
    assert list(found.columns) == ["%-a", "%-b"]
    assert np.abs(trained.to_numpy()).max() <= 3


def test_no_row_is_an_outlier_to_the_step():
    pipeline = Pipeline([("robust", RobustZScoreStep())])
    pipeline.fit(make_frame(200))
    _, inliers, _ = pipeline.transform(100 * make_frame(50), outlier_check=True)
    assert (inliers == 1).all()


def test_labels_that_the_step_scaled_come_back():
    pipeline = Pipeline([("robust", RobustZScoreStep(clip=None))])
    frame = make_frame(200)
    scaled, _, _ = pipeline.fit_transform(frame)
    back, _, _ = pipeline.inverse_transform(scaled)
    np.testing.assert_allclose(back, frame)


def test_the_pipeline_is_pickled_as_freqai_does_it():
    pipeline, test = make_pipeline(), make_frame(50)
    pipeline.fit(make_frame(200))
    again = cloudpickle.loads(cloudpickle.dumps(pipeline))
    np.testing.assert_array_equal(again.transform(test)[0], pipeline.transform(test)[0])


def test_its_place_is_a_promise():
    assert RobustZScoreStep.__module__ == "freqai_lstm_plugins.freqai.robust"
