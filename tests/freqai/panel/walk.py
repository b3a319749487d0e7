"""A whole backtest of many pairs inside the test's process, pair after pair as freqtrade goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import make_model
from tests.freqai.walk import PER_DAY, SETTINGS, TIMEFRAME, Provider, SmallStrategy

PAIRS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")
PANEL = "freqai__model_training_parameters__panel"
TRAIN_DAYS = 2


def make_market(days: int = 4, pairs: tuple[str, ...] = PAIRS, seed: int = 7) -> dict[str, Any]:
    return synthetic_market(pairs, TIMEFRAME, days * PER_DAY, seed=seed)


def panel_model(folder: Path, market: Mapping[str, pd.DataFrame], **changes: Any) -> Any:
    """Load a model with a panel that is to be backtested on the market, day by day."""
    dates = pd.concat([frame["date"] for frame in market.values()])
    first = dates.min().ceil("D") + pd.Timedelta(days=TRAIN_DAYS)
    last = (dates.max() + pd.Timedelta(TIMEFRAME.replace("m", "min"))).floor("D")
    settings = {
        **SETTINGS,
        "timerange": f"{first:%Y%m%d}-{last:%Y%m%d}",
        "freqai__train_period_days": TRAIN_DAYS,
        "exchange__pair_whitelist": list(market),
        PANEL: {},
    }
    return make_model(folder, live=False, **{**settings, **changes})


def run_pairs(
    model: Any,
    market: Mapping[str, pd.DataFrame],
    strategy: type[SmallStrategy] = SmallStrategy,
    pairs: Iterable[str] | None = None,
    whitelist: Iterable[str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Backtest pairs in their order; all of the market by default."""
    built = strategy(model.config)
    built.dp, built.freqai = Provider(market, whitelist or market), model
    order = list(pairs or market)
    return {pair: model.start(market[pair].copy(), {"pair": pair}, built) for pair in order}


def backtest_pairs(
    folder: Path,
    market: Mapping[str, pd.DataFrame],
    strategy: type[SmallStrategy] = SmallStrategy,
    pairs: Iterable[str] | None = None,
    **changes: Any,
) -> tuple[dict[str, pd.DataFrame], Any]:
    """Run FreqAI's own loop over many pairs.

    Returns:
        For each pair what the strategy gets, and the FreqAI model.
    """
    model = panel_model(folder, market, **changes)
    return run_pairs(model, market, strategy, pairs), model
