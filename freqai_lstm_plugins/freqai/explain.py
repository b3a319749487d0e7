"""What a model that FreqAI saved looks at, on candles from disk, without an exchange.

The features come from the strategy through freqtrade's data kitchen, and windows are made by the
rules of `SequenceModel`. The user's model folder is only read.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from freqtrade.configuration import TimeRange, validate_config_consistency
from freqtrade.configuration.load_config import load_from_files
from freqtrade.constants import USERPATH_FREQAIMODELS
from freqtrade.data.dataprovider import DataProvider
from freqtrade.data.history import load_pair_history
from freqtrade.enums import CandleType, RunMode
from freqtrade.exceptions import FreqtradeException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.freqai.data_drawer import (
    FEATURE_PIPELINE,
    LABEL_PIPELINE,
    METADATA,
    FreqaiDataDrawer,
)
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.resolvers import StrategyResolver
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from freqai_lstm_plugins.checkpoint import read_checkpoint
from freqai_lstm_plugins.config import WindowConfig, parse_settings
from freqai_lstm_plugins.data.arrays import BoolArray, IntArray, finite_rows, to_float32
from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    FreqaiLSTMError,
    MismatchError,
    NotACheckpointError,
)
from freqai_lstm_plugins.explanations.explanation import (
    DEFAULT_WINDOWS,
    Explanation,
    explain_windows,
)
from freqai_lstm_plugins.explanations.picture import plot_explanation
from freqai_lstm_plugins.explanations.trees import explain_trees
from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.freqai.drawer import DurableDataDrawer
from freqai_lstm_plugins.freqai.slices import full_windows
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.models.state import SequenceState, read_state
from freqai_lstm_plugins.names import require_names

OURS, TREES = "_model.zip", "_model.joblib"
CONFIG = "config-lea.json"


@dataclass(frozen=True)
class ExplainedFile:
    """What a model file looks at.

    Attributes:
        explanation: Its rows are positions among the candles that were loaded.
        file: The model file.
        model: Name of the net, or of the trees' class.
        pair: Pair whose candles were explained.
        dates: (M,) when each explained candle opens.
    """

    explanation: Explanation
    file: Path
    model: str
    pair: str
    dates: pd.DatetimeIndex

    @property
    def title(self) -> str:
        """Two lines that say what was explained."""
        first, last = (f"{date:%Y-%m-%d %H:%M}" for date in self.dates[[0, -1]])
        return (
            f"{self.explanation.target} of {self.pair} by {self.model} ({self.file.name})\n"
            f"{len(self.dates)} candles from {first} to {last} UTC"
        )


def explain_file(
    file: Path,
    *,
    userdir: Path = Path("user_data"),
    configs: Sequence[Path] = (),
    datadir: Path | None = None,
    strategy: str | None = None,
    pair: str | None = None,
    timerange: str | None = None,
    target: str | None = None,
    label_class: str | None = None,
    max_windows: int = DEFAULT_WINDOWS,
) -> ExplainedFile:
    """Explain a model file that FreqAI wrote, with its metadata and pipelines beside it.

    The pipelines, and trees, are pickles, which freqtrade's own loader reads: they may execute
    anything, so explain only models that you trust.

    Args:
        file: `cb_..._model.zip` of this package, or `cb_..._model.joblib` of trees.
        userdir: The freqtrade user directory.
        configs: Configs as for freqtrade; `config-lea.json` of the user directory by default.
        datadir: Folder of the candles; `data/EXCHANGE` of the user directory by default.
        strategy: The strategy that makes the features; by default that of the config.
        pair: By default the pair of the config whose coin stands in the file's name.
        timerange: Explain candles of this range, such as 20250901-20250908; the newest by default.
        target: Label to explain; the first by default.
        label_class: Class of a classifier; the last by default.
        max_windows: Candles to explain at most, the newest of the range.

    Raises:
        NotACheckpointError: It is no model file, or none that FreqAI wrote.
        MismatchError: The model was made for another timeframe, other features or another net.
        ConfigError: Config, strategy, pair, range, label or class cannot be used.
        DataError: There are no candles, or no full window of them.
    """
    with _host_errors():
        stem, checkpoint = _read_names(file)
        config = _read_config(userdir, configs, datadir, strategy)
        built = _strategy(config)
        _require_timeframe(checkpoint, config)
        pair = pair or _pair_of(stem.name, config)
        kitchen = FreqaiDataKitchen(config, live=True, pair=pair)
        # Only live it asks for no range to backtest; from here on it is to do as in a backtest.
        kitchen.live = False
        model = _load(stem, checkpoint, kitchen)
        window = 1 if checkpoint is None else checkpoint.window
        span = _span(config, pair, timerange, max_windows + window - 1)
        frame = _features(kitchen, built, span)
        scaled, usable = _scaled(kitchen, frame)
        ends = usable
        if checkpoint is not None:
            ends = full_windows(frame, usable, window, config["timeframe"], _filled(config))
        chosen = np.flatnonzero(ends & (frame["date"] >= span.first).to_numpy())[-max_windows:]
        if not len(chosen):
            raise DataError(
                f"{pair}: of {len(frame)} candles up to {frame['date'].iloc[-1]} {usable.sum()} "
                f"have all features and are no outliers, but nowhere do {window} of them follow "
                f"each other. Choose another timerange, or download the candles before it."
            )
        explain = _explain_trees if checkpoint is None else _explain_net
        found = explain(model, kitchen, scaled, chosen, target, label_class)
    name = type(model).__name__ if checkpoint is None else checkpoint.net
    return ExplainedFile(found, file, name, pair, pd.DatetimeIndex(frame["date"].iloc[chosen]))


def write_results(explained: ExplainedFile, top: int, picture: Path, csv: Path | None) -> None:
    """Write the heat map of the `top` features, and where asked for the table of all.

    Raises:
        ConfigError: A file cannot be written, or the picture's suffix names no kind of picture.
        MissingExtraError: matplotlib is not installed.
    """
    drawn = BytesIO()
    figure = plot_explanation(explained.explanation, explained.title, top)
    try:
        figure.savefig(drawn, dpi=110, format=picture.suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise ConfigError(f"Cannot draw {picture}: {error} Take a name such as x.png.") from error
    try:
        with replacing(picture) as stream:
            stream.write(drawn.getbuffer())
        if csv is not None:
            write_text(csv, explained.explanation.table().to_csv())
    except OSError as error:
        raise ConfigError(f"Cannot write the results: {error}.") from error


def _explain_net(
    model: SequenceEstimator,
    kitchen: FreqaiDataKitchen,
    scaled: pd.DataFrame,
    chosen: IntArray,
    target: str | None,
    label_class: str | None,
) -> Explanation:
    require_names("features", [str(name) for name in scaled], model.feature_names_in_)
    rows = torch.from_numpy(to_float32(scaled.to_numpy()))
    ends = torch.from_numpy(chosen)
    return explain_windows(model, rows, ends, target=target, label_class=label_class)


def _explain_trees(
    model: Any,
    kitchen: FreqaiDataKitchen,
    scaled: pd.DataFrame,
    chosen: IntArray,
    target: str | None,
    label_class: str | None,
) -> Explanation:
    found = explain_trees(
        model,
        scaled.iloc[chosen],
        target=target,
        label_class=label_class,
        label_names=kitchen.label_list,
        # FreqAI numbers the classes for XGBoost in this order.
        class_names=sorted(kitchen.data.get("labels_std", {})),
        max_windows=len(chosen),
    )
    return replace(found, rows=chosen)


@contextmanager
def _host_errors() -> Iterator[None]:
    """Turn freqtrade's own errors into ours, which are shown as one line."""
    try:
        yield
    except FreqtradeException as error:
        raise ConfigError(" ".join(str(error).split())) from error


