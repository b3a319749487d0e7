"""What boosted trees look at, from the contributions that LightGBM and XGBoost compute themselves.

Source: Lundberg et al., From local explanations to global understanding with explainable AI for
trees, Nature Machine Intelligence 2, 2020. The contributions of a row (SHAP values) add up to the
difference between its answer and the mean answer of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.explanations.explanation import DEFAULT_WINDOWS, Explanation, choose

if TYPE_CHECKING:
    from freqai_lstm_plugins.data.arrays import FloatArray


def explain_trees(
    model: Any,
    X: pd.DataFrame,
    *,
    target: str | int | None = None,
    label_class: Any = None,
    label_names: list[str] | None = None,
    class_names: list[Any] | None = None,
    max_windows: int = DEFAULT_WINDOWS,
) -> Explanation:
    """Explain the answers of LightGBM's or XGBoost's scikit-learn models, in the shape of a net's.

    Args:
        model: A fitted regressor or classifier, or scikit-learn's or FreqAI's model of several
            outputs made of them.
        X: (N, F) features as the model was trained on them, in the order of time.
        target: Name or number of the target; the first by default.
        label_class: Class of a classifier; the last by default.
        label_names: K names of the targets; `y0` and so on by default.
        class_names: Names of a classifier's classes, where it knows only their numbers.
        max_windows: Rows to explain at most, the newest.

    Returns:
        An `Explanation` with one lag. Attributions are in units of the target as it was trained
        on; a classifier's are in log odds, or where there are more than two classes in logits.

    Raises:
        ConfigError: It is another kind of model, or it has no such target or class.
        DataError: X has no row, or another number of features.
    """
    parts = list(getattr(model, "estimators_", [model]))
    names = label_names or [f"y{k}" for k in range(len(parts))]
    number = choose("target", target, names[: len(parts)], 0)
    if not len(X):
        raise DataError("X holds no row, so there is nothing to explain.")
    newest = X.iloc[-max_windows:]
    values, answers, base = _contributions(parts[number], newest)
    name, unit = names[number], "scaled target"
    classes = _classes(parts[number], class_names)
    if classes:
        chosen = choose("label_class", label_class, classes, len(classes) - 1)
        name, unit = f"{name} = {classes[chosen]}", "log odds" if len(classes) == 2 else "logit"
        # Of two classes the trees answer for the second.
        sign = -1.0 if len(classes) == 2 and chosen == 0 else 1.0
        place = 0 if len(classes) == 2 else chosen
    elif label_class is None:
        sign, place = 1.0, 0
    else:
        raise ConfigError(f"label_class is {label_class!r}, but {name!r} is a number.")
    found, moved = sign * values[:, place], sign * (answers[:, place] - base[:, place])
    total = found.sum(axis=1)
    features, lags = pd.Index(X.columns, name="feature"), pd.RangeIndex(1, name="lag")
    return Explanation(
        target=name,
        unit=unit,
        importance=pd.DataFrame(np.abs(found).mean(axis=0)[:, None], features, lags),
        direction=pd.DataFrame(found.mean(axis=0)[:, None], features, lags),
        rows=np.arange(len(X) - len(newest), len(X)),
        moved=float(np.abs(total).mean()),
        gap=float(np.abs(total - moved).mean()),
    )


def _contributions(model: Any, X: pd.DataFrame) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return contributions (N, C, F), answers (N, C) and their base (N, C); C is 1 or the classes.

    Raises:
        ConfigError: The model is of another library.
        DataError: The model was trained on another number of features.
    """
    library = type(model).__module__.split(".")[0]
    # A subclass may be the user's own.
    libraries = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if not libraries & {"lightgbm", "xgboost"}:
        raise ConfigError(
            f"{library}.{type(model).__name__} is no model that can be explained: those of this "
            f"package are, and LightGBM's and XGBoost's."
        )
    expected = int(model.n_features_in_)
    if X.shape[1] != expected:
        raise DataError(f"The model was trained on {expected} features, {X.shape[1]} are given.")
    values = X.to_numpy()
    if "lightgbm" in libraries:
        # By the booster: the wrapper compares names, and FreqAI trains on arrays without any.
        booster, last = model.booster_, model.best_iteration_ or None
        found = booster.predict(values, pred_contrib=True, num_iteration=last)
        answers = booster.predict(values, raw_score=True, num_iteration=last)
        found = np.asarray(found).reshape(len(X), -1, expected + 1)
    else:
        found, answers = _xgboost_contributions(model, values)
    answers = np.asarray(answers, dtype=float).reshape(len(X), -1)
    found = found.astype(float)
    return found[..., :-1], answers, found[..., -1]


def _xgboost_contributions(model: Any, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    from xgboost import DMatrix

    booster = model.get_booster()
    stopped = getattr(booster, "best_iteration", None) if model.early_stopping_rounds else None
    trees = (0, 0) if stopped is None else (0, stopped + 1)
    rows = DMatrix(values, feature_names=booster.feature_names)
    found = booster.predict(rows, pred_contribs=True, iteration_range=trees, strict_shape=True)
    answers = booster.predict(rows, output_margin=True, iteration_range=trees)
    return np.asarray(found), np.asarray(answers)


def _classes(model: Any, given: list[Any] | None) -> list[Any]:
    found = getattr(model, "classes_", None)
    if found is None:
        return []
    is_numbered = given is not None and list(found) == list(range(len(given)))
    return list(given or []) if is_numbered else list(found)
