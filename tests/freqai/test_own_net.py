from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import MismatchError
from tests.freqai.host import CLASSES, make_classes, make_frame, make_model, predict, train

OWN_MODEL = """
from torch import nn

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class MyNet(nn.Module):
    def __init__(self, n_features, n_targets, width=8):
        super().__init__()
        self.lstm = nn.LSTM(n_features, width, batch_first=True)
        self.out = nn.Linear(width, n_targets)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class MyOwnLSTM(SequenceRegressorModel):
    def build_net(self, n_features, n_targets):
        return MyNet(n_features, n_targets, **self.model_kwargs)
"""


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "freqaimodels"
    folder.mkdir()
    (folder / "MyOwnLSTM.py").write_text(OWN_MODEL)

    def make(**changes):
        settings = {
            "freqaimodel": "MyOwnLSTM",
            "freqai__model_training_parameters__model_kwargs": {"width": 5},
        }
        return make_model(tmp_path, **{**settings, **changes})

    return make


def saved_file(tmp_path: Path) -> Path:
    return next(tmp_path.glob("models/test/sub-train-*/*_model.zip"))


def test_a_net_in_the_users_own_file_is_saved_reloaded_and_predicts(own, tmp_path):
    frame = make_frame(300)
    model = own()
    train(model, frame)
    before, _ = predict(model, frame)
    restarted = own()
    after, do_predict = predict(restarted, frame)
    np.testing.assert_array_equal(after, before)
    assert do_predict[-1] == 1
    # The restarted bot made its own class anew, and no file holds either of them.
    assert type(restarted) is not type(model)
    assert b"MyNet" not in saved_file(tmp_path).read_bytes()


def test_the_users_net_gives_intervals_with_three_outputs_a_label(own, tmp_path):
    frame = make_frame(300)
    training = {"n_epochs": 2, "loss": "quantile", "interval": 0.8}
    changes = {"freqai__model_training_parameters__trainer_kwargs": training}
    trained, _ = train(own(**changes), frame)
    assert trained.net_.out.out_features == 3
    predicted, _ = predict(own(**changes), frame)
    assert list(predicted) == ["&-target", "&-target_lower", "&-target_upper"]


def test_the_users_net_tells_classes_with_an_output_each(own, tmp_path):
    path = tmp_path / "freqaimodels" / "MyOwnLSTM.py"
    path.write_text(OWN_MODEL.replace("SequenceRegressorModel", "SequenceClassifierModel"))
    frame = make_classes(300)
    model = own()
    model.class_names = CLASSES
    train(model, frame)
    before, _ = predict(model, frame)
    assert list(before) == ["&-direction", *CLASSES]
    after, _ = predict(own(), frame)
    pd.testing.assert_frame_equal(after, before)


def test_the_users_net_learns_on_in_continual_learning_after_a_restart(own):
    frame = make_frame(300)
    first, _ = train(own(freqai__continual_learning=True), frame, stamp=1)
    restarted = own(freqai__continual_learning=True)
    predict(restarted, frame)
    second, _ = train(restarted, frame, stamp=2)
    assert second.history_.epochs[0].train_loss < first.history_.epochs[0].train_loss


def test_reading_the_file_without_the_class_says_which_file_is_expected(own, tmp_path):
    train(own(), make_frame(300))
    with pytest.raises(MismatchError, match=r"'MyOwnLSTM', a net of your own: pass the function"):
        SequenceRegressor.load(saved_file(tmp_path))


def test_another_freqai_model_that_finds_the_file_says_which_file_is_expected(own, tmp_path):
    frame = make_frame(300)
    train(own(), frame)
    record = tmp_path / "models" / "test" / "freqai_lstm_settings.json"
    record.unlink()
    builtin = make_model(tmp_path, freqaimodel="PyTorchMLPRegressor")
    match = r"--freqaimodel MyOwnLSTM.*user_data/freqaimodels/MyOwnLSTM\.py"
    with pytest.raises(MismatchError, match=match):
        predict(builtin, frame)


def test_a_net_that_no_longer_fits_the_saved_weights_says_so(own, tmp_path):
    frame = make_frame(300)
    train(own(), frame)
    # As if the user had edited the net, which no record of settings shows.
    path = tmp_path / "freqaimodels" / "MyOwnLSTM.py"
    path.write_text(OWN_MODEL.replace("nn.Linear(width, n_targets)", "nn.Linear(width, 7)"))
    edited = own()
    with pytest.raises(OperationalException, match=r"do not fit the net 'MyOwnLSTM'.*out\.weight"):
        predict(edited, frame)


def test_a_model_without_a_net_says_what_to_override(tmp_path):
    folder = tmp_path / "freqaimodels"
    folder.mkdir()
    (folder / "Empty.py").write_text(
        "from freqai_lstm_plugins.freqai import SequenceRegressorModel\n\n\n"
        "class Empty(SequenceRegressorModel):\n    pass\n"
    )
    model = make_model(
        tmp_path, freqaimodel="Empty", freqai__model_training_parameters__model_kwargs={}
    )
    with pytest.raises(ValueError, match="Empty must override build_net"):
        train(model, make_frame(300))
