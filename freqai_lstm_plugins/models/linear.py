"""Ridge regression on the windows that nets train on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from freqai_lstm_plugins.config import at_least, setting
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
        for number, alpha in enumerate(alphas, 1):
            state = _solve(train, alpha * float(train.weights.sum()))
            train_loss = _loss(state, train)
            valid_loss = None if valid is None else _loss(state, valid)
            history.epochs.append(Epoch(number, train_loss, valid_loss, 0.0, 0.0))
            if on_epoch is not None:
                on_epoch(history.epochs[-1])
            watched = train_loss if valid_loss is None else valid_loss
            if chosen is None or watched < best:
                best, chosen, history.best_epoch = watched, {**state, "alpha": alpha}, number
        return Learned(chosen, history)

    def recall(self, state: dict[str, Any], x: Float32Array) -> FloatArray:
        """Predict rows by coefficients."""
        found: FloatArray = _columns(x, state["n_symbols"]) @ np.asarray(state["coefficients"])
        return found + state["intercept"]

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


def _solve(table: Table, penalty: float) -> dict[str, Any]:
    try:
        from sklearn.linear_model import Ridge as Solver
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "trees", "The model ridge") from error
    solver = Solver(alpha=penalty, solver="cholesky")
    solver.fit(_columns(table.x, table.n_symbols), table.y, sample_weight=table.weights)
    return {
        "coefficients": solver.coef_.tolist(),
        "intercept": float(solver.intercept_),
        "n_symbols": table.n_symbols,
    }


def _columns(x: Float32Array, n_symbols: int) -> FloatArray:
    """Return x in float64, with a column a symbol in place of the symbol's number."""
    if not n_symbols:
        return x.astype(np.float64)
    one_hot = x[:, -1:] == np.arange(n_symbols)
    return np.concatenate([x[:, :-1].astype(np.float64), one_hot], axis=1)


def _loss(state: dict[str, Any], table: Table) -> float:
    found = _columns(table.x, table.n_symbols) @ np.asarray(state["coefficients"])
    errors = np.square(found + state["intercept"] - table.y)
    return float(np.average(errors, weights=table.weights))
