"""What all FreqAI models of this package share, whatever their answer is."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from freqtrade.freqai.torch.PyTorchDataConvertor import (
    DefaultPyTorchDataConvertor,
    PyTorchDataConvertor,
)

from freqai_lstm_plugins.data.arrays import BoolArray, finite_rows
from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.errors import DataError, MismatchError
from freqai_lstm_plugins.freqai.advice import NEW_IDENTIFIER, ROWS, advice_on
from freqai_lstm_plugins.freqai.frames import ScaledRows, require_features, scale_rows
from freqai_lstm_plugins.freqai.importances import plot_importances
from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen
from freqai_lstm_plugins.freqai.lifecycle import one_line_errors
from freqai_lstm_plugins.freqai.nets import NetModel
from freqai_lstm_plugins.freqai.pipelines import forget_the_fit
from freqai_lstm_plugins.freqai.slices import CANDLE, full_windows, prepare_training, prepared_of
from freqai_lstm_plugins.names import require_names

if TYPE_CHECKING:
    from datasieve.pipeline import Pipeline
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.training.history import Epoch

logger = logging.getLogger(__name__)


class SequenceModel(NetModel):
    """A FreqAI model whose net sees windows of consecutive candles.

    Attributes:
        window_size: W, candles a window, from `freqai.conv_width` (24 where none is given).
    """

    # What a label's predictions are, where there is none to tell from.
    label_dtype: ClassVar[type] = float
    plot_features: int

    def prepare(self) -> None:
        """Refuse what would only fail in the first training."""
        # freqtrade's own plot knows trees alone.
        self.features_to_plot, self.plot_features = int(self.plot_features or 0), 0
        super().prepare()
        if self.ft_params.get("include_shifted_candles"):
            logger.info("include_shifted_candles repeats candles that the windows hold anyway.")

    @property
    def data_convertor(self) -> PyTorchDataConvertor:
        """Part of FreqAI's contract; windows need no conversion of frames."""
        return DefaultPyTorchDataConvertor(target_tensor_type=torch.float)

    # what a kind of answer decides

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the label columns as the numbers that are trained on, NaN where there is none."""
        raise NotImplementedError

    def target_pipeline(self, threads: int) -> Pipeline:
        """Return the pipeline that scales the labels' numbers."""
        return self.define_label_pipeline(threads=threads)

    def label_classes(self) -> list[list[str]]:
        """Return the names of each label's classes; nothing where labels are numbers."""
        return []

    def answers(
        self,
        model: Any,
        outputs: npt.NDArray[np.floating],
        has_window: BoolArray,
        dk: FreqaiDataKitchen,
    ) -> pd.DataFrame:
        """Turn the net's outputs (N, O) into the columns that the strategy gets."""
        raise NotImplementedError

    def train_alone(self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen) -> Any:
        """Train a model for `pair` alone on a slice of candles; raises as `prepare_slice`."""
        logger.info("-------------------- Starting training %s --------------------", pair)
        started = time.monotonic()
        data = self.prepare_slice(unfiltered_df, dk, dk.training_features_list)
        model = self.fit(data, dk)
        logger.info(
            "-------------------- Done training %s (%.2f secs) --------------------",
            pair,
            time.monotonic() - started,
        )
        return model

    def prepare_slice(
        self,
        frame: pd.DataFrame,
        dk: FreqaiDataKitchen,
        features: list[str],
        cut: pd.Timestamp | None = None,
    ) -> dict[str, Any]:
        """Make windows of a pair's training slice, with pipelines of its own in `dk`.

        Args:
            frame: Candles with features and labels.
            dk: The pair's data kitchen, with its labels found.
            features: Columns that the model sees.
            cut: Time at which the test split begins; by default a fraction of the pair's own rows.

        Raises:
            ConfigError: The labels or their columns cannot be as they are.
            DataError: The slice leaves no window to train on.
        """
        self.check_columns(frame, dk)
        # Where the labels' statistics come from live predictions, freqtrade fits them there.
        fits_labels = not (self.live and self.freqai_info.get("fit_live_predictions_candles", 0))
        data = prepare_training(
            frame,
            dk,
            features=features,
            feature_pipeline=self.feature_pipeline(dk.thread_count),
            label_pipeline=self.target_pipeline(dk.thread_count),
            label_numbers=self.label_numbers,
            window=self.window_size,
            label_period=self.settings.label_period,
            seed=self.settings.train.seed,
            has_window=self._has_window,
            fits_labels=fits_labels,
            cut=cut,
        )
        forget_the_fit(dk.feature_pipeline)
        self.describe_extra_columns(dk)
        times = self.candle_numbers(data["dates"])
        return {**data, "times": times, "known_at": self.known_at(times)}

    def fit(self, data_dictionary: dict[str, Any], dk: FreqaiDataKitchen, **kwargs: Any) -> Any:
        """Train a net on windows.

        Args:
            data_dictionary: FreqAI's data dictionary, with `train_windows`, `valid_windows` and
                `feature_names`.
            dk: FreqAI's data kitchen of the pair.
            **kwargs: Nothing is read; FreqAI's own signature.
        """
        feature_names = data_dictionary["feature_names"]
        symbols = data_dictionary.get("symbols", [])
        model = self.new_model()
        start_from = self.start_from(dk, feature_names, symbols)
        self.say_what_is_trained(model.net_name, data_dictionary, dk)
        n_valid = len(data_dictionary["valid_windows"])
        if not n_valid and self.freqai_info.get("data_split_parameters", {}).get("test_size"):
            logger.warning(
                "%s: the test split holds no window with a target, so training cannot stop early. "
                "Raise data_split_parameters.test_size.",
                dk.pair,
            )
        schema = Schema(feature_names, dk.label_list, self.label_classes(), symbols)
        with advice_on(DataError, ROWS):
            model.fit_windows(
                prepared_of(data_dictionary, schema),
                start_from=start_from,
                on_epoch=self._after_epoch,
            )
        history = model.history_
        logger.info(
            "%s: best loss %.5g in epoch %d of %d",
            dk.pair,
            history.best_loss,
            history.best_epoch,
            len(history.epochs),
        )
        if history.constant_loss is not None:
            logger.info(
                "%s: on %d validation windows loss %.5g, of a constant forecast %.5g; rank "
                "correlation %.2f",
                dk.pair,
                history.n_valid_windows,
                history.best_loss,
                history.constant_loss,
                history.rank_correlation,
            )
        self.hand_over(model, data_dictionary, dk)
        return model

    def say_what_is_trained(self, name: str, data: dict[str, Any], dk: FreqaiDataKitchen) -> None:
        """Say in the log what is trained, and on how much.

        Args:
            name: Of what is trained.
            data: As for `fit`.
            dk: FreqAI's data kitchen of the pair.
        """
        logger.info(
            "%s: training %s on %d windows of %d candles x %d features, validating on %d",
            dk.pair,
            name,
            len(data["train_windows"]),
            self.window_size,
            len(data["feature_names"]),
            len(data["valid_windows"]),
        )

    def hand_over(self, model: Any, data: dict[str, Any], dk: FreqaiDataKitchen) -> None:
        """Let go of what only a training that goes on needs, and plot what is asked for."""
        if not self.continual_learning:
            model.forget_optimizer()
        if self.features_to_plot:
            plot_importances(model, data["train_windows"], dk, self.features_to_plot)

    def predict(
        self, unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen, **kwargs: Any
    ) -> tuple[pd.DataFrame, npt.NDArray[np.int_]]:
        """Predict every row of a frame from the window that ends there.

        Args:
            unfiltered_df: Candles with their features: a slice of a backtest, the strategy's whole
                frame, or the last `conv_width` rows of it.
            dk: FreqAI's data kitchen of the pair.
            **kwargs: Nothing is read; FreqAI's own signature.

        Returns:
            A frame with one row a candle: a column a label, and those of `extra_columns`; and
            `do_predict`: 1 where the prediction counts, 0 where the row has no full finite window
            or is an outlier. Without a window the values are the forecast that knows nothing: the
            mean training label, or the most frequent class.
        """
        with one_line_errors(), advice_on(MismatchError, NEW_IDENTIFIER):
            if not len(unfiltered_df):
                return self._predict_nothing(dk)
            return self._predict(unfiltered_df, dk)

    def _predict_nothing(self, dk: FreqaiDataKitchen) -> tuple[pd.DataFrame, npt.NDArray[np.int_]]:
        """Return predictions of no row, which FreqAI's pipelines refuse to scale."""
        dk.DI_values, dk.do_predict = np.zeros(0), np.zeros(0, dtype=np.int_)
        frame = pd.DataFrame(columns=dk.label_list, dtype=self.label_dtype)
        extra = self.extra_columns(dk.label_list)
        return frame.assign(**{name: np.zeros(0) for name in extra}), dk.do_predict

    def _predict(
        self, unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> tuple[pd.DataFrame, npt.NDArray[np.int_]]:
        model: Any = self.require_usable(self.model)
        require_features(unfiltered_df, dk)
        require_names("labels", dk.label_list, model.label_names_)
        self.require_answers(model)
        frame, n_context = _with_context(unfiltered_df, dk)
        filled_candles = self.settings.windows.filled_candles
        rows = scale_rows(frame, dk, self.window_size, filled_candles)
        require_names("features", rows.names, model.feature_names_in_)
        rows.has_window[:n_context] = False
        # Before an answer, for which other rows may go through the same pipeline.
        if "di" in dk.feature_pipeline:
            dk.DI_values = dk.feature_pipeline["di"].di_values[n_context:]
        else:
            dk.DI_values = np.zeros(len(unfiltered_df))
        pred_df, is_answered = self.answer_rows(model, unfiltered_df, rows, n_context, dk)
        # Attributes that the host, and whoever derives a class from its models, may read.
        dk.data_dictionary["prediction_features"] = _without_context(rows.frame, n_context)
        dk.do_predict = (rows.counts[n_context:] & is_answered).astype(np.int_)
        if dk.live and len(pred_df):
            _log_newest(dk, frame["date"].iloc[-1], pred_df)
        return pred_df, dk.do_predict

    def answer_rows(
        self,
        model: Any,
        frame: pd.DataFrame,
        rows: ScaledRows,
        n_context: int,
        dk: FreqaiDataKitchen,
    ) -> tuple[pd.DataFrame, BoolArray]:
        """Return the columns that the strategy gets, and at which rows the model has an answer.

        Args:
            model: The loaded model.
            frame: The N candles to predict, labels included where the host knows any.
            rows: Scaled rows of the context, and of those candles after it.
            n_context: Rows of the context.
            dk: FreqAI's data kitchen of the pair.
        """
        outputs = model.predict_outputs(rows.values, rows.has_window, 1 if dk.live else None)
        # What a net makes of a feature far beyond its training may be no number.
        has_answer = (rows.has_window & finite_rows(outputs))[n_context:]
        return self.answers(model, outputs[n_context:], has_answer, dk), has_answer

    def _has_window(self, frame: pd.DataFrame, usable: BoolArray) -> BoolArray:
        """Tell at which candles of `frame` a full window of usable candles ends."""
        return full_windows(
            frame,
            usable,
            self.window_size,
            self.config["timeframe"],
            self.settings.windows.filled_candles,
        )

    def _after_epoch(self, epoch: Epoch) -> None:
        self._log_to_tensorboard(epoch)
        self.stop_if_asked(epoch)

    def stop_if_asked(self, epoch: Epoch) -> None:
        """Raise StoppedError where the bot is being stopped."""
        self.require_running(f"after epoch {epoch.number}")

    def _log_to_tensorboard(self, epoch: Epoch) -> None:
        tb_logger = getattr(self, "tb_logger", None)
        if tb_logger is None:
            return
        tb_logger.log_scalar("train_loss", epoch.train_loss, epoch.number)
        if epoch.valid_loss is not None:
            tb_logger.log_scalar("test_loss", epoch.valid_loss, epoch.number)
        tb_logger.log_scalar("learning_rate", epoch.learning_rate, epoch.number)


def _log_newest(dk: FreqaiDataKitchen, date: pd.Timestamp, pred_df: pd.DataFrame) -> None:
    # One row as one array: to pick it out of each column takes longer than the net.
    newest = zip(pred_df.columns.tolist(), pred_df.to_numpy()[-1], strict=True)
    logger.info(
        "%s: candle %s predicted %s, do_predict %d",
        dk.pair,
        date.isoformat(),
        {name: _readable(value) for name, value in newest},
        dk.do_predict[-1],
    )


def _readable(value: Any) -> Any:
    return value if isinstance(value, str) else round(float(value), 5)


def _without_context(scaled: pd.DataFrame, n_context: int) -> pd.DataFrame:
    return scaled.iloc[n_context:].reset_index(drop=True) if n_context else scaled


def _with_context(unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen) -> tuple[pd.DataFrame, int]:
    """Put the rows before a backtest slice in front of it, and count them."""
    context = dk.context if isinstance(dk, SequenceDataKitchen) else None
    if context is None or context.empty:
        return unfiltered_df, 0
    columns = ["date", *dk.training_features_list]
    columns += [name for name in CANDLE if name in unfiltered_df]
    parts = [context[columns], unfiltered_df[columns]]
    return pd.concat(parts, ignore_index=True), len(context)
