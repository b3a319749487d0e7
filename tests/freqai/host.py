"""The real FreqAI objects around a model, for tests that need no child process."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.freqai.utils import get_tb_logger
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from freqai_lstm_plugins.freqai.panel.training import Slice
from freqai_lstm_plugins.freqai.panel.value import save_panel

MODELS = Path(__file__).parents[2] / "freqai_lstm_plugins" / "freqaimodels"
PAIR = "BTC/USDT"
OTHER = "ETH/USDT"
WINDOW = 6

BASE_CONFIG: dict[str, Any] = {
    "timeframe": "5m",
    "timerange": "20250601-20250602",
    "stake_currency": "USDT",
    "exchange": {"name": "binance", "pair_whitelist": [PAIR]},
    "freqaimodel": "LeaLSTMRegressor",
    "freqaimodel_path": str(MODELS),
    "freqai": {
        "enabled": True,
        "identifier": "test",
        "conv_width": WINDOW,
        "train_period_days": 1,
        "backtest_period_days": 1,
        "purge_old_models": 2,
        "save_backtest_models": True,
        "activate_tensorboard": False,
        "data_kitchen_thread_count": 1,
        "data_split_parameters": {"test_size": 0.2},
        "feature_parameters": {
            "include_timeframes": ["5m"],
            "label_period_candles": 3,
            "shuffle_after_split": False,
            "buffer_train_data_candles": 0,
            "weight_factor": 0,
        },
        "model_training_parameters": {
            "learning_rate": 0.005,
            "model_kwargs": {"hidden_dim": 8, "n_layer": 1, "head_size": 8},
            "trainer_kwargs": {"n_epochs": 4, "batch_size": 64, "num_threads": 1},
        },
    },
}


def make_config(user_dir: Path, **changes: Any) -> dict[str, Any]:
    """Return a config; a key such as `freqai__conv_width` changes a nested value."""
    config = deepcopy(BASE_CONFIG)
    for path, value in changes.items():
        place = config
        *parents, last = path.split("__")
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    config["original_config"] = deepcopy(config)
    # What freqtrade's own validation does to a config without the key.
    config["freqai"].setdefault("conv_width", 1)
    config["user_data_dir"] = user_dir
    config["config_files"] = [str(user_dir / "config.json")]
    user_dir.mkdir(parents=True, exist_ok=True)
    (user_dir / "config.json").write_text("{}")
    return config


def make_model(user_dir: Path, live: bool = True, **changes: Any) -> Any:
    """Load a model through freqtrade's own resolver."""
    model = FreqaiModelResolver.load_freqaimodel(make_config(user_dir, **changes))
    model.live = live
    return model


def make_frame(n_rows: int, n_targets: int = 1, seed: int = 0) -> pd.DataFrame:
    """Return candles with three features, and labels that the features foretell."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n_rows)
    close = 100 + np.cumsum(rng.normal(size=n_rows) * 0.1)
    frame = pd.DataFrame(
        {
            "date": pd.date_range("2025-06-01", periods=n_rows, freq="5min", tz="UTC"),
            "open": close,
            "high": close + 0.2,
            "low": close - 0.2,
            "close": close + 0.05,
            "volume": rng.uniform(1, 2, n_rows),
            "%-signal": signal,
            "%-noise": rng.normal(size=n_rows),
            "%-wave": np.sin(np.arange(n_rows) / 7),
        }
    )
    for k in range(n_targets):
        label = 0.8 * np.roll(signal, k + 1) + 0.2 * rng.normal(size=n_rows) + 0.3
        label[-3:] = np.nan
        frame[f"&-target{k}" if k else "&-target"] = label
    return frame


CLASSES = ["down", "flat", "up"]


def make_classes(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Return candles as `make_frame` does, with a class in place of the number."""
    frame = make_frame(n_rows, seed=seed)
    number = frame.pop("&-target")
    names = np.select([number < -0.2, number > 0.8], ["down", "up"], "flat")
    return frame.assign(**{"&-direction": pd.Series(names).mask(number.isna())})


def make_classifier(user_dir: Path, names: Any = CLASSES, **changes: Any) -> Any:
    """Load a classifier whose classes the strategy has named."""
    model = make_model(user_dir, **{"freqaimodel": "LeaLSTMClassifier", **changes})
    model.class_names = names
    return model