# the model


def _read_names(file: Path) -> tuple[Path, SequenceState | None]:
    """Return what the names of a model's files begin with, and what our own file holds."""
    if not file.is_file():
        raise NotACheckpointError(f"There is no model file {file}.")
    if file.suffix not in (".zip", ".joblib"):
        raise NotACheckpointError(
            f"{file} is no model file: those of FreqAI end in {OURS}, or for trees in {TREES}."
        )
    checkpoint = read_state(read_checkpoint(file)) if file.suffix == ".zip" else None
    stem = file.with_name(file.name.removesuffix(TREES if checkpoint is None else OURS))
    names = (f"{METADATA}.json", f"{FEATURE_PIPELINE}.pkl", f"{LABEL_PIPELINE}.pkl")
    missing = [name for name in names if not stem.with_name(f"{stem.name}_{name}").is_file()]
    if missing == list(names) and checkpoint is not None:
        raise NotACheckpointError(
            f"{file} was not written by FreqAI, so nothing tells how its features are made. "
            f"Explain it in Python: explain(load_model({file.name!r}), X), both from "
            f"freqai_lstm_plugins."
        )
    if missing:
        raise NotACheckpointError(
            f"There is no {stem.name}_{missing[0]} beside {file}. FreqAI writes it with each "
            f"model: keep a model's files together."
        )
    return stem, checkpoint


