from __future__ import annotations

import time

import pandas as pd
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.errors import CheckpointError
from freqai_lstm_plugins.replay.demo import predicted_candles
from tests.e2e.bot import LIVE, PAIRS, Bot, has_trained_all, live_exchange
from tests.e2e.offline import predict_again, recorded

pytestmark = pytest.mark.freqtrade

OWN_NET = """
from torch import nn, optim


class MyNet(nn.Module):
    def __init__(self, n_features, n_targets, hidden_dim=8, n_layer=1, dropout_percent=0.0):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden_dim, n_layer, batch_first=True)
        self.out = nn.Linear(hidden_dim, n_targets)

    def forward(self, x):
        x = x if x.dim() == 3 else x.unsqueeze(1)
        return self.out(self.lstm(x)[0][:, -1])
"""

WITH_THE_HOSTS_TRAINER = (
    OWN_NET
    + """

from freqtrade.freqai.prediction_models.PyTorchMLPRegressor import PyTorchMLPRegressor
from freqtrade.freqai.torch.PyTorchModelTrainer import PyTorchModelTrainer


class MyOwnLSTM(PyTorchMLPRegressor):
    def fit(self, data_dictionary, dk, **kwargs):
        net = MyNet(data_dictionary["train_features"].shape[-1], 1)
        trainer = PyTorchModelTrainer(
            model=net,
            optimizer=optim.AdamW(net.parameters()),
            criterion=nn.MSELoss(),
            device=self.device,
            data_convertor=self.data_convertor,
            tb_logger=self.tb_logger,
            n_epochs=1,
        )
        trainer.fit(data_dictionary, self.splits)
        return trainer
"""
)

WITH_OURS = (
    OWN_NET
    + """

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class MyOwnLSTM(SequenceRegressorModel):
    def build_net(self, n_features, n_targets):
        return MyNet(n_features, n_targets, **self.model_kwargs)
"""
)


@pytest.fixture(scope="module")
def exchange():
    with live_exchange() as exchange:
        yield exchange


@pytest.fixture
def bot(tmp_path, exchange):
    return Bot(tmp_path, exchange, {**LIVE, "db_url": f"sqlite:///{tmp_path / 'trades.sqlite'}"})


def predicts(candles: int):
    return lambda output: predicted_candles(output) >= candles


def test_trade_trains_predicts_each_new_candle_and_goes_on_after_a_restart(bot, exchange):
    with bot.start("trade", "--freqaimodel", "LeaLSTMRegressor") as child:
        output = child.wait_for(predicts(2), "two predicted candles a pair", 600)
    assert "Training raised exception" not in output
    assert len(bot.models()) == 2
    assert_the_bot_predicted_what_the_files_predict(bot, exchange)
    with bot.start("trade", "--freqaimodel", "LeaLSTMRegressor") as child:
        output = child.wait_for(predicts(1), "a prediction after the restart", 400)
    assert "Starting training" not in output
    # The candles that the bot predicted can be backtested on what it predicted then.
    bot.run("download-data", "--timeframes", "1m", "--days", "1")
    output = bot.run("backtesting", "--freqai-backtest-live-models")
    assert "BACKTESTING REPORT" in output
    assert "Starting training" not in output


def assert_the_bot_predicted_what_the_files_predict(bot, exchange):
    """Catches a live path whose rows, scaling or windows differ from those of a whole frame."""
    for pair in PAIRS:
        again = predict_again(bot, exchange.url, "LeaLSTMRegressor", pair).set_index("date")
        stored = recorded(bot, pair).set_index("date_pred")
        # freqtrade marks the candle of its first prediction after a start as not predicted.
        stored = stored[stored["do_predict"] == 1]
        assert len(stored) >= 1
        labels = [name for name in again if name.startswith("&")]
        # Of the predictions, which vary less than the label.
        deviation = again.loc[again["do_predict"] == 1, labels].to_numpy().std()
        again = again.loc[stored.index]
        assert (again["do_predict"] == 1).all()
        pd.testing.assert_frame_equal(
            again[labels],
            stored[labels],
            rtol=0,
            atol=1e-5 * deviation,
            check_freq=False,
            check_dtype=False,
            check_names=False,
        )


@pytest.mark.slow
def test_a_net_in_the_users_own_file_cannot_be_saved_by_freqtrades_own_trainer(bot):
    """The failure that this package is for: should freqtrade mend it, we want to know."""
    (bot.userdir / "freqaimodels" / "MyOwnLSTM.py").write_text(WITH_THE_HOSTS_TRAINER)
    with bot.start("trade", "--freqaimodel", "MyOwnLSTM") as child:
        output = child.wait_for(lambda text: "PicklingError" in text, "the failure to save", 400)
    assert "Can't pickle <class 'MyOwnLSTM.MyNet'>" in output


def test_the_same_net_on_our_class_is_saved_reloaded_and_predicts(bot):
    (bot.userdir / "freqaimodels" / "MyOwnLSTM.py").write_text(WITH_OURS)
    with bot.start("trade", "--freqaimodel", "MyOwnLSTM") as child:
        output = child.wait_for(has_trained_all, "the first training", 400)
    assert "raised exception" not in output
    assert len(bot.models()) == 2
    with bot.start("trade", "--freqaimodel", "MyOwnLSTM") as child:
        output = child.wait_for(predicts(1), "a prediction after the restart", 400)
    assert "Starting training" not in output


@pytest.mark.slow
@pytest.mark.parametrize("training", [{}, {"panel": {}}], ids=["a net a pair", "one for all"])
def test_a_kill_in_the_middle_of_a_save_leaves_the_former_model(bot, training):
    bot.configure({"freqai": {"model_training_parameters": training}})
    # Trains without a pause, so that a kill soon meets a save.
    bot.configure({"freqai": {"live_retrain_hours": 0.0001}})
    with bot.start("trade") as child:
        child.wait_for(has_trained_all, "the first training", 400)
        known = set(bot.userdir.glob("models/*/sub-train-*/*"))
        deadline = time.monotonic() + 300
        while not set(bot.userdir.glob("models/*/sub-train-*/*")) - known:
            assert time.monotonic() < deadline
        child.kill()
    for path in bot.models():
        try:
            SequenceRegressor.load(path)
        except CheckpointError as error:
            pytest.fail(f"a half-written model file: {error}")
    bot.configure(LIVE)
    with bot.start("trade") as child:
        output = child.wait_for(predicts(1), "a prediction after the kill", 400)
    assert "Starting training" not in output
