"""A feature that is constant for one pair stays a column, and never says anything."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from datasieve.pipeline import Pipeline
from datasieve.transforms import SKLearnWrapper, VarianceThreshold
from sklearn.preprocessing import MinMaxScaler

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.panel.constant import ConstantAsZero, keeping_columns


def pipeline() -> Pipeline:
    scaler = SKLearnWrapper(MinMaxScaler(feature_range=(-1, 1)))
    return keeping_columns(
        Pipeline([("const", VarianceThreshold(threshold=0)), ("scaler", scaler)])
    )


def test_a_constant_feature_is_the_same_number_in_training_and_later():
    made = pipeline()
    train = pd.DataFrame({"%-a": [0.0, 1.0, 2.0], "%-still": [5.0, 5.0, 5.0]})
    scaled, _, _ = made.fit_transform(train)
    assert list(scaled) == ["%-a", "%-still"]
    later, _, _ = made.transform(np.array([[1.0, 700.0]]))
    assert np.asarray(later)[0].tolist() == [0.0, scaled["%-still"].iloc[0]]


def test_nothing_but_constant_features_is_refused():
    with pytest.raises(DataError, match="every feature is constant over the 3 training rows"):
        pipeline().fit_transform(pd.DataFrame({"%-still": [5.0, 5.0, 5.0]}))


def test_the_step_is_pickled_by_the_place_that_is_promised():
    assert ConstantAsZero.__module__ == "freqai_lstm_plugins.freqai.panel.constant"
    made = pipeline()
    made.fit_transform(pd.DataFrame({"%-a": [0.0, 1.0, 2.0]}))
    again = cloudpickle.loads(cloudpickle.dumps(made))
    assert isinstance(again.steps[0][1], ConstantAsZero)
