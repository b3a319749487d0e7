"""FreqAI classifiers: the strategy gets the most probable class, and a probability a class."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from datasieve.pipeline import Pipeline
from freqtrade.freqai.base_models.BasePyTorchClassifier import BasePyTorchClassifier
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.classifier import SequenceClassifier, class_numbers
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.freqai.model import SequenceModel
from freqai_lstm_plugins.windows import BoolArray


class SequenceClassifierModel(SequenceModel, BasePyTorchClassifier):
    """A FreqAI classifier whose net sees windows of consecutive candles.

    The strategy names the classes, as for every classifier of FreqAI, in `set_freqai_targets`:

    ```python
    self.freqai.class_names = ["down", "up"]
    dataframe["&s-direction"] = np.where(dataframe["close"].shift(-12) > dataframe["close"], ...)
    ```

    It gets the most probable class in the label's column and a column of probabilities a class.
    A net of your own is built as in `SequenceRegressorModel`.
    """

    estimator: ClassVar[type[SequenceClassifier]] = SequenceClassifier

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the classes, whose columns hold their probabilities."""
        return list(self.class_names)

    def label_classes(self) -> list[list[str]]:
        """Return the classes of the one label."""
        names = [str(name) for name in self.class_names]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ConfigError(
                f"self.freqai.class_names is {names!r}: set at least two different names in the "
                f"strategy's set_freqai_targets, such as ['down', 'up']."
            )
        return [names]

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the number of each candle's class."""
        if len(dk.label_list) != 1:
            raise ConfigError(
                f"{dk.pair}: a classifier predicts one label, the strategy sets "
                f"{len(dk.label_list)}: {', '.join(dk.label_list)}. Keep one."
            )
        (label,) = dk.label_list
        (names,) = self.label_classes()
        numbers = class_numbers(frame[label].to_numpy(dtype=object), names, label)
        return {label: pd.Series(numbers, index=frame.index)}

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
        frame = pd.DataFrame({label: model.most_probable(probabilities)[:, 0].tolist()}, dtype=str)
        names = model.model_meta_data["class_names"]
        return pd.concat([frame, pd.DataFrame(probabilities, columns=names)], axis=1)
