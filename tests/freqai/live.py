"""A bot inside the test's process: the real FreqAI model, its training thread, and new candles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.enums import RunMode

from tests.freqai.host import PAIR, make_model
from tests.freqai.walk import SETTINGS, TIMEFRAME, SmallStrategy

# A busy machine may take long; a failure shows in what is waited for, or by an assertion.
PATIENCE = 300


class _Provider:
    runmode = RunMode.DRY_RUN

    def __init__(self, candles: pd.DataFrame, pairs: list[str]) -> None:
        self.candles = candles
        self.pairs = pairs

    def current_whitelist(self) -> list[str]:
        return self.pairs

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return self.candles


def until_now(candles: pd.DataFrame) -> pd.DataFrame:
    """Shift candles so that the newest is the last one that has closed."""
    shift = pd.Timestamp.now("UTC").floor(TIMEFRAME.replace("m", "min")) - candles["date"].iloc[-1]
    return candles.assign(date=(candles["date"] + shift).dt.as_unit("ms"))


class LiveRun:
    """A model that predicts each new candle and trains beside it."""

    def __init__(
        self,
        folder: Path,
        candles: pd.DataFrame,
        strategy: type[SmallStrategy] = SmallStrategy,
        pairs: tuple[str, ...] = (PAIR,),
        **changes: Any,
    ) -> None:
        self.candles = until_now(candles)
        settings = {
            **SETTINGS,
            "freqai__train_period_days": 2,
            "freqai__live_retrain_hours": 6,
            "exchange__pair_whitelist": list(pairs),
            "runmode": RunMode.DRY_RUN,
        }
        self.model = make_model(folder, **{**settings, **changes})
        # Neither downloaded nor read from disk.
        self.model.dd.historic_data = {pair: {TIMEFRAME: self.candles} for pair in pairs}
        self.strategy = strategy(self.model.config)
        self.strategy.dp = _Provider(self.candles, list(pairs))
        self.strategy.freqai = self.model

    def candle(self, ago: int = 0, pair: str = PAIR) -> pd.DataFrame:
        """Give the strategy's frame to the model, up to the candle `ago` before the newest."""
        frame = self.candles.iloc[: len(self.candles) - ago].copy()
        return self.model.start(frame, {"pair": pair}, self.strategy)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def wait_for_model(self, pair: str = PAIR) -> None:
        self.wait(lambda: pair in self.model.dd.model_dictionary)

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.model.shutdown()
