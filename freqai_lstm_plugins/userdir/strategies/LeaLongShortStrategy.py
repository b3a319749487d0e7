"""LeaLongShortStrategy: LeaFreqAIStrategy, and its rules turned round for falling prices.

For futures: the configuration needs `"trading_mode": "futures"`, `"margin_mode": "isolated"` and
pairs such as BTC/USDT:USDT, which `freqai-lstm install --pairs BTC/USDT:USDT,...` writes.
"""

from __future__ import annotations

# freqtrade looks for imports in the folder of this file too.
from LeaFreqAIStrategy import LeaFreqAIStrategy


class LeaLongShortStrategy(LeaFreqAIStrategy):
    """Buy on predicted rises and sell short on predicted falls, where they pay for their costs."""

    can_short = True
