"""A whole backtest inside the test's process: candles, a strategy, slices, models, predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.enums import RunMode
from freqtrade.strategy import IStrategy

from tests.freqai.host import OTHER, PAIR, make_model, turned_over

TIMEFRAME = "15m"
PER_DAY = 96
HORIZON = 4


class SmallStrategy(IStrategy):
    """Three features of past candles, and the return over the next four as label."""

    timeframe = TIMEFRAME
    minimal_roi: dict[str, float] = {}  # noqa: RUF012
    stoploss = -0.5

    def feature_engineering_expand_all(self, dataframe, period, metadata, **kwargs):
        dataframe["%-change-period"] = dataframe["close"].pct_change(period)
        dataframe["%-volume-period"] = np.log1p(dataframe["volume"]).rolling(period).mean()
        return dataframe

    def feature_engineering_expand_basic(self, dataframe, metadata, **kwargs):
        dataframe["%-range"] = np.log(dataframe["high"] / dataframe["low"])
        return dataframe

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        return dataframe

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        coming = dataframe["close"].shift(-HORIZON) / dataframe["close"] - 1
        return dataframe.assign(**{"&-return": coming})

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


CLASSES = ["down", "up"]


class ClassStrategy(SmallStrategy):
    """The features of `SmallStrategy`, and the direction of the coming return as class."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        self.freqai.class_names = CLASSES
        coming = dataframe["close"].shift(-HORIZON) / dataframe["close"] - 1
        direction = (coming > 0).map({False: "down", True: "up"}).mask(coming.isna())
        return dataframe.assign(**{"&-direction": direction})


SETTINGS: dict[str, Any] = {
    "timeframe": TIMEFRAME,
    "freqai__feature_parameters__include_timeframes": [TIMEFRAME],
    "freqai__feature_parameters__indicator_periods_candles": [8],
    "freqai__feature_parameters__include_shifted_candles": 0,
    "freqai__feature_parameters__label_period_candles": HORIZON,
    "freqai__model_training_parameters__trainer_kwargs__n_epochs": 2,
}


class Provider:
    """Has the candles of all pairs, as freqtrade's own in a backtest."""

    runmode = RunMode.BACKTEST

    def __init__(
        self, market: Mapping[str, pd.DataFrame], whitelist: Iterable[str] | None = None
    ) -> None:
        self.market = market
        self.whitelist = list(whitelist or market)

    def current_whitelist(self) -> list[str]:
        return list(self.whitelist)

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return self.market[pair].copy() if pair in self.market else pd.DataFrame()


def backtest(
    folder: Path,
    candles: pd.DataFrame,
    strategy: type[SmallStrategy] = SmallStrategy,
    train_days: int = 2,
    slice_days: int = 1,
    **changes: Any,
) -> tuple[pd.DataFrame, Any]:
    """Run FreqAI's own loop of trainings and predictions over `candles`.

    The first `train_days` are for the first training; every later whole day is backtested.

    Returns:
        What the strategy gets (candles, predictions and `do_predict`), and the FreqAI model.
    """
    first = candles["date"].iloc[0].ceil("D") + pd.Timedelta(days=train_days)
    last = (candles["date"].iloc[-1] + pd.Timedelta(TIMEFRAME.replace("m", "min"))).floor("D")
    settings = {
        **SETTINGS,
        "timerange": f"{first:%Y%m%d}-{last:%Y%m%d}",
        "freqai__train_period_days": train_days,
        "freqai__backtest_period_days": slice_days,
    }
    model = make_model(folder, live=False, **{**settings, **changes})
    return run(model, candles, strategy), model


def run(
    model: Any, candles: pd.DataFrame, strategy: type[SmallStrategy] = SmallStrategy
) -> pd.DataFrame:
    """Backtest one more pair's candles with a model that `backtest` made.

    Another pair is in the whitelist; each of its candles is made of the same one of this pair.
    """
    built = strategy(model.config)
    built.dp = Provider({PAIR: candles, OTHER: turned_over(candles)})
    built.freqai = model
    return model.start(candles.copy(), {"pair": PAIR}, built)


def weights(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all that every saved model has learned, by training."""
    from freqai_lstm_plugins.checkpoint import read_checkpoint

    return {
        path.parent.name: _learned(read_checkpoint(path).state)
        for path in sorted(folder.glob("models/test/sub-train-*/*_model.zip"))
    }


def _learned(value: Any) -> bytes:
    if isinstance(value, Mapping):
        # A history tells how many seconds an epoch took.
        parts = [item for key, item in value.items() if key != "history"]
        return b"".join(map(_learned, parts))
    if isinstance(value, list | tuple):
        return b"".join(map(_learned, value))
    return value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
