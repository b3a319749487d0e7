from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets.alstm import ALSTMNet

B, W, F, K = 8, 6, 5, 3
CELLS = ["gru", "lstm"]


def build(cell_type, **settings):
    torch.manual_seed(0)
    return ALSTMNet(F, K, cell_type=cell_type, **{"hidden_size": 6, "head_size": 7, **settings})


@pytest.fixture(params=CELLS)
def net(request):
    return build(request.param)


@pytest.fixture
def x():
    return torch.randn(B, W, F, generator=torch.Generator().manual_seed(1))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gru_states(x, w, layer):
    """States of one GRU layer for one window (W, I): Cho et al. 2014 with torch's gate order."""
    h = np.zeros(w[f"weight_hh_l{layer}"].shape[1])
    states = []
    for row in x:
        r_i, z_i, n_i = np.split(w[f"weight_ih_l{layer}"] @ row + w[f"bias_ih_l{layer}"], 3)
        r_h, z_h, n_h = np.split(w[f"weight_hh_l{layer}"] @ h + w[f"bias_hh_l{layer}"], 3)
        update = sigmoid(z_i + z_h)
        h = (1 - update) * np.tanh(n_i + sigmoid(r_i + r_h) * n_h) + update * h
        states.append(h)
    return np.array(states)


def lstm_states(x, w, layer):
    h = np.zeros(w[f"weight_hh_l{layer}"].shape[1])
    c = np.zeros_like(h)
    states = []
    for row in x:
        gates = w[f"weight_ih_l{layer}"] @ row + w[f"bias_ih_l{layer}"]
        gates = gates + w[f"weight_hh_l{layer}"] @ h + w[f"bias_hh_l{layer}"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def by_hand(net, window, cell_type):
    w = {name: value.double().numpy() for name, value in net.state_dict().items()}
    cell = {name.removeprefix("recurrent."): value for name, value in w.items()}
    states = np.tanh(window @ w["input.0.weight"].T + w["input.0.bias"])
    for layer in range(net.recurrent.num_layers):
        states = {"gru": gru_states, "lstm": lstm_states}[cell_type](states, cell, layer)
    hidden = np.tanh(states @ w["score.0.weight"].T + w["score.0.bias"])
    scores = np.exp(hidden @ w["score.3.weight"][0])
    weights = scores / scores.sum()
    both = np.concatenate([states[-1], sum(a * s for a, s in zip(weights, states, strict=True))])
    dense = np.maximum(w["head.0.weight"] @ both + w["head.0.bias"], 0)
    return w["head.3.weight"] @ dense + w["head.3.bias"], weights


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell_type", CELLS)
def test_forward_is_what_the_equations_say(cell_type, num_layers, x):
    net = build(cell_type, num_layers=num_layers).eval()
    by_window = [by_hand(net, window.double().numpy(), cell_type) for window in x]
    prediction, weights = (torch.tensor(np.array(part)) for part in zip(*by_window, strict=True))
    torch.testing.assert_close(net(x).double(), prediction, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.attention(x).double(), weights, rtol=1e-5, atol=1e-6)


def test_the_cell_type_takes_effect(x):
    gru, lstm = (build(cell).eval() for cell in CELLS)
    assert isinstance(gru.recurrent, nn.GRU)
    assert isinstance(lstm.recurrent, nn.LSTM)
    assert not torch.allclose(gru(x), lstm(x))
    assert isinstance(ALSTMNet(F, K).recurrent, nn.GRU)


def test_an_unknown_cell_type_is_refused():
    with pytest.raises(ConfigError, match="cell_type must be one of gru, lstm, not 'rnn'"):
        ALSTMNet(F, K, cell_type="rnn")


def test_every_parameter_gets_a_gradient(net, x):
    net(x).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_rows_prediction_does_not_depend_on_its_batch(net, x):
    net.eval()
    torch.testing.assert_close(net(x), torch.cat([net(row.unsqueeze(0)) for row in x]))
    torch.testing.assert_close(net(x.flip(0)), net(x).flip(0))


def test_evaluation_is_deterministic_and_training_drops(net, x):
    assert torch.equal(net.eval()(x), net(x))
    assert not torch.equal(net.train()(x), net(x))


def test_attention_sums_to_one_and_reading_it_changes_nothing(net, x):
    before = net.eval()(x)
    weights = net.attention(x)
    assert weights.shape == (B, W)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(B))
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("cell_type", CELLS)
def test_one_layer_of_one_unit_is_enough(cell_type, x):
    net = build(cell_type, hidden_size=1, num_layers=1, dropout=0.5)
    assert net.score[0].out_features == 1
    assert net.eval()(x).shape == (B, K)
    assert net(x[:, :1]).shape == (B, K)


def test_eight_samples_can_be_learned_by_heart(x):
    net = build("gru", hidden_size=16, dropout=0.0)
    targets = torch.randn(B, K, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (net(x) - targets).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
