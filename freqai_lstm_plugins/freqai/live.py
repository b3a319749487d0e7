"""What a bot does with a model: it trains beside the trading loop, and predicts soundly."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.errors import ConfigError, MismatchError, StoppedError
from freqai_lstm_plugins.freqai.advice import NEW_IDENTIFIER
from freqai_lstm_plugins.freqai.columns import answer_columns
from freqai_lstm_plugins.freqai.identifier import refuse_other_answers
from freqai_lstm_plugins.freqai.lifecycle import HostedModel, release_frames
from freqai_lstm_plugins.freqai.retries import Retries, next_pair

if TYPE_CHECKING:
    from collections import deque

    import pandas as pd
    from freqtrade.configuration import TimeRange
    from freqtrade.strategy.interface import IStrategy

    from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0


def _accept(frame: pd.DataFrame) -> None:
    """Take labels as they are."""


class LiveModel(HostedModel):
    """A FreqAI model that trains in turn, rests after failures, and stops when its bot does."""

    train_queue: deque[str]

    def start_up(self) -> None:
        """Check the settings, and take over what earlier runs left."""
        self.retries = Retries()
        # Pairs whose labels were found to be those of earlier runs, with the labels.
        self._checked: set[tuple[str, ...]] = set()
        super().start_up()

    def start_live(
        self,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        strategy: IStrategy,
        dk: FreqaiDataKitchen,
    ) -> FreqaiDataKitchen:
        """Predict a pair's newest candle; where the identifier is of other labels, say so."""
        self.dk = kitchen = self.new_live_kitchen(metadata["pair"])
        try:
            return super().start_live(dataframe, metadata, strategy, kitchen)
        except ConfigError as error:
            # freqtrade would go on with a traceback a candle.
            logger.error("%s is not predicted: %s", kitchen.pair, error)  # noqa: TRY400
            kitchen.check_labels = _accept
            self.dd.return_null_values_to_strategy(kitchen.labelled, kitchen)
            return kitchen

    def new_live_kitchen(self, pair: str) -> SequenceDataKitchen:
        """Make the kitchen of one pair of a bot."""
        kitchen = self.new_kitchen(pair)
        kitchen.check_labels = lambda frame: self._check_live(frame, kitchen)
        return kitchen

    def _check_live(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> None:
        """Raise ConfigError where what a pair has from earlier runs is of other labels."""
        expected = [*dk.label_list, *self.extra_columns(dk.label_list)]
        key = (dk.pair, *expected)
        if key in self._checked:
            return
        self.check_columns(frame, dk)
        former = self.dd.historic_predictions.get(dk.pair)
        if former is not None:
            found = answer_columns(former, dk.data["extra_returns_per_train"])
            refuse_other_answers(self.identifier, f"predictions of {dk.pair}", found, expected)
        model = self.dd.model_dictionary.get(dk.pair)
        if model is not None:
            names = model.label_names_
            refuse_other_answers(self.identifier, f"a model of {dk.pair}", names, dk.label_list)
            try:
                self.require_answers(model)
            except MismatchError as error:
                raise ConfigError(f"{error} {NEW_IDENTIFIER}") from error
        self._checked.add(key)

    def _start_scanning(self, strategy: IStrategy) -> None:
        """Train pair after pair beside the trading loop, until the bot is stopped.

        In place of freqtrade's own loop, which looks at the head of its queue alone and tries a
        pair that fails again at once.
        """
        while not self._stop_event.wait(SECONDS_BETWEEN_LOOKS):
            whitelist = strategy.dp.current_whitelist()
            self.train_queue.extend(pair for pair in whitelist if pair not in self.train_queue)
            pair = next_pair(self.train_queue, whitelist, self.needs_training, self.retries)
            if pair is not None:
                self._train_in_turn(pair, strategy)

    def needs_training(self, pair: str) -> bool:
        """Tell whether it is time to train a pair."""
        _, trained_timestamp = self.dd.get_pair_dict_info(pair)
        kitchen = FreqaiDataKitchen(self.config, True, pair)
        is_required, _, _ = kitchen.check_if_new_training_required(trained_timestamp)
        return bool(is_required)

    def _train_in_turn(self, pair: str, strategy: IStrategy) -> None:
        """Train a pair, whatever comes of it, and put it at the end of the queue."""
        self.train_timer("start")
        unit = self.training_unit(pair)
        try:
            self.train_now(pair, strategy)
            self.retries.succeeded(unit)
        # Any error is the pair's alone: the others must be trained.
        except Exception as error:
            release_frames(error)
            if self._stop_event.is_set():
                logger.info("%s: %s", unit, error)
            else:
                self.retries.failed(unit, error)
        self.train_timer("stop", pair)
        self.train_queue.remove(pair)
        self.train_queue.append(pair)
        try:
            self.dd.save_historic_predictions_to_disk()
            if self.freqai_info.get("write_metrics_to_disk", False):
                self.dd.save_metric_tracker_to_disk()
        except OSError as error:
            # It would end the thread, and with it all trainings to come.
            logger.error(  # noqa: TRY400
                "The past predictions are not saved (%s). Make room on the disk: they are saved "
                "after the next training.",
                error,
            )

    def training_unit(self, pair: str) -> str:
        """Return what is trained when it is the turn of a pair; if it fails, that is what rests."""
        return pair

    def train_now(self, pair: str, strategy: IStrategy) -> None:
        """Train what is due when it is the turn of a pair."""
        _, trained_timestamp = self.dd.get_pair_dict_info(pair)
        kitchen = self.new_live_kitchen(pair)
        _, timerange, load_timerange = kitchen.check_if_new_training_required(trained_timestamp)
        kitchen.set_paths(pair, timerange.stopts)
        self.extract_data_and_train_model(timerange, pair, strategy, kitchen, load_timerange)

    def extract_data_and_train_model(
        self,
        new_trained_timerange: TimeRange,
        pair: str,
        strategy: IStrategy,
        dk: FreqaiDataKitchen,
        data_load_timerange: TimeRange,
    ) -> None:
        """Train and save a pair beside the trading loop."""
        # freqtrade does so after the training, in which plots are named after the model.
        dk.set_new_model_names(pair, new_trained_timerange.stopts)
        super().extract_data_and_train_model(
            new_trained_timerange, pair, strategy, dk, data_load_timerange
        )

    def require_running(self, when: str) -> None:
        """Raise StoppedError where the bot is being stopped.

        Args:
            when: At which point of the training, for the message.
        """
        if self._stop_event.is_set():
            raise StoppedError(
                f"The bot is stopped, so the training was given up {when}; the former model stays."
            )

    def shutdown(self) -> None:
        """Stop the trainings, save what is known, and let others have the identifier."""
        super().shutdown()
        self.lock.release()
