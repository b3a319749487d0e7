"""FreqAI's data kitchen, with the rows before each backtest slice at hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.freqai.columns import holds_no_prediction
from freqai_lstm_plugins.freqai.stored import read_metadata

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
        check_stored: Called with stored predictions and metadata before they are used, and raises
            where they are of other labels.
        folder_name: What stands in the folder's name in place of the coin, where pairs share one.
        cut: Time at which the test split begins; None for no test split.
        splits_by_time: Whether `cut` says where to split, and not a fraction of the rows.
        populated: Called with candles; returns them with features where those are known already.
    """

    config: dict[str, Any]
    freqai_config: dict[str, Any]

    def __init__(self, config: dict[str, Any], live: bool, pair: str, n_context: int) -> None:
        super().__init__(config, live, pair)
        self.n_context = n_context
        self.context = pd.DataFrame()
        self.slice_length = 0
        self.labelled = pd.DataFrame()
        self._given_columns: list[str] | None = None
        self.check_labels: Callable[[pd.DataFrame], None] = lambda frame: None
        self.check_stored: Callable[[pd.DataFrame, dict[str, Any]], None] = lambda s, m: None
        self.folder_name: str | None = None
        self.cut: pd.Timestamp | None = None
        self.splits_by_time = False
        self.populated: Callable[[pd.DataFrame], pd.DataFrame | None] = lambda candles: None

    def set_new_model_names(self, pair: str, timestamp_id: int) -> None:
        """Set folder and name of a model, in a folder of all pairs where they share one."""
        super().set_new_model_names(pair, timestamp_id)
        if self.folder_name is not None:
            self.data_path = Path(self.full_path) / f"sub-train-{self.folder_name}_{timestamp_id}"

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
            known = self.populated(prediction_dataframe)
            if known is not None:
                return known
        return super().use_strategy_to_populate_indicators(
            strategy, corr_dataframes, base_dataframes, pair, prediction_dataframe, do_corr_pairs
        )

    def find_labels(self, dataframe: pd.DataFrame) -> None:
        """Find the labels of a frame."""
        super().find_labels(dataframe)
        if self.live:
            self.labelled = dataframe
        self.check_labels(dataframe)

    def make_train_test_datasets(
        self, filtered_dataframe: pd.DataFrame, labels: pd.DataFrame
    ) -> dict[Any, Any]:
        """Split rows as the config says, or where all pairs are split at one moment, there."""
        if not self.splits_by_time:
            return super().make_train_test_datasets(filtered_dataframe, labels)
        given = self.freqai_config
        features = dict(given["feature_parameters"])
        n_test = self._test_rows(bool(features.get("reverse_train_test_order")))
        parameters = {**given["data_split_parameters"], "test_size": n_test}
        if not n_test:
            # All rows are for training, whichever part that would be.
            features["reverse_train_test_order"] = False
        changed = {**given, "data_split_parameters": parameters, "feature_parameters": features}
        whole = self.config
        # freqtrade reads the split from both, and this kitchen's alone is another.
        self.freqai_config, self.config = changed, {**whole, "freqai": changed}
        try:
            return super().make_train_test_datasets(filtered_dataframe, labels)
        finally:
            self.freqai_config, self.config = given, whole

    def _test_rows(self, is_reversed: bool) -> int:
        """Return how many of the last rows scikit-learn is to cut off; 0 to train on all.

        Raises:
            DataError: No row is left to train on.
        """
        if self.cut is None:
            return 0
        n_rows, n_late = len(self.train_dates), int((self.train_dates >= self.cut).sum())
        if is_reversed and n_late == n_rows:
            return 0
        if n_late == (0 if is_reversed else n_rows):
            raise DataError(
                f"{self.pair}: none of its {n_rows} candles with features and a label lies in the "
                f"training part, which all pairs share and which {self.cut} bounds."
            )
        return n_late

    def forget_frames(self) -> None:
        """Drop the frames of a training, which nothing reads again once its windows are made."""
        self.data_dictionary: dict[str, Any] = {}
        self.labelled, self.train_dates = pd.DataFrame(), pd.Series()
        # A column of the whole training frame.
        self.data.pop("filter_drop_index_training", None)

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
            metadata = read_metadata(Path(self.data_path) / self.model_filename)
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
        self.check_stored(stored, metadata)
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
