"""Trains one net on the slices of many pairs, and fits pipelines for pairs that come later."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from freqtrade.exchange import timeframe_to_seconds

from freqai_lstm_plugins.errors import ConfigError, DataError, StoppedError
from freqai_lstm_plugins.freqai.live import LiveModel
from freqai_lstm_plugins.freqai.outliers import judged_row_by_row
from freqai_lstm_plugins.freqai.panel.constant import keeping_columns
from freqai_lstm_plugins.freqai.panel.joining import JoinedRows, time_of_cut
from freqai_lstm_plugins.freqai.panel.layout import Layout, layout_of, require_same_columns
from freqai_lstm_plugins.freqai.panel.value import Panel, net_name
from freqai_lstm_plugins.freqai.settings import (
    PANEL,
    PanelConfig,
    read_test_size,
    refuse_other_quotes,
)
from freqai_lstm_plugins.freqai.stored import with_companion
from freqai_lstm_plugins.names import closest, require_names, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd
    from datasieve.pipeline import Pipeline
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.data.arrays import IntArray
    from freqai_lstm_plugins.freqai.kitchen import SequenceDataKitchen

logger = logging.getLogger(__name__)

# Candle at which a label is known that nobody knows yet.
NEVER = np.iinfo(np.int64).max
# Candles a pair that may come between counting its rows and cutting them.
_SPARE = 16


class Slice(NamedTuple):
    """A pair's candles of a training slice, with features and labels, and their kitchen."""

    frame: pd.DataFrame
    kitchen: SequenceDataKitchen


