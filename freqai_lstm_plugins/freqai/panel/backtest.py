"""When one net for all pairs is trained in a backtest, and how the pairs find it.

freqtrade goes pair by pair, and each pair slice by slice: the net of a slice is trained when the
first pair comes to it, from the candles of all pairs up to the end of that slice.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.freqai.lifecycle import one_line_errors
from freqai_lstm_plugins.freqai.lock import held
from freqai_lstm_plugins.freqai.panel.training import PanelTrainer, Slice, one_line
from freqai_lstm_plugins.freqai.panel.value import (
    Panel,
    changed_pairs,
    net_name,
    read_facts,
    read_net,
    save_members,
    save_panel,
)
from freqai_lstm_plugins.freqai.settings import PANEL, read_test_size
from freqai_lstm_plugins.freqai.sidecar import NET, part_of
from freqai_lstm_plugins.names import PANEL_NAME

if TYPE_CHECKING:
    import pandas as pd
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
    from freqtrade.strategy.interface import IStrategy

    from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen

logger = logging.getLogger(__name__)


class PanelBacktest(PanelTrainer):
    """A FreqAI model that backtests a net a pair, or one for all pairs."""

    def start_up(self) -> None:
        """Check the settings, and take over what earlier runs left."""
        self.panel = self.settings.panel
        self.former: Any = None
        # Of a backtest: the strategy, features of pairs to come, nets that are on no disk.
        self._strategy: IStrategy | None = None
        self._features: dict[str, pd.DataFrame] = {}
        # The second for a training that failed: what was wrong, without the frames it was seen in.
        self._known: dict[int, Panel | str] = {}
        with one_line_errors():
            if self.panel is not None:
                self._refuse_what_pairs_cannot_share()
        super().start_up()

    def _refuse_what_pairs_cannot_share(self) -> None:
        if self.ft_params.get("principal_component_analysis"):
            raise ConfigError(
                f"feature_parameters.principal_component_analysis makes columns of their own for "
                f"each pair, and {PANEL} needs the same for all. Set it to false."
            )
        read_test_size(self.freqai_info)
        if self.data_split_parameters.get("train_size") is not None:
            raise ConfigError(
                f"data_split_parameters.train_size would be without effect: with {PANEL} all pairs "
                f"are cut at one moment, which test_size gives. Leave train_size out."
            )

    def new_kitchen(self, pair: str) -> SequenceDataKitchen:
        """Make the kitchen of one pair."""
        kitchen = super().new_kitchen(pair)
        if self.panel is not None:
            kitchen.folder_name = PANEL_NAME
            kitchen.full_path = kitchen.get_full_models_path(self.config)
            if not self.live:
                kitchen.populated = lambda candles: self._populated(pair, candles)
        return kitchen

    def former_model(self, dk: FreqaiDataKitchen) -> Any | None:
        """Return the model that continual learning goes on from; None where it starts afresh."""
        if self.panel is None:
            return super().former_model(dk)
        return self.former if self.continual_learning else None

    def model_of_slice(self, pair: str, stamp: int) -> Any | None:
        """Return the model of a backtest's slice, which serves all pairs; None where none does."""
        if self.panel is None:
            return super().model_of_slice(pair, stamp)
        known = self._known.get(stamp)
        if isinstance(known, Panel):
            return known.net
        if not self.save_backtest_models:
            return None
        kitchen = self.new_kitchen(pair)
        kitchen.set_new_model_names(pair, stamp)
        return read_net(Path(kitchen.data_path), stamp, self.require_usable)

    def train_alone(self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen) -> Any:
        """Train a model for `pair` alone on a slice of candles."""
        raise NotImplementedError

    # backtest

    def start_backtesting(
        self,
        dataframe: pd.DataFrame,
        metadata: dict[str, Any],
        dk: FreqaiDataKitchen,
        strategy: IStrategy,
    ) -> FreqaiDataKitchen:
        """Backtest one pair."""
        self._strategy = strategy
        done = super().start_backtesting(dataframe, metadata, dk, strategy)
        self._features.pop(metadata["pair"], None)
        return done

    def train_pair(self, unfiltered_df: pd.DataFrame, pair: str, dk: FreqaiDataKitchen) -> Any:
        """Return the model of a pair for a slice: its own, or that of all pairs with its companion.

        Raises:
            ConfigError: No slice can be trained like this.
            DataError: The slice leaves nothing to train on, or nothing to fit pipelines on.
            TrainingError: The loss is no longer finite, or the bot was stopped.
        """
        if self.panel is None:
            return self.train_alone(unfiltered_df, pair, dk)
        is_saved, had_files = self.save_backtest_models, self.has_files(dk)
        with held(Path(dk.data_path) / "training.lock") if is_saved else nullcontext():
            # Of two backtests at a time one trains a slice, and the other finds it.
            if is_saved and not had_files and self.model_exists(dk):
                return self.dd.load_data(pair, dk)
            panel = self._panel_of(dk)
            model = panel.models.pop(pair, None)
            if model is None:
                model = self.join_pair(panel.net, panel.facts, Slice(unfiltered_df, dk))
                if is_saved:
                    save_members({pair: model}, self.dd.np_encoder)
        dk.data, dk.feature_pipeline, dk.label_pipeline = model.companion
        return model

    def _panel_of(self, dk: SequenceDataKitchen) -> Panel:
        """Return the net of a slice: known, on disk, or trained now."""
        stamp = _stamp_of(dk)
        known = self._known.get(stamp)
        if isinstance(known, str):
            raise DataError(f"The net of all pairs has failed in this slice. {known}")
        if known is not None:
            return known
        pairs = self.trained_pairs(self._whitelist(), needs_listing=False)
        folder = Path(dk.data_path)
        found = self._from_disk(folder, stamp, pairs) if self.save_backtest_models else None
        # A pair that it was trained on, and whose pipelines are gone, would get others now.
        if found is not None and dk.pair not in found.facts["pairs"]:
            return found
        # The other pairs need not try what failed once.
        try:
            panel = self._train_slice(dk, stamp, pairs)
        except Exception as error:
            self._known[stamp] = one_line(error)
            raise
        if self.save_backtest_models:
            save_panel(panel, self.dd.np_encoder)
            # The one read last may be the one whose place this takes.
            self.dd.nets.clear()
        else:
            self._known[stamp] = panel
        return panel

    def _from_disk(self, folder: Path, stamp: int, pairs: list[str]) -> Panel | None:
        """Return the net of a slice that another run has trained, or None where there is none."""
        facts, net = read_facts(folder, stamp), read_net(folder, stamp, self.require_usable)
        if facts is None or net is None:
            return None
        self._refuse_other_pairs(facts, pairs)
        return Panel(net, facts, {})

    def _train_slice(self, dk: SequenceDataKitchen, stamp: int, pairs: list[str]) -> Panel:
        """Train the net of a slice on the candles of all pairs up to its end."""
        place = self.place_of_slice(dk)
        span, dates = self.training_timerange, {}
        for pair in pairs:
            candles = self._candles(pair)
            if not candles.empty:
                known = candles["date"]
                dates[pair] = known[(known >= span.startdt) & (known < span.stopdt)]
        self.former = super().former_model(dk)
        try:
            return self.train_panel(
                stamp, pairs, dates, lambda pair: self._slice_of(pair, place, stamp)
            )
        finally:
            self.former = None

    def _slice_of(self, pair: str, place: int, stamp: int) -> Slice:
        """Cut a slice as freqtrade does for the pair that it is at."""
        strategy, kitchen = self._strategy, self.new_kitchen(pair)
        assert strategy is not None
        span = kitchen.training_timeranges[place]
        features = self._features_of(pair)
        before = features.loc[features["date"] < span.stopdt, :]
        labelled = strategy.set_freqai_targets(before, metadata={"pair": pair})
        frame = kitchen.slice_dataframe(kitchen.buffer_timerange(span), labelled)
        frame = kitchen.remove_special_chars_from_feature_names(frame)
        kitchen.get_unique_classes_from_labels(frame)
        kitchen.find_features(frame)
        kitchen.set_new_model_names(pair, stamp)
        return Slice(frame, kitchen)

    def _features_of(self, pair: str) -> pd.DataFrame:
        """Return a pair's candles with features, which are made once a run."""
        if pair not in self._features:
            candles = self._candles(pair)
            if candles.empty:
                raise DataError(f"{pair} has no candles.")
            kitchen = super().new_kitchen(pair)
            self._features[pair] = kitchen.use_strategy_to_populate_indicators(
                self._strategy, prediction_dataframe=candles, pair=pair
            )
        return self._features[pair]

    def _populated(self, pair: str, given: pd.DataFrame) -> pd.DataFrame | None:
        """Return the frame that freqtrade has for a pair with its features, where they are known.

        It may have more columns than the candles: what the strategy added before.
        """
        if pair not in self._features and pair not in self._whitelist():
            return None
        candles = self._candles(pair)
        if candles.empty:
            return None
        mine, theirs = (f["date"].to_numpy(dtype="datetime64[ns]") for f in (given, candles))
        if not np.array_equal(mine, theirs):
            return None
        found = self._features_of(pair).set_axis(given.index)
        return found.join(given[[name for name in given if name not in found]])

    def _candles(self, pair: str) -> pd.DataFrame:
        assert self.data_provider is not None
        frame: pd.DataFrame = self.data_provider.get_pair_dataframe(pair, self.config["timeframe"])
        return frame

    def _whitelist(self) -> list[str]:
        assert self.data_provider is not None
        found: list[str] = self.data_provider.current_whitelist()
        return found

    def check_metadata(self, dk: FreqaiDataKitchen, metadata: dict[str, Any]) -> None:
        """Raise ConfigError where a slice was trained on other pairs."""
        if self.panel is not None:
            pairs = self.panel.trained(self._whitelist(), needs_listing=False)
            self._refuse_other_pairs(metadata.get("panel") or {}, pairs)

    def _refuse_other_pairs(self, facts: dict[str, Any], pairs: list[str]) -> None:
        changed = changed_pairs(facts.get("asked", []), pairs)
        if changed:
            raise ConfigError(
                f"The identifier {self.identifier!r} holds a net that was trained on other pairs; "
                f"this run would train it {changed}. Choose a new freqai.identifier."
            )

    def has_files(self, dk: FreqaiDataKitchen) -> bool:
        """Tell whether there is a model file of a slice, or one for all pairs and the pair's."""
        if self.panel is None:
            return super().has_files(dk)
        folder, stem = Path(dk.data_path), Path(dk.data_path) / dk.model_filename
        stamp = _stamp_of(dk)
        files = (part_of(folder / net_name(stamp), NET), part_of(stem, "label_pipeline.pkl"))
        return all(file.is_file() for file in files)


def _stamp_of(dk: FreqaiDataKitchen) -> int:
    """Return the end of a kitchen's slice, which the name of its model's files ends in."""
    return int(dk.model_filename.rpartition("_")[2])
