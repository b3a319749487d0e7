"""LeaAlpha158Strategy: LeaFreqAIStrategy on the 158 features of qlib's Alpha158.

Each pair and timeframe of the configuration gets all of them, so two pairs on two timeframes give
some 630 features. A class derived from it takes fewer:

    from LeaAlpha158Strategy import LeaAlpha158Strategy
    from freqai_lstm_plugins.features import ALPHA158_20

    class MyStrategy(LeaAlpha158Strategy):
        alpha158_names = ALPHA158_20

Target, costs, gates, stops and exits are those of LeaFreqAIStrategy, which must stand in the same
folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from freqtrade.constants import Config
from freqtrade.exchange import timeframe_to_seconds

# freqtrade looks for imports in the folder of this file too.
from LeaFreqAIStrategy import LeaFreqAIStrategy
from pandas import DataFrame, concat

from freqai_lstm_plugins.config import DEFAULT_WINDOW
from freqai_lstm_plugins.features import alpha158
from freqai_lstm_plugins.features.alpha158 import WINDOWS


class LeaAlpha158Strategy(LeaFreqAIStrategy):
    """Predict from Alpha158, and trade by the rules of LeaFreqAIStrategy."""

    # The features to compute; None for all.
    alpha158_names: Sequence[str] | None = None

    def __init__(self, config: Config) -> None:
        """Ask for as many candles as the newest window of the longest timeframe is made of."""
        super().__init__(config)
        freqai = config.get("freqai", {})
        timeframe = config.get("timeframe", self.timeframe)
        timeframes = freqai.get("feature_parameters", {}).get("include_timeframes", [timeframe])
        ratio = max(map(timeframe_to_seconds, timeframes)) / timeframe_to_seconds(timeframe)
        window = freqai.get("conv_width", DEFAULT_WINDOW)
        needed = math.ceil((max(WINDOWS) + window) * max(ratio, 1))
        self.startup_candle_count = max(self.startup_candle_count, needed)

    def feature_engineering_expand_all(
        self, dataframe: DataFrame, period: int, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Add nothing for a period: Alpha158 has windows of its own."""
        return dataframe

    def feature_engineering_expand_basic(
        self, dataframe: DataFrame, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Add Alpha158; once a timeframe and pair.

        A value that is unknown inside the history is neutral. freqtrade would drop its whole row,
        and every window with it.
        """
        features = alpha158(dataframe, names=self.alpha158_names, missing="neutral")
        return concat([dataframe, features.add_prefix("%-")], axis=1)
