"""Gradient-boosted trees, LightGBM's and XGBoost's, on the windows that nets train on.

They stop early on the same validation windows. What is kept of them is the libraries' own text or
JSON, never a pickle.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from freqai_lstm_plugins.config import at_least, setting
from freqai_lstm_plugins.errors import MissingExtraError
from freqai_lstm_plugins.models.tabular import (
    Float32Array,
    Learned,
    OnEpoch,
    Table,
    TabularConfig,
    TabularRegressor,
)
from freqai_lstm_plugins.models.tree_texts import (
    library_errors,
    own_texts,
    sound_lightgbm,
    sound_xgboost,
)
from freqai_lstm_plugins.training.history import Epoch, History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqai_lstm_plugins.data.arrays import FloatArray

EXTRA = "trees"
_COUNT = "an integer of at least 1"
_SHARE = "a number above 0 and at most 1"
_PENALTY = "a number of at least 0"


def _is_share(value: float) -> bool:
    return 0 < value <= 1


@dataclass(frozen=True)
class BoostingConfig(TabularConfig):
    """Settings that both libraries have, under the names that scikit-learn's users know.

    Attributes:
        n_estimators: Trees at most.
        learning_rate: Share of each tree's correction that is taken.
        early_stopping_rounds: Trees without a better validation loss before training stops; 0
            never stops early. The best number of trees is kept in any case.
        subsample: Share of the rows that each tree sees.
        colsample_bytree: Share of the features that each tree sees.
        reg_alpha: L1 penalty on the leaves' values.
        reg_lambda: L2 penalty on the leaves' values.
    """

    n_estimators: int = setting(1000, _COUNT, at_least(1))
    learning_rate: float = setting(0.05, "a number above 0", lambda v: v > 0)
    early_stopping_rounds: int = setting(50, "an integer of at least 0", at_least(0))
    subsample: float = setting(1.0, _SHARE, _is_share)
    colsample_bytree: float = setting(1.0, _SHARE, _is_share)
    reg_alpha: float = setting(0.0, _PENALTY, at_least(0))
    reg_lambda: float = setting(0.0, _PENALTY, at_least(0))


@dataclass(frozen=True)
class LightGBMConfig(BoostingConfig):
    """Settings of LightGBM.

    Attributes:
        num_leaves: Leaves of a tree at most.
        max_depth: Depth of a tree at most; -1 does not bound it.
        min_child_samples: Rows of a leaf at least.
    """

    num_leaves: int = setting(31, "an integer from 2 to 131072", lambda v: 2 <= v <= 131072)
    max_depth: int = setting(-1, "an integer of at least 1, or -1", lambda v: v == -1 or v >= 1)
    min_child_samples: int = setting(20, _COUNT, at_least(1))


@dataclass(frozen=True)
class XGBoostConfig(BoostingConfig):
    """Settings of XGBoost.

    Attributes:
        max_depth: Depth of a tree at most.
        min_child_weight: Weight of a leaf's rows at least.
        gamma: Gain that a split must bring.
    """

    reg_lambda: float = setting(1.0, _PENALTY, at_least(0))
    max_depth: int = setting(6, _COUNT, at_least(1))
    min_child_weight: float = setting(1.0, _PENALTY, at_least(0))
    gamma: float = setting(0.0, _PENALTY, at_least(0))


class BoostingRegressor(TabularRegressor):
    """Trees, kept as their library's text, and asked through a booster that the library made of it.

    A text is parsed when it is first asked, and its booster is kept for as long as the model holds
    that text: of some hundred trees parsing takes many times what a bot's one row does. Boosters
    are found by their text, so none outlives a training that gave another one. They are only
    asked, which both libraries allow from several threads at once.
    """

    config: BoostingConfig

    def __init__(self, **settings: Any) -> None:
        """Set every parameter; nothing is trained yet.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        super().__init__(**settings)
        self._boosters: dict[str, Any] = {}

    @abstractmethod
    def parse(self, state: str) -> Any:
        """Return a new booster of the trees in a text.

        Raises:
            MismatchError: The library cannot read it.
        """

    def booster(self, state: str) -> Any:
        """Return the booster of the trees in a text, which must only be asked."""
        kept = self._boosters
        if state in kept:
            return kept[state]
        found = self.parse(state)
        learned = [] if self.fitted is None else self.fitted.learned
        current = {text for levels in learned for text in levels} & kept.keys()
        # In one assignment: where another thread asks too, at worst a text is parsed once more.
        self._boosters = {text: kept[text] for text in current} | {state: found}
        return found


