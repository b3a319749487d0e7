"""What a model that FreqAI saved looks at, on candles from disk, without an exchange.

The features come from the strategy through freqtrade's data kitchen, and windows are made by the
rules of `SequenceModel`. The user's model folder is only read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from freqtrade.exchange import timeframe_to_seconds

from freqai_lstm_plugins.config import WindowConfig, parse_settings
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError
from freqai_lstm_plugins.explanations.ensemble import explain_fitted
from freqai_lstm_plugins.explanations.explanation import DEFAULT_WINDOWS, Explanation
from freqai_lstm_plugins.explanations.picture import plot_explanation
from freqai_lstm_plugins.explanations.trees import explain_trees
from freqai_lstm_plugins.files import write_bytes, write_text
from freqai_lstm_plugins.freqai.frames import ScaledRows, require_features, scale_rows
from freqai_lstm_plugins.freqai.offline import (
    choose_span,
    host_errors,
    load_strategy,
    make_features,
    new_kitchen,
    read_config,
)
from freqai_lstm_plugins.freqai.saved import find_saved, load_saved
from freqai_lstm_plugins.names import require_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

    from freqai_lstm_plugins.data.arrays import IntArray
    from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
    from freqai_lstm_plugins.models.estimator import SequenceEstimator


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
        pair: By default the pair of the config whose coin stands in the file's name; one net for
            many pairs needs it.
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
    with host_errors():
        saved = find_saved(file, pair)
        config = read_config(userdir, configs, datadir, strategy)
        built = load_strategy(config)
        _require_timeframe(saved.step, config)
        pair = pair or _pair_of(saved.stem.name, config)
        kitchen = new_kitchen(config, pair)
        model = load_saved(saved, kitchen)
        span = choose_span(config, pair, timerange, max_windows + saved.window - 1)
        frame = make_features(kitchen, built, span)
        _require_features(frame, kitchen)
        # Trees see the candles that the host made up as they are.
        filled_candles = "keep" if saved.is_trees else _filled(config)
        rows = scale_rows(frame, kitchen, saved.window, filled_candles)
        wanted = rows.counts & (frame["date"] >= span.first).to_numpy()
        chosen = np.flatnonzero(wanted)[-max_windows:]
        if not len(chosen):
            raise DataError(
                f"{pair}: of {len(frame)} candles up to {frame['date'].iloc[-1]} "
                f"{rows.is_usable.sum()} have all features, {rows.is_inlier.sum()} are no "
                f"outliers, and the bot would predict none of the range from {saved.window} of "
                f"them. Choose another timerange, or download the candles before it."
            )
        explain = _explain_trees if saved.is_trees else _explain_ours
        found = explain(model, kitchen, rows, chosen, target, label_class)
    name = type(model).__name__ if saved.is_trees else saved.name
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
        write_bytes(picture, drawn.getbuffer())
        if csv is not None:
            write_text(csv, explained.explanation.table().to_csv())
    except OSError as error:
        raise ConfigError(f"Cannot write the results: {error}.") from error


def _explain_ours(
    model: EnsembleRegressor | SequenceEstimator,
    _kitchen: FreqaiDataKitchen,
    rows: ScaledRows,
    chosen: IntArray,
    target: str | None,
    label_class: str | None,
) -> Explanation:
    require_names("features", rows.names, model.feature_names_in_)
    tensor, ends = torch.from_numpy(rows.values), torch.from_numpy(chosen)
    return explain_fitted(model, tensor, ends, target=target, label_class=label_class)


def _explain_trees(
    model: Any,
    kitchen: FreqaiDataKitchen,
    rows: ScaledRows,
    chosen: IntArray,
    target: str | None,
    label_class: str | None,
) -> Explanation:
    found = explain_trees(
        model,
        rows.frame.iloc[chosen],
        target=target,
        label_class=label_class,
        label_names=kitchen.label_list,
        # FreqAI numbers the classes for XGBoost in this order.
        class_names=sorted(kitchen.data.get("labels_std", {})),
        max_windows=len(chosen),
    )
    return replace(found, rows=chosen)


def _require_timeframe(step: str | None, config: dict[str, Any]) -> None:
    seconds = timeframe_to_seconds(config["timeframe"])
    if step is not None and pd.Timedelta(step) != pd.Timedelta(seconds=seconds):
        minutes = pd.Timedelta(step) / pd.Timedelta(minutes=1)
        raise MismatchError(
            f"The model was trained on candles of {minutes:g} minutes, and the timeframe of config "
            f"and strategy is {config['timeframe']}. Give the config that it was trained with."
        )


def _require_features(frame: pd.DataFrame, kitchen: FreqaiDataKitchen) -> None:
    try:
        require_features(frame, kitchen)
    except MismatchError as error:
        raise MismatchError(
            f"The strategy {kitchen.config['strategy']} makes other features with this config than "
            f"those of the model. {error}"
        ) from error


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
