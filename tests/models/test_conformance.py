"""What every net keeps to with every kind of answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, load_model
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models.building import new_net as build
from freqai_lstm_plugins.nets import NETS, net_class, panel_net
from freqai_lstm_plugins.training.devices import seeded

W, F, N = 5, 3, 80
NET = {
    "lstm": {"hidden_size": 4, "num_layers": 2, "head_size": 4},
    "gru": {"hidden_size": 4, "num_layers": 2, "head_size": 4},
    "alstm": {"hidden_size": 4, "num_layers": 1, "head_size": 4, "cell_type": "lstm"},
    "tft": {"hidden_size": 4, "num_heads": 2},
    "mlp": {"hidden_size": 4, "num_layers": 2},
}
TRAINING = {"window": W, "max_epochs": 2, "batch_size": 16, "progress": False, "device": "cpu"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of answer: how a model is made for it, and what it is given."""

    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_classifier: bool = False
    n_targets: int = 1
    n_symbols: int = 0

    def make(self, net, **options):
        kind = SequenceClassifier if self.is_classifier else SequenceRegressor
        return kind(net, **{**NET[net], **TRAINING, **self.options, **options})

    def features(self, n=N, seed=0):
        parts = [
            np.random.default_rng([seed, i]).normal(size=(n, F)) * [1, 10, 0.1] + [0, 5, -3]
            for i in range(self.n_symbols or 1)
        ]
        return {f"S{i}": part for i, part in enumerate(parts)} if self.n_symbols else parts[0]

    def targets(self, x):
        if isinstance(x, dict):
            return {name: self.targets(part) for name, part in x.items()}
        columns = [np.roll(x[:, k], 1) for k in range(self.n_targets)]
        if self.is_classifier:
            columns = [
                np.digitize(x, np.quantile(x, [0.3, 0.6][: k + 1])) for k, x in enumerate(columns)
            ]
        return columns[0] if self.n_targets == 1 else np.column_stack(columns)

    @property
    def n_outputs(self):
        if self.is_classifier:
            return sum(range(2, self.n_targets + 2))
        return self.n_targets


