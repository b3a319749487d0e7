"""FreqAI's data kitchen, with the rows before each backtest slice at hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.freqai.columns import holds_no_prediction
from freqai_lstm_plugins.freqai.drawer import read_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from freqtrade.configuration import TimeRange
    from freqtrade.strategy.interface import IStrategy

logger = logging.getLogger(__name__)


class SequenceDataKitchen(FreqaiDataKitchen):
    """A data kitchen that lets its model look at labels as soon as they are known.

    In a backtest it remembers the rows before a slice, and stores no slice that is none.

    Attributes:
        context: The rows before the slice that was cut last, with the columns of the slice.
        slice_length: Rows of the slice that was cut last.
        labelled: In a bot, the frame whose labels were found last.
        check_labels: Called with a frame once its labels are known, and raises where they are
            unsound.
        check_stored: Called with stored predictions before they are used, and raises where they
            are of other labels.
    """

    def __init__(self, config: dict[str, Any], live: bool, pair: str, n_context: int) -> None:
        super().__init__(config, live, pair)
        self.n_context = n_context
        self.context = pd.DataFrame()
        self.slice_length = 0
        self.labelled = pd.DataFrame()
        self._given_columns: list[str] | None = None
        self.check_labels: Callable[[pd.DataFrame], None] = lambda frame: None
        self.check_stored: Callable[[pd.DataFrame], None] = lambda stored: None

    def use_strategy_to_populate_indicators(
        self,
        strategy: IStrategy,
        corr_dataframes: dict[str, pd.DataFrame] | None = None,
        base_dataframes: dict[str, dict[str, pd.DataFrame]] | None = None,
        pair: str = "",
        prediction_dataframe: pd.DataFrame | None = None,
        do_corr_pairs: bool = True,
    ) -> pd.DataFrame:
        """Let the strategy add its features to candles.

        In a backtest FreqAI hands over candles that have them already, where it finds a stored
        slice after one that it has trained, and would then meet twice as many.
        """
        if prediction_dataframe is not None:
            if self._given_columns is None:
                self._given_columns = list(prediction_dataframe.columns)
            prediction_dataframe = prediction_dataframe[self._given_columns]
        return super().use_strategy_to_populate_indicators(
            strategy, corr_dataframes, base_dataframes, pair, prediction_dataframe, do_corr_pairs
        )

    def find_labels(self, dataframe: pd.DataFrame) -> None:
        """Find the labels of a frame."""
        super().find_labels(dataframe)
        if self.live:
            self.labelled = dataframe
        self.check_labels(dataframe)

    def slice_dataframe(self, timerange: TimeRange, df: pd.DataFrame) -> pd.DataFrame:
        """Cut a slice out of `df`; in a backtest, remember the rows before it."""
        if self.live:
            return super().slice_dataframe(timerange, df)
        before = df.loc[df["date"] < timerange.startdt]
        self.context = self.remove_special_chars_from_feature_names(
            before.iloc[len(before) - min(self.n_context, len(before)) :].copy()
        )
        cut = super().slice_dataframe(timerange, df)
        self.slice_length = len(cut)
        return cut

    def check_if_backtest_prediction_is_valid(self, len_backtest_df: int) -> bool:
        """Tell whether a slice's stored predictions can stand for it.

        What cannot be read, and what earlier versions stored for a training that failed, cannot.
        """
        try:
            if not super().check_if_backtest_prediction_is_valid(len_backtest_df):
                return False
            stored = self.get_backtesting_prediction()
            read_metadata(Path(self.data_path) / self.model_filename)
        # Damaged files of either kind may raise anything.
        except Exception as error:
            logger.warning(
                "%s: the predictions in %s are made again, as they or their metadata cannot be "
                "read: %s",
                self.pair,
                self.backtesting_results_path,
                " ".join(str(error).split()),
            )
            return False
        if holds_no_prediction(stored):
            logger.info("%s: the stored slice was never predicted.", self.pair)
            return False
        self.check_stored(stored)
        return True

    def get_backtesting_prediction(self) -> pd.DataFrame:
        """Load the predictions of a slice, with classes in a column that takes numbers too.

        freqtrade puts zeros where there is no prediction, which a column of strings refuses.
        """
        frame = super().get_backtesting_prediction()
        classes = frame.select_dtypes("string").columns
        return frame.astype(dict.fromkeys(classes, object))

    def save_backtesting_prediction(self, append_df: pd.DataFrame) -> None:
        """Save the predictions of a slice, whole or not at all."""
        # A slice without candles has nothing to find again, and would match one that stays empty.
        if append_df.empty:
            return
        with replacing(Path(self.backtesting_results_path)) as stream:
            append_df.to_feather(stream)
