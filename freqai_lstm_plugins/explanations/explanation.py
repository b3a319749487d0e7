"""What a model looks at: how much each feature moves its answers, at each row of the window.

The attributions are integrated gradients. Source: Sundararajan, Taly and Yan, Axiomatic Attribution
for Deep Networks, ICML 2017. captum computes them: the gradient of the answer for each input, a
mean over the straight way from a baseline to the input, times how far the input lies from it. They
add up to the difference of the answer at the input and at the baseline; by how much a sum misses
that is part of every explanation.

The baseline is zero in every scaled feature: the mean row of the training where the model scales by
itself, and the middle of the training's range behind FreqAI's own scaling to -1 and 1.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import gather_windows
from freqai_lstm_plugins.errors import ConfigError, DataError, MissingExtraError
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.nets import PanelNet
from freqai_lstm_plugins.training.devices import torch_threads
from freqai_lstm_plugins.training.objectives import Classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freqai_lstm_plugins.data.arrays import FloatArray, IntArray
    from freqai_lstm_plugins.data.panel import Given

logger = logging.getLogger(__name__)

Sample = Literal["newest", "spread"]
Measure = Literal["probability", "logit"]

DEFAULT_WINDOWS = 256
DEFAULT_STEPS = 32
# Windows, and numbers in them, that go through the net at a time.
LARGEST_BATCH = 256
LARGEST_INPUT = 2**21
# A gap above this share of what the features move means too few steps.
TOLERATED_GAP = 0.05


@dataclass(frozen=True)
class Explanation:
    """How much each feature moves the answers, at each row of the window.

    Lags count rows back from the prediction: 0 is the row that is predicted.

    Attributes:
        target: What is explained: a target, or `target = class`.
        unit: What the attributions are measured in.
        importance: (F, W) mean size of the attributions. Rows are features, columns are lags,
            oldest first.
        direction: (F, W) mean attribution: above 0 where a value moves the answer up.
        rows: (M,) position in X of each row whose answer was explained.
        moved: Mean size of what a window's attributions add up to.
        gap: Mean size of the difference between that sum and how far the answer really moved.
        attention: (W,) how much the net's own attention looks at each row; None without any.
        variable_weights: (F,) weight that the net's own variable selection gives to each feature;
            None without any.
    """

    target: str
    unit: str
    importance: pd.DataFrame
    direction: pd.DataFrame
    rows: IntArray
    moved: float
    gap: float
    attention: pd.Series | None = None
    variable_weights: pd.Series | None = None

    def features(self) -> pd.DataFrame:
        """Return one row a feature, the most important first.

        Columns: `importance`, the sum over lags; `share` of all importance; `direction`, the sum
        over lags; `lag`, at which the feature counts most; and `variable_weight` where the net has
        its own.
        """
        total = self.importance.sum(axis=1)
        table = pd.DataFrame(
            {
                "importance": total,
                "share": total / (total.sum() or 1.0),
                "direction": self.direction.sum(axis=1),
                "lag": self.importance.idxmax(axis=1),
            }
        )
        if self.variable_weights is not None:
            table["variable_weight"] = self.variable_weights
        return table.sort_values("importance", ascending=False, kind="stable")

    def table(self) -> pd.DataFrame:
        """Return `features` with the importance at each lag beside them: `lag_23` to `lag_0`."""
        return self.features().join(self.importance.add_prefix("lag_"))

    def is_exact(self) -> bool:
        """Tell whether the attributions add up to what the answers moved, within 5 percent."""
        return self.gap <= TOLERATED_GAP * self.moved + 1e-6


def explain(
    model: SequenceEstimator,
    X: Given,
    *,
    target: str | int | None = None,
    label_class: Any = None,
    measure: Measure = "probability",
    max_windows: int = DEFAULT_WINDOWS,
    sample: Sample = "newest",
    steps: int = DEFAULT_STEPS,
    num_threads: int | None = None,
) -> Explanation:
    """Explain a fitted regressor's predictions, or a fitted classifier's.

    >>> from freqai_lstm_plugins import SequenceRegressor
    >>> rows = np.random.default_rng(0).normal(size=(80, 2))
    >>> model = SequenceRegressor(window=4, hidden_size=4, max_epochs=1).fit(rows, rows[:, 0])
    >>> explain(model, rows).importance.shape
    (2, 4)

    Args:
        model: Any net, of one symbol or of many, may be your own.
        X: (N, F) features in the order of time, or many symbols' as in `fit`.
        target: Name or number of the target; the first by default.
        label_class: Class of a classifier's target; the last by default, which is the second of
            two.
        measure: Explain a class's probability, or its logit, the net's output before softmax.
        max_windows: Windows to explain at most. The cost of one is that of training on it about
            `steps` times.
        sample: Which windows: the `newest` of each symbol, or `spread` evenly over all.
        steps: Points on the way from the baseline.
        num_threads: CPU threads; by default the setting of the training.

    Raises:
        ConfigError: The model is not fitted, or has no such target or class.
        DataError: No full, finite window ends in X, or the net gives no gradient.
        MismatchError: The features, or the symbols, are not those of the training.
        MissingExtraError: captum is not installed.
    """
    if sample not in get_args(Sample):
        raise ConfigError(f"sample must be newest or spread, not {sample!r}.")
    if not isinstance(model, SequenceEstimator):
        raise ConfigError(
            f"explain scales rows as a net of this package was trained, and this {model.kind} "
            f"was trained on rows that a host scales: give those to explain_ensemble."
        )
    inputs, rows, has_window = model.net_rows(X)
    ends = np.flatnonzero(has_window)
    if not len(ends):
        raise DataError(
            f"Nowhere in the {len(inputs)} rows of X do {model.window} consecutive usable rows end "
            f"a window, so there is nothing to explain. Give more rows."
        )
    chosen = _sampled(ends, inputs.codes[ends], _count(max_windows, "max_windows"), sample)
    return explain_windows(
        model,
        rows,
        torch.from_numpy(chosen),
        target=target,
        label_class=label_class,
        measure=measure,
        steps=steps,
        num_threads=num_threads,
        positions=chosen if inputs.order is None else inputs.order[chosen],
    )


def explain_windows(
    model: SequenceEstimator,
    rows: Tensor,
    ends: Tensor,
    *,
    target: str | int | None = None,
    label_class: Any = None,
    measure: Measure = "probability",
    steps: int = DEFAULT_STEPS,
    num_threads: int | None = None,
    positions: IntArray | None = None,
) -> Explanation:
    """Explain windows of rows that are scaled already.

    Args:
        model: A fitted model.
        rows: (N, F) float32; with symbols (N, F + 1).
        ends: (M,) rows at which the windows end, at least one.
        target: As in `explain`, and so are the others.
        label_class: Class of a classifier's target.
        measure: What of a class to explain.
        steps: Points on the way from the baseline.
        num_threads: CPU threads; by default the setting of the training.
        positions: (M,) positions to tell of; by default `ends`.
    """
    net, answer = model.require_net(), _chosen_answer(model, target, label_class, measure)
    names = model.feature_names_in_
    sums = _Sums(len(names), model.window)
    for found, moved, windows in _batches(model, answer, rows, ends, steps, num_threads):
        sums.add(found, moved)
        sums.look(net, windows)
    positions = ends.numpy() if positions is None else positions
    return sums.explanation(answer.name, answer.unit, names, positions)


def attribute_windows(
    model: SequenceEstimator,
    rows: Tensor,
    ends: Tensor,
    target: int,
    *,
    steps: int = DEFAULT_STEPS,
    num_threads: int | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return attributions (M, W, F) of windows, and how far each answer moved (M,).

    Args:
        model: A fitted regressor.
        rows: (N, F) float32, scaled already.
        ends: (M,) rows at which the windows end.
        target: Number of the target.
        steps: Points on the way from the baseline.
        num_threads: CPU threads; by default the setting of the training.
    """
    answer = _chosen_answer(model, target, None, "probability")
    parts = list(_batches(model, answer, rows, ends, steps, num_threads))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def explanation_of(
    target: str,
    unit: str,
    attributions: FloatArray,
    moved: FloatArray,
    names: list[str],
    positions: IntArray,
) -> Explanation:
    """Return the means of attributions (M, W, F) of windows, whose answers moved by (M,)."""
    sums = _Sums(len(names), attributions.shape[1])
    sums.add(attributions, moved)
    return sums.explanation(target, unit, names, positions)