def _load(stem: Path, checkpoint: SequenceState | None, kitchen: FreqaiDataKitchen) -> Any:
    """Load a model and its pipelines by freqtrade's own loader, or by ours on top of it."""
    drawer = FreqaiDataDrawer if checkpoint is None else DurableDataDrawer
    kitchen.data_path, kitchen.model_filename = stem.parent, stem.name
    with tempfile.TemporaryDirectory() as folder:
        loader = drawer(Path(folder), kitchen.config)
        loader.model_type = "joblib" if checkpoint is None else "pytorch"
        loader.pair_dict[kitchen.pair] = {
            **loader.empty_pair_dict,
            "model_filename": stem.name,
            "data_path": str(stem.parent),
        }
        try:
            model = loader.load_data(kitchen.pair, kitchen)
        except (FreqaiLSTMError, FreqtradeException):
            raise
        # A pickle that is damaged, or of other packages, may raise anything.
        except Exception as error:
            raise NotACheckpointError(
                f"{stem}: the model or its pipelines cannot be loaded "
                f"({type(error).__name__}: {error}). Use the packages that wrote them."
            ) from error
        if checkpoint is not None and checkpoint.is_own_net:
            _bind_own_net(model, checkpoint, kitchen.config, Path(folder))
    return model


def _bind_own_net(
    model: SequenceEstimator, checkpoint: SequenceState, config: dict[str, Any], folder: Path
) -> None:
    """Let the user's own model class build its net, in a copy of the user directory."""
    models = config["user_data_dir"] / USERPATH_FREQAIMODELS
    if models.is_dir():
        shutil.copytree(models, folder / USERPATH_FREQAIMODELS)
    # A model writes records of the config into its user directory.
    own = deepcopy(config) | {"user_data_dir": folder, "freqaimodel": checkpoint.net}
    changes = {
        "identifier": "explain",
        "conv_width": checkpoint.window,
        "model_training_parameters": {"model_kwargs": checkpoint.net_settings},
    }
    for written in (own, own["original_config"]):
        written["freqai"].update(changes)
    model.bind(FreqaiModelResolver.load_freqaimodel(own).build_net, checkpoint.net)


def _require_timeframe(checkpoint: SequenceState | None, config: dict[str, Any]) -> None:
    step = None if checkpoint is None else checkpoint.data_settings.get("step")
    seconds = timeframe_to_seconds(config["timeframe"])
    if step is not None and pd.Timedelta(step) != pd.Timedelta(seconds=seconds):
        minutes = pd.Timedelta(step) / pd.Timedelta(minutes=1)
        raise MismatchError(
            f"The model was trained on candles of {minutes:g} minutes, and the timeframe of config "
            f"and strategy is {config['timeframe']}. Give the config that it was trained with."
        )


# config and strategy


def _read_config(
    userdir: Path, configs: Sequence[Path], datadir: Path | None, strategy: str | None
) -> dict[str, Any]:
    """Read configs as freqtrade does, without an exchange and without its log settings."""
    if not userdir.is_dir():
        raise ConfigError(
            f"There is no user directory {userdir}. Name it with --userdir, or make one with "
            f"`freqai-lstm install`."
        )
    config: dict[str, Any] = load_from_files([str(path) for path in configs or [userdir / CONFIG]])
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


def _strategy(config: dict[str, Any]) -> Any:
    strategy = StrategyResolver.load_strategy(config)
    validate_config_consistency(config)
    strategy.dp = DataProvider(config, None)
    strategy.freqai_info = config["freqai"]
    strategy.bot_start()
    return strategy


