"""What a model looks at: attributions that add up, and drivers that are found where they lie."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from freqai_lstm_plugins import SequenceClassifier, SequenceRegressor, explain
from freqai_lstm_plugins.data.windows import gather_windows
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, MissingExtraError
from freqai_lstm_plugins.explanations import explanation as module
from freqai_lstm_plugins.explanations.picture import plot_explanation
from freqai_lstm_plugins.nets import NETS

W, F, DRIVER, LAG = 6, 4, 2, 2
SMALL = {"window": W, "max_epochs": 1, "num_threads": 1, "progress": False}
TINY = {**SMALL, "hidden_size": 8, "num_layers": 1}


def make(n_rows=900, seed=0):
    """Rows of noise, and a target that one feature foretold two rows ago."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, F))
    return rows, np.roll(rows[:, DRIVER], LAG) + 0.05 * rng.normal(size=n_rows)


class Linear(nn.Module):
    """A sum of all values of a window, each with its own weight."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.out = nn.Linear(W * n_features, n_outputs)

    def forward(self, x):
        return self.out(x.flatten(1))


@pytest.fixture(scope="module")
def trained():
    """A net of each kind that has learned the driver, made once."""
    models = {}

    def get(net):
        if net not in models:
            tuned = {"learning_rate": 0.01, "max_epochs": 25} if net == "tft" else {}
            settings = {"learning_rate": 0.02, "max_epochs": 12, "batch_size": 64, "dropout": 0.0}
            model = SequenceRegressor(
                net, **{**TINY, "hidden_size": 16, **settings, "lr_schedule": "cosine", **tuned}
            )
            models[net] = model.fit(*make())
            assert models[net].score(*make(seed=1)) > 0.9
        return models[net]

    return get


# attributions are what they claim to be


def test_a_linear_net_is_attributed_its_weights_times_the_values():
    rows, targets = make(60)
    model = SequenceRegressor(Linear, **SMALL, scale=False).fit(rows, targets)
    found = explain(model, rows, max_windows=5)
    weights = model.net_.out.weight.detach().double().numpy().reshape(W, F)
    windows = np.stack([rows[end - W + 1 : end + 1] for end in range(55, 60)])
    expected = weights * windows.astype(np.float32)
    np.testing.assert_allclose(found.direction.T, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.importance.T, np.abs(expected).mean(axis=0), atol=1e-6)
    assert found.moved == pytest.approx(np.abs(expected.sum(axis=(1, 2))).mean(), abs=1e-5)
    assert found.gap < 1e-5
    assert list(found.rows) == [55, 56, 57, 58, 59]
    assert list(found.importance.columns) == [5, 4, 3, 2, 1, 0]
    assert list(found.importance.index) == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("loss", ["mse", "quantile"])
def test_attributions_add_up_to_what_the_prediction_moved(net, loss):
    rows, targets = make(200)
    model = SequenceRegressor(net, **{**TINY, "max_epochs": 3}, loss=loss).fit(rows, targets)
    found = explain(model, rows, max_windows=40, steps=64)
    assert found.moved > 0
    assert found.is_exact()
    assert found.importance.shape == (F, W)
    assert np.isfinite(found.importance).all(axis=None)


def test_attributions_are_in_the_targets_own_units_and_start_at_the_mean_row(trained):
    model, (rows, _) = trained("lstm"), make()
    last = rows[-W:]
    found = explain(model, last, steps=256)
    mean = np.tile(model.scaling.feature_mean, (W, 1))
    moved = model.predict(last)[-1] - model.predict(mean)[-1]
    assert found.direction.to_numpy().sum() == pytest.approx(moved, abs=0.01)
    assert found.unit == "target"


@pytest.mark.parametrize("size", [16, 2**12])
@pytest.mark.parametrize("net", ["lstm", "gru", "tft"])
def test_the_size_of_a_batch_changes_nothing(net, size, monkeypatch):
    """Small batches run torch's recurrent layers, large ones the package's own."""
    rows, targets = make(150)
    model = SequenceRegressor(net, **TINY).fit(rows, targets)
    expected = explain(model, rows, max_windows=30)
    monkeypatch.setattr(module, "LARGEST_BATCH", size)
    found = explain(model, rows, max_windows=30)
    # Round-off only.
    np.testing.assert_allclose(found.direction, expected.direction, atol=1e-6)


def test_too_few_steps_are_warned_of(trained, caplog):
    found = explain(trained("gru"), make()[0], max_windows=50, steps=1)
    assert not found.is_exact()
    assert "take more steps" in caplog.text


def test_explaining_leaves_the_model_as_it_was(trained):
    model, (rows, _) = trained("tft"), make()
    before = model.predict(rows)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        explain(model, rows, max_windows=10)
    np.testing.assert_array_equal(model.predict(rows), before)
    assert [name for name, p in model.net_.named_parameters() if p.grad is not None] == []
    assert not model.net_.training
    assert torch.get_num_threads() == threads


# drivers


@pytest.mark.parametrize("net", ["lstm", "gru", "alstm", "tft"])
def test_the_planted_driver_is_found_at_its_lag(net, trained):
    found = explain(trained(net), make(seed=2)[0], max_windows=100)
    features = found.features()
    assert features.index[0] == f"x{DRIVER}"
    assert features["share"].iloc[0] > 0.7
    assert features["lag"].iloc[0] == LAG
    assert features["share"].sum() == pytest.approx(1)


def test_the_variable_selection_of_a_tft_finds_the_driver(trained):
    found = explain(trained("tft"), make(seed=2)[0], max_windows=200, steps=2)
    assert found.variable_weights.idxmax() == f"x{DRIVER}"
    assert found.variable_weights.sum() == pytest.approx(1, abs=1e-5)
    assert "variable_weight" in found.features()


@pytest.mark.parametrize("net", ["alstm", "tft"])
def test_the_attention_is_the_nets_own_over_the_explained_windows(net, trained):
    model, (rows, _) = trained(net), make(seed=2)
    found = explain(model, rows, max_windows=50, steps=2)
    _, scaled, _ = model.net_rows(rows)
    windows = gather_windows(scaled, torch.from_numpy(found.rows), W)
    with torch.no_grad():
        expected = model.net_.attention(windows).mean(dim=0)
    np.testing.assert_allclose(found.attention, expected, atol=1e-6)
    assert list(found.attention.index) == [5, 4, 3, 2, 1, 0]


def test_each_of_several_targets_has_its_own_driver():
    rows, _ = make(600)
    targets = pd.DataFrame({"one": rows[:, 0], "three": -rows[:, 3]})
    settings = {**TINY, "max_epochs": 12, "learning_rate": 0.02, "batch_size": 64}
    model = SequenceRegressor("gru", **settings).fit(rows, targets)
    one, three = (explain(model, rows, target=name) for name in ("one", 1))
    assert (one.target, three.target) == ("one", "three")
    assert one.features().index[0] == "x0"
    assert three.features().index[0] == "x3"
    assert explain(model, rows).target == "one"


def test_a_class_is_explained_by_its_probability_or_its_logit():
    rows, targets = make(600)
    model = SequenceClassifier("gru", **{**TINY, "max_epochs": 8, "learning_rate": 0.02})
    model.fit(rows, np.where(targets > 0, "up", "down"))
    up, down = (explain(model, rows, label_class=name) for name in ("up", "down"))
    assert (up.target, up.unit) == ("y0 = up", "probability")
    np.testing.assert_allclose(up.direction, -down.direction, atol=1e-5)
    assert up.features().index[0] == f"x{DRIVER}"
    assert explain(model, rows).target == "y0 = up"
    logit = explain(model, rows, measure="logit")
    assert logit.unit == "logit"
    assert logit.is_exact()
    assert logit.moved > up.moved


@pytest.mark.parametrize("net", ["lstm", "alstm", "tft"])
def test_a_panel_is_explained_without_the_symbols_number(net):
    rows, targets = make(300)
    frames = {"A": pd.DataFrame(rows[:200]), "B": pd.DataFrame(rows[200:])}
    labels = {"A": targets[:200], "B": targets[200:]}
    model = SequenceRegressor(net, **TINY, symbol_embedding=3).fit(frames, labels)
    found = explain(model, frames, max_windows=20)
    assert list(found.importance.index) == ["0", "1", "2", "3"]
    assert found.is_exact()
    # The newest of each symbol, and not of the last alone.
    assert list(found.rows) == [*range(190, 200), *range(290, 300)]
    assert (found.attention is not None) == (net != "lstm")
    assert (found.variable_weights is not None) == (net == "tft")


def test_positions_are_those_of_the_users_frame_where_symbols_alternate():
    rows, targets = make(120)
    frame = pd.DataFrame(rows).assign(coin=["A", "B"] * 60)
    model = SequenceRegressor("gru", **TINY, symbol="coin").fit(frame, targets)
    assert sorted(explain(model, frame, max_windows=4).rows) == [116, 117, 118, 119]


def test_spread_windows_are_taken_from_everywhere():
    rows, targets = make(105)
    model = SequenceRegressor("gru", **TINY).fit(rows, targets)
    found = explain(model, rows, max_windows=3, sample="spread")
    assert list(found.rows) == [5, 55, 104]
    assert len(explain(model, rows, max_windows=1000).rows) == 100


# nets of one's own


class WithAttention(Linear):
    """Says itself what it looks at, and has a layer whose name is that of a known method."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.variable_weights = nn.Linear(2, 2)

    def attention(self, x):
        return torch.softmax(torch.arange(x.shape[1]).float(), 0).expand(len(x), -1)


