from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.freqai import model as model_module
from tests.freqai.host import make_frame, make_kitchen, make_model, predict, train

N_ROWS = 800
SWITCHES = [
    {"noise_standard_deviation": 0.05},
    {"DI_threshold": 2.0},
    {"use_DBSCAN_to_remove_outliers": True},
    {"noise_standard_deviation": 0.05, "DI_threshold": 2.0, "use_DBSCAN_to_remove_outliers": True},
]


def settings(switch):
    return {f"freqai__feature_parameters__{key}": value for key, value in switch.items()}


def di_values(model):
    _, pipeline, _ = model.dd.model_dictionary["BTC/USDT"].companion
    return pipeline["di"].di_values if "di" in pipeline else None


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: "+".join(switch))
def test_predictions_stay_the_same_bit_for_bit(tmp_path, monkeypatch, switch):
    frame = make_frame(N_ROWS)
    lean = make_model(tmp_path / "lean", **settings(switch))
    train(lean, frame)
    monkeypatch.setattr(model_module, "forget_the_fit", lambda pipeline: pipeline)
    whole = make_model(tmp_path / "whole", **settings(switch))
    train(whole, frame)
    for restart in (False, True):
        if restart:
            lean = make_model(tmp_path / "lean", **settings(switch))
        # Rows unlike any of the training among them.
        rows = frame.assign(**{"%-noise": frame["%-noise"] * np.linspace(1, 9, N_ROWS)})
        one, counts = predict(lean, rows)
        other, expected = predict(whole, rows)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(di_values(lean), di_values(whole))


def kept_bytes(tmp_path, switch, n_rows):
    model = make_model(tmp_path / f"rows-{n_rows}", **settings(switch))
    frame = make_frame(n_rows)
    kitchen = make_kitchen(model, frame)
    model.train(frame, "BTC/USDT", kitchen)
    return len(pickle.dumps(kitchen.feature_pipeline))


def test_noise_leaves_nothing_that_grows_with_the_rows(tmp_path):
    switch = SWITCHES[0]
    assert kept_bytes(tmp_path, switch, 1600) - kept_bytes(tmp_path, switch, 800) < 100


@pytest.mark.parametrize(("switch", "copies"), [(SWITCHES[1], 1.1), (SWITCHES[2], 1.7)])
def test_what_measures_distances_keeps_no_more_than_the_rows(tmp_path, switch, copies):
    grown = kept_bytes(tmp_path, switch, 1600) - kept_bytes(tmp_path, switch, 800)
    # 80 % of the rows train, with three float64 features.
    assert grown < copies * 800 * 0.8 * 3 * 8
