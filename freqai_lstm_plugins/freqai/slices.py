"""From a training slice to windows: which candle is a target, which is context, which is neither.

A candle takes part under its position in the slice. FreqAI's pipelines drop rows and renumber
them, so the position travels through them as an extra label column.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from freqtrade.exchange import timeframe_to_seconds

from freqai_lstm_plugins.data.arrays import BoolArray, finite_rows, to_float32
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.splits import purged
from freqai_lstm_plugins.data.windows import (
    WindowSet,
    build_window_set,
    consecutive_in_time,
    window_ends,
)
from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.columns import refuse_unusable_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from datasieve.pipeline import Pipeline
    from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

logger = logging.getLogger(__name__)

CANDLE = ("open", "high", "low", "close", "volume")
_POSITION = "row position"


def full_windows(
    frame: pd.DataFrame, usable: BoolArray, window: int, timeframe: str, filled_candles: str
) -> BoolArray:
    """Tell at which candles of `frame` a full window of usable candles ends.

    Args:
        frame: Candles with their dates.
        usable: (N,) whether a candle may stand in a window.
        window: W.
        timeframe: Time between two candles, such as `5m`.
        filled_candles: `break` takes candles that the host made up for not usable.
    """
    if filled_candles == "break":
        usable = usable & ~_is_filled(frame)
    # By time and not by position: the exchange may have left candles out.
    step = np.timedelta64(timeframe_to_seconds(timeframe), "s")
    times = frame["date"].to_numpy(dtype="datetime64[ns]")
    return window_ends(usable, window, consecutive_in_time(times, step))


def _is_filled(frame: pd.DataFrame) -> BoolArray:
    """Tell which candles the host made up where the exchange had none."""
    if not all(name in frame.columns for name in CANDLE):
        return np.zeros(len(frame), dtype=bool)
    filled: BoolArray = frame["volume"].to_numpy(dtype=float) == 0
    # Nearly always there is none, and this runs for every candle of every pair.
    if filled.any():
        prices = frame[list(CANDLE[:4])].to_numpy(dtype=float)
        filled &= (prices == prices[:, :1]).all(axis=1)
    return filled


def prepare_training(
    unfiltered_df: pd.DataFrame,
    dk: FreqaiDataKitchen,
    *,
    features: list[str],
    feature_pipeline: Pipeline,
    label_pipeline: Pipeline,
    label_numbers: Callable[[pd.DataFrame, FreqaiDataKitchen], dict[str, pd.Series]],
    window: int,
    label_period: int,
    seed: int,
    has_window: Callable[[pd.DataFrame, BoolArray], BoolArray],
    fits_labels: bool,
    cut: pd.Timestamp | None = None,
) -> dict[str, Any]:
    """Split, clean and scale a training slice, and find its windows.

    Args:
        unfiltered_df: Candles with features and labels.
        dk: The pair's data kitchen. Its data dictionary and pipelines are set.
        features: Columns that the model sees.
        feature_pipeline: Not fitted yet.
        label_pipeline: Not fitted yet.
        label_numbers: Gives the label columns as numbers, NaN where a candle has none.
        window: W.
        label_period: Candles that a label looks ahead.
        seed: Seed of the pipelines' own randomness.
        has_window: Tells from candles and their usability where full windows end.
        fits_labels: Store the labels' mean and deviation in `dk`.
        cut: Time at which the later part of the split begins, which `dk` splits by; None where it
            splits by a fraction of the rows.

    Returns:
        `dk.data_dictionary` with `train_windows`, `valid_windows`, `feature_names` and the `dates`
        of the slice's candles.

    Raises:
        DataError: No row, or no window, is left to train on, or a feature holds no numbers.
    """
    # From here on a label of the index is a candle's position, through all of FreqAI's steps.
    frame = unfiltered_df.reset_index(drop=True)
    refuse_unusable_features(frame, features, dk.pair)
    frame = frame.assign(**label_numbers(frame, dk))
    data = _split(frame, features, dk, label_period, cut)
    if fits_labels:
        dk.fit_labels()
    dk.feature_pipeline, dk.label_pipeline = feature_pipeline, label_pipeline
    rows, targets, weights = _fit_pipelines(frame, features, dk, seed)
    # (N,) also candles that are no target: outliers, purged and unlabelled ones are context.
    usable = finite_rows(rows)
    ends = has_window(frame, usable)
    tensor = torch.from_numpy(rows)
    sets = {
        name: build_window_set(tensor, targets[name], weights[name], ends, window)
        for name in ("train", "test")
    }
    if not len(sets["train"]):
        raise DataError(_no_window_message(dk, frame, usable, window))
    _log_windowless(dk, sets["train"], targets["train"])
    return {
        **data,
        "train_windows": sets["train"],
        "valid_windows": sets["test"],
        "dates": frame["date"],
        "feature_names": [str(name) for name in data["train_features"].columns],
    }


def prepared_of(data: dict[str, Any], schema: Schema) -> Prepared:
    """Return what a model is trained on, of one pair or of many.

    Args:
        data: What `prepare_slice` of a model or `JoinedRows` gives.
        schema: What the columns are called.
    """
    valid = data["valid_windows"]
    return Prepared(
        data["train_windows"],
        valid if len(valid) else None,
        schema,
        valid_symbols=data.get("valid_symbols"),
        times=data.get("times"),
        known_at=data.get("known_at"),
    )


def _split(
    frame: pd.DataFrame,
    features: list[str],
    dk: FreqaiDataKitchen,
    label_period: int,
    cut: pd.Timestamp | None,
) -> dict[str, Any]:
    """Return FreqAI's dictionary of training and test rows, those with features and labels.

    Raises:
        DataError: No training row is left.
    """
    known, labels = dk.filter_features(frame, features, dk.label_list, training_filter=True)
    if known.empty:
        raise DataError(_nothing_left_message(frame, features, dk))
    data = dk.make_train_test_datasets(known, labels)
    _purge(data, label_period, frame["date"], cut)
    if data["train_features"].empty:
        raise DataError(
            f"{dk.pair}: no training row is left once the last label_period_candles = "
            f"{label_period} rows before the test split are taken out. Lengthen "
            f"train_period_days, or lower data_split_parameters.test_size."
        )
    return data


def _purge(
    data: dict[str, Any], label_period: int, dates: pd.Series, cut: pd.Timestamp | None
) -> None:
    """Take out the rows of the earlier part whose labels reach into the later one.

    After a cut in time all rows belong to the later part, whether this pair has targets there or
    others alone.
    """
    if data["test_features"].empty and cut is None:
        return
    parts = {name: np.asarray(data[f"{name}_features"].index) for name in _PARTS}
    # `reverse_train_test_order` puts the test part first.
    first, second = sorted(parts, key=lambda name: parts[name][0] if len(parts[name]) else np.inf)
    masks = {name: np.zeros(len(dates), dtype=bool) for name in _PARTS}
    for name, positions in parts.items():
        masks[name][positions] = True
    later = masks[second] if cut is None else (dates >= cut).to_numpy()
    # Nothing comes before the cut where the order is reversed and the pair came after it.
    if later[parts[first]].all():
        return
    kept = purged(masks[first], later, label_period)[parts[first]]
    for kind in ("features", "labels", "weights"):
        data[f"{first}_{kind}"] = data[f"{first}_{kind}"][kept]


def _fit_pipelines(
    frame: pd.DataFrame, features: list[str], dk: FreqaiDataKitchen, seed: int
) -> tuple[
    npt.NDArray[np.float32], dict[str, npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]
]:
    """Fit the pipelines on training rows, and put every scaled row in its place.

    Returns:
        rows: (N, F) scaled features; NaN where a candle is not usable.
        targets: (N, K) for each part; NaN where a candle is no target of it.
        weights: (N,) for each part.
    """
    data = dk.data_dictionary
    targets = {name: np.full((len(frame), len(dk.label_list)), np.nan) for name in _PARTS}
    weights = {name: np.zeros(len(frame)) for name in _PARTS}
    placed = []
    with _numpy_seeded(seed):
        for name in _PARTS:
            if data[f"{name}_features"].empty:
                continue
            positions = _transform_part(dk, name)
            placed.append((positions, data[f"{name}_features"].to_numpy()))
            targets[name][positions] = data[f"{name}_labels"].to_numpy()
            weights[name][positions] = data[f"{name}_weights"]
        rows = np.full((len(frame), data["train_features"].shape[1]), np.nan, dtype=np.float32)
        for positions, values in placed:
            rows[positions] = to_float32(values)
        # Transformed, not fitted: they must not change what training rows say of scale.
        context = _context_features(frame[features], rows)
        if len(context):
            values, _, _ = dk.feature_pipeline.transform(context, outlier_check=True)
            rows[context.index] = to_float32(values.to_numpy())
    return rows, targets, weights


_PARTS = ("train", "test")


def _transform_part(dk: FreqaiDataKitchen, name: str) -> npt.NDArray[np.int64]:
    """Scale one part in place, dropping its outliers, and return the positions that are left."""
    data = dk.data_dictionary
    features, labels = data[f"{name}_features"], data[f"{name}_labels"]
    labels = labels.assign(**{_POSITION: labels.index.to_numpy()})
    step = dk.feature_pipeline.fit_transform if name == "train" else dk.feature_pipeline.transform
    try:
        features, labels, weights = step(features, labels, np.asarray(data[f"{name}_weights"]))
    except ValueError as error:
        # The step drops constant columns, and says this where none is left.
        if "variance threshold" not in str(error):
            raise
        raise DataError(
            f"{dk.pair}: every feature is constant over the {len(features)} training rows, so "
            f"there is nothing to learn from."
        ) from error
    # Outlier detectors have dropped rows: the column says which are left.
    positions = labels.pop(_POSITION).to_numpy().astype(np.int64)
    scale = dk.label_pipeline.fit_transform if name == "train" else dk.label_pipeline.transform
    labels, _, _ = scale(labels)
    data[f"{name}_features"], data[f"{name}_labels"] = features, labels
    data[f"{name}_weights"] = np.asarray(weights)
    return positions


def _context_features(features: pd.DataFrame, rows: npt.NDArray[np.float32]) -> pd.DataFrame:
    """Return the finite features of candles that are no target: outliers, purged, unlabelled."""
    is_finite = finite_rows(features.to_numpy(dtype=float, na_value=np.nan))
    return features[is_finite & np.isnan(rows).any(axis=1)]


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which the pipelines draw from, and restore it after."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _log_windowless(
    dk: FreqaiDataKitchen, train: WindowSet, targets: npt.NDArray[np.float64]
) -> None:
    n_targets = int(np.isfinite(targets).all(axis=1).sum())
    missing = n_targets - len(train)
    # Fewer are lost at the start of every slice.
    if missing >= train.window:
        logger.info(
            "%s: %d of %d training rows have no full window before them (gaps or missing values).",
            dk.pair,
            missing,
            n_targets,
        )


def _nothing_left_message(frame: pd.DataFrame, features: list[str], dk: FreqaiDataKitchen) -> str:
    columns = frame[[*features, *dk.label_list]]
    counts = columns.replace([np.inf, -np.inf], np.nan).isna().sum()
    worst = str(counts.idxmax()) if len(counts) else "none"
    return (
        f"{dk.pair}: none of {len(frame)} training candles has finite features and labels; "
        f"{worst!r} is missing in {int(counts.max())} of them. Check that feature, or load more "
        f"candles before the training period."
    )


def _no_window_message(
    dk: FreqaiDataKitchen, frame: pd.DataFrame, usable: BoolArray, window: int
) -> str:
    return (
        f"{dk.pair}: no training window. {int(usable.sum())} of {len(frame)} candles are usable, "
        f"but nowhere do {window} of them follow each other up to a candle with a label. Lengthen "
        f"train_period_days, lower conv_width, or look for gaps in the candles."
    )
