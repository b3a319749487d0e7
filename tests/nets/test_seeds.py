"""Random numbers that belong to one computation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from torch import nn
from torch.utils.checkpoint import checkpoint

from freqai_lstm_plugins import SequenceRegressor, load_model
from freqai_lstm_plugins.nets import replayed_by_torch, seeded, seeds

N, F, W = 90, 3, 4
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)


def draw_everything():
    """What a constructor or a net in training may draw."""
    x = torch.ones(3, 4, 2)
    layers = nn.LSTM(2, 2, 2, dropout=0.5, batch_first=True)
    attention = nn.MultiheadAttention(2, 1, dropout=0.5)
    drawn = [
        torch.rand(2),
        torch.randn(2),
        torch.randint(9, (5,)),
        torch.randperm(9),
        torch.bernoulli(torch.full((9,), 0.5)),
        torch.rand_like(x),
        torch.empty(2).exponential_(),
        torch.multinomial(torch.ones(9), 3),
        *nn.Linear(2, 3).parameters(),
        nn.Embedding(3, 2).weight,
        nn.init.orthogonal_(torch.empty(3, 3)),
        nn.init.trunc_normal_(torch.empty(3, 3)),
        nnf.dropout(x),
        torch.dropout(x, 0.5, train=True),
        nn.Dropout1d()(x),
        nn.AlphaDropout()(x),
        layers(x)[0],
        attention(x, x, x)[0],
    ]
    return [item.detach().float().flatten() for item in drawn]


def test_inside_a_block_every_draw_comes_from_its_seed_and_the_processs_generator_rests():
    before = torch.get_rng_state()
    blocks = []
    for seed in (1, 1, 2):
        with seeded(seed):
            blocks.append(draw_everything())
        torch.manual_seed(int(torch.randint(99, ())))
        torch.set_rng_state(before)
    for one, same in zip(blocks[0], blocks[1], strict=True):
        assert torch.equal(one, same)
    assert not torch.equal(torch.cat(blocks[0]), torch.cat(blocks[2]))
    with seeded(1):
        draw_everything()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_block_inside_another_draws_from_its_own_seed_and_the_outer_one_goes_on():
    with seeded(1):
        expected = torch.rand(4)
    with seeded(1):
        first = torch.rand(2)
        with seeded(9):
            inner = draw_everything()
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second]), expected)
    with seeded(9):
        alone = draw_everything()
    assert all(torch.equal(one, other) for one, other in zip(inner, alone, strict=True))


def test_dropout_in_a_block_keeps_its_share_and_the_mean_and_rests_in_evaluation():
    x = torch.ones(100_000)
    with seeded(0):
        dropped = nnf.dropout(x, 0.3)
        assert nnf.dropout(x, 0.3, training=False) is x
        inplace = x.clone()
        nnf.dropout(inplace, 0.3, inplace=True)
    # Five deviations of 100,000 draws.
    assert abs(float((dropped == 0).float().mean()) - 0.3) < 0.01
    assert abs(float(dropped.mean()) - 1) < 0.02
    assert float((inplace == 0).float().mean()) == pytest.approx(0.3, abs=0.01)


def test_a_net_that_computes_parts_again_gets_the_same_dropout_again():
    """`torch.utils.checkpoint` rewinds the process's generator: the gradient shows it."""
    x = torch.ones(1000, requires_grad=True)
    with seeded(5), replayed_by_torch():
        found = checkpoint(nn.Dropout(0.5), x, use_reentrant=False)
        found.sum().backward()
    assert torch.equal(x.grad, found.detach())


class OwnNet(nn.Module):
    """A user's, which draws by torch's functions alone."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.out = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        hidden = checkpoint(nnf.dropout, x[:, -1], 0.3, self.training, use_reentrant=False)
        return self.out(hidden)


SHAPES = {
    "lstm": {"hidden_size": 8, "num_layers": 2, "dropout": 0.3},
    "gru dense": {"hidden_size": 8, "num_layers": 2, "dropout": 0.3, "supervision": "dense"},
    "alstm": {"hidden_size": 8, "num_layers": 2, "dropout": 0.3},
    "tft": {"hidden_size": 4, "num_layers": 2, "dropout": 0.3},
    "own": {},
}


def weights(name):
    net = OwnNet if name == "own" else name.split()[0]
    model = SequenceRegressor(
        net, W, max_epochs=3, batch_size=16, seed=3, num_threads=1, progress=False, **SHAPES[name]
    )
    model.fit(X, X[:, 0])
    return nn.utils.parameters_to_vector(model.net_.parameters()).detach()


@pytest.mark.parametrize("name", SHAPES)
def test_fits_in_several_threads_give_the_same_weights_bit_for_bit(name):
    """Catches a draw from the generator that all threads share."""
    alone = weights(name)
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(weights, [name] * 6))
    assert [torch.equal(alone, other) for other in beside] == [True] * 6


@pytest.mark.parametrize("name", ["lstm", "tft"])
def test_a_fit_beside_a_thread_that_loads_and_draws_gives_the_same_weights(tmp_path, name):
    alone = weights(name)
    path = tmp_path / "model.zip"
    SequenceRegressor("alstm", W, hidden_size=4, max_epochs=1, progress=False).fit(X, X[:, 0]).save(
        path
    )
    done = threading.Event()

    def disturb():
        while not done.is_set():
            load_model(path)
            torch.rand(5)
            torch.manual_seed(1)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        beside = [weights(name) for _ in range(2)]
    finally:
        done.set()
        thread.join()
    assert all(torch.equal(alone, other) for other in beside)


def test_layers_that_drop_nothing_leave_the_processs_generator_to_others(monkeypatch):
    """Lending it would take up what another thread draws meanwhile."""
    layers, x = nn.LSTM(2, 2, 2, dropout=0.5, batch_first=True), torch.ones(3, 4, 2)
    moved = []
    monkeypatch.setattr(seeds, "_process_generators", lambda: moved.append(1) or [])
    with seeded(1):
        layers.eval()(x)
        nn.LSTM(2, 2, batch_first=True)(x)
        assert not moved
        layers.train()(x)
    assert moved


def test_loading_moves_no_generator(tmp_path):
    path = tmp_path / "model.zip"
    SequenceRegressor("tft", W, hidden_size=4, max_epochs=1, progress=False).fit(X, X[:, 0]).save(
        path
    )
    before = torch.get_rng_state()
    load_model(path).predict(X)
    assert torch.equal(torch.get_rng_state(), before)
