"""One net for all pairs in FreqAI beside a net a pair: one cycle of a bot."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks import peak
from benchmarks.host import made_up_frame
from benchmarks.measure import Ratio, Row, Side, Spread, Stopwatch, alternate, ratios
from benchmarks.sizes import Size
from freqai_lstm_plugins.freqai.panel.training import Slice
from freqai_lstm_plugins.install import install
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai import host
from tests.freqai.saved import load_model, resampled

ALL = "one net for all pairs"
EACH = "a net a pair"
ONE = "one pair"
PANEL = "freqai__model_training_parameters__panel"
TIMEFRAMES = {"5m": "5min", "15m": "15min"}
# Parts of a cycle, from the training alone to all that the bot's host does for it.
FIT, APART, WHOLE = "the training itself", "a cycle, features apart", "a cycle with features"


def panel(size: Size) -> Row:
    """Time a cycle of trainings with steps or epochs bounded, and measure its memory."""
    shape = size.panel
    row = Row(
        "panel",
        "One net for all pairs",
        f"Every pair is trained once, as in a cycle of a bot: {shape.candles:,} candles a pair, "
        f"the installed strategy's features over {' and '.join(TIMEFRAMES)}, windows of "
        f"{size.window}, one LSTM layer of {shape.hidden_size} units. One side makes features, "
        f"prepares and trains pair after pair; the other makes and prepares them by the same code "
        f"and trains one net. With n_steps both do {shape.steps} steps of {size.batch_size} "
        f"windows, the first side for each pair; with epochs each window is seen {shape.epochs} "
        f"times. Peak memory is that above {shape.rows:,} candles a pair with made-up features, "
        f"which stand there already. Beside the joined rows it holds what a training of one pair "
        f"takes, whatever their number: what further pairs add to it stands by itself.",
    )
    for n_pairs in shape.pairs:
        for how, bound in (("n_steps", shape.steps), ("n_epochs", shape.epochs)):
            _add_times(row, size, n_pairs, how, bound)
    if peak.is_measurable():
        for n_features in shape.features:
            _add_peaks(row, size, n_features)
    else:
        row.notes.append("Peak memory is measured on Linux only.")
    return row


def _add_times(row: Row, size: Size, n_pairs: int, how: str, bound: int) -> None:
    pairs = [f"P{number:02}/USDT" for number in range(n_pairs)]
    market = make_market(pairs, size.panel.candles)
    with TemporaryDirectory() as folder:
        cycles = {
            ALL: Cycle(Path(folder) / "all", size, market, {how: bound}, panel={}),
            EACH: Cycle(Path(folder) / "each", size, market, {how: bound}),
            ONE: Cycle(Path(folder) / "one", size, market, {how: bound}),
        }
        sides: dict[str, Side] = {
            ALL: cycles[ALL].train_all,
            EACH: cycles[EACH].train_each,
            ONE: partial(cycles[ONE].train_each, pairs[:1]),
        }
        for name, cycle in cycles.items():
            # What torch and numba set up once belongs to no cycle.
            cycle.warm_up(is_panel=name == ALL)
        seconds: dict[str, dict[str, list[float]]] = {
            part: {name: [] for name in sides} for part in (FIT, APART, WHOLE)
        }
        for _ in range(size.panel.rounds):
            for name, (whole,) in alternate(sides, 1, warmups=0).items():
                features, fit = cycles[name].features.lap(), cycles[name].fits.lap()
                seconds[FIT][name].append(fit)
                seconds[APART][name].append(whole - features)
                seconds[WHOLE][name].append(whole)
    what = f"{n_pairs} pairs, {how} = {bound}"
    for part, times in seconds.items():
        goals = {EACH: "at least 1"} if how == "n_epochs" and part == FIT else {}
        row.compare(f"{what}, {part}", {ALL: times[ALL], EACH: times[EACH]}, goals)
    if how == "n_steps":
        spread = Spread.of(ratios(seconds[FIT][ALL], seconds[FIT][ONE]))
        row.ratios.append(Ratio(f"{what}, {FIT}: {ALL} / {ONE}", spread, "at most 1.5"))


def make_market(pairs: list[str], n_candles: int) -> dict[str, dict[str, pd.DataFrame]]:
    """Return made-up candles of each pair in each timeframe."""
    market = synthetic_market(pairs, "5m", n_candles, seed=1)
    return {
        pair: {name: resampled(frame, length) for name, length in TIMEFRAMES.items()}
        for pair, frame in market.items()
    }


class Cycle:
    """A bot's cycle of trainings, from candles on, with stopwatches in it.

    Args:
        folder: For the user directory.
        size: Sizes of the benchmark.
        market: Candles of each pair in each timeframe.
        training: What bounds a training.
        panel: Settings of one net for all pairs; by default each pair has its own.
    """

    def __init__(
        self,
        folder: Path,
        size: Size,
        market: dict[str, Any],
        training: dict[str, int],
        panel: dict[str, Any] | None = None,
    ) -> None:
        install(folder)
        parameters = {
            "model_kwargs": {"hidden_size": size.panel.hidden_size, "num_layers": 1},
            "trainer_kwargs": {**training, "batch_size": size.batch_size, "patience": 0},
            "panel": panel,
        }
        self.strategy = load_model(
            folder,
            "LeaLSTMRegressor",
            {"freqai": {"model_training_parameters": parameters}},
            exchange={"pair_whitelist": list(market)},
            freqai={
                "conv_width": size.window,
                "activate_tensorboard": False,
                "feature_parameters": {
                    "include_timeframes": list(TIMEFRAMES),
                    "include_corr_pairlist": [],
                },
            },
        )
        self.model, self.market = self.strategy.freqai, market
        self.features, self.fits = Stopwatch(), Stopwatch()
        self.fits.watch(self.model, "fit")

    def slice_of(self, pair: str, newest: int | None = None) -> Slice:
        """Make a pair's features and labels, as freqtrade does for a training."""
        kitchen = self.model.new_kitchen(pair)
        frames = self.market[pair]
        if newest is not None:
            frames = {name: frame.tail(newest) for name, frame in frames.items()}
        with self.features.running():
            made = kitchen.use_strategy_to_populate_indicators(
                self.strategy, corr_dataframes={}, base_dataframes=frames, pair=pair
            )
            kitchen.find_features(made)
            kitchen.find_labels(made)
        kitchen.set_paths(pair, 1)
        kitchen.set_new_model_names(pair, 1)
        return Slice(made, kitchen)

    def train_all(self) -> object:
        """Train one net for all pairs."""
        pairs = list(self.market)
        dates = {pair: self.market[pair]["5m"]["date"] for pair in pairs}
        return self.model.train_panel(1, pairs, dates, self.slice_of)

    def train_each(self, pairs: list[str] | None = None) -> None:
        """Train a net for each pair."""
        for pair in pairs or self.market:
            made, kitchen = self.slice_of(pair)
            self.model.train(made, pair, kitchen)

    def warm_up(self, *, is_panel: bool) -> None:
        """Train on a few candles of one pair."""
        pair = next(iter(self.market))
        made, kitchen = self.slice_of(pair, newest=1_000)
        if is_panel:
            dates = {pair: made["date"]}
            self.model.train_panel(1, [pair], dates, lambda _: Slice(made, kitchen))
        else:
            self.model.train(made, pair, kitchen)
        self.features.lap()
        self.fits.lap()


