"""Costs and rules of two markets."""

from __future__ import annotations

from freqai_lstm_plugins.research.market import Rules
from freqai_lstm_plugins.research.portfolio import Costs

BINANCE_COSTS = Costs(buy=0.001, sell=0.001)
VIETNAM_COSTS = Costs(buy=0.0015, sell=0.0015, tax=0.001)
# Settled two days after the purchase; 7 % is the limit of the exchange of Ho Chi Minh City.
VIETNAM_RULES = Rules(can_short=False, settlement=2, limit=0.07)
