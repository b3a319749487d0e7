"""Features and labels of a FreqAI strategy as parquet, one file a pair, without an exchange.

With them an experiment compares models on a user's own features, and needs no freqtrade for it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from freqtrade.misc import pair_to_filename

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.files import replacing
from freqai_lstm_plugins.freqai.columns import refuse_unsound_columns, without_pair
from freqai_lstm_plugins.freqai.offline import (
    choose_span,
    host_errors,
    load_strategy,
    make_features,
    make_labels,
    new_kitchen,
    read_config,
    whitelist,
)
from freqai_lstm_plugins.freqai.slices import CANDLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class ExportedPair:
    """A file that was written.

    Attributes:
        pair: Such as BTC/USDT.
        path: The file.
        n_features: Columns whose names begin with `%`.
        labels: Columns whose names begin with `&`.
        dates: (N,) when each candle opens.
    """

    pair: str
    path: Path
    n_features: int
    labels: tuple[str, ...]
    dates: pd.DatetimeIndex


def export_features(
    out: Path,
    *,
    userdir: Path = Path("user_data"),
    configs: Sequence[Path] = (),
    datadir: Path | None = None,
    strategy: str | None = None,
    pairs: Sequence[str] = (),
    timerange: str | None = None,
) -> Iterator[ExportedPair]:
    """Write features and labels, a pair each time that the next one is asked for.

    A file such as `BTC_USDT-5m.parquet` has the columns date, open, high, low, close and volume,
    then features (`%...`) and labels (`&...`) as the strategy makes them: NaN and infinities where
    it makes them, no label where the candles that it needs are still to come. The name of the pair
    itself is left out of its features' names (`%-return_BTC/USDT_5m` becomes `%-return_5m`), so
    that all pairs have the same columns. `pandas.read_parquet(path).attrs` holds pair, timeframe,
    strategy, `label_period` in candles, and a classifier's `class_names`.

    Args:
        out: Folder to write to; it is made where it is missing.
        userdir: The freqtrade user directory.
        configs: Configs as for freqtrade; `config-lea.json` of the user directory by default.
        datadir: Folder of the candles; `data/EXCHANGE` of the user directory by default.
        strategy: The strategy; by default that of the config.
        pairs: By default those of the config.
        timerange: Such as 20250901-20250908; all stored candles by default.

    Raises:
        ConfigError: Config, strategy, pairs or range cannot be used, or a file cannot be written.
        DataError: Candles are missing.
    """
    with host_errors():
        config = read_config(userdir, configs, datadir, strategy)
        load_strategy(config)
        chosen = list(dict.fromkeys(pairs)) or whitelist(config)
        if not chosen:
            raise ConfigError("The config names no pairs: name them with --pairs.")
    for pair in chosen:
        # What the strategy and its data provider keep of one pair's range must not reach the next.
        with host_errors():
            frame, class_names = _labelled(deepcopy(config), pair, timerange)
        yield _write(out, frame, pair, config, class_names)


def _labelled(
    config: dict[str, Any], pair: str, timerange: str | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return candles, features and labels of a pair, and the names of its classes."""
    strategy = load_strategy(config)
    kitchen = new_kitchen(config, pair)
    span = choose_span(config, pair, timerange)
    frame = make_features(kitchen, strategy, span)
    kitchen.find_features(frame)
    frame = make_labels(kitchen, strategy, frame)
    kitchen.find_labels(frame)
    if not kitchen.label_list:
        raise ConfigError(
            f"The strategy {config['strategy']} sets no label for {pair}: set_freqai_targets must "
            f"add a column whose name begins with '&'."
        )
    refuse_unsound_columns(pair, frame.columns, kitchen.label_list, [])
    columns = ["date", *CANDLE, *kitchen.training_features_list, *kitchen.label_list]
    frame = frame.loc[frame["date"] >= span.first, columns].reset_index(drop=True)
    frame = frame.rename(columns={name: without_pair(name, pair) for name in columns})
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(
            f"{pair}: two features are called {twice[0]!r} once the pair is left out of their "
            f"names. Rename one of them."
        )
    return frame, list(strategy.freqai.class_names)


def _write(
    out: Path, frame: pd.DataFrame, pair: str, config: dict[str, Any], class_names: list[str]
) -> ExportedPair:
    frame.attrs = {
        "pair": pair,
        "timeframe": config["timeframe"],
        "strategy": config["strategy"],
        "label_period": int(config["freqai"]["feature_parameters"]["label_period_candles"]),
        "class_names": class_names,
    }
    path = out / f"{pair_to_filename(pair)}-{config['timeframe']}.parquet"
    try:
        with replacing(path) as stream:
            frame.to_parquet(stream, index=False)
    except OSError as error:
        raise ConfigError(f"Cannot write the features of {pair}: {error}.") from error
    names = [str(name) for name in frame]
    labels = tuple(name for name in names if name.startswith("&"))
    n_features = sum(name.startswith("%") for name in names)
    return ExportedPair(pair, path, n_features, labels, pd.DatetimeIndex(frame["date"]))