def _filled(config: dict[str, Any]) -> str:
    given = config["freqai"].get("model_training_parameters", {}).get("window_kwargs") or {}
    return parse_settings(WindowConfig, given, "window_kwargs").filled_candles


def _pair_of(name: str, config: dict[str, Any]) -> str:
    """Return the pair of the config whose coin stands in a model's name, as in cb_btc_1751328000.

    Raises:
        ConfigError: There is none, or more than one.
    """
    pairs: list[str] = config["exchange"]["pair_whitelist"]
    found = [pair for pair in pairs if re.fullmatch(rf"cb_{re.escape(_coin(pair))}_\d+", name)]
    if len(found) != 1:
        raise ConfigError(
            f"Which pair is {name!r} of? The config's pairs are {', '.join(pairs) or 'none'}. Name "
            f"it with --pair."
        )
    return found[0]


def _coin(pair: str) -> str:
    return pair.split("/")[0].lower()


# candles and features


class _Span(NamedTuple):
    """Which candles to load, and which of them to explain."""

    start: pd.Timestamp
    first: pd.Timestamp
    stop: pd.Timestamp

    @property
    def timerange(self) -> TimeRange:
        """The range to load, for freqtrade."""
        start, stop = int(self.start.timestamp()), int(self.stop.timestamp())
        return TimeRange("date", "date", start, stop)


def _span(config: dict[str, Any], pair: str, timerange: str | None, n_candles: int) -> _Span:
    """Find the candles to explain, and as many before them as freqtrade loads for indicators."""
    dates = _candles(config, pair, config["timeframe"])["date"]
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
    first = dates.iloc[max(len(dates) - n_candles, 0)]
    settings = config["freqai"]["feature_parameters"]
    periods = settings.get("indicator_periods_candles") or [0]
    longest = max(timeframe_to_seconds(name) for name in settings["include_timeframes"])
    startup = 1.5 * max(config.get("startup_candle_count", 0), *periods) * longest
    # Freqtrade merges candles of longer timeframes once they have closed.
    return _Span(first - pd.Timedelta(seconds=startup + longest), first, dates.iloc[-1])


def _candles(
    config: dict[str, Any], pair: str, timeframe: str, span: _Span | None = None
) -> pd.DataFrame:
    """Load stored candles, those of a span where one is given."""
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


def _features(kitchen: FreqaiDataKitchen, strategy: Any, span: _Span) -> pd.DataFrame:
    """Let the strategy make the features of all candles of a span."""
    config, pair = kitchen.config, kitchen.pair
    settings = config["freqai"]["feature_parameters"]
    config["timerange"] = span.timerange.timerange_str
    base, others = (
        {
            name: {
                timeframe: _candles(config, name, timeframe, span)
                for timeframe in settings["include_timeframes"]
            }
            for name in names
        }
        for names in ([pair], set(settings.get("include_corr_pairlist", [])) - {pair})
    )
    try:
        frame = kitchen.use_strategy_to_populate_indicators(
            strategy, corr_dataframes=others, base_dataframes=base[pair], pair=pair
        )
    except FreqtradeException:
        raise
    # What the user's own code raises is not known.
    except Exception as error:
        raise ConfigError(
            f"The strategy {config['strategy']} failed to make the features of {pair} "
            f"({type(error).__name__}: {error}). Show where with --debug."
        ) from error
    return kitchen.remove_special_chars_from_feature_names(frame).reset_index(drop=True)


def _scaled(kitchen: FreqaiDataKitchen, frame: pd.DataFrame) -> tuple[pd.DataFrame, BoolArray]:
    """Return the features behind the model's own pipeline, and which candles may be explained."""
    expected = kitchen.data["training_features_list"]
    kitchen.find_features(frame)
    try:
        require_names("features", kitchen.training_features_list, expected)
    except MismatchError as error:
        raise MismatchError(
            f"The strategy {kitchen.config['strategy']} makes other features with this config than "
            f"those of the model. {error}"
        ) from error
    filtered, _ = kitchen.filter_features(frame, expected, training_filter=False)
    usable = kitchen.do_predict.astype(bool)
    scaled, inliers, _ = kitchen.feature_pipeline.transform(filtered, outlier_check=True)
    return scaled, usable & (np.asarray(inliers) == 1) & finite_rows(scaled.to_numpy())