def test_an_own_net_may_tell_its_attention_and_a_layer_of_that_name_is_let_be():
    rows, targets = make(60)
    found = explain(SequenceRegressor(WithAttention, **SMALL).fit(rows, targets), rows)
    assert found.attention.idxmax() == 0
    assert found.variable_weights is None


class OutsideTorch(Linear):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        return super().forward(torch.from_numpy(x.detach().numpy())).detach()


def test_a_net_without_gradients_is_told_so():
    rows, targets = make(60)
    model = SequenceRegressor(OutsideTorch, **SMALL).fit(rows, targets)
    with pytest.raises(DataError, match="gives no gradient for its inputs"):
        explain(model, rows)


# wrong input

WRONG = [
    ({"target": "up"}, "target 'up' is none of the model's: y0"),
    ({"target": 1}, "target 1 is none of the model's: y0"),
    ({"label_class": "up"}, "label_class is 'up', but 'y0' is a number: it has no classes"),
    ({"sample": "oldest"}, "sample must be newest or spread, not 'oldest'"),
    ({"max_windows": 0}, "max_windows must be a whole number from 1 on, not 0"),
    ({"steps": 2.5}, r"steps must be a whole number from 1 on, not 2\.5"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_is_named(arguments, message, trained):
    with pytest.raises(ConfigError, match=message):
        explain(trained("lstm"), make(30)[0], **arguments)


def test_what_cannot_be_explained_is_told(trained):
    with pytest.raises(ConfigError, match="not fitted yet"):
        explain(SequenceRegressor(), make(30)[0])
    with pytest.raises(MismatchError, match="trained on 4 features, 3 are given"):
        explain(trained("lstm"), make(30)[0][:, :3])
    with pytest.raises(DataError, match=r"Nowhere in the 5 rows of X do 6 consecutive usable rows"):
        explain(trained("lstm"), make(5)[0])
    rows, targets = make(60)
    model = SequenceClassifier("gru", **TINY).fit(rows, targets > 0)
    with pytest.raises(ConfigError, match="label_class 2 is none of the model's: False, True"):
        explain(model, rows, label_class=2)
    with pytest.raises(ConfigError, match="measure must be probability or logit, not 'odds'"):
        explain(model, rows, measure="odds")


def test_without_captum_the_error_names_the_extra(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"'captum'.*freqai_lstm_plugins\[explain\]"):
        explain(trained("lstm"), make(30)[0])


# the picture


def made_up(n_features, n_lags, attention):
    rng = np.random.default_rng(0)
    names = [f"%-volume-$zscore-period_{i}_ETH/USDT_1h" for i in range(n_features)]
    lags = pd.RangeIndex(n_lags - 1, -1, -1, name="lag")
    values = pd.DataFrame(rng.gamma(1, 1, (n_features, n_lags)), names, lags)
    looks = pd.Series(np.full(n_lags, 1 / n_lags), lags) if attention else None
    return module.Explanation("&-y", "target", values, values, np.arange(9), 1.0, 0.0, looks)


@pytest.mark.parametrize(
    ("shape", "attention"),
    [((40, 24), True), ((2, 24), False), ((40, 1), False), ((3, 3), True), ((1, 200), False)],
)
def test_every_label_of_the_picture_lies_inside_and_none_upon_another(shape, attention):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    figure = plot_explanation(made_up(*shape, attention), "a title\nof two lines", top=20)
    FigureCanvasAgg(figure).draw()
    width, height = figure.canvas.get_width_height()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    names = [text for text in texts if text.get_text().startswith("%-")]
    assert len(names) == min(shape[0], 20)
    boxes = [name.get_window_extent() for name in names]
    for box in [*boxes, *(text.get_window_extent() for text in figure.texts)]:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    for upper, lower in pairwise(boxes):
        assert lower.y1 <= upper.y0 + 1


def test_the_table_holds_every_feature_with_its_lags():
    table = made_up(3, 4, False).table()
    assert list(table.columns[-4:]) == ["lag_3", "lag_2", "lag_1", "lag_0"]
    np.testing.assert_allclose(table.iloc[:, -4:].sum(axis=1), table["importance"])
    assert list(table["importance"]) == sorted(table["importance"], reverse=True)
