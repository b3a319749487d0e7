"""What all FreqAI models of this package share, whatever their answer is."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from datasieve.pipeline import Pipeline
from freqtrade.configuration import TimeRange
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.freqai.base_models.BasePyTorchModel import BasePyTorchModel
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.torch.PyTorchDataConvertor import (
    DefaultPyTorchDataConvertor,
    PyTorchDataConvertor,
)
from freqtrade.strategy.interface import IStrategy
from torch import nn

from freqai_lstm_plugins.data.arrays import BoolArray, finite_rows
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.errors import ConfigError, FreqaiLSTMError, MismatchError
from freqai_lstm_plugins.freqai.drawer import DurableDataDrawer, why_unusable
from freqai_lstm_plugins.freqai.identifier import check_identifier, defaults, fingerprint
from freqai_lstm_plugins.freqai.importances import plot_importances
from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen
from freqai_lstm_plugins.freqai.outliers import judged_row_by_row
from freqai_lstm_plugins.freqai.settings import read_settings
from freqai_lstm_plugins.freqai.slices import CANDLE, full_windows, prepare_training
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.names import require_names
from freqai_lstm_plugins.nets import build_net, net_class
from freqai_lstm_plugins.training.devices import choose_device
from freqai_lstm_plugins.training.history import Epoch

logger = logging.getLogger(__name__)

SECONDS_BEFORE_RETRY = 10.0


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn our errors into the kind that freqtrade shows as one line, without a traceback."""
    try:
        yield
    except FreqaiLSTMError as error:
        raise OperationalException(str(error)) from error


