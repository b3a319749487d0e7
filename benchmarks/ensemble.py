"""Ensembles beside their members: training, prediction, memory, files, and a bot's growth."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

from benchmarks import peak
from benchmarks.data import made_up
from benchmarks.measure import Ratio, Row, Spread, alternate, ratios
from benchmarks.sizes import EnsembleSize, Size
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.windows import build_window_set
from freqai_lstm_plugins.models.catalogue import new_model
from freqai_lstm_plugins.models.contract import Model
from freqai_lstm_plugins.models.ensemble.out_of_fold import (
    all_windows,
    choose_folds,
    fold_data,
    tested_rows,
)
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.models.registry import save_model
from tests.freqai.host import make_frame, make_model, next_candle, train

FOLDS, PERIOD, VALID_SHARE = 3, 4, 0.15
# Candles of a bot's frame.
FRAME = 120
KWARGS = "freqai__model_training_parameters__model_kwargs"


def ensemble(size: Size) -> Row:
    """Compare an ensemble with its members by themselves."""
    shape = size.ensemble
    row = Row(
        "ensemble",
        "Ensembles",
        f"Members are an LSTM of {shape.hidden_size} units, LightGBM of {shape.trees} trees and "
        f"ridge, on {shape.rows:,} rows of {shape.features} features and windows of {size.window} "
        f"rows, with {FOLDS} folds over the last half. No member stops early, so both sides make "
        "the same passes. The sum is that of the members trained, asked or saved by themselves, "
        "one after the other; with folds included, on the same folds too. Memory is that of "
        f"{shape.memory_rows:,} rows of {shape.memory_features} features.",
    )
    data, members = made_up_data(shape.rows, shape.features, size.window), members_of(shape)
    _add_trainings(row, data, members, size)
    fitted = new_ensemble(members, size.window).fit_windows(data)
    alone = [
        new_model(member.kind, member.settings, window=size.window, seed=1).fit_windows(data)
        for member in fitted.members
    ]
    _add_predictions(row, fitted, alone, data, size)
    _add_files(row, fitted, alone)
    if peak.is_measurable():
        _add_peaks(row, members, size)
        _add_growth(row, shape.candles)
    else:
        row.notes.append("Memory is measured on Linux only.")
    return row


def members_of(shape: EnsembleSize) -> dict[str, dict[str, Any]]:
    """Return the members' settings, none of which stops early."""
    net = {"hidden_size": shape.hidden_size, "num_layers": 1, "max_epochs": shape.epochs}
    trees = {"n_estimators": shape.trees, "early_stopping_rounds": 0}
    return {
        "lstm": {**net, "patience": shape.epochs, "num_threads": 1},
        "lightgbm": trees,
        "ridge": {"alpha": 0.1},
    }


def new_ensemble(members: dict[str, dict[str, Any]], window: int) -> EnsembleRegressor:
    """Return an ensemble that is not trained yet."""
    return EnsembleRegressor(members, window=window, label_period=PERIOD, folds=FOLDS, seed=1)


def made_up_data(n_rows: int, n_features: int, window: int) -> Prepared:
    """Return windows of noise, the last of them for validation."""
    rows, targets = made_up(n_rows, n_features)
    is_late = np.arange(n_rows) >= round(n_rows * (1 - VALID_SHARE))
    has_window = np.arange(n_rows) >= window - 1
    tensor, weights = torch.from_numpy(rows), np.ones(n_rows)
    train, valid = (
        build_window_set(tensor, targets, weights, has_window & part, window)
        for part in (~is_late, is_late)
    )
    return Prepared(train, valid, Schema([f"x{k}" for k in range(n_features)], ["y"]))


def _add_trainings(
    row: Row, data: Prepared, members: dict[str, dict[str, Any]], size: Size
) -> None:
    windows = all_windows(data, PERIOD)
    folds = choose_folds(windows.times, windows.known_at, PERIOD, FOLDS)
    parts = []
    for fold in folds:
        past, scaling = fold_data(data, windows, fold)
        parts.append((past, *tested_rows(past, scaling, windows, fold)))

    def once() -> None:
        for name, settings in members.items():
            new_model(name, settings, window=size.window, seed=1).fit_windows(data)

    def everything() -> None:
        for name, settings in members.items():
            for past, rows, ends in parts:
                model = new_model(name, settings, window=size.window, seed=1).fit_windows(past)
                has_window = np.zeros(len(rows), dtype=bool)
                has_window[ends] = True
                model.predict_windows(rows, has_window)
        once()

    sides = {
        "ensemble": lambda: new_ensemble(members, size.window).fit_windows(data),
        "members, folds included": everything,
        "members once": once,
    }
    times = alternate(sides, size.ensemble.rounds)
    for name, goal in (("members, folds included", "at most 1.1"), ("members once", "at most 3.3")):
        spread = Spread.of(ratios(times["ensemble"], times[name]))
        row.ratios.append(Ratio(f"training: ensemble / {name}", spread, goal))
    for name, seconds in times.items():
        row.absolute.append((f"training: {name}", Spread.of(seconds), "s"))


