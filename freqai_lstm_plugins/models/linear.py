"""Ridge regression on the windows that nets train on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from freqai_lstm_plugins.config import at_least, setting
from freqai_lstm_plugins.data.arrays import chunks
from freqai_lstm_plugins.errors import MissingExtraError
from freqai_lstm_plugins.models.plain import read_number, read_numbers, read_whole
from freqai_lstm_plugins.models.tabular import (
    Float32Array,
    Learned,
    OnEpoch,
    Table,
    TabularConfig,
    TabularRegressor,
)
from freqai_lstm_plugins.training.history import Epoch, History

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import FloatArray

# Penalties a weight of the data, from hardly any to one that leaves little of a weak signal.
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class RidgeConfig(TabularConfig):
    """Settings of ridge regression.

    Attributes:
        loss: `mse` alone: no other has a solution in one step.
        alpha: L2 penalty on the coefficients, as a share of the rows' weight; null takes the one of
            `GRID` with the least validation loss, or the largest without validation windows.
    """

    loss: Literal["mse"] = setting("mse", "", lambda v: True)
    alpha: float | None = setting(None, "a number of at least 0, or null", at_least(0))


class Ridge(TabularRegressor):
    """Linear regression with an L2 penalty; features should be standardized, as nets want them."""

    kind: ClassVar[str] = "ridge"
    config_class = RidgeConfig
    config: RidgeConfig

    def learn(
        self,
        train: Table,
        valid: Table | None,
        level: float | None,
        on_epoch: OnEpoch | None,
        former: Any = None,
    ) -> Learned:
        """Fit coefficients by least squares, always afresh; a pass is a penalty of the grid."""
        alphas = GRID if self.config.alpha is None else (self.config.alpha,)
        if valid is None:
            alphas = alphas[-1:]
        best, chosen, history = math.inf, None, History(n_train_windows=len(train.y))
        history.n_valid_windows = 0 if valid is None else len(valid.y)
        compressed = _compressed(train)
        for number, alpha in enumerate(alphas, 1):
            solved = compressed.solve(alpha * float(train.weights.sum()))
            state = {**solved, "n_symbols": train.n_symbols}
            train_loss = self._loss(state, train)
            valid_loss = None if valid is None else self._loss(state, valid)
            history.epochs.append(Epoch(number, train_loss, valid_loss, 0.0, 0.0))
            if on_epoch is not None:
                on_epoch(history.epochs[-1])
            watched = train_loss if valid_loss is None else valid_loss
            if chosen is None or watched < best:
                best, chosen, history.best_epoch = watched, {**state, "alpha": alpha}, number
        return Learned(chosen, history)

    def recall(self, state: dict[str, Any], x: Float32Array) -> FloatArray:
        """Predict rows by coefficients."""
        found, coefficients = np.empty(len(x)), np.asarray(state["coefficients"])
        for part in chunks(len(x)):
            found[part] = _columns(x[part], state["n_symbols"]) @ coefficients
        found += state["intercept"]
        return found

    def _loss(self, state: dict[str, Any], table: Table) -> float:
        errors = np.square(self.recall(state, table.x) - table.y)
        return float(np.average(errors, weights=table.weights))

    def sound(self, state: Any, n_columns: int) -> dict[str, Any]:
        """Return coefficients that are one a column."""
        n_symbols = read_whole(state["n_symbols"], 0, 2**31, "the number of symbols")
        # In place of the symbol's number stands a column a symbol.
        count = n_columns - bool(n_symbols) + n_symbols
        return {
            **state,
            "coefficients": read_numbers(state["coefficients"], count, "coefficients"),
            "intercept": read_number(state["intercept"], "the intercept"),
        }

    def contribute(self, state: dict[str, Any], x: Float32Array) -> FloatArray:
        """Return coefficients times values; a symbol's coefficient is that of its number."""
        n_symbols = state["n_symbols"]
        parts = _columns(x, n_symbols) * np.asarray(state["coefficients"])
        if n_symbols:
            symbol = parts[:, -n_symbols:].sum(axis=1, keepdims=True)
            parts = np.concatenate([parts[:, :-n_symbols], symbol], axis=1)
        return np.column_stack([parts, np.full(len(x), state["intercept"])])


@dataclass(frozen=True)
class _Compressed:
    """As many rows as columns, with the sums of squares and products of a whole table.

    Attributes:
        x: (C, C) of the columns, weighted and centred.
        y: (C,) of the targets.
        x_mean: (C,) weighted means of the columns.
        y_mean: That of the targets.
    """

    x: FloatArray
    y: FloatArray
    x_mean: FloatArray
    y_mean: float

    def solve(self, penalty: float) -> dict[str, Any]:
        """Return coefficients and intercept of least squares with an L2 penalty."""
        try:
            from sklearn.linear_model import Ridge as Solver
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "trees", "The model ridge") from error
        solver = Solver(alpha=penalty, fit_intercept=False, solver="cholesky")
        coefficients = solver.fit(self.x, self.y).coef_
        return {
            "coefficients": coefficients.tolist(),
            "intercept": float(self.y_mean - self.x_mean @ coefficients),
        }


def _compressed(table: Table) -> _Compressed:
    """Compress a table, a part of it at a time: in float64 it would be twice its own size."""
    weights = table.weights / table.weights.sum()
    parts = [(part, weights[part]) for part in chunks(len(table.y), 1024)]
    x_mean = sum(w @ _columns(table.x[part], table.n_symbols) for part, w in parts)
    y_mean = float(weights @ table.y)
    factor: FloatArray = np.empty((0, len(x_mean) + 1))
    for part, _ in parts:
        x = _columns(table.x[part], table.n_symbols) - x_mean
        both = np.column_stack([x, table.y[part] - y_mean])
        both *= np.sqrt(table.weights[part])[:, None]
        factor = np.asarray(np.linalg.qr(np.concatenate([factor, both]), mode="r"))
    return _Compressed(factor[:, :-1], factor[:, -1], x_mean, y_mean)


def _columns(x: Float32Array, n_symbols: int) -> FloatArray:
    """Return x in float64, with a column a symbol in place of the symbol's number."""
    if not n_symbols:
        return x.astype(np.float64)
    one_hot = x[:, -1:] == np.arange(n_symbols)
    return np.concatenate([x[:, :-1].astype(np.float64), one_hot], axis=1)
