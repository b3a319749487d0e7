"""FreqAI regressors: the strategy gets a number a label, and its interval where asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from freqtrade.freqai.base_models.BasePyTorchRegressor import BasePyTorchRegressor

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.model import SequenceModel
from freqai_lstm_plugins.models.regressor import SequenceRegressor

if TYPE_CHECKING:
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.data.arrays import BoolArray

logger = logging.getLogger(__name__)


class SequenceRegressorModel(SequenceModel, BasePyTorchRegressor):
    """A FreqAI regressor whose net sees windows of consecutive candles.

    Derive a class with your own net from it in `user_data/freqaimodels/MyOwnLSTM.py`:

    ```python
    class MyOwnLSTM(SequenceRegressorModel):
        def build_net(self, n_features, n_outputs):
            return MyNet(n_features, n_outputs, **self.model_kwargs)
    ```

    The model file holds the weights and the name `MyOwnLSTM`, never the class, so the net may be
    defined in that same file.

    With the training setting `interval` each label `&-x` comes with `&-x_lower` and `&-x_upper`.
    """

    estimator: ClassVar[type[SequenceRegressor]] = SequenceRegressor

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the columns of the intervals' ends."""
        if self.settings.train.interval is None:
            return []
        return [f"{label}_{end}" for label in label_list for end in ("lower", "upper")]

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the label columns with infinities as missing values."""
        columns = {}
        for name in dk.label_list:
            if not pd.api.types.is_numeric_dtype(frame[name]):
                raise DataError(
                    f"{dk.pair}: label {name!r} holds {frame[name].dtype} values; a regressor "
                    f"needs numbers. Take a classifier such as LeaLSTMClassifier for classes."
                )
            values = frame[name].to_numpy(dtype=float, na_value=np.nan)
            is_infinite = np.isinf(values)
            if is_infinite.any():
                logger.warning(
                    "%s: label %s is infinite at %d candles, which are no targets then.",
                    dk.pair,
                    name,
                    is_infinite.sum(),
                )
            columns[name] = pd.Series(np.where(is_infinite, np.nan, values), index=frame.index)
        return columns

    def answers(
        self,
        model: SequenceRegressor,
        outputs: npt.NDArray[np.floating],
        has_window: BoolArray,
        dk: FreqaiDataKitchen,
    ) -> pd.DataFrame:
        """Return the labels in their own units, with the ends of their intervals."""
        points = np.where(has_window[:, None], model.points(outputs), model.target_mean)
        frame = unscaled(points, dk)
        if model.calibration is None:
            return frame
        # A label pipeline may turn the order round.
        pairs = np.full(len(outputs), dk.pair, dtype=object)
        ends = [unscaled(values, dk) for values in model.bounds(outputs, pairs)]
        for label in dk.label_list:
            both = np.sort(np.column_stack([end[label] for end in ends]), axis=1)
            frame[f"{label}_lower"], frame[f"{label}_upper"] = both[:, 0], both[:, 1]
        return frame


def unscaled(values: npt.NDArray[np.floating], dk: FreqaiDataKitchen) -> pd.DataFrame:
    """Turn predictions (N, K) of what was trained on back into the labels' own units."""
    frame, _, _ = dk.label_pipeline.inverse_transform(values)
    return frame