class SequenceModel(BasePyTorchModel):
    """A FreqAI model whose net sees windows of consecutive candles.

    Attributes:
        net: Name in `NETS` of the net that `build_net` makes; None for a net of your own.
        estimator: What is trained.
        model_kwargs: Arguments of the net, from `model_training_parameters.model_kwargs`.
        window_size: W, candles a window, from `freqai.conv_width` (24 where none is given).
    """

    estimator: ClassVar[type[SequenceEstimator]]
    net: ClassVar[str | None] = None
    train_queue: deque[str]
    plot_features: int

    def __init__(self, **kwargs: Any) -> None:
        with one_line_errors():
            settings = read_settings(kwargs["config"], self.net)
        super().__init__(**kwargs)
        self.settings = settings
        self._bind_lock = threading.Lock()
        self.model_kwargs = settings.model_kwargs
        self.window_size = settings.window
        # freqtrade's own plot knows trees alone.
        self.features_to_plot, self.plot_features = int(self.plot_features or 0), 0
        # As many candles as freqtrade hands to `predict` in live mode.
        self.CONV_WIDTH = settings.window
        name = type(self).__name__
        with one_line_errors():
            self.device = str(choose_device(settings.train.device))
            # A setting that does not suit the answer is refused now, not at the first training.
            self._new_model()
            check_identifier(
                Path(self.full_path),
                self.identifier,
                fingerprint(name, self.config, settings),
                defaults(self.net),
            )
        self.dd = DurableDataDrawer(Path(self.full_path), self.config, self.extra_columns)
        self.dd.model_type = "pytorch"
        self.dd.current_candle = self.current_candle
        self.dd.forget_unusable_models()
        self.train_queue = self._set_train_queue()
        if self.ft_params.get("include_shifted_candles"):
            logger.info("include_shifted_candles repeats candles that the windows hold anyway.")

    @property
    def data_convertor(self) -> PyTorchDataConvertor:
        """Part of FreqAI's contract; windows need no conversion of frames."""
        return DefaultPyTorchDataConvertor(target_tensor_type=torch.float)

    def build_net(self, n_features: int, n_outputs: int) -> nn.Module:
        """Make a net with fresh weights that maps windows (B, W, F) to outputs (B, O).

        Args:
            n_features: F.
            n_outputs: O: one a label, three a label with the loss `quantile`, one a class in a
                classifier.
        """
        if self.net is None:
            raise ConfigError(f"{type(self).__name__} must override build_net.")
        config = net_class(self.net).config(**self.model_kwargs)
        return build_net(self.net, n_features, n_outputs, config)

    # what a kind of answer decides

    def extra_columns(self, label_list: list[str]) -> list[str]:
        """Return the columns that predictions have beside the labels."""
        return []

    def label_numbers(self, frame: pd.DataFrame, dk: FreqaiDataKitchen) -> dict[str, pd.Series]:
        """Return the label columns as the numbers that are trained on, NaN where there is none."""
        raise NotImplementedError

    def target_pipeline(self, threads: int) -> Pipeline:
        """Return the pipeline that scales the labels' numbers."""
        return self.define_label_pipeline(threads=threads)

    def label_classes(self) -> list[list[str]]:
        """Return the names of each label's classes; nothing where labels are numbers."""
        return []

    def require_answers(self, model: Any) -> None:
        """Raise MismatchError where a saved model's classes are not those of the strategy."""

    def answers(
        self,
        model: Any,
        outputs: npt.NDArray[np.floating],
        has_window: BoolArray,
        dk: FreqaiDataKitchen,
    ) -> pd.DataFrame:
        """Turn the net's outputs (N, O) into the columns that the strategy gets."""
        raise NotImplementedError

    def start_backtesting(
        self,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        dk: FreqaiDataKitchen,
        strategy: IStrategy,
    ) -> FreqaiDataKitchen:
        """Backtest one pair, with the rows before each slice at hand."""
        n_context = self.window_size - 1
        self.dk = SequenceDataKitchen(self.config, self.live, metadata["pair"], n_context)
        return super().start_backtesting(dataframe, metadata, self.dk, strategy)

    def model_exists(self, dk: FreqaiDataKitchen) -> bool:
        """Tell whether a backtest model is on disk and whole."""
        if not super().model_exists(dk):
            return False
        reason = why_unusable(Path(dk.data_path) / dk.model_filename)
        if reason is not None:
            logger.warning("Training %s again, its saved model is unusable: %s", dk.pair, reason)
        return reason is None

    def extract_data_and_train_model(
        self,
        new_trained_timerange: TimeRange,
        pair: str,
        strategy: IStrategy,
        dk: FreqaiDataKitchen,
        data_load_timerange: TimeRange,
    ) -> None:
        """Train a pair beside the trading loop; a pair that fails is tried again."""
        try:
            # freqtrade does so after the training, in which plots are named after the model.
            dk.set_new_model_names(pair, new_trained_timerange.stopts)
            super().extract_data_and_train_model(
                new_trained_timerange, pair, strategy, dk, data_load_timerange
            )
        except Exception:
            self._queue_again(pair, dk)
            raise

    def _queue_again(self, pair: str, dk: FreqaiDataKitchen) -> None:
        """Queue a pair whose training failed behind those that wait, and before those that do not.

        freqtrade looks at the head of the queue alone, so behind a pair with a fresh model the
        failed one would wait until that model is old.
        """
        others = [other for other in self.train_queue if other != pair]
        waiting = [other for other in others if self._needs_training(other, dk)]
        rested = [other for other in others if other not in waiting]
        # freqtrade moves the head to the end afterwards.
        self.train_queue = deque([*waiting, pair, *rested])
        self.train_queue.rotate(1)
        if not waiting:
            self._stop_event.wait(SECONDS_BEFORE_RETRY)

    def _needs_training(self, pair: str, dk: FreqaiDataKitchen) -> bool:
        _, trained_timestamp = self.dd.get_pair_dict_info(pair)
        is_required, _, _ = dk.check_if_new_training_required(trained_timestamp)
        return bool(is_required)

    def train(
        self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen, **kwargs: Any
    ) -> SequenceEstimator:
        """Train a model for `pair` on a slice of candles.

        Raises:
            DataError: The slice leaves no window to train on.
            TrainingError: The loss is no longer finite.
        """
        logger.info("-------------------- Starting training %s --------------------", pair)
        started = time.monotonic()
        # Where the labels' statistics come from live predictions, freqtrade fits them there.
        fits_labels = not (self.live and self.freqai_info.get("fit_live_predictions_candles", 0))
        data = prepare_training(
            unfiltered_df,
            dk,
            feature_pipeline=judged_row_by_row(self.define_data_pipeline(threads=dk.thread_count)),
            label_pipeline=self.target_pipeline(dk.thread_count),
            label_numbers=self.label_numbers,
            window=self.window_size,
            label_period=self.settings.label_period,
            seed=self.settings.train.seed,
            has_window=self._has_window,
            fits_labels=fits_labels,
        )
        self._describe_extra_columns(dk)
        model = self.fit(data, dk)
        logger.info(
            "-------------------- Done training %s (%.2f secs) --------------------",
            pair,
            time.monotonic() - started,
        )
        if self.features_to_plot:
            plot_importances(model, data["train_windows"], dk, self.features_to_plot)
        return model

    def fit(
        self, data_dictionary: dict[str, Any], dk: FreqaiDataKitchen, **kwargs: Any
    ) -> SequenceEstimator:
        """Train a net on windows.

        Args:
            data_dictionary: FreqAI's data dictionary, with `train_windows`, `valid_windows` and
                `feature_names`.
            dk: FreqAI's data kitchen of the pair.
        """
        train, valid = data_dictionary["train_windows"], data_dictionary["valid_windows"]
        feature_names = data_dictionary["feature_names"]
        model = self._new_model()
        start_from = self._start_from(dk, feature_names)
        logger.info(
            "%s: training %s on %d windows of %d candles x %d features, validating on %d",
            dk.pair,
            model.net_name,
            len(train),
            self.window_size,
            len(feature_names),
            len(valid),
        )
        if not len(valid) and self.freqai_info.get("data_split_parameters", {}).get("test_size"):
            logger.warning(
                "%s: the test split holds no window with a target, so training cannot stop early. "
                "Raise data_split_parameters.test_size.",
                dk.pair,
            )
        model.fit_windows(
            Prepared(train, valid, Schema(feature_names, dk.label_list, self.label_classes())),
            start_from=start_from,
            on_epoch=self._log_to_tensorboard,
        )
        if not self.continual_learning:
            model.forget_optimizer()
        history = model.history_
        logger.info(
            "%s: best loss %.5g in epoch %d of %d",
            dk.pair,
            history.best_loss,
            history.best_epoch,
            len(history.epochs),
        )
        return model

    def predict(
        self, unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen, **kwargs: Any
    ) -> tuple[pd.DataFrame, npt.NDArray[np.int_]]:
        """Predict every row of a frame from the window that ends there.

        Args:
            unfiltered_df: Candles with their features: a slice of a backtest, the strategy's whole
                frame, or the last `conv_width` rows of it.
            dk: FreqAI's data kitchen of the pair.

        Returns:
            A frame with one row a candle: a column a label, and those of `extra_columns`; and
            `do_predict`: 1 where the prediction counts, 0 where the row has no full finite window
            or is an outlier. Without a window the values are the forecast that knows nothing: the
            mean training label, or the most frequent class.
        """
        with one_line_errors():
            return self._predict(unfiltered_df, dk)

    def _predict(
        self, unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> tuple[pd.DataFrame, npt.NDArray[np.int_]]:
        model = self._bound(self.model)
        dk.find_features(unfiltered_df)
        require_names(
            "features",
            dk.training_features_list,
            dk.data.get("training_features_list", dk.training_features_list),
        )
        frame, n_context = _with_context(unfiltered_df, dk)
        filtered, _ = dk.filter_features(frame, dk.training_features_list, training_filter=False)
        usable = dk.do_predict.astype(bool)
        scaled, inliers, _ = dk.feature_pipeline.transform(filtered, outlier_check=True)
        require_names("features", [str(name) for name in scaled.columns], model.feature_names_in_)
        require_names("labels", dk.label_list, model.label_names_)
        self.require_answers(model)
        rows = scaled.to_numpy()
        dk.data_dictionary["prediction_features"] = scaled.iloc[n_context:].reset_index(drop=True)
        has_window = self._has_window(frame, usable & finite_rows(rows))
        has_window[:n_context] = False
        outputs = model.predict_outputs(rows, has_window, num_threads=1 if dk.live else None)
        has_window, inliers = has_window[n_context:], np.asarray(inliers)[n_context:]
        pred_df = self.answers(model, outputs[n_context:], has_window, dk)
        if "di" in dk.feature_pipeline:
            dk.DI_values = dk.feature_pipeline["di"].di_values[n_context:]
        else:
            dk.DI_values = np.zeros(len(pred_df))
        dk.do_predict = (has_window & (inliers == 1)).astype(np.int_)
        if dk.live and len(pred_df):
            logger.info(
                "%s: candle %s predicted %s, do_predict %d",
                dk.pair,
                frame["date"].iloc[-1].isoformat(),
                {name: _readable(pred_df[name].iloc[-1]) for name in pred_df},
                dk.do_predict[-1],
            )
        return pred_df, dk.do_predict

    def _has_window(self, frame: pd.DataFrame, usable: BoolArray) -> BoolArray:
        """Tell at which candles of `frame` a full window of usable candles ends."""
        return full_windows(
            frame,
            usable,
            self.window_size,
            self.config["timeframe"],
            self.settings.windows.filled_candles,
        )

    def _new_model(self) -> SequenceEstimator:
        settings = {
            "window": self.window_size,
            "step": f"{timeframe_to_seconds(self.config['timeframe'])}s",
            "scale": False,
            "progress": False,
            **vars(self.settings.train),
        }
        if self.net is not None and self._is_registry_net():
            return self.estimator(self.net, **settings, **self.model_kwargs)
        model = self.estimator(self.build_net, **settings)
        return model.name_net(type(self).__name__, self.model_kwargs)

    def _is_registry_net(self) -> bool:
        is_overridden = type(self).build_net is not SequenceModel.build_net
        return self.net is not None and not is_overridden

    def _bound(self, model: Any) -> SequenceEstimator:
        """Return the loaded model with its net, which only this class can build."""
        name = self.net if self._is_registry_net() else type(self).__name__
        if not isinstance(model, self.estimator):
            raise MismatchError(
                f"The identifier {self.identifier!r} holds a {type(model).__name__} of another "
                f"FreqAI model. Choose a new freqai.identifier."
            )
        if model.net_name != name or model.window != self.window_size:
            raise MismatchError(
                f"The saved model is {model.net_name!r} with conv_width {model.window}; the config "
                f"asks for {name!r} with conv_width {self.window_size}. Choose a new "
                f"freqai.identifier, or run the saved one with --freqaimodel."
            )
        # The trading loop and a training that learns on may meet here after a restart.
        with self._bind_lock:
            if model.net_ is None:
                model.bind(self.build_net, type(self).__name__)
        return model

    def _start_from(
        self, dk: FreqaiDataKitchen, feature_names: list[str]
    ) -> SequenceEstimator | None:
        """Return the pair's former model for continual learning, where it fits."""
        former = self.get_init_model(dk.pair)
        if former is None:
            return None
        # FreqAI hangs its open log files on the very object that is predicting.
        if hasattr(former, "tb_logger"):
            del former.tb_logger
        try:
            former = self._bound(former)
            require_names("features", feature_names, former.feature_names_in_)
            require_names("labels", dk.label_list, former.label_names_)
            self.require_answers(former)
        except MismatchError as error:
            logger.warning("%s: continual learning starts afresh. %s", dk.pair, error)
            return None
        return former

    def _describe_extra_columns(self, dk: FreqaiDataKitchen) -> None:
        """Give the host a mean and a deviation for every column, which it asks for by name."""
        for statistic in ("labels_mean", "labels_std"):
            known = dk.data.setdefault(statistic, {})
            for name in self.extra_columns(dk.label_list):
                known.setdefault(name, 0.0)

    def fit_live_predictions(self, dk: FreqaiDataKitchen, pair: str) -> None:
        """Fit every column's mean and deviation over the last live predictions."""
        # The host would add the classes of each slice of a backtest to those of the slices before.
        dk.unique_class_list = self.extra_columns(dk.label_list)
        super().fit_live_predictions(dk, pair)
        self._describe_extra_columns(dk)

    def _append_null_backtesting_predictions(
        self, dk: FreqaiDataKitchen, dataframe_backtest: pd.DataFrame
    ) -> None:
        """Append what stands for predictions where a slice could not be trained, in all columns."""
        columns = [*dk.label_list, *self.extra_columns(dk.label_list)]
        n_rows = len(dataframe_backtest)
        dk.DI_values = np.zeros(n_rows)
        for statistic in ("labels_mean", "labels_std"):
            dk.data.setdefault(statistic, {}).update(dict.fromkeys(columns, 0))
        append_df = dk.get_predictions_to_append(
            pd.DataFrame(0, index=range(n_rows), columns=columns),
            np.zeros(n_rows, dtype=np.int_),
            dataframe_backtest,
        )
        dk.append_predictions(append_df)
        dk.save_backtesting_prediction(append_df)

    def _log_to_tensorboard(self, epoch: Epoch) -> None:
        tb_logger = getattr(self, "tb_logger", None)
        if tb_logger is None:
            return
        tb_logger.log_scalar("train_loss", epoch.train_loss, epoch.number)
        if epoch.valid_loss is not None:
            tb_logger.log_scalar("test_loss", epoch.valid_loss, epoch.number)
        tb_logger.log_scalar("learning_rate", epoch.learning_rate, epoch.number)


def _readable(value: Any) -> Any:
    return value if isinstance(value, str) else round(float(value), 5)


def _with_context(unfiltered_df: pd.DataFrame, dk: FreqaiDataKitchen) -> tuple[pd.DataFrame, int]:
    """Put the rows before a backtest slice in front of it, and count them."""
    context = dk.context if isinstance(dk, SequenceDataKitchen) else None
    if context is None or context.empty:
        return unfiltered_df, 0
    columns = ["date", *dk.training_features_list]
    columns += [name for name in CANDLE if name in unfiltered_df]
    parts = [context[columns], unfiltered_df[columns]]
    return pd.concat(parts, ignore_index=True), len(context)