class LightGBM(BoostingRegressor):
    """LightGBM, one booster a target."""

    kind: ClassVar[str] = "lightgbm"
    config_class = LightGBMConfig
    config: LightGBMConfig

    def learn(
        self,
        train: Table,
        valid: Table | None,
        level: float | None,
        on_epoch: OnEpoch | None,
        former: str | None = None,
    ) -> Learned:
        """Grow trees for one target, on top of those of a former training where there are any."""
        lightgbm = _library("lightgbm")
        begun = None if former is None else self.parse(former)
        config, watch = self.config, _Watch(self.config, on_epoch)
        sets = [_lightgbm_set(lightgbm, table) for table in (train, valid) if table is not None]
        booster = lightgbm.train(
            self._parameters(level),
            sets[0],
            config.n_estimators,
            valid_sets=sets,
            valid_names=["train", "valid"][: len(sets)],
            init_model=begun,
            callbacks=[_lightgbm_callback(lightgbm, watch)],
        )
        history = watch.history(len(train.y), 0 if valid is None else len(valid.y))
        n_trees = history.best_epoch + (0 if begun is None else begun.num_trees())
        text = booster.model_to_string(num_iteration=n_trees)
        with own_texts("LightGBM", lightgbm.__version__):
            return Learned(sound_lightgbm(text, train.x.shape[1]), history)

    def sound(self, state: Any, n_columns: int) -> str:
        """Return LightGBM's text, checked before its parser sees it."""
        return sound_lightgbm(state, n_columns)

    def recall(self, state: str, x: Float32Array) -> FloatArray:
        """Predict rows by the trees in LightGBM's text."""
        booster = self.booster(state)
        if not len(x):
            return np.empty(0)
        found: FloatArray = booster.predict(x, num_threads=self.config.num_threads or 1)
        return found

    def contribute(self, state: str, x: Float32Array) -> FloatArray:
        """Return LightGBM's own contributions (SHAP values)."""
        booster = self.booster(state)
        threads = self.config.num_threads or 1
        found = booster.predict(x, pred_contrib=True, num_threads=threads)
        return np.asarray(found, dtype=np.float64)

    def parse(self, state: str) -> Any:
        """Let LightGBM's own parser read a text."""
        lightgbm = _library("lightgbm")
        with library_errors("LightGBM"):
            return lightgbm.Booster(model_str=state)

    def _parameters(self, level: float | None) -> dict[str, Any]:
        config = self.config
        objective = {"mse": "regression", "mae": "regression_l1", "quantile": "quantile"}
        metric = {"mse": "l2", "mae": "l1", "quantile": "quantile"}
        return {
            "objective": objective[config.loss],
            "metric": metric[config.loss],
            "alpha": 0.9 if level is None else level,
            "learning_rate": config.learning_rate,
            "num_leaves": config.num_leaves,
            "max_depth": config.max_depth,
            "min_child_samples": config.min_child_samples,
            "subsample": config.subsample,
            "subsample_freq": int(config.subsample < 1),
            "colsample_bytree": config.colsample_bytree,
            "reg_alpha": config.reg_alpha,
            "reg_lambda": config.reg_lambda,
            "seed": config.seed,
            "num_threads": config.num_threads or 1,
            # The same data and seed give the same trees, whatever the threads.
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }


