from __future__ import annotations

import pytest

from freqai_lstm_plugins.freqai.spelling import misspelt_keys
from tests.freqai.host import make_config, make_model


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("freqai__conv_widht", "conv_width"),
        ("freqai__feature_parameters__label_period_candle", "label_period_candles"),
        ("freqai__feature_parameters__use_DBSCAN_to_remove_outlier", "use_DBSCAN_to_remove_"),
        ("freqai__data_split_parameters__test_sise", "test_size"),
    ],
)
def test_a_key_close_to_one_of_freqai_is_warned_of(tmp_path, caplog, path, meant):
    make_model(tmp_path, **{path: 1})
    key = path.replace("__", ".")
    (line,) = [text for text in caplog.messages if "counts for nothing" in text]
    assert line.startswith(f"{key} counts for nothing")
    assert f"Did you mean '{meant}" in line


def test_keys_that_freqai_reads_and_those_of_a_strategy_pass(tmp_path):
    config = make_config(
        tmp_path,
        freqai__feature_parameters__noise_standard_deviation=0.1,
        freqai__feature_parameters__reverse_train_test_order=True,
        freqai__feature_parameters__my_own_threshold=3,
        freqai__wait_for_training_iteration_on_reload=False,
        freqai__extra_returns_per_train={},
        freqai__note="for the strategy",
    )
    assert misspelt_keys(config) == []
