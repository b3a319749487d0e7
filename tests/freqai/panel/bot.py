"""A bot of many pairs inside the test's process, whose whitelist may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.enums import RunMode

from tests.freqai.host import make_model
from tests.freqai.live import LiveRun, until_now
from tests.freqai.panel.walk import PANEL
from tests.freqai.walk import SETTINGS, TIMEFRAME, Provider, SmallStrategy


class LiveProvider(Provider):
    runmode = RunMode.DRY_RUN


class PanelRun(LiveRun):
    """A bot that trains one net for all pairs of its whitelist.

    Args:
        folder: User directory.
        market: Candles of every pair that may be traded, the newest of them now.
        strategy: Makes the features.
        pairs: The whitelist; all of the market by default.
        changes: Changes to the config.
    """

    def __init__(
        self,
        folder: Path,
        market: dict[str, pd.DataFrame],
        strategy: type[SmallStrategy] = SmallStrategy,
        pairs: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> None:
        whitelist = list(pairs or market)
        self.market = {pair: until_now(frame) for pair, frame in market.items()}
        settings = {
            **SETTINGS,
            "freqai__train_period_days": 2,
            "freqai__live_retrain_hours": 6,
            "exchange__pair_whitelist": whitelist,
            "runmode": RunMode.DRY_RUN,
            PANEL: {},
        }
        self.model = make_model(folder, **{**settings, **changes})
        self.model.dd.historic_data = {pair: {TIMEFRAME: self.market[pair]} for pair in whitelist}
        self.strategy = strategy(self.model.config)
        self.strategy.dp = self.provider = LiveProvider(self.market, whitelist)
        self.strategy.freqai = self.model

    def candle(self, ago: int = 0, pair: str = "BTC/USDT") -> pd.DataFrame:
        """Give a pair's frame to the model, up to the candle `ago` before the newest."""
        frame = self.market[pair]
        return self.model.start(
            frame.iloc[: len(frame) - ago].copy(), {"pair": pair}, self.strategy
        )

    def served(self, *pairs: str) -> bool:
        """Tell whether pairs predict by one net, that of the last training."""
        models = [self.model.dd.model_dictionary.get(pair) for pair in pairs]
        return None not in models and len({id(model.fitted) for model in models}) == 1