def _add_predictions(
    row: Row, fitted: EnsembleRegressor, alone: list[Model], data: Prepared, size: Size
) -> None:
    rows = data.train.rows.numpy()
    newest = rows[-size.window :]
    for what, given, has_window in (
        ("a slice", rows, np.arange(len(rows)) >= size.window - 1),
        ("the newest candle", newest, np.arange(size.window) == size.window - 1),
    ):

        def members(given: Any = given, has_window: Any = has_window) -> None:
            for model in alone:
                model.predict_windows(given, has_window)

        sides = {
            "ensemble": partial(fitted.predict_windows, given, has_window),
            "members": members,
        }
        times = alternate(sides, size.rounds if what == "a slice" else size.live_rounds)
        spread = Spread.of(ratios(times["ensemble"], times["members"]))
        row.ratios.append(Ratio(f"prediction of {what}: ensemble / members", spread, "at most 1.1"))
        for name, seconds in times.items():
            row.absolute.append((f"prediction of {what}: {name}", Spread.of(seconds), "s"))


def _add_files(row: Row, fitted: EnsembleRegressor, alone: list[Model]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.zip")
        sizes = []
        for model in (fitted, *alone):
            save_model(model, path)
            sizes.append(path.stat().st_size)
    ours, *others = sizes
    spread = Spread.of([ours / sum(others)])
    row.ratios.append(Ratio("model file: ensemble / sum of the members'", spread, "at most 1.05"))
    row.absolute.append(("model file: ensemble", Spread.of([ours]), "B"))


def _add_peaks(row: Row, members: dict[str, dict[str, Any]], size: Size) -> None:
    shape = size.ensemble
    sizes = {
        "rows": shape.memory_rows,
        "features": shape.memory_features,
        "window": size.window,
    }
    # One pass is enough for the peak.
    members = {**members, "lstm": {**members["lstm"], "max_epochs": 1}}
    ours = peak.in_child("ensemble", **sizes, members=members).bytes
    alone = {
        name: peak.in_child("ensemble", **sizes, members={name: settings}, folds=False).bytes
        for name, settings in members.items()
    }
    spread = Spread.of([ours / max(alone.values())])
    row.ratios.append(
        Ratio("training's peak: ensemble / the largest member's", spread, "at most 1.2")
    )
    for name, found in {"ensemble": ours, **alone}.items():
        row.absolute.append((f"training's peak: {name}", Spread.of([found]), "B"))


def _add_growth(row: Row, n_candles: int) -> None:
    """Let a bot with weights that follow labels predict candle after candle."""
    frame = make_frame(400 + n_candles + FRAME)
    label = "&-target"
    known = {"members": {"ridge": {}, "naive_zero": {}}, "combine": "dynamic", "rates": [1.0]}
    levels = []
    with TemporaryDirectory() as folder:
        model = make_model(Path(folder), freqaimodel="LeaEnsembleRegressor", **{KWARGS: known})
        train(model, frame.iloc[:400])
        for candle in range(n_candles):
            part = frame.iloc[300 + candle : 301 + candle + FRAME].copy()
            part.loc[part.index[-3:], label] = np.nan
            next_candle(model, part)
            if candle % max(n_candles // 40, 1) == 0:
                gc.collect()
                levels.append(psutil.Process().memory_info().rss)
    # The first candles fill what is kept of a frame.
    kept = pd.Series(levels[len(levels) // 4 :])
    third = max(len(kept) // 3, 1)
    growth = kept.tail(third).median() - kept.head(third).median()
    what = f"a bot's memory after {n_candles:,} candles / that of the first ones"
    spread = Spread.of([1 + growth / kept.head(third).median()])
    row.ratios.append(Ratio(what, spread, "1"))
