"""`SequenceClassifier`: fit, predict, save and load on arrays and DataFrames."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from freqai_lstm_plugins.checkpoint import Checkpoint
from freqai_lstm_plugins.data.arrays import FloatArray
from freqai_lstm_plugins.data.panel import Given, Inputs
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.data.windows import WindowSet
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.estimator import SequenceEstimator, Targets
from freqai_lstm_plugins.training.objectives import Classes, balanced_weights

logger = logging.getLogger(__name__)


class SequenceClassifier(SequenceEstimator):
    """A net that tells the class of each row from the W rows that end there.

    Several targets have their own classes each.

    >>> model = SequenceClassifier(net="gru", window=8, class_weight="balanced")
    >>> model.get_params()["class_weight"]
    'balanced'
    """

    kind: ClassVar[str] = "classifier"

    def check_answer_settings(self) -> None:
        """Raise ConfigError where a setting is one of regressors."""
        config, name = self.train_config, type(self).__name__
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
        arrays = [np.asarray(names) for names in self._classes]
        return arrays[0] if len(arrays) == 1 else arrays

    @property
    def model_meta_data(self) -> dict[str, Any]:
        """What FreqAI's classifiers keep with a model: the names of the classes."""
        return {"class_names": [name for names in self._classes for name in names]}

    @property
    def answer(self) -> Classes:
        """What the outputs of the fitted net mean."""
        return Classes(tuple((1.0,) * len(names) for names in self._classes))

    def _answer_for(self, train: WindowSet, classes: list[list[Any]]) -> Classes:
        self._require_class_weight(classes)
        weights = []
        for k, names in enumerate(classes):
            numbers = train.targets[:, k].long()
            counts = torch.bincount(numbers, minlength=len(names)).tolist()
            seen = [name for name, count in zip(names, counts, strict=True) if count]
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
        keys = {name: _key_of(given, name) for name in known}
        wrong = [name for name in known if keys[name] not in given]
        wrong += [key for key in given if key not in keys.values()]
        if wrong:
            raise ConfigError(
                f"class_weight must name every class once: the classes are "
                f"{', '.join(map(repr, known))}, and it differs in {', '.join(map(repr, wrong))}."
            )

    def _read_targets(self, y: Any, inputs: Inputs, classes: list[list[Any]]) -> Targets:
        values, names = inputs.arrange(y, "y", lambda part: np.asarray(part, dtype=object))
        names = names or [f"y{i}" for i in range(values.shape[1])]
        if classes and len(classes) != values.shape[1]:
            raise DataError(f"eval_set has {values.shape[1]} targets, y has {len(classes)}.")
        known = classes or [_found_classes(column) for column in values.T]
        numbers = [
            class_numbers(column, found, name)
            for column, found, name in zip(values.T, known, names, strict=True)
        ]
        return Targets(np.column_stack(numbers), names, known)

    def _scaled_targets(self, targets: FloatArray, scaling: Scaling | None) -> FloatArray:
        return targets

    def _blank(self, train: WindowSet, answer: Any) -> list[float]:
        frequencies = []
        for k, size in enumerate(answer.sizes):
            counts = torch.bincount(train.targets[:, k].long(), minlength=size)
            frequencies += (counts / len(train)).tolist()
        return frequencies

    # predict

    def probabilities(self, outputs: FloatArray) -> FloatArray:
        """Return the probabilities (N, O) that outputs (N, O) stand for."""
        result: FloatArray = self.answer.probabilities(torch.from_numpy(outputs)).numpy()
        return result

    def predict_proba(self, X: Given) -> Any:
        """Return the probability of each class, as `predict` gives its answers.

        Columns are in the order of `classes_`; with several targets those of the first come first,
        and in frames they are called `target=class`. NaN where no full, finite window ends.
        """
        inputs, outputs = self._outputs(X)
        return inputs.restore(self.probabilities(outputs), self._column_names())

    def predict(self, X: Given) -> Any:
        """Return the most probable class of each row.

        Args:
            X: (N, F) features in the order of time, or many symbols' as in `fit`.

        Returns:
            (N,) or (N, K) classes as the targets were given, as a Series or DataFrame with the
            index of `X` where `X` is a DataFrame, and one of them for each symbol where `X` is a
            list or a dictionary. None, or a missing value in pandas, where no full, finite window
            ends.

        Raises:
            MismatchError: The features, or the symbols, are not those of the training.
        """
        inputs, outputs = self._outputs(X)
        classes = self.most_probable(self.probabilities(outputs))
        return inputs.restore(classes, self.label_names_, self._single_target)

    def most_probable(self, probabilities: FloatArray) -> npt.NDArray[Any]:
        """Return the most probable class of each target: (N, O) -> (N, K), None for NaN."""
        is_blank = np.isnan(probabilities[:, 0])
        stops = np.cumsum(self.answer.sizes)[:-1]
        result = np.empty((len(probabilities), len(self._classes)), dtype=object)
        for k, part in enumerate(np.split(probabilities, stops, axis=1)):
            names = np.asarray(self._classes[k], dtype=object)
            result[:, k] = np.where(is_blank, None, names[part.argmax(axis=1)])
        return result

    def score(self, X: Given, y: Any) -> float:
        """Return the share of right classes, over the rows that have a prediction and a target."""
        inputs, outputs = self._outputs(X)
        predicted = self.most_probable(self.probabilities(outputs))
        targets, _ = inputs.arrange(y, "y", lambda part: np.asarray(part, dtype=object))
        self._require_targets(targets)
        known = ~np.isnan(outputs[:, 0]) & ~pd.isna(targets).any(axis=1)
        if not known.any():
            raise DataError("No row has both a prediction and a target, so there is no score.")
        return float(np.mean(predicted[known] == targets[known]))

    def to_checkpoint(self) -> Checkpoint:
        """Return what a model file of this model holds."""
        checkpoint = super().to_checkpoint()
        weights = checkpoint.train_settings["class_weight"]
        if isinstance(weights, Mapping):
            checkpoint.train_settings["class_weight"] = {
                _plain(name): float(weight) for name, weight in weights.items()
            }
        return checkpoint

    def _column_names(self) -> list[str]:
        if len(self._classes) == 1:
            return [str(name) for name in self._classes[0]]
        return [
            f"{label}={name}"
            for label, names in zip(self.label_names_, self._classes, strict=True)
            for name in names
        ]

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's estimator tags; called by scikit-learn alone."""
        from sklearn.utils import ClassifierTags

        tags = super().__sklearn_tags__()
        tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags


