"""One net for all pairs in FreqAI beside a net a pair: one cycle of a bot, features apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from benchmarks import peak
from benchmarks.host import made_up_frame
from benchmarks.measure import Ratio, Row, Spread, alternate, ratios
from benchmarks.sizes import Size
from freqai_lstm_plugins.freqai.panel.training import Slice
from tests.freqai import host

ALL = "one net for all pairs"
EACH = "a net a pair"
PANEL = "freqai__model_training_parameters__panel"


def panel(size: Size) -> Row:
    """Time a cycle of trainings with steps or epochs bounded, and measure its memory."""
    shape = size.panel
    row = Row(
        "panel",
        "One net for all pairs",
        f"Every pair is trained once, as in a cycle of a bot whose features are made already: "
        f"{shape.rows:,} candles a pair, {shape.features} features, windows of {size.window}, one "
        f"LSTM layer of {shape.hidden_size} units. One side prepares and trains pair after pair; "
        f"the other prepares each pair by the same code and trains one net. With n_steps both do "
        f"{shape.steps} steps of {size.batch_size} windows, the first side for each pair; with "
        f"epochs each window is seen {shape.epochs} times.",
    )
    for n_pairs in shape.pairs:
        for how, bound in (("n_steps", shape.steps), ("epochs", shape.epochs)):
            _add_times(row, size, n_pairs, how, bound)
    if peak.is_measurable():
        for n_pairs in shape.pairs:
            _add_peak(row, size, n_pairs)
    else:
        row.notes.append("Peak memory is measured on Linux only.")
    return row


def _add_times(row: Row, size: Size, n_pairs: int, how: str, bound: int) -> None:
    frames = _frames(size, n_pairs)
    with TemporaryDirectory() as folder:
        setting = {"n_steps": bound} if how == "n_steps" else {"n_epochs": bound}
        one = _model(Path(folder) / "one", size, frames, setting, {PANEL: {}})
        each = _model(Path(folder) / "each", size, frames, setting)
        first = {name: frames[name] for name in list(frames)[:1]}
        sides = {
            ALL: partial(train_all, one, frames),
            EACH: partial(train_each, each, frames),
            "one pair": partial(train_each, each, first),
        }
        times = alternate(sides, size.panel.rounds, warmups=0)
    what = f"{n_pairs} pairs, {how} = {bound}"
    goal = "at least 1" if how == "epochs" else ""
    row.compare(what, {ALL: times[ALL], EACH: times[EACH]}, {EACH: goal})
    if how == "n_steps":
        spread = Spread.of(ratios(times[ALL], times["one pair"]))
        row.ratios.append(Ratio(f"{what}: {ALL} / one pair", spread, "at most 1.5"))


def _add_peak(row: Row, size: Size, n_pairs: int) -> None:
    shape = size.panel
    found = peak.in_child(
        "panel",
        pairs=n_pairs,
        rows=shape.rows,
        features=shape.features,
        window=size.window,
        hidden_size=shape.hidden_size,
        steps=shape.steps,
    )
    joined = 4 * n_pairs * shape.rows * shape.features
    what = f"{n_pairs} pairs: peak of the training"
    row.ratios.append(
        Ratio(f"{what} / joined rows", Spread.of([found.bytes / joined]), "at most 1.3")
    )
    row.absolute.append((what, Spread.of([found.bytes]), "B"))


def _frames(size: Size, n_pairs: int) -> dict[str, pd.DataFrame]:
    return make_frames(n_pairs, size.panel.rows, size.panel.features)


def make_frames(n_pairs: int, rows: int, features: int) -> dict[str, pd.DataFrame]:
    """Return made-up candles with features and a label, each pair's of another scale."""
    frame = made_up_frame(rows, features)
    names = [str(name) for name in frame if str(name).startswith("%")]
    return {
        f"P{number:02}/USDT": frame.assign(**{name: frame[name] * (1 + number) for name in names})
        for number in range(n_pairs)
    }


def _model(
    folder: Path, size: Size, frames: dict[str, Any], training: dict[str, int], *more: Any
) -> Any:
    return make_model(
        folder, list(frames), size.window, size.panel.hidden_size, training, size.batch_size, *more
    )


def make_model(
    folder: Path,
    pairs: list[str],
    window: int,
    hidden_size: int,
    training: dict[str, int],
    batch_size: int,
    changes: dict[str, Any] | None = None,
) -> Any:
    """Load a FreqAI model that is trained for a bounded time."""
    given = {**training, "batch_size": batch_size, "patience": 0}
    return host.make_model(
        folder,
        exchange__pair_whitelist=pairs,
        freqai__conv_width=window,
        freqai__model_training_parameters={
            "model_kwargs": {"hidden_size": hidden_size, "num_layers": 1},
            "trainer_kwargs": given,
        },
        **(changes or {}),
    )


def train_all(model: Any, frames: dict[str, pd.DataFrame]) -> Any:
    """Train one net for all pairs."""

    def slice_of(pair: str) -> Slice:
        kitchen = model.new_kitchen(pair)
        kitchen.find_features(frames[pair])
        kitchen.find_labels(frames[pair])
        kitchen.set_new_model_names(pair, 1)
        return Slice(frames[pair], kitchen)

    dates = {pair: frame["date"] for pair, frame in frames.items()}
    return model.train_panel(1, list(frames), dates, slice_of)


def train_each(model: Any, frames: dict[str, pd.DataFrame]) -> list[Any]:
    """Train a net for each pair."""
    trained = []
    for pair, frame in frames.items():
        kitchen = FreqaiDataKitchen(model.config, True, pair)
        kitchen.find_features(frame)
        kitchen.find_labels(frame)
        trained.append(model.train(frame, pair, kitchen))
    return trained


def peak_of_training(
    folder: Path, pairs: int, rows: int, features: int, window: int, hidden_size: int, steps: int
) -> Callable[[], object]:
    """Return a training of one net for all pairs whose features are made already."""
    frames = make_frames(pairs, rows, features)
    model = make_model(
        folder, list(frames), window, hidden_size, {"n_steps": steps}, 256, {PANEL: {}}
    )
    # What torch and numba set up once is not measured.
    train_all(model, {name: frames[name].tail(20 * window) for name in list(frames)[:2]})
    return partial(train_all, model, frames)
