"""A market on the loopback interface, so that the real freqtrade runs where no exchange is reached.

Candles come from freqtrade's own feather files (`read_candles`) or are made (`synthetic_market`).
`ReplayExchange` serves them through the part of Binance's API, spot and futures, that freqtrade
uses, and `write_overlay` writes the config that points freqtrade at it. `Faults` makes the exchange
fail as exchanges do.
"""

from freqai_lstm_plugins.data.candles import Candles
from freqai_lstm_plugins.data.synthetic import synthetic_driver, synthetic_market
from freqai_lstm_plugins.data.timeframes import TIMEFRAMES
from freqai_lstm_plugins.replay.api import ApiError
from freqai_lstm_plugins.replay.exchange import DropConnectionError, Interceptor, ReplayExchange
from freqai_lstm_plugins.replay.faults import Faults
from freqai_lstm_plugins.replay.market import aggregate, read_candles, relabel, shift_to_now
from freqai_lstm_plugins.replay.overlay import exchange_overlay, write_overlay

__all__ = [
    "TIMEFRAMES",
    "ApiError",
    "Candles",
    "DropConnectionError",
    "Faults",
    "Interceptor",
    "ReplayExchange",
    "aggregate",
    "exchange_overlay",
    "read_candles",
    "relabel",
    "shift_to_now",
    "synthetic_driver",
    "synthetic_market",
    "write_overlay",
]