def _batches(
    model: SequenceEstimator,
    answer: _Answer,
    rows: Tensor,
    ends: Tensor,
    steps: int,
    num_threads: int | None,
) -> Iterator[tuple[FloatArray, FloatArray, Tensor]]:
    """Give attributions of a batch of windows, how far their answers moved, and the windows."""
    net, steps = model.require_net(), _count(steps, "steps")
    n_features = len(model.feature_names_in_)
    with torch_threads(num_threads or model.train_config.num_threads):
        for batch in ends.split(_batch_size(steps, model.window * rows.shape[1])):
            windows = gather_windows(rows, batch, model.window).to(_device(net))
            yield *_attributions(net, windows, answer, steps, n_features), windows


class _Answer(NamedTuple):
    """One number of a model's answer: of outputs (B, O) -> (B,)."""

    name: str
    unit: str
    of: Callable[[Tensor], Tensor]


def _chosen_answer(
    model: SequenceEstimator, target: str | int | None, label_class: Any, measure: str
) -> _Answer:
    number = choose("target", target, model.label_names_, 0)
    name = model.label_names_[number]
    answer: Any = model.answer
    if not isinstance(answer, Classes):
        if label_class is not None:
            raise ConfigError(
                f"label_class is {label_class!r}, but {name!r} is a number: it has no classes."
            )
        scaling = model.scaling
        factor = 1.0 if scaling is None else scaling.target_std[number]
        unit = "scaled target" if scaling is None else "target"
        return _Answer(name, unit, lambda outputs: answer.points(outputs)[:, number] * factor)
    if measure not in get_args(Measure):
        raise ConfigError(f"measure must be probability or logit, not {measure!r}.")
    classes = model.class_names[number]
    chosen = choose("label_class", label_class, classes, len(classes) - 1)
    place = sum(answer.sizes[:number]) + chosen
    of = answer.probabilities if measure == "probability" else lambda outputs: outputs
    return _Answer(f"{name} = {classes[chosen]}", measure, lambda outputs: of(outputs)[:, place])


