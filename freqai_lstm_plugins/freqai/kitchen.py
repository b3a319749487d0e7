"""FreqAI's data kitchen, with the rows before each backtest slice at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.configuration import TimeRange
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.files import replacing


class SequenceDataKitchen(FreqaiDataKitchen):
    """A data kitchen of a backtest that remembers the rows before a slice.

    Attributes:
        context: The rows before the slice that was cut last, with the columns of the slice.
    """

    def __init__(self, config: dict[str, Any], live: bool, pair: str, n_context: int) -> None:
        super().__init__(config, live, pair)
        self.n_context = n_context
        self.context = pd.DataFrame()

    def slice_dataframe(self, timerange: TimeRange, df: pd.DataFrame) -> pd.DataFrame:
        """Cut a slice out of `df`, and remember the rows before it."""
        before = df.loc[df["date"] < timerange.startdt]
        self.context = self.remove_special_chars_from_feature_names(
            before.iloc[len(before) - min(self.n_context, len(before)) :].copy()
        )
        return super().slice_dataframe(timerange, df)

    def get_backtesting_prediction(self) -> pd.DataFrame:
        """Load the predictions of a slice, with classes in a column that takes numbers too.

        freqtrade puts zeros where there is no prediction, which a column of strings refuses.
        """
        frame = super().get_backtesting_prediction()
        classes = frame.select_dtypes("string").columns
        return frame.astype(dict.fromkeys(classes, object))

    def save_backtesting_prediction(self, append_df: pd.DataFrame) -> None:
        """Save the predictions of a slice, whole or not at all."""
        with replacing(Path(self.backtesting_results_path)) as stream:
            append_df.to_feather(stream)
