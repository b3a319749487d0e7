from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from freqai_lstm_plugins.data.windows import gather_windows
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.nets import NETS, MLPNet, TFTNet, build_net, net_class, panel_net

B, T, F, K = 8, 6, 5, 3


def build(name, n_features=F, n_symbols=0, **settings):
    torch.manual_seed(0)
    config = net_class(name).config(**{"hidden_size": 16, **settings})
    return build_net(name, n_features, K, config, n_symbols)


@pytest.fixture(params=sorted(NETS))
def net(request):
    return build(request.param)


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
    if isinstance(net, MLPNet):
        # It is there to show what windows are worth, so it sees the newest row alone.
        changed = torch.cat([x[:, :-1] + 1, x[:, -1:]], dim=1)
        assert torch.equal(net(changed), net(x))
        return
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
    if hasattr(net, "recurrent"):
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
    net = build(name, hidden_size=7, num_layers=2).eval()
    reference = cell(F, 7, 2, batch_first=True)
    reference.load_state_dict(copy.deepcopy(net.recurrent.state_dict()))
    linear, relu, _, out = net.head
    expected = out(relu(linear(reference(x)[0][:, -1])))
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("name", ["lstm", "gru", "alstm"])
def test_without_a_size_the_head_is_one_layer_that_drops_nothing(name, x):
    net = build(name, hidden_size=7, num_layers=1, dropout=0.0, head_size=0)
    (linear,) = net.head
    assert linear.in_features == (14 if name == "alstm" else 7)
    torch.testing.assert_close(net.train()(x), net.eval()(x))
    assert net(x).shape == (len(x), K)


@pytest.mark.parametrize("name", sorted(NETS))
def test_one_layer_builds_without_a_warning_about_dropout(name, x):
    net = build(name, num_layers=1, dropout=0.5)
    # Other parts drop all the same.
    assert not torch.equal(net.train()(x), net(x))


SMALL = {
    "lstm": {"hidden_size": 4, "num_layers": 1, "head_size": 4},
    "gru": {"hidden_size": 4, "num_layers": 1, "head_size": 4},
    "alstm": {"hidden_size": 4, "num_layers": 1, "head_size": 4},
    "tft": {"hidden_size": 4, "num_layers": 1, "num_heads": 1},
    "mlp": {"hidden_size": 4, "num_layers": 1},
}


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_setting_shapes_the_net(name):
    def n_weights(**settings):
        return sum(p.numel() for p in build(name, **{**SMALL[name], **settings}).parameters())

    changes = [{}, {"hidden_size": 5}, {"num_layers": 2}]
    changes += [{"head_size": 5}, {"head_size": 0}] if "head_size" in SMALL[name] else []
    changes += [{"cell_type": "lstm"}] if name == "alstm" else []
    assert len({n_weights(**change) for change in changes}) == len(changes)


def test_the_number_of_heads_changes_the_tft_and_not_its_other_settings():
    one, two = (build("tft", num_heads=heads).self_attention for heads in (1, 2))
    assert one.value.weight.shape != two.value.weight.shape


def test_fewer_features_than_heads_are_enough():
    net = build("tft", n_features=1, num_heads=4)
    assert net(torch.zeros(2, T, 1)).shape == (2, K)


def test_an_unknown_net_is_refused_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"unknown net 'lstn'.*Did you mean 'lstm'"):
        net_class("lstn")


@pytest.fixture(params=sorted(NETS))
def panel(request):
    """Each net with an embedding of the symbol, or its own way to take one."""
    if issubclass(NETS[request.param], TFTNet):
        return panel_net(build(request.param, n_symbols=3), 3, 0)
    return panel_net(build(request.param, n_features=F + 2), 3, 2)


@pytest.fixture
def panel_x(x):
    symbols = (torch.arange(B) % 3).float().view(B, 1, 1).expand(B, T, 1)
    return torch.cat([x, symbols], dim=-1)


def test_a_net_that_knows_the_symbol_answers_differently_for_another(panel, panel_x):
    panel.eval()
    other = panel_x.clone()
    other[..., -1] = (other[..., -1] + 1) % 3
    assert panel(panel_x).shape == (B, K)
    differs = ~torch.isclose(panel(panel_x), panel(other), atol=1e-5).all(dim=1)
    assert differs.all()


def test_every_parameter_of_a_net_that_knows_the_symbol_gets_a_gradient(panel, panel_x):
    panel(panel_x).square().sum().backward()
    missing = [n for n, p in panel.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_a_net_with_symbols_keeps_its_steps_where_it_has_them(panel_x):
    with_steps = panel_net(build("lstm", n_features=F + 2), 3, 2).eval()
    steps = with_steps.forward_steps(panel_x, T)
    assert steps.shape == (B, T, K)
    torch.testing.assert_close(steps[:, -1], with_steps(panel_x))
    assert not hasattr(panel_net(build("alstm", n_features=F + 2), 3, 2), "forward_steps")
