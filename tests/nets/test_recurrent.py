"""Recurrent layers that the compiled engine does not know run by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.config import ALSTMConfig, NetConfig, TFTConfig
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import (
    GRUNet,
    LSTMNet,
    TFTNet,
    cpu,
    is_stepwise,
    keeps_nothing,
    panel_net,
    shares_rows,
    splits_batches,
)
from freqai_lstm_plugins.nets.recurrent import run_layers
from freqai_lstm_plugins.training.devices import torch_threads

F, H, W = 50, 6, 5
X = np.random.default_rng(0).normal(size=(160, F)).astype(np.float32)


class OwnLSTM(nn.LSTM):
    """A layer whose forward is not torch's."""

    def forward(self, x, start=None):
        states, last = super().forward(x, start)
        return 2 * states, last


def no_bias():
    return nn.LSTM(F, H, 2, bias=False, batch_first=True, dropout=0.2)


def projected():
    return nn.LSTM(F, 2 * H, 2, proj_size=H, batch_first=True, dropout=0.2)


def both_ways():
    return nn.LSTM(F, H // 2, 2, bidirectional=True, batch_first=True, dropout=0.2)


def elman():
    return nn.RNN(F, H, 2, batch_first=True, dropout=0.2)


def own_layer():
    return OwnLSTM(F, H, 2, batch_first=True, dropout=0.2)


def time_first():
    return nn.GRU(F, H, 2, dropout=0.2)


STRANGE = [no_bias, projected, both_ways, elman, own_layer, time_first]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("make", STRANGE)
@pytest.mark.parametrize("supervision", ["exact", "dense"])
def test_a_subclass_with_layers_of_another_kind_trains_and_predicts_by_torch(make, supervision):
    class Net(LSTMNet):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs, hidden_size=H, head_size=4)
            self.recurrent = make()

    settings = {"max_epochs": 1, "batch_size": 64, "num_threads": 1, "supervision": supervision}
    model = SequenceRegressor(Net, W, **settings)
    if make is both_ways and supervision == "dense":
        with pytest.raises(ConfigError, match="none that looks at no later row"):
            model.fit(X, X[:, 0])
        return
    model.fit(X, X[:, 0])
    net, layers = model.net_, model.net_.recurrent
    assert [shares_rows(net), splits_batches(net), cpu.knows_layers(layers)] == [False] * 3
    predicted = model.predict(X)
    rows = torch.from_numpy(model.scaling.scale_rows(X[-W:]).astype(np.float32)).unsqueeze(0)
    with torch.no_grad():
        states = layers(rows if layers.batch_first else rows.transpose(0, 1))[0]
        last = states[:, -1] if layers.batch_first else states[-1]
        expected = net.head(last).numpy()
    std, mean = model.scaling.target_std[0], model.scaling.target_mean[0]
    assert predicted[-1] == pytest.approx(expected[0, 0] * std + mean, abs=1e-5)


def test_layers_of_double_precision_run_by_torch():
    layers = nn.GRU(3, 4, batch_first=True).double()
    x = torch.randn(20, 5, 3, dtype=torch.double)
    with torch_threads(1):
        found = run_layers(layers, x).transpose(0, 1)
    torch.testing.assert_close(found, layers(x)[0])


def test_a_net_takes_its_config_whole_or_by_its_fields_and_not_both():
    config = NetConfig(hidden_size=3, num_layers=1, dropout=0.0, head_size=2)
    whole, named = LSTMNet(2, 1, config), LSTMNet(2, 1, **vars(config))
    assert [p.shape for p in whole.parameters()] == [p.shape for p in named.parameters()]
    assert GRUNet(2, 1).recurrent.hidden_size == NetConfig().hidden_size
    with pytest.raises(ConfigError, match="takes one NetConfig or its fields"):
        LSTMNet(2, 1, config, dropout=0.1)
    with pytest.raises(ConfigError, match="takes one ALSTMConfig or its fields"):
        panel_net(ALSTM(2, 1, TFTConfig()), 2, 0)
    with pytest.raises(ConfigError, match=r"unknown setting 'hiden_size'\. Did you mean"):
        TFTNet(2, 1, hiden_size=4)


def ALSTM(*arguments):  # noqa: N802
    from freqai_lstm_plugins.nets import ALSTMNet

    assert ALSTMNet.config is ALSTMConfig
    return ALSTMNet(*arguments)


def test_what_a_net_can_do_is_declared_and_a_subclass_says_so_anew():
    class Own(LSTMNet):
        pass

    plain = nn.Linear(2, 1)
    lstm, own, tft = LSTMNet(3, 1, hidden_size=4), Own(3, 1, hidden_size=4), TFTNet(3, 1)
    assert (is_stepwise(lstm), is_stepwise(tft), is_stepwise(plain)) == (True, False, False)
    assert (keeps_nothing(lstm), keeps_nothing(own), keeps_nothing(plain)) == (True, False, False)
    assert (LSTMNet.takes_symbols, TFTNet.takes_symbols) == (False, True)
    panel = panel_net(LSTMNet(5, 1, hidden_size=4), 2, 2)
    assert keeps_nothing(panel)
    assert is_stepwise(panel)
    assert splits_batches(panel)
    assert not keeps_nothing(panel_net(plain, 2, 2))
    assert not shares_rows(panel)