def _add_peaks(row: Row, size: Size, n_features: int) -> None:
    """Measure the peak of trainings of many pairs, and of one, which all of them hold too."""
    of_one = _peak(row, size, 1, n_features)
    rows_of_one = 4 * size.panel.rows * n_features
    for n_pairs in size.panel.pairs:
        found = _peak(row, size, n_pairs, n_features)
        # As elsewhere, what is within the noise counts as a page, so that ratios exist.
        added = max(found - of_one, mmap.PAGESIZE)
        what = f"{n_pairs} pairs, {n_features} features: "
        for told, ratio in (
            ("peak of the training / joined rows", found / (n_pairs * rows_of_one)),
            ("what further pairs add to one's / their rows", added / ((n_pairs - 1) * rows_of_one)),
        ):
            row.ratios.append(Ratio(what + told, Spread.of([ratio]), "at most 1.3"))


def _peak(row: Row, size: Size, n_pairs: int, n_features: int) -> int:
    shape = size.panel
    found = peak.in_child(
        "panel",
        pairs=n_pairs,
        rows=shape.rows,
        features=n_features,
        window=size.window,
        hidden_size=shape.hidden_size,
        # The first steps and one validation take as much as all.
        steps=min(shape.steps, 40),
    )
    what = f"{n_pairs} pair{'s' * (n_pairs > 1)}, {n_features} features: peak of the training"
    row.absolute.append((what, Spread.of([found.bytes]), "B"))
    return found.bytes


def make_frames(n_pairs: int, rows: int, features: int) -> dict[str, pd.DataFrame]:
    """Return made-up candles with features and a label, each pair's of another scale."""
    frame = made_up_frame(rows, features)
    names = [str(name) for name in frame if str(name).startswith("%")]
    return {
        f"P{number:02}/USDT": frame.assign(**{name: frame[name] * (1 + number) for name in names})
        for number in range(n_pairs)
    }


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
