from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.nets import tft
from freqai_lstm_plugins.nets.tft import (
    GatedLinearUnit,
    GatedResidualNetwork,
    GatedSkip,
    InterpretableMultiHeadAttention,
    TFTNet,
    VariableSelectionNetwork,
)

B, W, F, K, H, S = 8, 6, 5, 3, 8, 3


def build(**settings):
    torch.manual_seed(0)
    return TFTNet(F, K, **{"hidden_size": H, **settings})


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def x():
    return randn(B, W, F)


@pytest.fixture
def symbol():
    return torch.arange(B) % S


@pytest.fixture(params=[0, S])
def call(request, x, symbol):
    """A net without and with symbols, and what it is called with."""
    net = build(n_symbols=request.param)
    return net, ((x, symbol) if request.param else (x,))


# What follows writes the paper's equations down for one vector or one window, in float64.


def array(tensor):
    return tensor.detach().double().numpy()


def weights_of(module):
    """Weights by name, with each norm's gain and bias away from 1 and 0, where they would hide."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "norm" in name:
                p.add_(randn(*p.shape, seed=len(name)), alpha=0.3)
    return {name: array(p) for name, p in module.named_parameters()}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def elu(z):
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def norm(z, gain, bias):
    return (z - z.mean()) / np.sqrt(z.var() + 1e-5) * gain + bias


def glu_by_hand(w, prefix, z):
    out = w[f"{prefix}linear.weight"] @ z + w[f"{prefix}linear.bias"]
    gate, value = np.split(out, 2)
    return sigmoid(gate) * value


def grn_by_hand(w, prefix, a, c=None):
    inner = w[f"{prefix}inner.weight"] @ a + w[f"{prefix}inner.bias"]
    if c is not None:
        inner = inner + w[f"{prefix}context.weight"] @ c
    eta = w[f"{prefix}hidden.weight"] @ elu(inner) + w[f"{prefix}hidden.bias"]
    if f"{prefix}skip.weight" in w:
        a = w[f"{prefix}skip.weight"] @ a + w[f"{prefix}skip.bias"]
    gated = glu_by_hand(w, f"{prefix}glu.", eta)
    return norm(a + gated, w[f"{prefix}norm.weight"], w[f"{prefix}norm.bias"])


def skip_by_hand(w, prefix, z, skipped):
    gated = glu_by_hand(w, f"{prefix}glu.", z)
    return norm(skipped + gated, w[f"{prefix}norm.weight"], w[f"{prefix}norm.bias"])


def variable_by_hand(w, prefix, j, value):
    """Network of variable j, written as a linear map of one number followed by a whole network."""
    p = {name: w[f"{prefix}{name}"][j] for name in NETWORK_PARTS}
    inner = (value * p["inner_weight"] + p["inner_bias"])[0]
    eta = elu(inner) @ p["hidden_weight"] + p["hidden_bias"][0]
    gate = sigmoid(eta @ p["gate_weight"] + p["gate_bias"][0])
    gated = gate * (eta @ p["value_weight"] + p["value_bias"][0])
    skip = (value * p["skip_weight"] + p["skip_bias"])[0]
    return norm(skip + gated, p["norm_weight"][0], p["norm_bias"][0])


NETWORK_PARTS = [
    f"{part}_{kind}"
    for part in ("skip", "inner", "hidden", "gate", "value", "norm")
    for kind in ("weight", "bias")
]


def selection_by_hand(w, prefix, row, c=None):
    weights = softmax(grn_by_hand(w, f"{prefix}selection.", row, c))
    made = [variable_by_hand(w, f"{prefix}networks.", j, value) for j, value in enumerate(row)]
    return weights, sum(weight * state for weight, state in zip(weights, made, strict=True))


def attention_by_hand(w, prefix, query, keys, num_heads):
    """Mean over heads of attentions that each have their own queries and keys, but one value."""
    size = len(query) // num_heads
    values = [w[f"{prefix}value.weight"] @ key for key in keys]
    heads, looks = [], []
    for head in range(num_heads):
        rows = slice(head * size, (head + 1) * size)
        q = w[f"{prefix}query.weight"][rows] @ query
        ks = [w[f"{prefix}key.weight"][rows] @ key for key in keys]
        look = softmax(np.array([q @ k for k in ks]) / np.sqrt(size))
        looks.append(look)
        heads.append(sum(a * v for a, v in zip(look, values, strict=True)))
    return w[f"{prefix}out.weight"] @ np.mean(heads, axis=0), np.mean(looks, axis=0)


def lstm_by_hand(w, prefix, rows, h, c):
    states = []
    for row in rows:
        gates = w[f"{prefix}weight_ih_l0"] @ row + w[f"{prefix}bias_ih_l0"]
        gates = gates + w[f"{prefix}weight_hh_l0"] @ h + w[f"{prefix}bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def net_by_hand(w, window, num_heads, symbol=None):
    """Return outputs (K,), attention (W,) and variable weights (W, F) of one window."""
    contexts = [None, None, np.zeros(H), np.zeros(H)]
    if symbol is not None:
        embedded = w["static.embedding.weight"][symbol]
        contexts = [grn_by_hand(w, f"static.networks.{i}.", embedded) for i in range(4)]
    chosen = [selection_by_hand(w, "selection.", row, contexts[0]) for row in window]
    weights, selected = zip(*chosen, strict=True)
    states = lstm_by_hand(w, "recurrent.", selected, contexts[2], contexts[3])
    local = [
        skip_by_hand(w, "recurrent_skip.", *pair) for pair in zip(states, selected, strict=True)
    ]
    enriched = [grn_by_hand(w, "enrichment.", state, contexts[1]) for state in local]
    found, look = attention_by_hand(w, "self_attention.", enriched[-1], enriched, num_heads)
    attended = skip_by_hand(w, "attention_skip.", found, enriched[-1])
    fed = grn_by_hand(w, "feed_forward.", attended)
    state = skip_by_hand(w, "decoder_skip.", fed, local[-1])
    return w["head.weight"] @ state + w["head.bias"], look, np.array(weights)


def assert_same(tensor, expected):
    np.testing.assert_allclose(array(tensor), np.array(expected), rtol=1e-4, atol=1e-5)


def test_gated_linear_unit_is_equation_5():
    glu = GatedLinearUnit(H, 4, 0.0)
    z = randn(B, H)
    w4, w5 = array(glu.linear.weight[:4]), array(glu.linear.weight[4:])
    b4, b5 = array(glu.linear.bias[:4]), array(glu.linear.bias[4:])
    assert_same(glu(z), [sigmoid(w4 @ row + b4) * (w5 @ row + b5) for row in array(z)])


@pytest.mark.parametrize("context_size", [0, 4])
@pytest.mark.parametrize("n_out", [F, 3])
def test_gated_residual_network_is_equations_2_to_4(n_out, context_size):
    grn = GatedResidualNetwork(F, H, n_out, 0.0, context_size=context_size)
    a, c = randn(B, F), randn(B, context_size, seed=2) if context_size else None
    w = weights_of(grn)
    contexts = [None] * B if c is None else array(c)
    expected = [grn_by_hand(w, "", row, c) for row, c in zip(array(a), contexts, strict=True)]
    assert_same(grn(a, c), expected)
    assert ("skip.weight" in w) == (n_out != F)


def test_a_closed_gate_leaves_the_norm_of_what_it_skips():
    skip = GatedSkip(H, 0.0)
    with torch.no_grad():
        skip.glu.linear.bias[:H] = -100
    z, skipped = randn(B, H), randn(B, H, seed=2)
    torch.testing.assert_close(skip(z, skipped), nnf.layer_norm(skipped, (H,)))


def test_variable_selection_equals_a_loop_over_variables(x):
    selection = VariableSelectionNetwork(F, H, 0.0, context_size=4)
    context = randn(B, 1, 4, seed=2)
    w = weights_of(selection)
    states, weights = selection(x, context), selection.weights(x, context)
    for b in range(B):
        for t in range(W):
            expected = selection_by_hand(w, "", array(x[b, t]), array(context[b, 0]))
            assert_same(weights[b, t], expected[0])
            assert_same(states[b, t], expected[1])


def test_variable_selection_stands_for_the_papers_embeddings(x):
    """Equations 6 and 7 on embeddings a_j * x_j + b_j give what the merged maps give."""
    selection = VariableSelectionNetwork(F, H, 0.0)
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(F, H)), draw.normal(size=(F, H))
    flat_inner, flat_skip = draw.normal(size=(H, F * H)), draw.normal(size=(F, F * H))
    own_inner, own_bias = draw.normal(size=(F, H, H)), draw.normal(size=(F, H))

    def merged(matrix):
        by_variable = matrix.reshape(len(matrix), F, H)
        return (by_variable * a).sum(axis=2), matrix @ b.ravel()

    values = {
        "selection.inner.weight": merged(flat_inner)[0],
        "selection.inner.bias": merged(flat_inner)[1],
        "selection.skip.weight": merged(flat_skip)[0],
        "selection.skip.bias": merged(flat_skip)[1],
        "networks.skip_weight": a[:, None],
        "networks.skip_bias": b[:, None],
        "networks.inner_weight": np.einsum("fhi,fi->fh", own_inner, a)[:, None],
        "networks.inner_bias": (np.einsum("fhi,fi->fh", own_inner, b) + own_bias)[:, None],
    }
    with torch.no_grad():
        for name, value in values.items():
            selection.get_parameter(name).copy_(torch.from_numpy(value))
    w = weights_of(selection)
    zero = np.zeros(H)

    def network(j, embedding):
        p = {name: w[f"networks.{name}"][j] for name in NETWORK_PARTS}
        eta = elu(own_inner[j] @ embedding + own_bias[j]) @ p["hidden_weight"] + p["hidden_bias"][0]
        gate = sigmoid(eta @ p["gate_weight"] + p["gate_bias"][0])
        gated = gate * (eta @ p["value_weight"] + p["value_bias"][0])
        return norm(embedding + gated, p["norm_weight"][0], p["norm_bias"][0])

    flat = w | {
        "selection.inner.weight": flat_inner,
        "selection.inner.bias": zero,
        "selection.skip.weight": flat_skip,
        "selection.skip.bias": np.zeros(F),
    }
    row = array(x[0, 0])
    embeddings = row[:, None] * a + b
    weights = softmax(grn_by_hand(flat, "selection.", embeddings.ravel()))
    assert_same(selection.weights(x)[0, 0], weights)
    expected = sum(weights[j] * network(j, embeddings[j]) for j in range(F))
    assert_same(selection(x)[0, 0], expected)


def test_chunks_change_neither_values_nor_gradients(x, monkeypatch):
    selection = VariableSelectionNetwork(F, H, 0.0)

    def run():
        selection.zero_grad()
        states = selection(x)
        states.square().sum().backward()
        return [states.detach(), *(p.grad.clone() for p in selection.parameters())]

    whole = run()
    monkeypatch.setattr(tft, "CHUNK_NUMBERS", 7 * F * H)
    torch.testing.assert_close(run(), whole, rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_once_for_a_chunk_and_its_backward_pass(x, monkeypatch):
    """The gradient belongs to the very function that the forward pass computed."""
    monkeypatch.setattr(tft, "CHUNK_NUMBERS", 7 * F * H)
    selection = VariableSelectionNetwork(F, H, 0.5).double()
    bias = selection.networks.norm_weight

    def loss():
        torch.manual_seed(3)
        return selection(x.double()).square().sum()

    loss().backward()
    step = 1e-6 * randn(*bias.shape, seed=4).double()
    with torch.no_grad():
        bias += step
        above = loss()
        bias -= 2 * step
        below = loss()
    torch.testing.assert_close((above - below) / 2, (bias.grad * step).sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_is_the_mean_of_heads_that_share_their_values(num_heads):
    attention = InterpretableMultiHeadAttention(H, num_heads)
    keys = randn(B, W, H) * 3
    w = weights_of(attention)
    expected = [attention_by_hand(w, "", rows[-1], rows, num_heads) for rows in array(keys)]
    found, looks = zip(*expected, strict=True)
    assert_same(attention(keys[:, -1:], keys).squeeze(1), found)
    assert_same(attention.weights(keys[:, -1:], keys).squeeze(1), looks)
    assert attention.value.weight.shape == (H // num_heads, H)


@pytest.mark.parametrize("n_symbols", [0, S])
def test_the_whole_net_is_what_the_equations_say(n_symbols, x, symbol):
    net = build(n_symbols=n_symbols, num_heads=2).eval()
    w = weights_of(net)
    args = (x, symbol) if n_symbols else (x,)
    symbols = symbol.tolist() if n_symbols else [None] * B
    by_window = [
        net_by_hand(w, *pair[:1], 2, pair[1]) for pair in zip(array(x), symbols, strict=True)
    ]
    raw, looks, weights = zip(*by_window, strict=True)
    assert_same(net(*args), np.array(raw))
    assert_same(net.attention(*args), looks)
    assert_same(net.variable_weights(*args), weights)


def test_shapes_and_what_reading_the_weights_changes(call):
    net, args = call
    before = net.eval()(*args)
    assert before.shape == (B, K)
    weights, attention = net.variable_weights(*args), net.attention(*args)
    assert weights.shape == (B, W, F)
    assert attention.shape == (B, W)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, W))
    torch.testing.assert_close(attention.sum(-1), torch.ones(B))
    assert torch.equal(net(*args), before)


def test_every_parameter_gets_a_gradient(call):
    net, args = call
    net(*args).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_rows_prediction_does_not_depend_on_its_batch(call, monkeypatch):
    net, args = call
    net.eval()
    whole = net(*args)
    alone = torch.cat([net(*(arg[i : i + 1] for arg in args)) for i in range(B)])
    torch.testing.assert_close(whole, alone)
    torch.testing.assert_close(net(*(arg.flip(0) for arg in args)), whole.flip(0))
    monkeypatch.setattr(tft, "CHUNK_NUMBERS", 7 * F * H)
    torch.testing.assert_close(net(*args), whole)


def test_evaluation_is_deterministic_and_training_drops(call):
    net, args = call
    assert torch.equal(net.eval()(*args), net(*args))
    assert not torch.equal(net.train()(*args), net(*args))


def test_every_row_of_the_window_matters(x):
    net = build().eval()
    for t in range(W):
        changed = x.clone()
        changed[:, t] += 1
        assert not torch.allclose(net(changed), net(x), atol=1e-6)
    assert not torch.allclose(net(x.flip(1)), net(x), atol=1e-6)


def test_the_symbol_matters_and_two_layers_take_it_too(x, symbol):
    for num_layers in (1, 2):
        net = build(n_symbols=S, num_layers=num_layers).eval()
        assert not torch.allclose(net(x, symbol), net(x, (symbol + 1) % S), atol=1e-4)


def test_a_missing_or_an_unasked_symbol_is_refused(x, symbol):
    with pytest.raises(DataError, match="n_symbols = 3: give symbol"):
        build(n_symbols=S)(x)
    with pytest.raises(DataError, match="n_symbols is 0: leave symbol out"):
        build().variable_weights(x, symbol)


def test_the_smallest_net_works():
    net = TFTNet(1, 1, hidden_size=1, num_heads=1, n_symbols=1)
    assert net(randn(2, 1, 1), torch.zeros(2, dtype=torch.long)).isfinite().all()


def test_a_hidden_size_that_heads_do_not_divide_is_refused_with_both():
    with pytest.raises(ConfigError, match="hidden_size = 30 is no multiple of num_heads = 4"):
        TFTNet(F, K, hidden_size=30, num_heads=4)
    with pytest.raises(ConfigError, match="num_heads must be an integer of at least 1, not 0"):
        TFTNet(F, K, num_heads=0)


def train(net, loss_of, steps, learning_rate):
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_eight_samples_can_be_learned_by_heart(x):
    net = build(dropout=0.0)
    targets = randn(B, K, seed=2)
    assert train(net, lambda: (net(x) - targets).square().mean(), 200, 0.01) < 0.01


def test_the_variable_that_carries_the_signal_gets_the_biggest_weight():
    x = randn(256, W, F)
    target = x[:, -1, 3:4].sin() * 2
    torch.manual_seed(0)
    net = TFTNet(F, 1, hidden_size=H)
    before = net.variable_weights(x)[:, -1].mean(0)
    assert train(net, lambda: (net(x) - target).square().mean(), 150, 0.01) < 0.2
    after = net.eval().variable_weights(x)[:, -1].mean(0)
    assert before.argmax() != 3
    assert after.argmax() == 3
    assert after[3] > 0.5


def test_one_layer_builds_without_a_warning_about_dropout(x):
    assert build(num_layers=1, dropout=0.5).recurrent.dropout == 0
    assert build(num_layers=2, dropout=0.5).recurrent.dropout == 0.5
    assert {m.p for m in build(dropout=0.5).modules() if isinstance(m, nn.Dropout)} == {0.5}
