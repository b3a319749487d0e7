from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from freqai_lstm_plugins.config import NetConfig
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import NETS, build_net
from freqai_lstm_plugins.windows import gather_windows

B, T, F, K = 8, 6, 5, 3


@pytest.fixture(params=sorted(NETS))
def net(request):
    torch.manual_seed(0)
    return build_net(request.param, F, K, NetConfig(hidden_size=16))


@pytest.fixture
def x():
    return torch.randn(B, T, F, generator=torch.Generator().manual_seed(1))


def test_each_window_gives_one_finite_number_a_target(net, x):
    prediction = net(x)
    assert prediction.shape == (B, K)
    assert torch.isfinite(prediction).all()


def test_every_parameter_gets_a_gradient(net, x):
    net(x).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_evaluation_is_deterministic_and_training_drops(net, x):
    assert torch.equal(net.eval()(x), net(x))
    assert not torch.equal(net.train()(x), net(x))


def test_a_rows_prediction_does_not_depend_on_its_batch(net, x):
    net.eval()
    alone = torch.cat([net(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(net(x), alone)
    torch.testing.assert_close(net(x.flip(0)), alone.flip(0))


def test_every_row_of_the_window_matters(net, x):
    net.eval()
    for t in range(T):
        changed = x.clone()
        changed[:, t] += 1
        assert not torch.allclose(net(changed), net(x), atol=1e-6)


def test_rows_outside_of_the_window_do_not_matter(net):
    rows = torch.randn(3 * T, F, generator=torch.Generator().manual_seed(3))
    ends = torch.tensor([2 * T - 1])
    before = net.eval()(gather_windows(rows, ends, T))
    rows[:T] += 100
    rows[2 * T :] -= 100
    assert torch.equal(net(gather_windows(rows, ends, T)), before)


def test_a_window_of_one_row_is_enough(net, x):
    assert net.eval()(x[:, :1]).shape == (B, K)


def test_the_order_of_rows_matters(net, x):
    net.eval()
    assert not torch.allclose(net(x.flip(1)), net(x), atol=1e-6)


def test_eight_samples_can_be_learned_by_heart(net, x):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    net.recurrent.dropout = 0.0
    targets = torch.randn(B, K, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (net(x) - targets).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@pytest.mark.parametrize(("name", "cell"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_the_recurrent_part_is_torchs_own(name, cell, x):
    net = build_net(name, F, K, NetConfig(hidden_size=7, num_layers=2)).eval()
    reference = cell(F, 7, 2, batch_first=True)
    reference.load_state_dict(copy.deepcopy(net.recurrent.state_dict()))
    linear, relu, _, out = net.head
    expected = out(relu(linear(reference(x)[0][:, -1])))
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("name", sorted(NETS))
def test_one_layer_builds_without_a_warning_about_dropout(name, x):
    net = build_net(name, F, K, NetConfig(num_layers=1, dropout=0.5))
    # The head drops all the same.
    assert not torch.equal(net.train()(x), net(x))


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_setting_shapes_the_net(name):
    def n_weights(**settings):
        config = NetConfig(**{"hidden_size": 4, "num_layers": 1, "head_size": 4, **settings})
        return sum(p.numel() for p in build_net(name, F, K, config).parameters())

    sizes = [n_weights(), n_weights(hidden_size=5), n_weights(num_layers=2), n_weights(head_size=5)]
    assert len(set(sizes)) == 4


def test_an_unknown_net_is_refused_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"unknown net 'lstn'.*Did you mean 'lstm'"):
        build_net("lstn", F, K, NetConfig())