def make_kitchen(model: Any, frame: pd.DataFrame) -> FreqaiDataKitchen:
    """Return the data kitchen of one training, with features and labels found."""
    kitchen = FreqaiDataKitchen(model.config, model.live, PAIR)
    kitchen.find_features(frame)
    kitchen.find_labels(frame)
    return kitchen


def train(model: Any, frame: pd.DataFrame, stamp: int = 1) -> tuple[Any, FreqaiDataKitchen]:
    """Train, save and register a model as the bot does, with a second pair where it takes many."""
    settings = getattr(model, "settings", None)
    if settings is not None and settings.panel is not None:
        return train_all(model, {PAIR: frame, OTHER: turned_over(frame)}, stamp)
    kitchen = make_kitchen(model, frame)
    kitchen.set_paths(PAIR, stamp)
    model.tb_logger = get_tb_logger("pytorch", kitchen.data_path, model.activate_tensorboard)
    trained = model.train(frame, PAIR, kitchen)
    model.tb_logger.close()
    model.dd.get_pair_dict_info(PAIR)
    model.dd.pair_dict[PAIR]["trained_timestamp"] = stamp
    kitchen.set_new_model_names(PAIR, stamp)
    model.dd.save_data(trained, PAIR, kitchen)
    return trained, kitchen


def train_all(
    model: Any, frames: dict[str, pd.DataFrame], stamp: int = 1
) -> tuple[Any, FreqaiDataKitchen]:
    """Train, save and register one net for all pairs; return the model and kitchen of `PAIR`."""

    def slice_of(pair: str) -> Slice:
        kitchen = model.new_kitchen(pair)
        kitchen.find_features(frames[pair])
        kitchen.find_labels(frames[pair])
        kitchen.set_new_model_names(pair, stamp)
        return Slice(frames[pair], kitchen)

    model.former = model.dd.model_dictionary.get(PAIR)
    model.tb_logger = None
    dates = {pair: frame["date"] for pair, frame in frames.items()}
    panel = model.train_panel(stamp, sorted(frames), dates, slice_of)
    save_panel(panel, model.dd.np_encoder)
    model.dd.swap(panel.models, stamp)
    kitchen = make_kitchen(model, frames[PAIR])
    trained = panel.models[PAIR]
    kitchen.data, kitchen.feature_pipeline, kitchen.label_pipeline = trained.companion
    return trained, kitchen


def turned_over(frame: pd.DataFrame) -> pd.DataFrame:
    """Return another pair's candles, each made of the same candle alone: what rises there falls."""
    changed = frame.copy()
    for name in frame.columns.drop(["date", "volume"]):
        if pd.api.types.is_numeric_dtype(frame[name]):
            is_price = name in ("open", "high", "low", "close")
            changed[name] = 1e4 / frame[name] if is_price else 2 * frame[name] + 0.5
    changed["high"], changed["low"] = changed["low"].copy(), changed["high"].copy()
    return changed.assign(volume=3 * frame["volume"])


def next_candle(model: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Give the strategy what the bot gives it once `frame` has a new candle."""
    _, trained = model.dd.get_pair_dict_info(PAIR)
    kitchen = model.dk = FreqaiDataKitchen(model.config, True, PAIR)
    model.model = model.dd.load_data(PAIR, kitchen)
    kitchen.get_unique_classes_from_labels(frame)
    if model.model is None:
        model.dd.return_null_values_to_strategy(frame.copy(), kitchen)
    else:
        with warnings.catch_warnings():
            # freqtrade reads dates in a way that pandas will change.
            warnings.filterwarnings("ignore", "Series.values returning", DeprecationWarning)
            model.build_strategy_return_arrays(frame, kitchen, PAIR, trained)
    return kitchen.return_dataframe


def predict(model: Any, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Load the pair's model as the bot does for each candle, and predict `frame`."""
    model.dd.get_pair_dict_info(PAIR)
    kitchen = FreqaiDataKitchen(model.config, model.live, PAIR)
    model.model = model.dd.load_data(PAIR, kitchen)
    kitchen.find_labels(frame)
    return model.predict(frame, kitchen)
