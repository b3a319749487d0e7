"""`SequenceClassifier`: fit, predict, save and load on arrays and DataFrames."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from freqai_lstm_plugins.data.columns import objects_of
from freqai_lstm_plugins.data.preparation import Prepared, Schema, read_weights
from freqai_lstm_plugins.data.targets import plain, read_classes
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.contract import Predictions
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.training.objectives import Classes, balanced_weights

if TYPE_CHECKING:
    from freqai_lstm_plugins.config import TrainConfig
    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray
    from freqai_lstm_plugins.data.panel import Given, Inputs
    from freqai_lstm_plugins.data.windows import WindowSet

logger = logging.getLogger(__name__)


class SequenceClassifier(SequenceEstimator):
    """A net that tells the class of each row from the W rows that end there.

    Several targets have their own classes each.

    >>> model = SequenceClassifier(net="gru", window=8, class_weight="balanced")
    >>> model.get_params()["class_weight"]
    'balanced'
    """

    kind: ClassVar[str] = "classifier"
    read_targets = staticmethod(read_classes)

    def check_answer_settings(self, config: TrainConfig) -> None:
        """Raise ConfigError where a setting is one of regressors."""
        name = type(self).__name__
        if config.loss not in ("auto", "cross_entropy"):
            raise ConfigError(
                f"{name}: loss = {config.loss!r} is for numbers: a classifier has 'cross_entropy', "
                f"so leave loss out, or take a regressor."
            )
        if config.interval is not None:
            raise ConfigError(
                f"{name}: interval = {config.interval:g} is for numbers: the probabilities of the "
                f"classes say how sure a classifier is. Leave interval out."
            )

    @property
    def classes_(self) -> Any:
        """Classes in the order of their probabilities: an array, or for several targets a list."""
        arrays = [np.asarray(names) for names in self.fitted.schema.classes]
        return arrays[0] if len(arrays) == 1 else arrays

    @property
    def model_meta_data(self) -> dict[str, Any]:
        """What FreqAI's classifiers keep with a model: the names of the classes."""
        return {"class_names": [name for names in self.fitted.schema.classes for name in names]}

    @property
    def answer(self) -> Classes:
        """What the outputs of the fitted net mean."""
        # Weights of classes are for training alone, and the file keeps them with its settings.
        return Classes(tuple((1.0,) * len(names) for names in self.fitted.schema.classes))

    def answer_for(self, data: Prepared) -> Classes:
        """Return what the outputs of a net trained on `data` mean.

        Raises:
            ConfigError: The weights of classes name not just every class.
            DataError: The training windows know but one class of a target.
        """
        train, classes = data.train, data.schema.classes
        self._require_class_weight(classes)
        weights = []
        for k, names in enumerate(classes):
            # (M,) float32 holds whole numbers exactly up to 2**24.
            numbers = train.targets[:, k].long()
            counts = torch.bincount(numbers, minlength=len(names)).tolist()
            seen = [name for name, count in zip(names, counts, strict=True) if count]
            # A net would learn to say one thing, with a loss near zero that looks like success.
            if len(seen) < 2:
                raise DataError(
                    f"All {len(train)} training rows are of the class {seen[0]!r}, so there is "
                    f"nothing to tell apart. Train on more rows, or choose other classes."
                )
            unseen = [name for name in names if name not in seen]
            if unseen:
                logger.warning(
                    "No training row is of the class %s: the model will hardly ever predict it.",
                    ", ".join(map(repr, unseen)),
                )
            weights.append(self._class_weights(names, counts))
        return Classes(tuple(weights))

    def _class_weights(self, names: list[Any], counts: list[int]) -> tuple[float, ...]:
        given = self.train_config.class_weight
        if given is None:
            return (1.0,) * len(names)
        if not isinstance(given, Mapping):
            return balanced_weights(counts)
        return tuple(float(given[_key_of(given, name)]) for name in names)

    def _require_class_weight(self, classes: list[list[Any]]) -> None:
        """Raise ConfigError where the dictionary of weights names not just every class."""
        given = self.train_config.class_weight
        if not isinstance(given, Mapping):
            return
        known = list(dict.fromkeys(name for names in classes for name in names))
        # Targets share the dictionary: their classes may have names in common.
        keys = {name: _key_of(given, name) for name in known}
        wrong = [name for name in known if keys[name] not in given]
        wrong += [key for key in given if key not in keys.values()]
        if wrong:
            raise ConfigError(
                f"class_weight must name every class once: the classes are "
                f"{', '.join(map(repr, known))}, and it differs in {', '.join(map(repr, wrong))}."
            )

    def _blank(self, train: WindowSet, schema: Schema) -> list[float]:
        frequencies = []
        for k, names in enumerate(schema.classes):
            # What is said without a window: how often each class was seen, unweighted.
            counts = torch.bincount(train.targets[:, k].long(), minlength=len(names))
            frequencies += (counts / len(train)).tolist()
        return frequencies

    # predict

    def probabilities(self, outputs: FloatArray) -> FloatArray:
        """Return the probabilities (N, O) that outputs (N, O) stand for."""
        result: FloatArray = self.answer.probabilities(torch.from_numpy(outputs)).numpy()
        return result

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict rows (N, F), scaled as in the training, at which a full window ends.

        Points are the numbers of the most probable classes; NaN where no window ends.
        """
        probabilities = self.probabilities(self.predict_outputs(rows, has_window))
        # A row has all of its probabilities or none.
        is_blank = np.isnan(probabilities[:, :1])
        parts = self._by_target(probabilities)
        numbers = np.column_stack([part.argmax(axis=1) for part in parts])
        return Predictions(np.where(is_blank, np.nan, numbers), probabilities=probabilities)

    def predict_proba(self, X: Given) -> Any:
        """Return the probability of each class, as `predict` gives its answers.

        Columns are in the order of `classes_`; with several targets those of the first come first,
        and in frames they are called `target=class`. NaN where no full, finite window ends.
        """
        inputs, probabilities = self._probable(X)
        return inputs.restore(probabilities, self._column_names())

    def predict(self, X: Given) -> Any:
        """Return the most probable class of each row.

        Args:
            X: (N, F) features in the order of time, or many symbols' as in `fit`.

        Returns:
            (N,) or (N, K) classes as the targets were given, as a Series or DataFrame with the
            index of `X` where `X` is a DataFrame, and one of them for each symbol where `X` is a
            list or a dictionary. None, or a missing value in pandas, where no full, finite window
            ends. Whole numbers and booleans keep their type, in arrays where nothing is missing.

        Raises:
            MismatchError: The features, or the symbols, are not those of the training.
        """
        inputs, probabilities = self._probable(X)
        schema = self.fitted.schema
        classes = self.most_probable(probabilities)
        told = inputs.restore(classes, schema.label_names, schema.single_target)
        if isinstance(told, dict):
            return {name: _of_own_type(part) for name, part in told.items()}
        return [*map(_of_own_type, told)] if isinstance(told, list) else _of_own_type(told)

    def _probable(self, X: Given) -> tuple[Inputs, FloatArray]:
        """Return the probabilities (N, O) for a user's features."""
        inputs, rows, has_window = self.net_rows(X)
        return inputs, self.probabilities(self.predict_outputs(rows.numpy(), has_window))

    def _by_target(self, probabilities: FloatArray) -> list[FloatArray]:
        # Columns of the first target's classes come first: (N, O) -> (N, O_k) each.
        return np.split(probabilities, np.cumsum(self.answer.sizes)[:-1], axis=1)

    def most_probable(self, probabilities: FloatArray) -> npt.NDArray[Any]:
        """Return the most probable class of each target: (N, O) -> (N, K), None for NaN."""
        is_blank = np.isnan(probabilities[:, 0])
        # Objects: classes may be strings, and None must fit among numbers.
        result = np.empty((len(probabilities), len(self.fitted.schema.classes)), dtype=object)
        for k, part in enumerate(self._by_target(probabilities)):
            names = np.asarray(self.fitted.schema.classes[k], dtype=object)
            result[:, k] = np.where(is_blank, None, names[part.argmax(axis=1)])
        return result

    def score(self, X: Given, y: Any, sample_weight: Any = None) -> float:
        """Return the share of right classes, over the rows that have a prediction and a target."""
        inputs, probabilities = self._probable(X)
        predicted = self.most_probable(probabilities)
        targets, _ = inputs.arrange(y, "y", objects_of)
        self.require_targets(targets)
        known = ~np.isnan(probabilities[:, 0]) & ~pd.isna(targets).any(axis=1)
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        weights = read_weights(sample_weight, inputs)[known]
        # (N, K) right or wrong -> a share a row, as several targets count alike.
        is_right = np.mean(predicted[known] == targets[known], axis=1)
        return float(np.average(is_right, weights=weights))

    def to_state(self) -> dict[str, Any]:
        """Return plain data and tensors from which `from_state` builds the same model."""
        state = super().to_state()
        weights = state["train_settings"]["class_weight"]
        if isinstance(weights, Mapping):
            state["train_settings"]["class_weight"] = {
                plain(name): float(weight) for name, weight in weights.items()
            }
        return state

    def _column_names(self) -> list[str]:
        if len(self.fitted.schema.classes) == 1:
            return [str(name) for name in self.fitted.schema.classes[0]]
        return [
            f"{label}={name}"
            for label, names in zip(self.label_names_, self.fitted.schema.classes, strict=True)
            for name in names
        ]

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags


def _of_own_type(classes: Any) -> Any:
    """Return classes, which are objects, as the numbers or booleans that they are."""
    if isinstance(classes, pd.DataFrame):
        return classes.apply(_of_own_type)
    if isinstance(classes, pd.Series):
        types = {type(value) for value in classes.dropna()}
        # Others stay the objects that they were given as.
        if types not in ({int}, {bool}):
            return classes
        nullable = "Int64" if types == {int} else "boolean"
        known: Any = classes.astype(nullable)  # type: ignore[call-overload]
        return known if classes.isna().any() else known.astype(types.pop())
    is_whole = not any(value is None for value in classes.flat) and len(classes)
    types = {type(value) for value in classes.flat}
    return np.array(classes.tolist()) if is_whole and types in ({int}, {bool}) else classes


def _key_of(weights: Mapping[Any, float], name: Any) -> Any:
    """Return the key that stands for a class: JSON knows no keys but strings."""
    return name if name in weights else str(name)
