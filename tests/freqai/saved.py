"""A user directory with candles and saved FreqAI models, for tests of what reads them later."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from freqtrade.enums import CandleType, RunMode
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.utils import get_tb_logger
from freqtrade.resolvers import StrategyResolver
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from freqai_lstm_plugins.freqai.panel.training import Slice
from freqai_lstm_plugins.freqai.panel.value import save_panel
from freqai_lstm_plugins.install import install
from freqai_lstm_plugins.replay import synthetic_market
from freqai_lstm_plugins.replay.demo import merge

PAIRS = ("BTC/USDT", "ETH/USDT")
DAYS = 6
STAMP = 1751328000

SMALL: dict[str, Any] = {
    "freqai": {
        "identifier": "saved",
        "conv_width": 8,
        "activate_tensorboard": False,
        "fit_live_predictions_candles": 0,
        "data_kitchen_thread_count": 1,
        "feature_parameters": {
            "include_timeframes": ["5m", "15m"],
            "indicator_periods_candles": [10],
            "label_period_candles": 6,
            "buffer_train_data_candles": 0,
        },
        "model_training_parameters": {
            "model_kwargs": {"hidden_dim": 8, "n_layer": 1},
            "trainer_kwargs": {"n_epochs": 2, "num_threads": 1},
        },
    },
    "exchange": {"pair_whitelist": list(PAIRS)},
}


def make_userdir(folder: Path, **changes: Any) -> Path:
    """Install the package's own files, with small settings and a few days of made-up candles."""
    userdir = folder / "user_data"
    install(userdir)
    path = userdir / "config-lea.json"
    config = json.loads(path.read_text())
    merge(config, SMALL)
    merge(config, changes)
    path.write_text(json.dumps(config))
    datadir = userdir / "data" / "binance"
    datadir.mkdir(parents=True)
    for pair, candles in synthetic_market(PAIRS, "5m", DAYS * 288, seed=1, signal=0.5).items():
        for timeframe, length in (("5m", "5min"), ("15m", "15min")):
            name = f"{pair.replace('/', '_')}-{timeframe}.feather"
            resampled(candles, length).to_feather(datadir / name)
    return userdir


def resampled(candles: pd.DataFrame, length: str) -> pd.DataFrame:
    """Return candles of another length."""
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return candles.resample(length, on="date").agg(how).reset_index()


def load_model(
    userdir: Path, name: str, replace: dict[str, Any] | None = None, **changes: Any
) -> Any:
    """Load a strategy with its FreqAI model as a bot does that has just started.

    Args:
        userdir: What `make_userdir` made.
        name: The FreqAI model.
        replace: Keys of a section that take the place of the config's, whole.
        changes: Changes to the config.
    """
    config = json.loads((userdir / "config-lea.json").read_text())
    merge(config, changes)
    for section, values in (replace or {}).items():
        config[section] |= values
    config |= {
        "original_config": json.loads(json.dumps(config)),
        "runmode": RunMode.OTHER,
        "user_data_dir": userdir,
        "datadir": userdir / "data" / "binance",
        "candle_type_def": CandleType.SPOT,
        "freqaimodel": name,
        "internals": {},
    }
    config["freqai"]["feature_parameters"].setdefault("shuffle_after_split", False)
    # First, as it settles what the config leaves open for the model.
    strategy = StrategyResolver.load_strategy(config)
    strategy.freqai = FreqaiModelResolver.load_freqaimodel(config)
    strategy.freqai.live = True
    return strategy


def trained_frame(strategy: Any, kitchen: FreqaiDataKitchen) -> pd.DataFrame:
    """Return a pair's candles but those of the last day, with features and labels."""
    config, pair = strategy.config, kitchen.pair
    frames = {
        other: {
            timeframe: pd.read_feather(
                config["datadir"] / f"{other.replace('/', '_')}-{timeframe}.feather"
            )
            for timeframe in config["freqai"]["feature_parameters"]["include_timeframes"]
        }
        for other in PAIRS
    }
    return kitchen.use_strategy_to_populate_indicators(
        strategy,
        corr_dataframes={other: frames[other] for other in PAIRS if other != pair},
        base_dataframes=frames[pair],
        pair=pair,
    ).iloc[:-288]


def save_all(userdir: Path, name: str, panel: dict[str, Any], identifier: str) -> Path:
    """Train one net for all pairs on all candles but those of the last day, and save it."""
    given = {"identifier": identifier, "model_training_parameters": {"panel": panel}}
    strategy = load_model(userdir, name, freqai=given)
    model = strategy.freqai

    def slice_of(pair: str) -> Slice:
        kitchen = model.new_kitchen(pair)
        frame = trained_frame(strategy, kitchen)
        kitchen.find_features(frame)
        kitchen.find_labels(frame)
        kitchen.set_new_model_names(pair, STAMP)
        return Slice(frame, kitchen)

    dates = {pair: slice_of(pair).frame["date"] for pair in PAIRS}
    made = model.train_panel(STAMP, PAIRS, dates, slice_of)
    save_panel(made, model.dd.np_encoder)
    (saved,) = Path(model.full_path).glob("*/*_model.zip")
    return saved


def save_model(userdir: Path, name: str, **changes: Any) -> Path:
    """Train a model on all candles but the last day, and save it; arguments as in `load_model`."""
    strategy = load_model(userdir, name, **changes)
    model, pair = strategy.freqai, PAIRS[0]
    kitchen = FreqaiDataKitchen(strategy.config, True, pair)
    kitchen.set_paths(pair, STAMP)
    frame = trained_frame(strategy, kitchen)
    kitchen.find_features(frame)
    kitchen.find_labels(frame)
    model.tb_logger = get_tb_logger(model.dd.model_type, kitchen.data_path, False)
    with warnings.catch_warnings():
        # FreqAI's trees call their libraries by arguments that are about to go.
        warnings.simplefilter("ignore")
        trained = model.train(frame, pair, kitchen)
    model.dd.get_pair_dict_info(pair)
    kitchen.set_new_model_names(pair, STAMP)
    model.dd.save_data(trained, pair, kitchen)
    (saved,) = kitchen.data_path.glob("*_model.*")
    return saved
