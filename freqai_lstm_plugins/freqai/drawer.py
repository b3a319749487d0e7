"""Where models and predictions are kept, and the frames around a slice.

Both classes replace a class of freqtrade's by one that behaves the same where nothing goes wrong.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import rapidjson
from freqtrade.freqai.data_drawer import FreqaiDataDrawer

from freqai_lstm_plugins.files import write_bytes, write_text
from freqai_lstm_plugins.freqai.sidecar import write_hashes
from freqai_lstm_plugins.freqai.stored import (
    accept,
    lend_companion,
    read_model,
    read_usable,
    write_metadata,
)

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
        require: Called with each model that is read. It makes a net of the user's own whole, and
            raises where the model is none that can be used.

    Attributes:
        nets: The net for many pairs that was read last, by the stem of its file.
        slices: Of a backtest: for each pair the name of the model that is in memory.
    """

    model_dictionary: dict[str, Any]

    def __init__(
        self,
        full_path: Path,
        config: dict[str, Any],
        extra_columns: Callable[[list[str]], list[str]] = lambda labels: [],
        require: Callable[[Any], object] = accept,
    ) -> None:
        super().__init__(full_path, config)
        self.set_up(extra_columns, require)

    def set_up(
        self, extra_columns: Callable[[list[str]], list[str]], require: Callable[[Any], object]
    ) -> None:
        """Add what the host's drawer has not."""
        self.extra_columns, self.require = extra_columns, require
        self.nets: dict[Path, Any] = {}
        self.slices: dict[str, str] = {}
        self._entry_lock = threading.Lock()

    @classmethod
    def taking_over(
        cls,
        other: FreqaiDataDrawer,
        extra_columns: Callable[[list[str]], list[str]],
        require: Callable[[Any], object],
    ) -> DurableDataDrawer:
        """Make a drawer of what the host's has read from disk, which is so read only once."""
        made = cls.__new__(cls)
        made.__dict__.update(other.__dict__)
        made.set_up(extra_columns, require)
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
        with self._entry_lock:
            self.pair_dict.update(entries)
        self.save_drawer_to_disk()

    def load_data(self, coin: str, dk: FreqaiDataKitchen) -> Any:
        """Load a model with its own pipelines, from memory in live mode, else from disk.

        freqtrade's own loader would execute what a damaged or foreign model file holds.

        Returns:
            The model; in live mode None where the pair has none that can be used.
        """
        if dk.live:
            model = self._live_model(coin, dk)
        else:
            # What is in memory is of another slice, whichever was trained last.
            model = read_model(Path(dk.data_path) / dk.model_filename, self.require, self.nets)
            self.remember(coin, model, dk)
        if model is not None:
            lend_companion(model, dk)
        return model

    def remember(self, coin: str, model: Any, dk: FreqaiDataKitchen) -> None:
        """Keep the model of a backtest's slice, from which continual learning may go on."""
        self.model_dictionary[coin], self.slices[coin] = model, dk.model_filename

    def _live_model(self, coin: str, dk: FreqaiDataKitchen) -> Any | None:
        entry = self.pair_dict[coin].copy()
        if not entry["model_filename"]:
            return None
        dk.model_filename, dk.data_path = entry["model_filename"], Path(entry["data_path"])
        model = self.model_dictionary.get(coin)
        if model is not None:
            return model
        model = self._read_or_forget(coin, entry)
        # A training may just have brought a newer one.
        return None if model is None else self.model_dictionary.setdefault(coin, model)

    def _read_or_forget(self, coin: str, entry: dict[str, Any]) -> Any | None:
        """Read the model that a copy of a pair's entry names, or take it for not trained."""
        stem = Path(entry["data_path"]) / entry["model_filename"]
        model, reason = read_usable(stem, self.require, self.nets)
        if model is None:
            logger.warning("Training %s again, its saved model is unusable: %s", coin, reason)
            with self._entry_lock:
                # A training may just have brought another.
                if self.pair_dict[coin] == entry:
                    self.pair_dict[coin] = self.empty_pair_dict.copy()
        return model

    def forget_unusable_models(self) -> bool:
        """Take models that cannot be used for not trained, so that they soon are.

        Returns:
            Whether there was one.
        """
        entries = {pair: entry.copy() for pair, entry in self.pair_dict.items()}
        saved = {pair: entry for pair, entry in entries.items() if entry["model_filename"]}
        return None in [self._read_or_forget(pair, entry) for pair, entry in saved.items()]

    def save_metadata(self, dk: FreqaiDataKitchen) -> None:
        """Save what is known of a backtest's slice whose model is not saved."""
        dk.data |= {
            "data_path": str(dk.data_path),
            "model_filename": str(dk.model_filename),
            "training_features_list": dk.training_features_list,
            "label_list": dk.label_list,
        }
        write_metadata(Path(dk.data_path) / dk.model_filename, dk.data, self.np_encoder)

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
        # A copy, since the trading loop adds pairs while this is read.
        content = cloudpickle.dumps(self.historic_predictions.copy())
        for path in (self.historic_predictions_path, self.historic_predictions_bkp_path):
            write_bytes(path, content)

    def _json(self, value: Any) -> str:
        text: str = rapidjson.dumps(value, default=self.np_encoder, number_mode=rapidjson.NM_NATIVE)
        return text