class XGBoost(BoostingRegressor):
    """XGBoost, one booster a target."""

    kind: ClassVar[str] = "xgboost"
    config_class = XGBoostConfig
    config: XGBoostConfig

    def learn(
        self,
        train: Table,
        valid: Table | None,
        level: float | None,
        on_epoch: OnEpoch | None,
        former: str | None = None,
    ) -> Learned:
        """Grow trees for one target, on top of those of a former training where there are any."""
        xgboost = _library("xgboost")
        begun = None if former is None else self.parse(former)
        config, watch = self.config, _Watch(self.config, on_epoch)
        tables = [table for table in (train, valid) if table is not None]
        named = zip(["train", "valid"], tables, strict=False)
        sets = [(_xgboost_set(xgboost, table), name) for name, table in named]
        booster = xgboost.train(
            self._parameters(level),
            sets[0][0],
            config.n_estimators,
            evals=sets,
            xgb_model=begun,
            callbacks=[_xgboost_callback(xgboost, watch)],
            verbose_eval=False,
        )
        history = watch.history(len(train.y), 0 if valid is None else len(valid.y))
        n_trees = history.best_epoch + (0 if begun is None else begun.num_boosted_rounds())
        text = booster[:n_trees].save_raw("json").decode()
        with own_texts("XGBoost", xgboost.__version__):
            return Learned(sound_xgboost(text, train.x.shape[1]), history)

    def sound(self, state: Any, n_columns: int) -> str:
        """Return XGBoost's JSON, checked before its parser sees it."""
        return sound_xgboost(state, n_columns)

    def recall(self, state: str, x: Float32Array) -> FloatArray:
        """Predict rows by the trees in XGBoost's JSON."""
        if not len(x):
            return np.empty(0)
        return self._ask(state, x)

    def contribute(self, state: str, x: Float32Array) -> FloatArray:
        """Return XGBoost's own contributions (SHAP values)."""
        return self._ask(state, x, pred_contribs=True)

    def _ask(self, state: str, x: Float32Array, **how: bool) -> FloatArray:
        booster = self.booster(state)
        # What a text may say and a rule here does not know of, the library notices only now.
        with library_errors("XGBoost"):
            rows = _library("xgboost").DMatrix(x, feature_types=booster.feature_types)
            return np.asarray(booster.predict(rows, **how), dtype=np.float64)

    def parse(self, state: str) -> Any:
        """Let XGBoost's own parser read a text."""
        booster = _library("xgboost").Booster({"nthread": self.config.num_threads or 1})
        with library_errors("XGBoost"):
            booster.load_model(bytearray(state.encode()))
        return booster

    def _parameters(self, level: float | None) -> dict[str, Any]:
        config = self.config
        objective = {
            "mse": "reg:squarederror",
            "mae": "reg:absoluteerror",
            "quantile": "reg:quantileerror",
        }
        parameters = {
            "objective": objective[config.loss],
            "eval_metric": {"mse": "rmse", "mae": "mae", "quantile": "quantile"}[config.loss],
            "learning_rate": config.learning_rate,
            "max_depth": config.max_depth,
            "min_child_weight": config.min_child_weight,
            "gamma": config.gamma,
            "subsample": config.subsample,
            "colsample_bytree": config.colsample_bytree,
            "reg_alpha": config.reg_alpha,
            "reg_lambda": config.reg_lambda,
            "seed": config.seed,
            "nthread": config.num_threads or 1,
            "tree_method": "hist",
        }
        return parameters if level is None else parameters | {"quantile_alpha": level}


class _Watch:
    """Keeps the losses of each tree, knows the best, and says when to stop.

    One rule for both libraries, whose own rules look at other sets, or keep other trees.
    """

    def __init__(self, config: BoostingConfig, on_epoch: OnEpoch | None) -> None:
        self.epochs: list[Epoch] = []
        self.best = math.inf
        self.best_epoch = 0
        self._config, self._on_epoch, self._last = config, on_epoch, time.perf_counter()

    def __call__(self, number: int, losses: Sequence[float]) -> bool:
        """Take the losses of training and validation windows after tree `number`.

        Returns:
            Whether to stop.
        """
        now = time.perf_counter()
        valid = float(losses[1]) if len(losses) > 1 else None
        rate = self._config.learning_rate
        self.epochs.append(Epoch(number, float(losses[0]), valid, rate, now - self._last))
        self._last = now
        # Without validation nothing says that fewer trees would do.
        if valid is None or valid < self.best:
            self.best, self.best_epoch = math.inf if valid is None else valid, number
        if self._on_epoch is not None:
            self._on_epoch(self.epochs[-1])
        rounds = self._config.early_stopping_rounds
        return valid is not None and bool(rounds) and number - self.best_epoch >= rounds

    def history(self, n_train: int, n_valid: int) -> History:
        """Return the losses of all trees."""
        return History(self.epochs, max(self.best_epoch, 1), n_train, n_valid)


def _library(name: str) -> Any:
    try:
        if name == "lightgbm":
            import lightgbm

            return lightgbm
        import xgboost

        return xgboost
    except ImportError as error:
        raise MissingExtraError(name, EXTRA, f"The model {name}") from error


def _lightgbm_set(lightgbm: Any, table: Table) -> Any:
    categories = [table.x.shape[1] - 1] if table.n_symbols else "auto"
    # A reference to the training set is not needed for values that are binned alike anyway.
    return lightgbm.Dataset(
        table.x,
        table.y,
        weight=table.weights,
        categorical_feature=categories,
        free_raw_data=False,
        params={"verbose": -1},
    )


def _lightgbm_callback(lightgbm: Any, watch: _Watch) -> Any:
    def call(env: Any) -> None:
        # Each entry holds set, metric, value, and whether more is better.
        # Iterations of a former training are counted as well.
        number = env.iteration - env.begin_iteration + 1
        if watch(number, [entry[2] for entry in env.evaluation_result_list]):
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    return call


def _xgboost_set(xgboost: Any, table: Table) -> Any:
    types = ["q"] * table.x.shape[1]
    if table.n_symbols:
        types[-1] = "c"
    return xgboost.DMatrix(
        table.x, table.y, weight=table.weights, feature_types=types, enable_categorical=True
    )


def _xgboost_callback(xgboost: Any, watch: _Watch) -> Any:
    class Callback(xgboost.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            # Each set has one metric, whose values are listed tree by tree.
            return watch(epoch + 1, [next(iter(log.values()))[-1] for log in evals_log.values()])

    return Callback()
