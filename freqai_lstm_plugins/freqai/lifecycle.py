"""What happens around a model while FreqAI runs: its start, and the slices of a backtest.

The trainings and predictions of a bot stand in `live`, and what is trained and predicted in
`model`.
"""

from __future__ import annotations

import functools
import logging
from contextlib import contextmanager
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from freqtrade.exceptions import OperationalException
from freqtrade.freqai.base_models.BasePyTorchModel import BasePyTorchModel

from freqai_lstm_plugins.errors import ConfigError, FreqaiLSTMError, causes
from freqai_lstm_plugins.freqai.columns import STATISTICS, answer_columns, refuse_unsound_columns
from freqai_lstm_plugins.freqai.drawer import DurableDataDrawer
from freqai_lstm_plugins.freqai.identifier import (
    check_identifier,
    defaults,
    fingerprint,
    refuse_other_answers,
)
from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen
from freqai_lstm_plugins.freqai.lock import lock_identifier
from freqai_lstm_plugins.freqai.own_net import own_sources
from freqai_lstm_plugins.freqai.recovery import set_aside_damaged
from freqai_lstm_plugins.freqai.settings import read_settings
from freqai_lstm_plugins.freqai.sidecar import NET, part_of
from freqai_lstm_plugins.freqai.spelling import misspelt_keys
from freqai_lstm_plugins.freqai.stored import read_metadata, read_usable

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
    from freqtrade.strategy.interface import IStrategy

logger = logging.getLogger(__name__)

