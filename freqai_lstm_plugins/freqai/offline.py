"""freqtrade's config, strategy, candles and features without an exchange: all from disk.

Nothing is written, and nothing of the config is asked of a network. Features come from the strategy
through freqtrade's own data kitchen, so they are those that a backtest computes.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from freqtrade.configuration import TimeRange, validate_config_consistency
from freqtrade.configuration.load_config import load_from_files
from freqtrade.data.dataprovider import DataProvider
from freqtrade.data.history import get_datahandler, load_pair_history
from freqtrade.enums import CandleType, RunMode, TradingMode
from freqtrade.exceptions import FreqtradeException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.plugins.pairlist.pairlist_helpers import expand_pairlist
from freqtrade.resolvers import StrategyResolver

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.names import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def host_errors() -> Iterator[None]:
    """Turn freqtrade's own errors into ours, which are shown as one line."""
    try:
        yield
    except FreqtradeException as error:
        raise ConfigError(" ".join(str(error).split())) from error


# config and strategy


def read_config(
    userdir: Path,
    configs: Sequence[Path] = (),
    datadir: Path | None = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """Read configs as freqtrade does, without an exchange and without its log settings.

    Args:
        userdir: The freqtrade user directory.
        configs: Configs as for freqtrade; `config-lea.json` of the user directory by default.
        datadir: Folder of the candles; `data/EXCHANGE` of the user directory by default.
        strategy: Name of the strategy; by default that of the config.

    Raises:
        ConfigError: The user directory, the folder of candles or FreqAI's section is missing.
    """
    if not userdir.is_dir():
        raise ConfigError(
            f"There is no user directory {userdir}. Name it with --userdir, or make one with "
            f"`freqai-lstm install`."
        )
    config: dict[str, Any] = load_from_files(
        [str(path) for path in configs or [userdir / CONFIG_NAME]]
    )
    if "feature_parameters" not in config.get("freqai", {}):
        raise ConfigError("The config has no section freqai.feature_parameters: give FreqAI's own.")
    config["original_config"] = deepcopy(config)
    config.setdefault("internals", {})
    config["runmode"] = RunMode.UTIL_NO_EXCHANGE
    config["user_data_dir"] = userdir.resolve()
    exchange = config.setdefault("exchange", {})
    exchange.setdefault("pair_whitelist", [])
    place = datadir or userdir / "data" / str(exchange.get("name", "")).lower()
    if not place.is_dir():
        raise ConfigError(f"There is no folder of candles {place}. Name it with --datadir.")
    config["datadir"] = place.resolve()
    config["strategy"] = strategy or config.get("strategy")
    validate_config_consistency(config, preliminary=True)
    config.setdefault("dataformat_ohlcv", "feather")
    config["candle_type_def"] = CandleType.get_default(config.get("trading_mode") or "spot")
    return config


def load_strategy(config: dict[str, Any]) -> Any:
    """Load the strategy of a config, which settles what the config leaves open."""
    strategy = StrategyResolver.load_strategy(config)
    validate_config_consistency(config)
    strategy.dp = DataProvider(config, None)
    strategy.freqai_info = config["freqai"]
    # Strategies of classifiers leave the names of their classes on the model, which is not there.
    strategy.freqai = SimpleNamespace(class_names=[])
    strategy.bot_start()
    return strategy


def whitelist(config: dict[str, Any]) -> list[str]:
    """Return the pairs of a config, expressions such as `.*/USDT` as the pairs on disk they match.

    Raises:
        ConfigError: An expression is none.
    """
    handler = get_datahandler(config["datadir"], config["dataformat_ohlcv"])
    stored = handler.ohlcv_get_available_data(
        config["datadir"], TradingMode(config.get("trading_mode") or "spot")
    )
    known = sorted({pair for pair, timeframe, _ in stored if timeframe == config["timeframe"]})
    try:
        found = expand_pairlist(config["exchange"]["pair_whitelist"], known, keep_invalid=True)
    except ValueError as error:
        raise ConfigError(f"exchange.pair_whitelist: {error}.") from error
    return list(dict.fromkeys(found))


def new_kitchen(config: dict[str, Any], pair: str) -> FreqaiDataKitchen:
    """Make the data kitchen of a pair."""
    kitchen = FreqaiDataKitchen(config, live=True, pair=pair)
    # Only live it asks for no range to backtest; from here on it is to do as in a backtest.
    kitchen.live = False
    return kitchen


# candles and features


class Span(NamedTuple):
    """Which candles to load: from `start` to `stop`; those before `first` warm indicators up."""

    start: pd.Timestamp
    first: pd.Timestamp
    stop: pd.Timestamp

    @property
    def timerange(self) -> TimeRange:
        """The range to load, for freqtrade."""
        start, stop = int(self.start.timestamp()), int(self.stop.timestamp())
        return TimeRange("date", "date", start, stop)


def choose_span(
    config: dict[str, Any], pair: str, timerange: str | None, n_candles: int | None = None
) -> Span:
    """Find the candles of a range, and as many before them as freqtrade loads for indicators.

    Args:
        config: What `read_config` returned, after the strategy was loaded.
        pair: Such as BTC/USDT.
        timerange: Such as 20250901-20250908; all candles by default.
        n_candles: The newest candles of the range to take; all by default.

    Raises:
        DataError: There are no candles in the range.
    """
    dates = stored_candles(config, pair, config["timeframe"])["date"]
    wanted = TimeRange.parse_timerange(timerange)
    if wanted.startdt is not None:
        dates = dates[dates >= wanted.startdt]
    if wanted.stopdt is not None:
        dates = dates[dates < wanted.stopdt]
    if dates.empty:
        raise DataError(
            f"{config['datadir']} has no candles of {pair} {config['timeframe']} in the timerange "
            f"{timerange}."
        )
    first = dates.iloc[0 if n_candles is None else max(len(dates) - n_candles, 0)]
    settings = config["freqai"]["feature_parameters"]
    periods = settings.get("indicator_periods_candles") or [0]
    longest = max(timeframe_to_seconds(name) for name in settings["include_timeframes"])
    startup = 1.5 * max(config.get("startup_candle_count", 0), *periods) * longest
    # Freqtrade merges candles of longer timeframes once they have closed.
    return Span(first - pd.Timedelta(seconds=startup + longest), first, dates.iloc[-1])


def stored_candles(
    config: dict[str, Any], pair: str, timeframe: str, span: Span | None = None
) -> pd.DataFrame:
    """Load stored candles, those of a span where one is given.

    Raises:
        DataError: There are none.
    """
    frame: pd.DataFrame = load_pair_history(
        pair=pair,
        timeframe=timeframe,
        datadir=config["datadir"],
        data_format=config["dataformat_ohlcv"],
        candle_type=config["candle_type_def"],
    )
    if span is not None and len(frame):
        # freqtrade's own cut warns of every timeframe whose last candle opened earlier.
        frame = frame[frame["date"].between(span.start, span.stop)].reset_index(drop=True)
    if frame.empty:
        raise DataError(
            f"{config['datadir']} has no candles of {pair} {timeframe} that are needed. Name "
            f"another folder with --datadir, or run freqtrade download-data."
        )
    return frame


def make_features(kitchen: FreqaiDataKitchen, strategy: Any, span: Span) -> pd.DataFrame:
    """Let the strategy make the features of all candles of a span.

    Returns:
        The candles of the span, those that warm indicators up included, with a column a feature.

    Raises:
        ConfigError: The strategy fails.
        DataError: Candles of a timeframe or of a correlated pair are missing.
    """
    config, pair = kitchen.config, kitchen.pair
    settings = config["freqai"]["feature_parameters"]
    # The strategy may ask the data provider for candles of its own, which cuts them by this key.
    config["timerange"] = span.timerange.timerange_str
    base, others = (
        {
            name: {
                timeframe: stored_candles(config, name, timeframe, span)
                for timeframe in settings["include_timeframes"]
            }
            for name in names
        }
        for names in ([pair], set(settings.get("include_corr_pairlist", [])) - {pair})
    )
    with _strategy_errors(config, f"make the features of {pair}"):
        frame = kitchen.use_strategy_to_populate_indicators(
            strategy, corr_dataframes=others, base_dataframes=base[pair], pair=pair
        )
    return kitchen.remove_special_chars_from_feature_names(frame).reset_index(drop=True)


def make_labels(kitchen: FreqaiDataKitchen, strategy: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Let the strategy add the labels to the features of a frame.

    Raises:
        ConfigError: The strategy fails.
    """
    with _strategy_errors(kitchen.config, f"make the labels of {kitchen.pair}"):
        labelled = strategy.set_freqai_targets(frame.copy(), metadata={"pair": kitchen.pair})
    return kitchen.remove_special_chars_from_feature_names(labelled)


@contextmanager
def _strategy_errors(config: dict[str, Any], what: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into one line of ours."""
    try:
        yield
    except FreqtradeException:
        raise
    except Exception as error:
        raise ConfigError(
            f"The strategy {config['strategy']} failed to {what} ({type(error).__name__}: "
            f"{error}). Show where with --debug."
        ) from error