class PanelTrainer(LiveModel):
    """A FreqAI model that can train one net on the slices of many pairs.

    Attributes:
        panel: How it does; None where each pair has a net of its own.
    """

    panel: PanelConfig | None

    # what a kind of model decides

    def prepare_slice(
        self,
        frame: pd.DataFrame,
        dk: FreqaiDataKitchen,
        features: list[str],
        cut: pd.Timestamp | None = None,
    ) -> dict[str, Any]:
        """Make windows of a pair's training slice, with pipelines of its own in `dk`."""
        raise NotImplementedError

    def label_classes(self) -> list[list[str]]:
        """Return the names of each label's classes; nothing where labels are numbers."""
        return []

    def require_room(self, n_features: int, data: dict[str, Any], labels: list[str]) -> None:
        """Raise ConfigError where a net of the user's own cannot be told the pair."""

    # what pairs share

    def feature_pipeline(self, threads: int) -> Pipeline:
        """Return the pipeline that scales a pair's features, not fitted yet."""
        pipeline = judged_row_by_row(self.define_data_pipeline(threads=threads))
        return pipeline if self.panel is None else keeping_columns(pipeline)

    def trained_pairs(self, whitelist: Sequence[str], *, needs_listing: bool) -> list[str]:
        """Return the pairs that the net is to be trained on now.

        Args:
            whitelist: Pairs that are traded.
            needs_listing: Whether a pair that is not traded has no candles.

        Raises:
            ConfigError: There is none.
        """
        assert self.panel is not None
        pairs = self.panel.trained(whitelist, needs_listing=needs_listing)
        named = [] if self.panel.is_whitelist else self.panel.pairs
        missing = [pair for pair in named if pair not in pairs]
        if missing:
            logger.warning(
                "%s.pairs names %s, not in the whitelist now and so left out.%s",
                PANEL,
                shortened(missing),
                closest(missing[0], whitelist),
            )
        if not pairs:
            raise ConfigError(
                f"{PANEL}.pairs names no pair of the whitelist: {shortened(list(whitelist))}."
            )
        refuse_other_quotes([*pairs, *whitelist])
        if len(pairs) == 1:
            logger.warning(
                "The panel is %s alone, so the net learns from one pair, as it does without %s.",
                pairs[0],
                PANEL,
            )
        return pairs

    def candle_numbers(self, dates: pd.Series | pd.DatetimeIndex) -> IntArray:
        """Return numbers that rise by one a candle of the timeframe."""
        seconds = np.asarray(dates.to_numpy(dtype="datetime64[s]")).astype(np.int64)
        return seconds // timeframe_to_seconds(self.config["timeframe"])

    def known_at(self, positions: IntArray) -> IntArray:
        """Return the numbers of the candles at which the labels of a frame's rows are known."""
        period = self.settings.label_period
        known = np.full(len(positions), NEVER)
        known[: max(len(positions) - period, 0)] = positions[period:]
        return known

    # training

    def train_panel(
        self,
        stamp: int,
        pairs: Sequence[str],
        dates: dict[str, pd.Series],
        slice_of: Callable[[str], Slice],
    ) -> Panel:
        """Train one net on the slices of all pairs, each scaled by pipelines of its own.

        Args:
            stamp: End of the slice, for the names of files.
            pairs: Pairs to train on, in the order that their rows are to stand in.
            dates: For each pair that has candles their dates, to count rows and to find the cut.
            slice_of: Makes the slice of a pair.

        Raises:
            ConfigError: The strategy's columns differ between pairs, or cannot be as they are.
            DataError: Nothing is left to train on.
            TrainingError: The loss is no longer finite.
            StoppedError: The bot was stopped.
        """
        assert self.panel is not None
        started = time.monotonic()
        logger.info("---- Starting training one net for %d pairs ----", len(pairs))
        joined, members, failures = self._join(pairs, dates, slice_of)
        if joined is None:
            raise DataError(f"No pair of the panel can be trained on. {failures[-1]}")
        data = joined.finish(self.panel.balance)
        # What it made windows of by pair stands in them once more.
        del joined
        first = next(iter(members.values()))
        kitchen = self._kitchen_of_all(first.kitchen, stamp, len(members))
        data["feature_names"] = first.feature_names
        if self.panel.symbol_embedding:
            self.require_room(len(first.feature_names), data, kitchen.label_list)
        net = self.fit(data, kitchen)
        facts = {"net": net_name(stamp), "asked": list(pairs), "pairs": list(members)}
        models = {
            pair: _member_of(net, member, facts, data["symbols"])
            for pair, member in members.items()
        }
        logger.info(
            "---- Done training one net for %d pairs (%.2f secs) ----",
            len(members),
            time.monotonic() - started,
        )
        return Panel(net, facts, models)

    def _join(
        self,
        pairs: Sequence[str],
        dates: dict[str, pd.Series],
        slice_of: Callable[[str], Slice],
    ) -> tuple[JoinedRows | None, dict[str, _Member], list[str]]:
        """Prepare pair after pair, and keep of each but its scaled rows and its pipelines."""
        assert self.panel is not None
        cut = self._cut(dates)
        n_rows = sum(map(len, dates.values())) + _SPARE * len(pairs)
        joined: JoinedRows | None = None
        members: dict[str, _Member] = {}
        failures: list[str] = []
        for pair in pairs:
            self.require_running(f"before {pair} was prepared")
            try:
                member, data = self._prepare_member(slice_of(pair), cut)
            except (ConfigError, StoppedError):
                raise
            # Whatever is wrong with a pair's candles must not stop the others.
            except Exception as error:
                failures.append(one_line(error))
                logger.warning("%s is left out of this training: %s", pair, failures[-1])
                continue
            members[pair] = member
            for what in ("names", "labels", "feature_names"):
                found = {name: getattr(one, what) for name, one in members.items()}
                require_same_columns(found, "labels" if what == "labels" else "features")
            if joined is None:
                joined = JoinedRows(
                    n_rows,
                    len(pairs),
                    len(member.feature_names),
                    has_symbol=bool(self.panel.symbol_embedding),
                )
            joined.add(pair, data)
            # The next pair is prepared without this one's frames beside it.
            del data
        return joined, members, failures

    def _prepare_member(
        self, given: Slice, cut: pd.Timestamp | None
    ) -> tuple[_Member, dict[str, Any]]:
        kitchen = given.kitchen
        features = kitchen.training_features_list
        layout = layout_of(features, kitchen.pair, self.corr_pairlist)
        kitchen.splits_by_time, kitchen.cut = True, cut
        frame = layout.arrange(given.frame)
        # As large as what is made of it, and read no more.
        del given
        data = self.prepare_slice(frame, kitchen, layout.names, cut)
        self._refuse_constant_labels(data, kitchen)
        kitchen.forget_frames()
        return _Member(kitchen, layout, data["feature_names"]), data

    def _cut(self, dates: dict[str, pd.Series]) -> pd.Timestamp | None:
        return time_of_cut(
            dates.values(),
            read_test_size(self.freqai_info),
            self.settings.label_period,
            reverse=bool(self.ft_params.get("reverse_train_test_order")),
        )

    def _refuse_constant_labels(self, data: dict[str, Any], dk: FreqaiDataKitchen) -> None:
        targets = data["train_windows"].targets
        is_constant = (targets == targets[:1]).all(dim=0)
        if self.label_classes() or not is_constant.any():
            return
        label = dk.label_list[int(is_constant.nonzero()[0])]
        raise DataError(
            f"the label {label!r} of {dk.pair} is the same at all {len(targets)} training candles, "
            f"so nothing tells the scale of its forecasts, and it gets none."
        )

    def _kitchen_of_all(
        self, member: SequenceDataKitchen, stamp: int, n_pairs: int
    ) -> SequenceDataKitchen:
        """Return the kitchen by which `fit` knows labels, and where pictures are put."""
        kitchen = self.new_kitchen(f"{n_pairs} pairs")
        kitchen.label_list = member.label_list
        kitchen.data_path, kitchen.model_filename = member.data_path, net_name(stamp)
        return kitchen

    # pairs that come later

    def join_pair(self, net: Any, facts: dict[str, Any], given: Slice) -> Any:
        """Return a net that is trained already, with pipelines fitted on a pair's candles.

        Args:
            net: The net.
            facts: What the metadata of its pairs say of it.
            given: The pair's slice, as for a training.

        Raises:
            DataError: The pair has too few candles, or the net must be told the pair and knows it
                not.
            MismatchError: The pair has other features than those of the training.
        """
        frame, kitchen = given
        assert self.panel is not None
        symbols = facts["pairs"] if self.panel.symbol_embedding else []
        if symbols and kitchen.pair not in symbols:
            raise DataError(
                f"{kitchen.pair} is none of the pairs that the net is told ({shortened(symbols)}), "
                f"so it has no forecast before the next training; {PANEL}.symbol_embedding = 0 "
                f"would give it one."
            )
        least = self.window_size + self.settings.label_period
        if len(frame) < least:
            raise DataError(
                f"{kitchen.pair} has {len(frame)} candles, and a forecast needs {least}, the "
                f"sum of conv_width and label_period_candles. It is tried again as candles come."
            )
        member, _ = self._prepare_member(given, None)
        require_names("features", member.feature_names, net.feature_names_in_)
        require_names("labels", member.labels, net.label_names_)
        logger.info("%s predicts by the net of %d pairs.", kitchen.pair, len(facts["pairs"]))
        return _member_of(net, member, facts, symbols)