KINDS = {
    "mse": Kind({"loss": "mse"}),
    "mae": Kind({"loss": "mae"}),
    "huber": Kind({"loss": "huber"}),
    "quantile": Kind({"loss": "quantile"}),
    "several": Kind({"loss": "mse"}, n_targets=2),
    "several quantiles": Kind({"loss": "quantile"}, n_targets=2),
    "mse with interval": Kind({"loss": "mse", "interval": 0.8}),
    "quantile with interval": Kind({"loss": "quantile", "interval": 0.5}, n_targets=2),
    "classes": Kind(is_classifier=True),
    "several classes": Kind({"class_weight": "balanced"}, is_classifier=True, n_targets=2),
    "panel": Kind(n_symbols=2),
    "panel that is told": Kind({"symbol_embedding": 2, "interval": 0.8}, n_symbols=2),
    "panel of classes": Kind({"symbol_embedding": 2}, is_classifier=True, n_symbols=2),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A net that was trained to give a kind of answer."""

    net: str
    kind: Kind
    model: SequenceRegressor | SequenceClassifier

    def answers(self, x, model=None):
        return everything(model or self.model, x)


def everything(model, x):
    """Return all numbers that a model tells, (N, numbers) for each symbol or series."""
    if isinstance(model, SequenceClassifier):
        told = [model.predict_proba(x)]
    elif model.calibration is not None:
        told = [model.predict(x), *model.predict_interval(x)]
    else:
        told = [model.predict(x)]
    if not isinstance(x, dict):
        return {"": np.column_stack(told)}
    return {name: np.column_stack([values[name] for values in told]) for name in x}


def changed(x, change):
    """Apply `change` to the rows of each symbol, or of the one series."""
    return {name: change(part) for name, part in x.items()} if isinstance(x, dict) else change(x)


def same(one, other):
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one | other)


CASES = [pytest.param((net, kind), id=f"{net}, {kind}") for net in sorted(NETS) for kind in KINDS]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    net, name = request.param
    kind = KINDS[name]
    x = kind.features()
    return Case(net, kind, kind.make(net).fit(x, kind.targets(x)))


def test_answers_have_a_row_a_row_and_a_column_a_target(case):
    x = case.kind.features(30, seed=1)
    for part, told in zip(
        x.values() if isinstance(x, dict) else [x], case.answers(x).values(), strict=True
    ):
        n_values = case.kind.n_outputs * (4 if case.kind.options.get("interval") else 1)
        assert told.shape == (len(part), n_values)
        assert np.isnan(told[: W - 1]).all()
        assert np.isfinite(told[W - 1 :]).all()
    predicted = case.model.predict(x)
    predicted = predicted["S0"] if isinstance(x, dict) else predicted
    assert predicted.shape == ((30,) if case.kind.n_targets == 1 else (30, case.kind.n_targets))


def test_training_moves_every_parameter(case):
    """Catches a part of a net that the optimizer does not know."""
    before = dict(new_net(case).named_parameters())
    for name, after in case.model.net_.named_parameters():
        assert after.isfinite().all(), name
        assert (after != before[name]).any(), name


def new_net(case):
    """Return the net as it was before the training."""
    with seeded(case.model.train_config.seed):
        n_outputs = case.model.answer.n_outputs
        return build(case.model._parameters, F, n_outputs, len(case.model.symbols_))


def test_every_parameter_gets_a_gradient_from_the_loss(case):
    """Catches a part of a net that the loss of some answer does not reach."""
    net = new_net(case).eval()
    # An odd number of windows, whose errors' signs cannot cancel in the mean.
    n = 7
    x = torch.randn(n, W, F, generator=torch.Generator().manual_seed(1))
    if case.model.symbols_:
        numbers = (torch.arange(n) % 2).view(n, 1, 1).expand(n, W, 1)
        x = torch.cat([x, numbers], dim=-1)
    targets = (torch.arange(n) % 2).float().view(n, 1).repeat(1, case.kind.n_targets)
    windows = WindowSet(x, torch.arange(n), targets, torch.ones(n), W)
    # Intervals would ask for validation windows, of which the loss knows nothing.
    model = clone(case.model).set_params(interval=None)
    answer = model.answer_for(Prepared(windows, None, case.model.fitted.schema))
    answer.loss(net(x), targets).mean().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_rows_answer_does_not_depend_on_the_rows_that_are_predicted_with_it(case):
    x = case.kind.features()
    whole = case.answers(x)
    # Alone, among others, and so many that windows share the products of rows.
    for first in (0, 30, N - W):
        some = case.answers(changed(x, lambda part, first=first: part[first:]))
        for name, told in some.items():
            np.testing.assert_allclose(
                told[W - 1 :], whole[name][first + W - 1 :], rtol=1e-4, atol=1e-5
            )


def test_changing_later_rows_changes_no_earlier_answer(case):
    x = case.kind.features()
    before = case.answers(x)

    def spoil(part):
        part = part.copy()
        part[50:60] = 1e3
        part[60:] = np.nan
        return part

    after = case.answers(changed(x, spoil))
    for name, told in after.items():
        # Fewer windows may take other kernels, which round otherwise.
        np.testing.assert_allclose(told[:50], before[name][:50], rtol=1e-5, atol=1e-6)
        assert not np.allclose(told[50], before[name][50], rtol=1e-3, atol=1e-4)
        assert np.isnan(told[60:]).all()


def test_a_loaded_model_answers_the_same_bit_by_bit(case, tmp_path):
    case.model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    x = case.kind.features(40, seed=1)
    assert same(case.answers(x, loaded), case.answers(x))
    expected = {**case.model.get_params(), "progress": None}
    assert loaded.get_params() == expected
    # A file of the loaded model is the file of the model.
    loaded.save(tmp_path / "again.zip")
    assert same(case.answers(x, load_model(tmp_path / "again.zip")), case.answers(x))


def test_two_trainings_with_the_same_seed_are_the_same(case):
    x = case.kind.features()
    again = clone(case.model).fit(x, case.kind.targets(x))
    assert same(case.answers(x, again), case.answers(x))
    other = clone(case.model).set_params(seed=1).fit(x, case.kind.targets(x))
    assert not same(case.answers(x, other), case.answers(x))


def test_parameters_are_those_that_were_given(case):
    given = {**NET[case.net], **TRAINING, **case.kind.options}
    params = case.model.get_params()
    assert given.items() <= params.items()
    copied = clone(case.model)
    assert copied.get_params() == params
    assert not copied.is_fitted
    assert copied.set_params(**params).get_params() == params
    assert copied.set_params(window=W + 1, hidden_size=8).get_params()["hidden_size"] == 8


def test_answers_are_what_they_are_called(case):
    """Catches a prediction outside of its interval, and probabilities that are none."""
    x = case.kind.features(60, seed=1)
    if case.kind.is_classifier:
        stops = np.cumsum([len(names) for names in case.model.class_names])[:-1]
        for part in case.answers(x).values():
            for probabilities in np.split(part[W - 1 :], stops, axis=1):
                assert (probabilities > 0).all()
                np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    elif case.kind.options.get("interval"):
        for part in case.answers(x).values():
            predicted, point, lower, upper = np.split(part[W - 1 :], 4, axis=1)
            np.testing.assert_array_equal(predicted, point)
            assert (lower <= point).all()
            assert (point <= upper).all()
            assert (lower < upper).all()
    else:
        with pytest.raises(ConfigError, match="trained without intervals"):
            case.model.predict_interval(x)


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("kind", ["several", "several quantiles"])
def test_several_targets_come_in_their_own_order(net, kind):
    """Catches columns that change places between targets, outputs and answers."""
    x = KINDS[kind].features()
    y = KINDS[kind].targets(x) + np.array([1000, -1000])
    predicted = KINDS[kind].make(net).fit(x, y).predict(x)[W:]
    assert (predicted[:, 0] > 900).all()
    assert (predicted[:, 1] < -900).all()


@pytest.mark.parametrize("net", sorted(NETS))
def test_the_classes_of_several_targets_come_in_their_own_order(net):
    x = KINDS["several classes"].features()
    y = np.column_stack([np.arange(N) % 2 + 10, np.arange(N) % 3])
    model = KINDS["several classes"].make(net).fit(x, y)
    assert model.class_names == [[10, 11], [0, 1, 2]]
    predicted = model.predict(x)[W:]
    assert set(predicted[:, 0]) <= {10, 11}
    assert set(predicted[:, 1]) <= {0, 1, 2}


@pytest.mark.parametrize("kind", ["mae", "huber", "quantile", "several", "several classes"])
@pytest.mark.parametrize("net", sorted(NETS))
def test_eight_windows_can_be_learned_by_heart(net, kind):
    kind = KINDS[kind]
    with seeded(1):
        rows = torch.randn(8 + W - 1, F)
        targets = torch.randn(8, kind.n_targets)
    if kind.is_classifier:
        targets = torch.tensor([[0, 1, 1, 0, 1, 0, 0, 1], [2, 1, 0, 0, 2, 1, 0, 1]]).t().float()
    windows = WindowSet(rows, torch.arange(W - 1, W + 7), targets, torch.ones(8), W)
    shape = {"hidden_size": 16, "num_layers": 1, "dropout": 0.0}
    own = {"tft": {"num_heads": 2}, "mlp": {"hidden_size": 64, "num_layers": 2}}
    shape |= own.get(net, {"head_size": 16})
    model = kind.make(
        net, **shape, max_epochs=100, learning_rate=0.03, lr_schedule="cosine", class_weight=None
    )
    names = [f"y{i}" for i in range(kind.n_targets)]
    classes = [[0, 1], [0, 1, 2]] if kind.is_classifier else []
    model.fit_windows(Prepared(windows, None, Schema(list("abc"), names, classes)))
    outputs = model.predict_outputs(rows.numpy(), np.arange(len(rows)) >= W - 1)[W - 1 :]
    if kind.is_classifier:
        told = model.most_probable(model.probabilities(outputs))
        assert told.tolist() == targets.int().tolist()
    else:
        np.testing.assert_allclose(model.points(outputs), targets.numpy(), atol=0.3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_as_a_cpu(case, tmp_path):
    x = case.kind.features()
    case.model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    loaded.net_.to("cuda")
    for name, told in case.answers(x, loaded).items():
        np.testing.assert_allclose(told, case.answers(x)[name], rtol=1e-3, atol=1e-4)
    trained = clone(case.model).set_params(device="cuda").fit(x, case.kind.targets(x))
    assert next(trained.net_.parameters()).is_cuda
    assert all(p.dtype == torch.float32 for p in trained.net_.parameters())
    for name, told in case.answers(x, trained).items():
        assert np.isfinite(told[W - 1 :]).all(), name


def test_nets_compute_in_float32(case):
    assert {p.dtype for p in case.model.net_.parameters()} == {torch.float32}
    x = case.kind.features()
    # Features of another kind are the same numbers.
    single = case.answers(changed(x, lambda part: part.astype(np.float32)))
    for name, told in case.answers(x).items():
        np.testing.assert_allclose(single[name], told, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module", params=["mse with interval", "quantile with interval"])
def with_interval(request):
    kind = KINDS[request.param]
    x = kind.features()
    return [kind.make(net).fit(x, kind.targets(x)) for net in sorted(NETS)]


# From what is usual to what is only just a number of float32.
EXTREMES = st.floats(-(2.0**127), 2.0**127, width=32) | st.floats(-10, 10, width=32)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(values=st.lists(EXTREMES, min_size=2 * W * F, max_size=2 * W * F))
def test_no_row_however_extreme_crosses_an_interval(with_interval, values):
    x = np.array(values).reshape(2 * W, F)
    for model in with_interval:
        point, lower, upper = model.predict_interval(x)
        known = ~np.isnan(point)
        assert (np.isnan(lower) == ~known).all()
        assert (np.isnan(upper) == ~known).all()
        assert (lower[known] <= point[known]).all()
        assert (point[known] <= upper[known]).all()
        assert np.isfinite(np.r_[lower[known], upper[known]]).all()


def test_a_panel_net_of_each_kind_is_built_as_its_net_wants_it():
    for name in NETS:
        told = panel_net(net_class(name)(F + 2, 1), 3, 2)
        assert told(torch.zeros(2, W, F + 1)).shape == (2, 1)
