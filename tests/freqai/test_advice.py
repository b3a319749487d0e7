"""What a bot's log says of a model's worth, and what errors of the core advise in FreqAI."""

from __future__ import annotations

import logging

import pytest
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins.errors import DataError
from tests.freqai.host import PAIR, make_frame, make_model, predict, train

TRAINER = "freqai__model_training_parameters__trainer_kwargs"


def test_the_log_holds_a_models_loss_beside_that_of_a_constant_forecast(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trained, _ = train(make_model(tmp_path), make_frame(400))
    (line,) = [text for text in caplog.messages if "constant forecast" in text and PAIR in text]
    history = trained.history_
    assert line == (
        f"{PAIR}: on {history.n_valid_windows} validation windows loss {history.best_loss:.5g}, "
        f"of a constant forecast {history.constant_loss:.5g}; rank correlation "
        f"{history.rank_correlation:.2f}"
    )


def test_without_a_test_split_there_is_nothing_to_measure_by(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(make_model(tmp_path, freqai__data_split_parameters__test_size=0), make_frame(200))
    assert "constant forecast" not in caplog.text


@pytest.mark.parametrize(
    ("n_rows", "changes", "message"),
    [
        (15, {}, "1 training windows of 6 rows are too few .* min_windows is 6"),
        (200, {f"{TRAINER}__min_windows": 500}, "min_windows is 500"),
    ],
    ids=["the default", "a floor of one's own"],
)
def test_too_few_windows_are_refused_with_the_keys_of_the_config(
    tmp_path, n_rows, changes, message
):
    remedy = r".*train_period_days.*test_size.*min_windows .*model_training_parameters\.trainer"
    with pytest.raises(DataError, match=message + remedy) as caught:
        train(make_model(tmp_path, **changes), make_frame(n_rows))
    assert "\n" not in str(caught.value)


def test_a_floor_may_be_lowered(tmp_path):
    train(make_model(tmp_path, **{f"{TRAINER}__min_windows": 1}), make_frame(15))


@pytest.mark.parametrize("floor", [0, 2.5, "many"])
def test_a_floor_that_is_none_is_refused_at_the_start(tmp_path, floor):
    with pytest.raises(OperationalException, match="min_windows must be an integer of at least 1"):
        make_model(tmp_path, **{f"{TRAINER}__min_windows": floor})


def test_a_model_of_other_features_advises_a_new_identifier_once(tmp_path):
    train(make_model(tmp_path), make_frame(200))
    other = make_frame(200).rename(columns={"%-noise": "%-other"})
    with pytest.raises(OperationalException, match=r"missing %-noise; not known.* %-other") as told:
        predict(make_model(tmp_path), other)
    assert str(told.value).count("identifier") == 1
    assert str(told.value).endswith("a new freqai.identifier.")