class _Member(NamedTuple):
    """What is kept of a pair whose rows are joined."""

    kitchen: SequenceDataKitchen
    layout: Layout
    feature_names: list[str]

    @property
    def names(self) -> list[str]:
        return self.layout.names

    @property
    def labels(self) -> list[str]:
        return list(self.kitchen.label_list)


def _member_of(net: Any, member: _Member, facts: dict[str, Any], symbols: list[str]) -> Any:
    """Return the net with what belongs to one pair, as FreqAI would have stored it."""
    kitchen, pair = member.kitchen, member.kitchen.pair
    metadata = {
        **kitchen.data,
        "data_path": str(kitchen.data_path),
        "model_filename": str(kitchen.model_filename),
        "training_features_list": kitchen.training_features_list,
        "label_list": kitchen.label_list,
        "panel": {
            **facts,
            "pair": pair,
            "sources": member.layout.sources,
            "symbol": symbols.index(pair) if symbols else None,
        },
    }
    return with_companion(net, (metadata, kitchen.feature_pipeline, kitchen.label_pipeline))


def one_line(error: Exception) -> str:
    """Return what an error says, with its kind where it is none of ours."""
    text = " ".join(str(error).split())
    is_known = isinstance(error, DataError)
    return text if is_known else f"{type(error).__name__}: {text}"
