"""How much each row does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from freqai_lstm_plugins.config import DEFAULT_WINDOW


@dataclass(frozen=True)
class MemorySize:
    """Rows, features and W of the memory row, and the optimizer steps that its peak takes."""

    rows: int = 100_000
    features: int = 200
    window: int = 64
    steps: int = 20


@dataclass(frozen=True)
class GrowthSize:
    """The middle point of the growth row, and the factors that move each of its sizes."""

    rows: int = 4_000
    features: int = 40
    window: int = 24
    factors: tuple[float, ...] = (0.5, 1, 2, 4)


@dataclass(frozen=True)
class WholeSize:
    """The backtest of the whole row, as the demonstration's."""

    train_days: int = 14
    backtest_days: int = 8
    slice_days: int = 4
    epochs: int = 3
    hidden_size: int = 64


@dataclass(frozen=True)
class SupervisionSize:
    """Rows of each training and of each test, folds, seeds, pairs at most, and epochs at most."""

    train_rows: int = 4_000
    test_rows: int = 1_250
    folds: int = 4
    seeds: int = 3
    pairs: int = 7
    epochs: int = 40


@dataclass(frozen=True)
class NetsSize:
    """F, steps of the one epoch, rows of a prediction, and rounds of the row of nets."""

    features: tuple[int, ...] = (80, 200)
    batches: int = 4
    predict_rows: int = 2_000
    rounds: int = 5


@dataclass(frozen=True)
class CoverageSize:
    """A walk over candles of each timeframe.

    Attributes:
        pairs: Pairs at most, by timeframe.
        train_rows: Rows of each training.
        test_rows: Rows of each test, by timeframe.
        folds: Trainings and tests of each pair.
        seeds: Trainings of each fold.
        intervals: Nominal coverages.
        hidden_size: Units of the net's one layer.
        epochs: Epochs at most.
    """

    pairs: dict[str, int] = field(default_factory=lambda: {"1h": 7, "5m": 4})
    train_rows: int = 3_000
    test_rows: dict[str, int] = field(default_factory=lambda: {"1h": 600, "5m": 2_000})
    folds: int = 10
    seeds: int = 2
    intervals: tuple[float, ...] = (0.8,)
    hidden_size: int = 16
    epochs: int = 30


@dataclass(frozen=True)
class Alpha158Size:
    """Candles, those that the newest row is computed from, and what is computed beside qlib."""

    rows: int = 100_000
    newest: int = 300
    symbols: int = 30
    days: int = 2_500


@dataclass(frozen=True)
class CompareSize:
    """A comparison whose trainings of nets take two seconds and more.

    Attributes:
        symbols: Symbols of the timed run.
        bars: Candles of each.
        folds: Trainings of each symbol and model.
        hidden_size: Units of the net's one layer.
        epochs: Epochs of the net.
        trees: Trees of lightgbm.
        few_symbols: Symbols of the smaller run whose memory is measured.
        many_symbols: Of the larger one, and of the correlations across symbols.
        figure_dates: Dates of these correlations.
    """

    symbols: int = 6
    bars: int = 3_000
    folds: int = 3
    hidden_size: int = 32
    epochs: int = 40
    trees: int = 300
    few_symbols: int = 3
    many_symbols: int = 30
    figure_dates: int = 3_459


@dataclass(frozen=True)
class TuneSize:
    """A search.

    Attributes:
        symbols: Symbols.
        bars: Candles of each.
        folds: Trainings of each symbol in a trial.
        hidden_size: Units of the net's one layer.
        epochs: Epochs of the net.
        trees: Trees of lightgbm.
        pruned_trials: Trials with and without a pruner.
        shared_trials: Trials that two workers share.
        stored: Trials that a suggestion learns from.
        few_trials: Trials of the smaller run whose memory is measured.
        many_trials: Of the larger one.
    """

    symbols: int = 4
    bars: int = 1_500
    folds: int = 3
    hidden_size: int = 32
    epochs: int = 32
    trees: int = 30
    pruned_trials: int = 16
    shared_trials: int = 4
    stored: int = 1_000
    few_trials: int = 3
    many_trials: int = 30


@dataclass(frozen=True)
class EnsembleSize:
    """An ensemble of three members.

    Attributes:
        rows: Rows of a training.
        features: F.
        hidden_size: Units of the net's one layer.
        epochs: Epochs of the net.
        trees: Trees of lightgbm.
        rounds: Trainings a side.
        memory_rows: Rows of the training whose memory is measured.
        memory_features: F of it, as many as FreqAI's expansion soon makes.
        candles: Candles that a bot predicts one after the other.
    """

    rows: int = 4_000
    features: int = 40
    hidden_size: int = 32
    epochs: int = 4
    trees: int = 100
    rounds: int = 3
    memory_rows: int = 20_000
    memory_features: int = 200
    candles: int = 2_000


