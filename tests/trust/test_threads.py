"""One thread trains while another predicts, as in the bot."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest

from tests.freqai.host import WINDOW, make_frame, make_model, predict, train
from tests.trust.cases import EPOCHS, EVERY_MODEL

ROUNDS = pytest.param(40, id="short")
LONG = pytest.param(400, id="long", marks=pytest.mark.slow)


@EVERY_MODEL
@pytest.mark.parametrize("continual", [False, True], ids=["afresh", "continual"])
@pytest.mark.parametrize("n_trainings", [ROUNDS, LONG])
def test_each_prediction_is_the_old_models_or_the_new_ones(
    tmp_path, record_figure, n_trainings, continual, case
):
    """Catches training on the very tensors that predict, and a model beside another's scaling."""
    n_trainings //= case.cost
    frame = make_frame(240)
    model = make_model(
        tmp_path,
        **{"freqai__continual_learning": continual, EPOCHS: 1, **case.changes},
    )
    rows = frame.iloc[-WINDOW:]
    # One number a training: what the model that is then in place gives for the newest candle.
    known: list[float] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def train_on() -> None:
        try:
            for stamp in range(2, n_trainings + 2):
                # Every training sees other rows, so that scaling and weights both differ.
                trained, kitchen = train(model, frame.iloc[stamp % 40 : 200 + stamp % 40], stamp)
                known.append(alone(trained, kitchen, rows))
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    trained, kitchen = train(model, frame.iloc[:200], 1)
    known.append(alone(trained, kitchen, rows))
    seen = []
    thread = threading.Thread(target=train_on)
    thread.start()
    while not done.is_set():
        predicted, do_predict = predict(model, rows)
        seen.append(float(predicted.iloc[-1, 0]))
        assert do_predict[-1] == 1
    thread.join()
    assert not failures
    torn = [value for value in seen if np.abs(np.array(known) - value).min() > 1e-6]
    how = f"{case.name}, " + ("continual" if continual else "afresh")
    figure = f"{len(torn)} torn of {len(seen)} predictions, {len(set(seen))} models seen"
    record_figure(f"threads, {how}, {n_trainings} trainings", figure)
    assert not torn
    assert len(seen) > n_trainings
    # There are forty different slices to train on.
    assert len(set(seen)) > min(n_trainings, 40) // 4


def alone(trained, kitchen, rows):
    """Predict the newest row with a model and the pipelines that it was trained with."""
    scaled, _, _ = kitchen.feature_pipeline.transform(rows[kitchen.training_features_list])
    has_window = np.arange(len(rows)) == len(rows) - 1
    rows = scaled.to_numpy(dtype=np.float32)
    value = trained.predict_windows(rows, has_window).point[-1:]
    names = kitchen.label_list
    back, _, _ = kitchen.label_pipeline.inverse_transform(pd.DataFrame(value, columns=names))
    return float(back.iloc[0, 0])
