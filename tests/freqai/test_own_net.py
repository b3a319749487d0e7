from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
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
    record(tmp_path).unlink()
    builtin = make_model(tmp_path, freqaimodel="PyTorchMLPRegressor")
    match = r"--freqaimodel MyOwnLSTM.*user_data/freqaimodels/MyOwnLSTM\.py"
    with pytest.raises(MismatchError, match=match):
        predict(builtin, frame)


def edit(tmp_path, old, new, name="MyOwnLSTM"):
    path = tmp_path / "freqaimodels" / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def record(tmp_path) -> Path:
    return tmp_path / "models" / "test" / "freqai_lstm_settings.json"


@pytest.mark.parametrize(
    ("old", "new"),
    [("nn.LSTM", "nn.GRU"), ("MyNet(n_features", "MyNet(n_features + 0")],
    ids=["the net", "how the model builds it"],
)
def test_a_changed_net_under_an_old_identifier_is_refused(own, tmp_path, old, new):
    train(own(), make_frame(300))
    edit(tmp_path, old, new)
    with pytest.raises(OperationalException, match=r"source freqaimodels/MyOwnLSTM\.py: '\w+' ->"):
        own()
    own(freqai__identifier="another")


def test_a_changed_comment_is_no_change_of_a_net(own, tmp_path):
    own()
    edit(tmp_path, "class MyNet", "# A note.\n\n\nclass MyNet")
    edit(tmp_path, "super().__init__()", "super().__init__()  # another")
    own()


MOVED = """
from my_nets.layers import MyNet

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class MyOwnLSTM(SequenceRegressorModel):
    def build_net(self, n_features, n_targets):
        import my_sizes

        return MyNet(n_features, n_targets, **self.model_kwargs)
"""


@pytest.mark.parametrize("changed", ["my_nets/layers.py", "my_nets/__init__.py", "my_sizes.py"])
def test_a_change_in_what_a_net_imports_is_refused(own, tmp_path, monkeypatch, changed):
    folder = tmp_path / "freqaimodels"
    (folder / "my_nets").mkdir()
    (folder / "my_nets" / "__init__.py").write_text("WIDTH = 1\n")
    (folder / "my_nets" / "layers.py").write_text(OWN_MODEL.split("class MyOwn")[0])
    (folder / "my_sizes.py").write_text("WIDTH = 2\n")
    (folder / "MyOwnLSTM.py").write_text(MOVED)
    own()
    known = json.loads(record(tmp_path).read_text())["sources"]
    assert set(known) == {
        f"freqaimodels/{name}"
        for name in ("MyOwnLSTM.py", "my_nets/__init__.py", "my_nets/layers.py", "my_sizes.py")
    }
    path = folder / changed
    path.write_text(path.read_text() + "\nMORE = 3\n")
    for name in ("my_nets", "my_nets.layers"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(OperationalException, match=f"source freqaimodels/{changed}"):
        own()
    for name in ("my_nets", "my_nets.layers"):
        monkeypatch.delitem(sys.modules, name)


def test_a_class_that_only_names_a_net_of_ours_has_no_source(tmp_path):
    make_model(tmp_path)
    assert json.loads(record(tmp_path).read_text())["sources"] == {}


def test_a_record_without_sources_takes_those_of_now(own, tmp_path):
    own()
    settings = json.loads(record(tmp_path).read_text())
    del settings["sources"]
    record(tmp_path).write_text(json.dumps(settings))
    edit(tmp_path, "nn.LSTM", "nn.GRU")
    own()
    edit(tmp_path, "nn.GRU", "nn.LSTM")
    with pytest.raises(OperationalException, match="source freqaimodels/MyOwnLSTM"):
        own()


def test_a_pair_whose_weights_no_longer_fit_the_net_is_trained_again_at_once(own, tmp_path, caplog):
    frame = make_frame(300)
    train(own(), frame)
    # As an earlier version recorded it, without the source.
    settings = json.loads(record(tmp_path).read_text())
    del settings["sources"]
    record(tmp_path).write_text(json.dumps(settings))
    edit(tmp_path, "nn.Linear(width, n_targets)", "nn.Linear(width, 7)")
    edited = own()
    assert "BTC/USDT again, its saved model is unusable" in caplog.text
    assert "do not fit the net 'MyOwnLSTM'" in caplog.text
    assert edited.dd.pair_dict["BTC/USDT"]["trained_timestamp"] == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"hidden_dim": 64, "n_layer": 2},
            r"argument 'hidden_dim'. .* gives hidden_dim, n_layer, and MyNet takes n_f.*, width\.",
        ),
        ({"n_features": 3}, "multiple values for argument 'n_features'"),
    ],
)
def test_a_constructor_that_does_not_take_the_settings_is_refused_at_the_start(
    own, kwargs, message
):
    with pytest.raises(OperationalException, match=message) as caught:
        own(freqai__model_training_parameters__model_kwargs=kwargs)
    assert "\n" not in str(caught.value)


def test_a_missing_argument_is_refused_at_the_start(own, tmp_path):
    edit(tmp_path, "width=8", "width, heads")
    with pytest.raises(OperationalException, match=r"missing 1 required .*'heads'.*gives width"):
        own()


def test_a_net_that_cannot_be_tried_beforehand_is_left_to_its_training(own, tmp_path):
    edit(tmp_path, "super().__init__()", "super().__init__()\n        assert n_features == 3")
    train(own(), make_frame(300))


def test_trying_a_net_draws_no_random_number(own):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    own()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_without_a_net_says_what_to_override(tmp_path):
    folder = tmp_path / "freqaimodels"
    folder.mkdir()
    (folder / "Empty.py").write_text(
        "from freqai_lstm_plugins.freqai import SequenceRegressorModel\n\n\n"
        "class Empty(SequenceRegressorModel):\n    pass\n"
    )
    with pytest.raises(OperationalException, match="Empty must override build_net"):
        make_model(
            tmp_path, freqaimodel="Empty", freqai__model_training_parameters__model_kwargs={}
        )