@dataclass(frozen=True)
class PanelSize:
    """A cycle of trainings of a bot.

    Attributes:
        pairs: How many pairs, one comparison each.
        candles: 5-minute candles of each, for the times.
        rows: Candles of each whose features are made up, for the memory.
        features: F of these, one measurement each.
        hidden_size: Units of the net's one layer.
        steps: Steps of a training whose steps are bounded: here about fifteen epochs of one pair.
        epochs: Epochs of one whose epochs are.
        rounds: Cycles a side.
    """

    pairs: tuple[int, ...] = (10, 50)
    candles: int = 8_640
    rows: int = 8_640
    features: tuple[int, ...] = (100, 200)
    hidden_size: int = 32
    steps: int = 400
    epochs: int = 1
    rounds: int = 1


@dataclass(frozen=True)
class Size:
    """How much the rows do.

    Attributes:
        rounds: Measured runs a side; one more warms up.
        features: F of the training row.
        window: W.
        batch_size: Windows a step.
        batches: Steps of the one epoch that the training row times.
        net: Settings of the net that both sides share.
        predict_rows: Rows of the backtest slice.
        predict_features: F of the prediction and live rows.
        live_rounds: Newest candles that the live row predicts with one pair.
        live_train_rows: Candles that the live row's models are trained on.
        pairs: Pairs of the live row beside one.
        headline_rows: Rows of the headline.
        headline_epochs: Epochs of the headline.
        alpha158: Candles of the row of Alpha158.
        whole_rounds: Backtests a model.
        compare: The row of comparisons.
        compare_rounds: Comparisons a side.
        tune: The row of searches.
        tune_rounds: Searches whose windows are shared.
        ensemble: The row of ensembles.
        panel: The row of one net for all pairs.
    """

    rounds: int = 7
    features: tuple[int, ...] = (80, 500)
    window: int = DEFAULT_WINDOW
    batch_size: int = 256
    batches: int = 16
    net: dict[str, Any] = field(default_factory=lambda: {"hidden_size": 128, "num_layers": 2})
    predict_rows: int = 10_000
    predict_features: int = 80
    live_rounds: int = 50
    live_train_rows: int = 1_000
    pairs: int = 50
    headline_rows: int = 10_000
    headline_epochs: int = 100
    memory: MemorySize = MemorySize()
    growth: GrowthSize = GrowthSize()
    whole: WholeSize = WholeSize()
    supervision: SupervisionSize = SupervisionSize()
    nets: NetsSize = NetsSize()
    coverage: CoverageSize = field(default_factory=CoverageSize)
    alpha158: Alpha158Size = Alpha158Size()
    whole_rounds: int = 3
    compare: CompareSize = CompareSize()
    compare_rounds: int = 3
    tune: TuneSize = TuneSize()
    tune_rounds: int = 3
    ensemble: EnsembleSize = EnsembleSize()
    panel: PanelSize = PanelSize()


FULL = Size()
QUICK = Size(
    rounds=2,
    features=(8, 16),
    window=6,
    batch_size=32,
    batches=3,
    net={"hidden_size": 8, "num_layers": 2},
    predict_rows=100,
    predict_features=8,
    live_rounds=3,
    live_train_rows=120,
    pairs=3,
    headline_rows=150,
    headline_epochs=2,
    memory=MemorySize(rows=4_000, features=10, window=8, steps=2),
    growth=GrowthSize(rows=400, features=4, window=6, factors=(1, 2)),
    alpha158=Alpha158Size(rows=1_000, newest=100, symbols=2, days=100),
    whole=WholeSize(train_days=4, backtest_days=2, slice_days=2, epochs=2, hidden_size=8),
    whole_rounds=1,
    compare=CompareSize(
        symbols=2,
        bars=400,
        folds=1,
        hidden_size=4,
        epochs=2,
        trees=10,
        few_symbols=2,
        many_symbols=6,
        figure_dates=50,
    ),
    compare_rounds=1,
    tune=TuneSize(
        symbols=2,
        bars=300,
        folds=1,
        hidden_size=4,
        epochs=4,
        trees=5,
        pruned_trials=7,
        shared_trials=3,
        stored=20,
        few_trials=2,
        many_trials=3,
    ),
    tune_rounds=1,
    panel=PanelSize(pairs=(2,), candles=900, rows=300, features=(6,), hidden_size=4, steps=2),
    supervision=SupervisionSize(train_rows=300, test_rows=60, folds=1, seeds=1, pairs=2, epochs=1),
    nets=NetsSize(features=(4, 8), batches=2, predict_rows=100, rounds=2),
    coverage=CoverageSize(
        pairs={"1h": 2, "5m": 1},
        train_rows=300,
        test_rows={"1h": 60, "5m": 60},
        folds=2,
        seeds=1,
        intervals=(0.8,),
        hidden_size=4,
        epochs=1,
    ),
    ensemble=EnsembleSize(
        rows=300,
        features=4,
        hidden_size=4,
        epochs=1,
        trees=5,
        rounds=1,
        memory_rows=1_000,
        memory_features=4,
        candles=8,
    ),
)
