"""LeaDirectionStrategy: entries on the probability of a rise or a fall.

The strategy fits any FreqAI classifier. It names each candle by what follows it: `up` or `down`
where the price moves by half a usual move at least within `label_period_candles`, `flat` where it
does not. It buys where a rise is likely enough and the expected move pays for the costs. Features,
costs, the other gates, stops and exits are those of LeaFreqAIStrategy, which must stand in the same
folder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from freqtrade.strategy import DecimalParameter

# freqtrade looks for imports in the folder of this file too.
from LeaFreqAIStrategy import LeaFreqAIStrategy, column, ratio, returns, volatility
from pandas import DataFrame, Series

LABEL = "&-direction"
DOWN, FLAT, UP = CLASSES = ("down", "flat", "up")
# In volatilities: about a third of all candles falls into each class then.
SMALLEST_MOVE = 0.5
TOWARDS = {"long": UP, "short": DOWN}
AGAINST = {"long": DOWN, "short": UP}


class LeaDirectionStrategy(LeaFreqAIStrategy):
    """Enter where a class is likely and its move beats the costs; leave when the other one is."""

    answers = "classes"

    entry_probability = DecimalParameter(0.34, 0.9, default=0.45, decimals=2, space="buy")
    # Share of the probability above the threshold at which the whole stake is reached.
    full_stake_probability = 0.3
    # The thresholds in standard deviations belong to numbers.
    entry_z = None
    exit_z = None

    def set_freqai_targets(
        self, dataframe: DataFrame, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Set the target: the name of the coming move; none where the future is unknown."""
        self.freqai.class_names = list(CLASSES)
        coming = returns(dataframe, self.horizon).shift(-self.horizon)
        moves = ratio(coming, volatility(dataframe, self.horizon), flat=np.nan)
        names = np.select([moves < -SMALLEST_MOVE, moves > SMALLEST_MOVE], [DOWN, UP], FLAT)
        # FreqAI's frame is in a hundred pieces, which pandas warns about; a copy is in one.
        dataframe = dataframe.copy()
        dataframe[LABEL] = Series(names, index=dataframe.index).mask(moves.isna())
        return dataframe

    def forecast(self, dataframe: DataFrame) -> Series:
        """Return the expected move in volatilities: one up less one down, by their chances."""
        return column(dataframe, UP) - column(dataframe, DOWN)

    def forecast_gates(self, dataframe: DataFrame, side: str) -> dict[str, Series]:
        """Ask for a class that is likely by itself, not only likelier than its opposite."""
        return {"likely": column(dataframe, TOWARDS[side]) > self.entry_probability.value}

    def has_turned(self, dataframe: DataFrame, side: str) -> Series:
        """Tell at which candles the opposite class is the most probable one."""
        trusted = column(dataframe, "do_predict") == 1
        if LABEL not in dataframe:
            return trusted & False
        return trusted & (dataframe[LABEL] == AGAINST[side])

    def confidence(self, row: Series, side: str) -> float:
        """Return 0 for a probability at the entry threshold, 1 where the whole stake is due."""
        probability = row.get(TOWARDS[side], np.nan)
        return float((probability - self.entry_probability.value) / self.full_stake_probability)

    def add_thresholds(self, dataframe: DataFrame) -> None:
        """Add what the plot compares the probabilities with."""
        dataframe["entry_threshold"] = self.entry_probability.value

    def forecast_plots(self) -> dict[str, Any]:
        """Return the plots of what the model predicts."""
        return {
            "probability": {
                UP: {"color": "#2ca02c"},
                DOWN: {"color": "#d62728"},
                "entry_threshold": {"color": "#7f7f7f"},
            }
        }
