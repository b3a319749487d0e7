"""The nets are those of qlib's baselines: with the same weights they say the same."""

import pytest
import torch
from qlib.contrib.model import pytorch_alstm_ts, pytorch_gru_ts, pytorch_lstm_ts

from freqai_lstm_plugins.nets import ALSTMNet, GRUNet, LSTMNet
from tests.qlib.panels import MARKS

pytestmark = MARKS

SHAPE = {"hidden_size": 16, "num_layers": 2, "dropout": 0.0}


def copy_layers(theirs, ours):
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(pytorch_lstm_ts.LSTMModel, LSTMNet), (pytorch_gru_ts.GRUModel, GRUNet)],
    ids=["LSTM_ts", "GRU_ts"],
)
def test_recurrent_nets_are_qlibs(theirs, ours):
    torch.manual_seed(0)
    theirs, ours = theirs(d_feat=5, **SHAPE).eval(), ours(5, 1, head_size=0, **SHAPE).eval()
    copy_layers(theirs.rnn, ours.recurrent)
    copy_layers(theirs.fc_out, ours.head[0])
    x = torch.randn(64, 20, 5)
    torch.testing.assert_close(ours(x)[:, 0], theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_alstm_is_qlibs(cell):
    torch.manual_seed(0)
    theirs = pytorch_alstm_ts.ALSTMModel(d_feat=5, rnn_type=cell, **SHAPE).eval()
    ours = ALSTMNet(5, 1, head_size=0, cell_type=cell, **SHAPE).eval()
    copy_layers(theirs.net.fc_in, ours.input[0])
    copy_layers(theirs.rnn, ours.recurrent)
    copy_layers(theirs.att_net.att_fc_in, ours.score[0])
    copy_layers(theirs.att_net.att_fc_out, ours.score[-1])
    copy_layers(theirs.fc_out, ours.head[0])
    x = torch.randn(64, 20, 5)
    torch.testing.assert_close(ours(x)[:, 0], theirs(x), rtol=1e-5, atol=1e-5)