def _found_classes(column: npt.NDArray[Any]) -> list[Any]:
    """Return the classes of a column in their order, as plain Python values."""
    values = [_plain(value) for value in column[~pd.isna(column)]]
    wrong = next((value for value in values if not _is_class(value)), None)
    if wrong is not None:
        raise DataError(
            f"y: classes must be strings, whole numbers or booleans, not {wrong!r}. For other "
            f"numbers take a SequenceRegressor."
        )
    found = set(values)
    try:
        return sorted(found)
    except TypeError as error:
        raise DataError("y: classes of one target must be all strings, or all numbers.") from error


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy's as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_class(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def _key_of(weights: Mapping[Any, float], name: Any) -> Any:
    """Return the key that stands for a class: JSON knows no keys but strings."""
    return name if name in weights else str(name)


def class_numbers(column: npt.NDArray[Any], names: list[Any], target: str) -> FloatArray:
    """Return the number of each row's class, NaN where a row has none.

    Raises:
        DataError: A class is none of `names`.
    """
    numbers = {name: number for number, name in enumerate(names)}
    is_missing = pd.isna(column)
    present = map(_plain, column[~is_missing])
    unknown = sorted({str(value) for value in present if value not in names})
    if unknown:
        raise DataError(
            f"{target!r} holds the class {', '.join(map(repr, unknown))}; the classes are "
            f"{', '.join(map(repr, names))}."
        )
    return np.array(
        [
            np.nan if missing else numbers[value]
            for value, missing in zip(column, is_missing, strict=True)
        ],
        dtype=float,
    )
