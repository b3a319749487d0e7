"""One net for all pairs in a bot: one training serves all, and pairs come and go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.utils import get_tb_logger

from freqai_lstm_plugins.errors import DataError, StoppedError
from freqai_lstm_plugins.freqai.lifecycle import release_frames
from freqai_lstm_plugins.freqai.panel.backtest import PanelBacktest
from freqai_lstm_plugins.freqai.panel.training import Slice
from freqai_lstm_plugins.freqai.panel.value import (
    Panel,
    changed_pairs,
    save_members,
    save_panel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqtrade.configuration import TimeRange
    from freqtrade.strategy.interface import IStrategy

logger = logging.getLogger(__name__)

# What fails and rests where a training is one of all pairs.
ALL_PAIRS = "the net of all pairs"


class PanelModel(PanelBacktest):
    """A FreqAI model that trains a net a pair, or one for all pairs where the config asks for it.

    A pair's `trained_timestamp` is that of the net that it predicts by. A pair with another one
    has just come, or failed in the last training, and gets pipelines for the net that there is.
    """

    def needs_training(self, pair: str) -> bool:
        """Tell whether the net of all pairs is due, or a pair has none yet."""
        if self.panel is None:
            return super().needs_training(pair)
        newest = self._newest()
        return self._trains_all() or (newest > 0 and self._trained(pair) != newest)

    def training_unit(self, pair: str) -> str:
        """Return what is trained when it is the turn of a pair: all of them, or one that joins."""
        is_single = self.panel is None or not self._trains_all()
        return super().training_unit(pair) if is_single else ALL_PAIRS

    def train_now(self, pair: str, strategy: IStrategy) -> None:
        """Train the net of all pairs where it is due; else let a pair join it."""
        if self.panel is None:
            super().train_now(pair, strategy)
        elif self._trains_all():
            self._train_all(strategy)
        else:
            self._let_join(pair, strategy)

    def _newest(self) -> int:
        """Return when the newest net was trained; 0 where there is none."""
        entries = list(self.dd.pair_dict.values())
        return max((e["trained_timestamp"] for e in entries if e["model_filename"]), default=0)

    def _trained(self, pair: str) -> int:
        entry = self.dd.pair_dict.get(pair, self.dd.empty_pair_dict)
        return int(entry["trained_timestamp"]) if entry["model_filename"] else -1

    def _trains_all(self) -> bool:
        """Tell whether the net of all pairs is due and does not rest; till then pairs may join."""
        return self._timeranges()[0] and not self.retries.rests(ALL_PAIRS)

    def _timeranges(self) -> tuple[bool, TimeRange, TimeRange]:
        kitchen = FreqaiDataKitchen(self.config, True, "")
        found: tuple[bool, TimeRange, TimeRange] = kitchen.check_if_new_training_required(
            self._newest()
        )
        return found

    def _train_all(self, strategy: IStrategy) -> None:
        """Train one net for all pairs, and let all of them predict by it from one moment on."""
        whitelist = strategy.dp.current_whitelist()
        pairs = self.trained_pairs(whitelist, needs_listing=True)
        _, span, load_span = self._timeranges()
        stamp = span.stopts
        self.former = self._served_by(self._newest())
        self._say_what_changed(pairs)
        folder = self.new_kitchen(pairs[0])
        folder.set_new_model_names(pairs[0], stamp)
        # Those that slices are cut from, as in a backtest.
        cut_from = folder.buffer_timerange(span.copy())
        dates = {pair: self._dates(pair, cut_from) for pair in pairs}
        self.tb_logger = get_tb_logger(
            self.dd.model_type, folder.data_path, self.activate_tensorboard
        )
        try:
            panel = self.train_panel(
                stamp,
                pairs,
                {pair: found for pair, found in dates.items() if len(found)},
                lambda pair: self._live_slice(pair, span, load_span, strategy),
            )
        finally:
            self.tb_logger.close()
            self.former = None
        self._let_others_join(panel, whitelist, span, load_span, strategy)
        save_panel(panel, self.dd.np_encoder)
        self.dd.swap(panel.models, stamp, self._gone(whitelist))
        # What was read at the start need not stay in memory beside the new one.
        self.dd.nets.clear()
        self.dd.purge_old_models()

    def _gone(self, whitelist: Sequence[str]) -> list[str]:
        """Return the pairs that have left the whitelist before the last training.

        One that has left since then may still have an open trade.
        """
        newest, pairs = self._newest(), list(self.dd.pair_dict)
        return [p for p in pairs if p not in whitelist and self._trained(p) < newest]

    def _let_others_join(
        self,
        panel: Panel,
        whitelist: Sequence[str],
        span: TimeRange,
        load_span: TimeRange,
        strategy: IStrategy,
    ) -> None:
        """Fit pipelines for pairs that the net was not trained on."""
        for pair in whitelist:
            if pair in panel.models:
                self.retries.succeeded(pair)
                continue
            try:
                given = self._live_slice(pair, span, load_span, strategy)
                panel.models[pair] = self.join_pair(panel.net, panel.facts, given)
            except StoppedError:
                raise
            # Any error is the pair's alone.
            except Exception as error:
                release_frames(error)
                self.retries.failed(pair, error)

    def _let_join(self, pair: str, strategy: IStrategy) -> None:
        """Fit a pair's pipelines for the net by which the others predict."""
        stamp = self._newest()
        net = self._served_by(stamp)
        if net is None:
            raise DataError("No pair predicts by the newest net any more.")
        facts = {name: net.companion[0]["panel"][name] for name in ("net", "asked", "pairs")}
        kitchen = FreqaiDataKitchen(self.config, True, pair)
        # Candles up to now, as for a training that begins now.
        _, span, load_span = kitchen.check_if_new_training_required(0)
        given = self._live_slice(pair, span, load_span, strategy)
        given.kitchen.set_new_model_names(pair, stamp)
        model = self.join_pair(net, facts, given)
        save_members({pair: model}, self.dd.np_encoder)
        self.dd.swap({pair: model}, stamp)

    def _served_by(self, stamp: int) -> Any | None:
        """Return a net as any of the pairs that predict by it has it; None where none can."""
        for pair in list(self.dd.pair_dict):
            if self._trained(pair) == stamp:
                model = self.dd.load_data(pair, self.new_live_kitchen(pair))
                if model is not None:
                    return model
        return None

    def _say_what_changed(self, pairs: Sequence[str]) -> None:
        if self.former is not None:
            changed = changed_pairs(self.former.companion[0]["panel"]["pairs"], pairs)
            if changed:
                logger.info("The net of all pairs is now trained %s.", changed)

    # candles

    def _dates(self, pair: str, span: TimeRange) -> pd.Series:
        frame = self.dd.historic_data.get(pair, {}).get(self.config["timeframe"])
        if frame is None or frame.empty:
            return pd.Series(dtype="datetime64[ms, UTC]")
        return frame.loc[frame["date"] >= span.startdt, "date"]

    def _live_slice(
        self, pair: str, span: TimeRange, load_span: TimeRange, strategy: IStrategy
    ) -> Slice:
        """Cut a pair's slice as freqtrade does for a training.

        Raises:
            DataError: The pair has no candles.
        """
        if not len(self._dates(pair, span)):
            raise DataError(f"{pair} has no candles.")
        kitchen = self.new_live_kitchen(pair)
        others, own = self.dd.get_base_and_corr_dataframes(load_span, pair, kitchen)
        frame = kitchen.use_strategy_to_populate_indicators(
            strategy, corr_dataframes=others, base_dataframes=own, pair=pair
        )
        frame = kitchen.slice_dataframe(kitchen.buffer_timerange(span.copy()), frame)
        kitchen.find_features(frame)
        kitchen.find_labels(frame)
        kitchen.set_new_model_names(pair, span.stopts)
        return Slice(frame, kitchen)
