"""Where models and predictions are kept, and the frames around a slice.

Both classes replace a class of freqtrade's by one that behaves the same where nothing goes wrong.
"""

from __future__ import annotations

import logging
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import rapidjson
from freqtrade.freqai.data_drawer import FreqaiDataDrawer

from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.freqai.sidecar import write_hashes
from freqai_lstm_plugins.freqai.stored import read_model, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import pandas as pd
    from freqtrade.configuration import TimeRange
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
    from freqtrade.strategy.interface import IStrategy

logger = logging.getLogger(__name__)


class DurableDataDrawer(FreqaiDataDrawer):
    """A data drawer whose files survive a crash, and whose models keep to their own scaling.

    Args:
        full_path: Folder of the identifier.
        config: freqtrade's config.
        extra_columns: Tells from the labels which columns predictions have beside them.

    Attributes:
        nets: The net for many pairs that was read last, by the stem of its file.
    """

    model_dictionary: dict[str, Any]

    def __init__(
        self,
        full_path: Path,
        config: dict[str, Any],
        extra_columns: Callable[[list[str]], list[str]] = lambda labels: [],
    ) -> None:
        super().__init__(full_path, config)
        self.extra_columns = extra_columns
        self.nets: dict[Path, Any] = {}

    @classmethod
    def taking_over(
        cls, other: FreqaiDataDrawer, extra_columns: Callable[[list[str]], list[str]]
    ) -> DurableDataDrawer:
        """Make a drawer of what the host's has read from disk, which is so read only once."""
        made = cls.__new__(cls)
        made.__dict__.update(other.__dict__)
        made.extra_columns = extra_columns
        made.nets = {}
        return made

    def return_null_values_to_strategy(
        self, dataframe: pd.DataFrame, dk: FreqaiDataKitchen
    ) -> None:
        """Give the strategy zeros in every column that a prediction would have."""
        super().return_null_values_to_strategy(dataframe, dk)
        for name in self.extra_columns(dk.label_list):
            for column in (name, f"{name}_mean", f"{name}_std"):
                dk.return_dataframe[column] = 0

    def save_data(self, model: Any, coin: str, dk: FreqaiDataKitchen) -> None:
        """Save a model, and tie it to the pipelines that scale its rows.

        The trading loop may look up model and pipelines while the training thread replaces them;
        carried by the model, they always belong together.
        """
        if "panel" in dk.data:
            # Its files were written with those of all pairs.
            self.swap({coin: model}, self.pair_dict[coin]["trained_timestamp"])
            return
        # A column of the whole training frame, which nothing reads again.
        dk.data.pop("filter_drop_index_training", None)
        model.companion = (dk.data, dk.feature_pipeline, dk.label_pipeline)
        super().save_data(model, coin, dk)
        write_hashes(Path(dk.data_path) / dk.model_filename)

    def swap(self, models: dict[str, Any], trained: int, leaving: Collection[str] = ()) -> None:
        """Let pairs predict by new models, all from one moment on, and save which they are.

        Args:
            models: For each pair its model, with metadata and pipelines.
            trained: When the training was, for `trained_timestamp`.
            leaving: Pairs whose models are dropped.
        """
        # In one step, since the trading loop adds what it has read from disk.
        known = self.model_dictionary.copy()
        for pair in leaving:
            known.pop(pair, None)
        self.model_dictionary = known | models
        entries = {}
        for pair, model in models.items():
            metadata = model.companion[0]
            entries[pair] = {
                **self.empty_pair_dict,
                "model_filename": metadata["model_filename"],
                "data_path": metadata["data_path"],
                "trained_timestamp": trained,
            }
        entries |= {pair: self.empty_pair_dict.copy() for pair in leaving}
        # In place, since the trading loop adds pairs.
        self.pair_dict.update(entries)
        self.save_drawer_to_disk()

    def load_data(self, coin: str, dk: FreqaiDataKitchen) -> Any:
        """Load a model with its own pipelines, from memory in live mode, else from disk.

        freqtrade's own loader would execute what a damaged or foreign model file holds.
        """
        if dk.live:
            entry = self.pair_dict[coin]
            if not entry["model_filename"]:
                return None
            dk.model_filename, dk.data_path = entry["model_filename"], Path(entry["data_path"])
        # In a backtest what is in memory is of another slice, whichever was trained last.
        model: Any = self.model_dictionary.get(coin) if dk.live else None
        if model is None:
            model = read_model(Path(dk.data_path) / dk.model_filename, self.nets)
            if dk.live:
                # A training may just have brought a newer one.
                model = self.model_dictionary.setdefault(coin, model)
            else:
                self.model_dictionary[coin] = model
        dk.data, dk.feature_pipeline, dk.label_pipeline = model.companion
        dk.training_features_list = dk.data["training_features_list"]
        dk.label_list = dk.data["label_list"]
        return model

    def forget_unusable_models(self, require: Callable[[Any], object] = lambda model: None) -> bool:
        """Take models that cannot be used for not trained, so that they soon are.

        Args:
            require: Raises where a model that can be read is none that can be used.

        Returns:
            Whether there was one.
        """
        forgotten = False
        for pair, entry in self.pair_dict.items():
            if not entry["model_filename"]:
                continue
            reason = why_unusable(
                Path(entry["data_path"]) / entry["model_filename"], require, self.nets
            )
            if reason is not None:
                logger.warning("Training %s again, its saved model is unusable: %s", pair, reason)
                self.pair_dict[pair] = self.empty_pair_dict.copy()
                forgotten = True
        return forgotten

    def load_all_pair_histories(self, timerange: TimeRange, dk: FreqaiDataKitchen) -> None:
        """Load the candles that are on disk, with dates that new candles can be appended to.

        Dates from disk and dates from the exchange name UTC by different objects, of which pandas
        makes a column of no date type; every training after the first new candle would fail.
        """
        super().load_all_pair_histories(timerange, dk)
        for frames in self.historic_data.values():
            for timeframe, frame in frames.items():
                if not frame.empty:
                    frames[timeframe] = frame.assign(date=frame["date"].dt.tz_convert(UTC))

    def update_historic_data(self, strategy: IStrategy, dk: FreqaiDataKitchen) -> None:
        """Append new candles, of a pair that has come to the whitelist since the start too.

        freqtrade would ask for candles of such a pair that it never loaded.
        """
        if dk.pair not in dk.all_pairs:
            dk.all_pairs.append(dk.pair)
        timeframes = self.freqai_info["feature_parameters"]["include_timeframes"]
        for pair in dk.all_pairs:
            frames = self.historic_data.get(pair, {})
            missing = [name for name in timeframes if name not in frames or frames[name].empty]
            if missing:
                found = {name: strategy.dp.get_pair_dataframe(pair, name) for name in missing}
                with self.history_lock:
                    self.historic_data[pair] = {**frames, **found}
        super().update_historic_data(strategy, dk)

    def save_drawer_to_disk(self) -> None:
        """Save which model each pair uses."""
        with self.save_lock:
            write_text(self.pair_dictionary_path, self._json(self.pair_dict))

    def save_global_metadata_to_disk(self, metadata: dict[str, Any]) -> None:
        """Save the metadata that all pairs share."""
        with self.save_lock:
            write_text(self.global_metadata_path, self._json(metadata))

    def save_metric_tracker_to_disk(self) -> None:
        """Save the metrics of all pairs."""
        with self.save_lock:
            write_text(self.metric_tracker_path, self._json(self.metric_tracker))

    def save_historic_predictions_to_disk(self) -> None:
        """Save the predictions made so far, and the same again as a backup."""
        content = cloudpickle.dumps(self.historic_predictions)
        for path in (self.historic_predictions_path, self.historic_predictions_bkp_path):
            with replacing(path) as stream:
                stream.write(content)

    def _json(self, value: Any) -> str:
        text: str = rapidjson.dumps(value, default=self.np_encoder, number_mode=rapidjson.NM_NATIVE)
        return text
