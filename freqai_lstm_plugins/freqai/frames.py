"""From a frame of candles to what a model sees of it: the one rule for predicting and explaining.

A row that an outlier detector rejects is no prediction that counts, but stays context for the rows
after it; only a row that is not finite breaks the windows that would hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from freqai_lstm_plugins.data.arrays import BoolArray, finite_rows, to_float32
from freqai_lstm_plugins.freqai.columns import refuse_unusable_features
from freqai_lstm_plugins.freqai.slices import full_windows
from freqai_lstm_plugins.names import require_names

if TYPE_CHECKING:
    import pandas as pd
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen


@dataclass(frozen=True)
class ScaledRows:
    """The rows of a frame behind the pipeline that was fitted in training.

    Attributes:
        frame: (N, F) scaled features. A row that had a NaN or an infinity holds made-up numbers.
        values: (N, F) the same as float32, which nets compute in; (N, F + 1) for a net that is told
            the pair, whose number stands last.
        is_usable: (N,) whether a row has all its features, and so may stand in a window.
        has_window: (N,) whether a full window of usable rows ends there.
        is_inlier: (N,) whether the pipeline's outlier detectors let the row itself pass.
    """

    frame: pd.DataFrame
    values: npt.NDArray[np.float32]
    is_usable: BoolArray
    has_window: BoolArray
    is_inlier: BoolArray

    @property
    def names(self) -> list[str]:
        """Names of the features that leave the pipeline."""
        # One step of C: a column of strings is slow to walk through, and this runs each candle.
        return list(map(str, self.frame.columns.tolist()))

    @property
    def counts(self) -> BoolArray:
        """(N,) whether the prediction at a row counts: what the strategy gets as `do_predict`."""
        counts: BoolArray = self.has_window & self.is_inlier
        return counts


def scale_rows(
    frame: pd.DataFrame, dk: FreqaiDataKitchen, window: int, filled_candles: str
) -> ScaledRows:
    """Scale the features of a frame, and tell where full windows end and what is an outlier.

    Args:
        frame: Candles with their dates and the features in the order of the training.
        dk: The pair's data kitchen, with the fitted pipeline and the list of features.
        window: W.
        filled_candles: `break` or `keep`, as for `full_windows`.
    """
    panel = dk.data.get("panel", {})
    values = _feature_values(frame, panel.get("sources", dk.training_features_list), dk.pair)
    is_finite = np.isfinite(values)
    known = is_finite.all(axis=1)
    # Pipelines refuse NaN. As an array, since names were compared before, and are slow to compare.
    scaled, inliers, _ = dk.feature_pipeline.transform(
        np.where(is_finite, values, 0), outlier_check=True
    )
    rows = to_float32(scaled.to_numpy())
    usable = known & finite_rows(rows)
    ends = full_windows(frame, usable, window, dk.config["timeframe"], filled_candles)
    if panel.get("symbol") is not None:
        rows = np.column_stack([rows, np.full(len(rows), panel["symbol"], dtype=np.float32)])
    return ScaledRows(scaled, rows, usable, ends, np.asarray(inliers) == 1)


def require_features(frame: pd.DataFrame, dk: FreqaiDataKitchen) -> None:
    """Find the features in a frame, and raise MismatchError where they are not the model's."""
    dk.find_features(frame)
    known = dk.data.get("training_features_list", dk.training_features_list)
    require_names("features", dk.training_features_list, known)


def _feature_values(frame: pd.DataFrame, names: list[str], pair: str) -> npt.NDArray[np.floating]:
    """Return features as (N, F) floats, of the precision that the strategy chose.

    Raises:
        DataError: Names a feature that is no number.
    """
    # By place: pandas takes thrice as long to look columns up by a list of names.
    places = {name: place for place, name in enumerate(frame.columns.tolist())}
    features = frame.take([places[name] for name in names], axis=1)
    values: npt.NDArray[np.floating] = features.to_numpy()
    if values.dtype.kind == "f":
        return values
    try:
        # Integers, booleans and pandas' own missing values.
        return features.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        refuse_unusable_features(features, names, pair)
        raise
