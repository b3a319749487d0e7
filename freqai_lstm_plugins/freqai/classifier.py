"""FreqAI classifiers: the strategy gets the most probable class, and a probability a class."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from datasieve.pipeline import Pipeline
from freqtrade.freqai.base_models.BasePyTorchClassifier import BasePyTorchClassifier

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.freqai.model import SequenceModel
from freqai_lstm_plugins.models.classifier import SequenceClassifier
from freqai_lstm_plugins.names import require_names

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.data.arrays import BoolArray

logger = logging.getLogger(__name__)

_SHOWN = 5


class SequenceClassifierModel(SequenceModel, BasePyTorchClassifier):
    """A FreqAI classifier whose net sees windows of consecutive candles.

    The strategy names the classes, as for every classifier of FreqAI, in `set_freqai_targets`:

    ```python
    self.freqai.class_names = ["down", "up"]
    coming = dataframe["close"].shift(-12) / dataframe["close"] - 1
    dataframe["&s-direction"] = (coming > 0).map({False: "down", True: "up"}).mask(coming.isna())
    ```

    It gets the most probable class in the label's column and a column of probabilities a class.
    Classes may be numbers or booleans too; the columns then bear their names, such as `1` or
    `True`. A net of your own is built as in `SequenceRegressorModel`.
    """

    estimator: ClassVar[type[SequenceClassifier]] = SequenceClassifier
    label_dtype: ClassVar[type] = object
    _has_said_text = False

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the classes, whose columns hold their probabilities."""
        given = self.class_names
        return [class_name(value) for value in given] if isinstance(given, list | tuple) else []

    def label_classes(self) -> list[list[str]]:
        """Return the classes of the one label."""
        names = self.extra_columns([])
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"self.freqai.class_names is {self.class_names!r}: set a list of at least two "
                f"different names in the strategy's set_freqai_targets, such as ['down', 'up']."
            )
        self._say_that_classes_are_text()
        return [names]

    def _say_that_classes_are_text(self) -> None:
        foreign = [value for value in self.class_names if not isinstance(value, str)]
        if foreign and not self._has_said_text:
            self._has_said_text = True
            logger.warning(
                "self.freqai.class_names holds %s: FreqAI hands classes back as text, so compare a "
                "prediction with %r, and not with %r.",
                ", ".join(map(repr, foreign)),
                class_name(foreign[0]),
                foreign[0],
            )

    def require_answers(self, model: SequenceClassifier) -> None:
        """Raise MismatchError where a saved model's classes are not those of the strategy."""
        # A backtest may find models before the strategy has named the classes.
        names = self.extra_columns([])
        if names:
            require_names("classes", names, model.model_meta_data["class_names"])

    def check_columns(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> None:
        """Raise ConfigError where classes are not named, or columns would overwrite others."""
        self.label_classes()
        super().check_columns(frame, dk)

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the number of each candle's class, NaN where it has none."""
        if len(dk.label_list) != 1:
            raise ConfigError(
                f"{dk.pair}: a classifier predicts one label, the strategy sets "
                f"{len(dk.label_list)}: {', '.join(dk.label_list)}. Keep one."
            )
        (label,) = dk.label_list
        (names,) = self.label_classes()
        found = frame[label].astype(object).dropna().map(class_name)
        unknown = sorted(set(found) - set(names))
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            raise DataError(
                f"{dk.pair}: label {label!r} holds {', '.join(map(repr, unknown[:_SHOWN]))}{more}, "
                f"and the classes in self.freqai.class_names are {', '.join(map(repr, names))}. "
                f"Name every class there, and leave candles without one NaN."
            )
        numbers = {name: float(number) for number, name in enumerate(names)}
        return {label: found.map(numbers).astype(float).reindex(frame.index)}

    def target_pipeline(self, threads: int) -> Pipeline:
        """Return a pipeline that leaves the classes' numbers alone."""
        return Pipeline([])

    def answers(
        self,
        model: SequenceClassifier,
        outputs: npt.NDArray[np.floating],
        has_window: BoolArray,
        dk: FreqaiDataKitchen,
    ) -> pd.DataFrame:
        """Return the most probable class, and the probability of each."""
        probabilities: Any = model.probabilities(outputs)
        probabilities[~has_window] = model.target_mean
        (label,) = dk.label_list
        # The host writes zeros into this column too, which one of strings alone would refuse.
        frame = pd.DataFrame({label: model.most_probable(probabilities)[:, 0]}, dtype=object)
        names = model.model_meta_data["class_names"]
        return pd.concat([frame, pd.DataFrame(probabilities, columns=names)], axis=1)


def class_name(value: Any) -> str:
    """Return the name of a class, alike for all ways to write a whole number.

    >>> class_name(1.0), class_name("up"), class_name(True)
    ('1', 'up', 'True')
    """
    is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value) if is_whole else value)