def choose(what: str, chosen: Any, names: list[Any], default: int) -> int:
    """Return the place of a target or class among `names`, given by name or a target by number.

    Raises:
        ConfigError: There is none.
    """
    if chosen is None:
        return default
    texts = [str(name) for name in names]
    if str(chosen) in texts:
        return texts.index(str(chosen))
    if what == "target" and isinstance(chosen, int) and 0 <= chosen < len(names):
        return chosen
    raise ConfigError(f"{what} {chosen!r} is none of the model's: {', '.join(texts)}.")


def _count(value: Any, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number from 1 on, not {value!r}.")
    return value


def _sampled(ends: IntArray, codes: IntArray, count: int, sample: str) -> IntArray:
    """Return at most `count` of the rows at which windows end, in their order."""
    if len(ends) <= count:
        return ends
    if sample == "spread":
        return ends[np.linspace(0, len(ends) - 1, count).round().astype(np.int64)]
    # How many windows of the same symbol come after each.
    ages = np.empty(len(ends), dtype=np.int64)
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        ages[own] = np.arange(len(own))[::-1]
    return ends[np.sort(np.argsort(ages, kind="stable")[:count])]


def _batch_size(steps: int, n_numbers: int) -> int:
    return max(min(LARGEST_BATCH, LARGEST_INPUT // n_numbers) // steps, 1)


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


def _attributions(
    net: nn.Module, windows: Tensor, answer: _Answer, steps: int, n_features: int
) -> tuple[FloatArray, FloatArray]:
    """Return attributions (B, W, F) of windows, and how far each answer moved (B,)."""
    baseline = torch.zeros_like(windows)
    # What follows the features is the symbol, which stays what it is.
    baseline[..., n_features:] = windows[..., n_features:]

    def forward(x: Tensor) -> Tensor:
        return answer.of(net(x))

    with _gradients(windows.device):
        try:
            found = _integrated_gradients(forward)(windows, baseline, n_steps=steps)
        except (RuntimeError, AssertionError) as error:
            if "grad" not in str(error):
                raise
            raise DataError(
                f"The net gives no gradient for its inputs ({str(error).splitlines()[0]}), and "
                f"without one nothing can be attributed. Compute in torch alone in its forward."
            ) from error
    with torch.no_grad():
        moved = forward(windows) - forward(baseline)
    return found[..., :n_features].double().cpu().numpy(), moved.double().cpu().numpy()


def _integrated_gradients(forward: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingExtraError("captum", "explain", "Explaining a net") from error
    attribute: Callable[..., Tensor] = IntegratedGradients(forward).attribute
    return attribute


@contextmanager
def _gradients(device: torch.device) -> Iterator[None]:
    """Allow gradients through nets in evaluation mode, which cudnn refuses for recurrent layers."""
    is_cuda = device.type == "cuda"
    without_cudnn = torch.backends.cudnn.flags(enabled=False) if is_cuda else nullcontext()
    with torch.inference_mode(False), torch.enable_grad(), without_cudnn:
        yield


class _Sums:
    """Adds up what batches of windows tell."""

    def __init__(self, n_features: int, window: int) -> None:
        self.size, self.signed = np.zeros((2, window, n_features))
        self.attention = np.zeros(window)
        self.variables = np.zeros(n_features)
        self.has_attention = self.has_variables = False
        self.count, self.moved, self.gap = 0, 0.0, 0.0

    def add(self, attributions: FloatArray, moved: FloatArray) -> None:
        """Take in attributions (B, W, F), and how far the answers moved (B,)."""
        self.size += np.abs(attributions).sum(axis=0)
        self.signed += attributions.sum(axis=0)
        total = attributions.sum(axis=(1, 2))
        self.moved += float(np.abs(total).sum())
        self.gap += float(np.abs(total - moved).sum())
        self.count += len(moved)

    def look(self, net: nn.Module, windows: Tensor) -> None:
        """Take in what a net itself says that it looks at, in windows (B, W, C)."""
        own: nn.Module = net
        inputs: tuple[Tensor, ...] = (windows,)
        if isinstance(net, PanelNet):
            own, inputs = net.net, net.inputs(windows)
        batch = len(windows)
        attention = _own_weights(own, "attention", inputs, (batch, *self.attention.shape))
        if attention is not None:
            self.has_attention = True
            self.attention += attention.sum(axis=0)
        shape = (batch, len(self.attention), len(self.variables))
        variables = _own_weights(own, "variable_weights", inputs, shape)
        if variables is not None:
            self.has_variables = True
            self.variables += variables.mean(axis=1).sum(axis=0)

    def explanation(
        self, target: str, unit: str, names: list[str], positions: IntArray
    ) -> Explanation:
        """Return the means."""
        window, count = len(self.attention), self.count
        lags = pd.RangeIndex(window - 1, -1, -1, name="lag")
        features = pd.Index(names, name="feature")
        made = Explanation(
            target=target,
            unit=unit,
            importance=pd.DataFrame(self.size.T / count, features, lags),
            direction=pd.DataFrame(self.signed.T / count, features, lags),
            rows=positions,
            moved=self.moved / count,
            gap=self.gap / count,
            attention=pd.Series(self.attention / count, lags) if self.has_attention else None,
            variable_weights=(
                pd.Series(self.variables / count, features) if self.has_variables else None
            ),
        )
        if not made.is_exact():
            logger.warning(
                "The attributions of a window miss how far its answer moved by %.3g in the mean, "
                "and answers moved by %.3g: take more steps.",
                made.gap,
                made.moved,
            )
        return made


def _own_weights(
    net: nn.Module, name: str, inputs: tuple[Tensor, ...], shape: tuple[int, ...]
) -> FloatArray | None:
    """Return what a method of a net tells of windows; None where it has none of that shape.

    A layer of the net may have the same name, and stands on the net, not on its class.
    """
    method: Any = getattr(type(net), name, None)
    if not callable(method):
        return None
    with torch.no_grad():
        weights: Tensor = method(net, *inputs)
    return weights.double().cpu().numpy() if tuple(weights.shape) == shape else None