# Candles from which a strategy's labels are found where nothing has to be trained.
_RECENT = 500


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn our errors into the kind that freqtrade shows as one line, without a traceback."""
    try:
        yield
    except FreqaiLSTMError as error:
        raise OperationalException(str(error)) from error


def release_frames(error: BaseException) -> None:
    """Let go of what the functions that an error came through still refer to.

    freqtrade keeps the last records of its log in memory, with their tracebacks, and so with the
    rows that a training had.
    """
    for one in causes(error):
        clear_frames(one.__traceback__)


class HostedModel(BasePyTorchModel):
    """A FreqAI model that keeps to its identifier, and whose failures are not taken for results.

    Attributes:
        net: Name in `NETS` of the net; None for a net of the user's own.
        settings: What the config says about our models.
        window_size: W, candles a window.
    """

    net: ClassVar[str | None] = None
    dd: DurableDataDrawer
    train_queue: deque[str]

    def __init__(self, **kwargs: Any) -> None:
        config = kwargs["config"]
        with one_line_errors():
            self.settings = read_settings(config, self.net)
            identifier = str(config["freqai"].get("identifier", "no_id_provided"))
            folder = Path(config["user_data_dir"]) / "models" / identifier
            self.lock = lock_identifier(folder, identifier, config)
        try:
            # What a reader cannot read may be whole for the bot that runs there.
            if not self.lock.is_reader:
                set_aside_damaged(folder)
            super().__init__(**kwargs)
            self.start_up()
        except BaseException:
            self.lock.release()
            raise

    def start_up(self) -> None:
        """Check the settings, and take over what earlier runs left."""
        self.window_size = self.settings.window
        # As many candles as freqtrade hands to `predict` in live mode.
        self.CONV_WIDTH = self.settings.window
        self._refusal: ConfigError | None = None
        self._failures: list[str] = []
        self._n_failures = 0
        name = type(self).__name__
        with one_line_errors():
            self.prepare()
            sources = own_sources(type(self), Path(self.config["user_data_dir"]))
            check_identifier(
                Path(self.full_path),
                self.identifier,
                fingerprint(name, self.config, self.settings, sources),
                defaults(self.net),
            )
        self.dd = DurableDataDrawer.taking_over(self.dd, self.extra_columns, self.require_usable)
        self.dd.model_type = "pytorch"
        if self.dd.forget_unusable_models():
            self.train_queue = self._set_train_queue()
        for line in misspelt_keys(self.config):
            logger.warning(line)

    # what a model decides

    def prepare(self) -> None:
        """Refuse settings that would only fail in the first training."""

    def require_usable(self, model: Any) -> object:
        """Raise MismatchError where a model from disk cannot predict for this class."""
        return model

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the columns that predictions have beside the labels."""
        return []

    def require_answers(self, model: Any) -> None:
        """Raise MismatchError where a saved model's classes are not those of the strategy."""

    def train_pair(self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen) -> Any:
        """Train a model for `pair` on a slice of candles."""
        raise NotImplementedError

    def check_metadata(self, dk: FreqaiDataKitchen, metadata: dict[str, Any]) -> None:
        """Raise ConfigError where what is stored of a slice cannot be used in this run."""

    def check_columns(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> None:
        """Raise ConfigError where labels are features too, or columns would overwrite others."""
        refuse_unsound_columns(
            dk.pair,
            frame.columns,
            dk.label_list,
            self.extra_columns(dk.label_list),
            dk.data.get("extra_returns_per_train", {}),
        )

    # training

    def train(
        self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen, **kwargs: Any
    ) -> Any:
        """Train a model for `pair` on a slice of candles.

        Returns:
            The model. None for a slice of a backtest that has no candle to predict, or whose
            training failed.

        Raises:
            ConfigError: No slice can be trained like this.
            DataError: The slice leaves no window to train on.
            TrainingError: The loss is no longer finite, or the bot was stopped.
        """
        if dk.live or not isinstance(dk, SequenceDataKitchen):
            return self.train_pair(unfiltered_df, pair, dk)
        if not dk.slice_length:
            return None
        try:
            model = self.train_pair(unfiltered_df, pair, dk)
        except (FreqaiLSTMError, OperationalException) as error:
            # FreqAI would go on to the next slice, which must fail in the same way.
            self._refusal = error if isinstance(error, ConfigError) else None
            self._failures.append(str(error))
            logger.warning(
                "Training %s raised exception %s. Message: %s, skipping.",
                pair,
                type(error).__name__,
                error,
            )
            return None
        except Exception as error:
            self._failures.append(f"{type(error).__name__}: {error}")
            release_frames(error)
            raise
        # The host keeps models that it saves alone, and continual learning goes on from this one.
        self.dd.remember(pair, model, dk)
        return model

    def former_model(self, dk: FreqaiDataKitchen) -> Any | None:
        """Return the model that continual learning goes on from; None where it starts afresh.

        In a backtest that is the model of the newest slice before that has one, whether this run
        has trained it or one that was interrupted.
        """
        if not self.continual_learning:
            return None
        if self.live or not isinstance(dk, SequenceDataKitchen):
            if dk.pair in self.dd.pair_dict and self.live:
                # After a start the trading loop may not have asked for it yet.
                self.dd.load_data(dk.pair, self.new_kitchen(dk.pair))
            return self.get_init_model(dk.pair)
        # The host moves the ends of its own list of slices as it goes.
        spans = self.new_kitchen(dk.pair).training_timeranges[: self.place_of_slice(dk)]
        for span in reversed(spans):
            model = self.model_of_slice(dk.pair, int(span.stopts))
            if model is not None:
                return model
        if spans:
            logger.warning(
                "%s: continual learning starts afresh at the candles up to %s, as no slice before "
                "has a model in memory or on disk. If an interrupted run has trained them, "
                "save_backtest_models would have kept them for this one.",
                dk.pair,
                self.training_timerange.stopdt,
            )
        return None

    def place_of_slice(self, dk: FreqaiDataKitchen) -> int:
        """Return the place of the slice that is trained now among those of a backtest."""
        spans = dk.training_timeranges
        return next(i for i, span in enumerate(spans) if span is self.training_timerange)

    def model_of_slice(self, pair: str, stamp: int) -> Any | None:
        """Return the model of a backtest's slice, from memory or disk, or None.

        Args:
            pair: Whose model.
            stamp: End of the slice.
        """
        kitchen = self.new_kitchen(pair)
        kitchen.set_new_model_names(pair, stamp)
        if self.dd.slices.get(pair) == kitchen.model_filename:
            return self.dd.model_dictionary[pair]
        stem = Path(kitchen.data_path) / kitchen.model_filename
        if not part_of(stem, NET).is_file():
            return None
        model, reason = read_usable(stem, self.require_usable)
        if model is None:
            logger.warning("%s: the saved model of a slice before is unusable: %s", pair, reason)
        return model

    # backtest

    def start_backtesting(
        self,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        dk: FreqaiDataKitchen,
        strategy: IStrategy,
    ) -> FreqaiDataKitchen:
        """Backtest one pair, with the rows before each slice at hand."""
        self.dk = kitchen = self.new_kitchen(metadata["pair"])
        kitchen.check_labels = lambda frame: self.check_columns(frame, kitchen)
        kitchen.check_stored = self._stored_check(kitchen, dataframe, metadata, strategy)
        self._failures = []
        with one_line_errors():
            done = super().start_backtesting(dataframe, metadata, kitchen, strategy)
        self._report_failures(kitchen)
        return done

    def new_kitchen(self, pair: str) -> SequenceDataKitchen:
        """Make the kitchen of one pair."""
        return SequenceDataKitchen(self.config, self.live, pair, self.window_size - 1)

    def _stored_check(
        self,
        dk: SequenceDataKitchen,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        strategy: IStrategy,
    ) -> Callable[[pd.DataFrame, dict[str, Any]], None]:
        """Return what compares stored predictions with the strategy's labels and classes."""

        @functools.cache
        def expected() -> list[str]:
            # Only the strategy knows, and FreqAI asks it for targets where it trains.
            frame = dk.use_strategy_to_populate_indicators(
                strategy, prediction_dataframe=dataframe.tail(_RECENT), pair=dk.pair
            )
            frame = strategy.set_freqai_targets(frame, metadata=metadata)
            dk.find_labels(dk.remove_special_chars_from_feature_names(frame))
            return [*dk.label_list, *self.extra_columns(dk.label_list)]

        def check(stored: pd.DataFrame, metadata: dict[str, Any]) -> None:
            self.check_metadata(dk, metadata)
            found = answer_columns(stored, dk.data["extra_returns_per_train"])
            refuse_other_answers(self.identifier, f"predictions of {dk.pair}", found, expected())

        return check

    def model_exists(self, dk: FreqaiDataKitchen) -> bool:
        """Tell whether a backtest model is on disk, whole, and of the strategy's labels.

        Raises:
            ConfigError: It is of other labels.
        """
        if not self.has_files(dk):
            return False
        stem = Path(dk.data_path) / dk.model_filename
        model, reason = read_usable(stem, self.require_usable, self.dd.nets)
        if model is None:
            logger.warning("Training %s again, its saved model is unusable: %s", dk.pair, reason)
            return False
        metadata = read_metadata(stem)
        self.check_metadata(dk, metadata)
        if dk.label_list:
            names = metadata["label_list"]
            refuse_other_answers(self.identifier, f"a model of {dk.pair}", names, dk.label_list)
        return True

    def has_files(self, dk: FreqaiDataKitchen) -> bool:
        """Tell whether there is a model file of a slice."""
        return bool(super().model_exists(dk))

    def _append_null_backtesting_predictions(
        self, dk: FreqaiDataKitchen, dataframe_backtest: pd.DataFrame
    ) -> None:
        """Append what stands for predictions where a slice was not trained, in all columns."""
        if self._refusal is not None:
            raise self._refusal
        columns = [*dk.label_list, *self.extra_columns(dk.label_list)]
        _append_zeros(dk, columns, dataframe_backtest)

    def _report_failures(self, dk: FreqaiDataKitchen) -> None:
        count = len(self._failures)
        self._n_failures += count
        if count:
            logger.warning(
                "%s: %d of %d slices could not be trained and have no prediction (do_predict 0). "
                "They are not stored: run again, with --cache none, once the cause is mended. The "
                "last was: %s",
                dk.pair,
                count,
                len(dk.training_timeranges),
                self._failures[-1],
            )
        if self._n_failures > count and self.pair_it >= self.total_pairs:
            logger.warning("In all pairs %d slices could not be trained.", self._n_failures)

    # statistics

    def describe_extra_columns(self, dk: FreqaiDataKitchen) -> None:
        """Give the host a mean and a deviation for every column, which it asks for by name."""
        for statistic in STATISTICS:
            known = dk.data.setdefault(f"labels_{statistic}", {})
            for name in self.extra_columns(dk.label_list):
                known.setdefault(name, 0.0)

    def fit_live_predictions(self, dk: FreqaiDataKitchen, pair: str) -> None:
        """Fit every column's mean and deviation over the last live predictions."""
        # The host would add the classes of each slice of a backtest to those of the slices before.
        dk.unique_class_list = self.extra_columns(dk.label_list)
        super().fit_live_predictions(dk, pair)
        self.describe_extra_columns(dk)


def _append_zeros(dk: FreqaiDataKitchen, columns: list[str], frame: pd.DataFrame) -> None:
    """Append zeros to the predictions of a backtest, for each candle of a slice.

    They are not stored: the next run would take them for the predictions of a model.
    """
    dk.DI_values = np.zeros(len(frame))
    for statistic in STATISTICS:
        known = dk.data.setdefault(f"labels_{statistic}", {})
        known.update(dict.fromkeys(columns, 0))
    zeros = pd.DataFrame(0, index=range(len(frame)), columns=columns)
    do_predict = np.zeros(len(frame), dtype=np.int_)
    dk.append_predictions(dk.get_predictions_to_append(zeros, do_predict, frame))
