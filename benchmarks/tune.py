"""A search: what it takes beside its trainings, and what pruning, sharing and workers are worth."""

from __future__ import annotations

import json
import logging
import multiprocessing
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import peak
from benchmarks.comparison import comparison
from benchmarks.measure import Ratio, Row, Spread
from benchmarks.sizes import Size, TuneSize
from freqai_lstm_plugins.research.tune.objective import Runner, evaluate
from freqai_lstm_plugins.research.tune.ranges import Ranges, draw
from freqai_lstm_plugins.research.tune.search import Search, make_sampler
from freqai_lstm_plugins.research.tune.session import Asked, Session, open_session
from freqai_lstm_plugins.research.tune.storage import load_optuna, open_storage, quiet
from freqai_lstm_plugins.research.tune.study import best_of, finished, run_trials

MOMENTUM = 0.4
RATES = {"min": 1e-5, "max": 0.03, "log": True}
SUGGESTIONS = 5
FEW_STORED = 10
Model = dict[str, Any]


def tune(size: Size) -> Row:
    """Time searches and their parts."""
    shape = size.tune
    row = Row(
        "tune",
        "A search for settings",
        f"`freqai-lstm tune` as a function: {shape.symbols} made-up symbols of {shape.bars:,} "
        f"daily bars whose returns have a memory, {shape.folds} folds; an lstm of "
        f"{shape.hidden_size} units with {shape.epochs} epochs and no early stopping, one thread; "
        f"learning rate and dropout are searched at random, so that searches of one seed try the "
        f"same settings. A trial is {shape.symbols * shape.folds} trainings of about a second, as "
        f"real ones are: of few that take an instant the waits for the disk, a dozen a trial, "
        f"would be most, and Wilcoxon's test needs four instances, all worse, before it ends a "
        f"trial. The "
        f"holdout is kept back and not opened. With a pruner {shape.pruned_trials} trials are "
        f"made. Windows are shared by two trials of lightgbm. Two workers are two processes on one "
        f"study, timed from the first trial's begin to the last one's end. Memory is the most that "
        f"a process has in use which makes so many trials of a small lstm. A suggestion is what "
        f"multivariate TPE takes to draw a trial's settings from a study in SQLite.",
    )
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _add_pruning(row, place, shape)
        _add_sharing(row, place, shape, size.tune_rounds)
        _add_workers(row, place, shape)
        _add_suggestions(row, place, shape)
    if peak.is_measurable():
        few, many = (
            peak.in_child("tune", trials=n, bars=shape.bars)
            for n in (shape.few_trials, shape.many_trials)
        )
        what = f"peak memory, {shape.many_trials} trials / {shape.few_trials}"
        row.ratios.append(Ratio(what, Spread.of([many.bytes / few.bytes]), "at most 1.1"))
    return row


def _net(shape: TuneSize) -> dict[str, Model]:
    epochs = {"max_epochs": shape.epochs, "patience": 0}
    return {"lstm": {"hidden_size": shape.hidden_size, "num_layers": 1, **epochs}}


def _open(place: Path, name: str, shape: TuneSize, model: str, models: dict[str, Model]) -> Session:
    """Open a search whose candles are the same each time."""
    out = place / name
    out.mkdir()
    candles = out / "candles"
    experiment = comparison(
        candles, shape.symbols, shape.bars, shape.folds, models, momentum=MOMENTUM
    )
    ranges = {
        "lstm": {"learning_rate": RATES, "dropout": {"min": 0.0, "max": 0.5}},
        "lightgbm": {"reg_lambda": {"min": 0.0, "max": 1.0}},
    }
    path = out / "ranges.json"
    path.write_text(json.dumps(ranges))
    return open_session(Asked(experiment, model, out, path))


def _search(session: Session, n_trials: int, pruner: Any = "none") -> float:
    """Make trials in this process; return the seconds that this took."""
    begun = time.perf_counter()
    search = Search("random", pruner)
    run_trials(
        session.study, session.task, session.ranges, n_trials, search=search, runner=Runner()
    )
    return time.perf_counter() - begun


def _add_pruning(row: Row, place: Path, shape: TuneSize) -> None:
    # Imports and compiled code belong to no search.
    _search(_open(place, "warm-up", shape, "lstm", _net(shape)), 1)
    sessions, seconds = {}, {}
    for pruner in ("none", "median", "wilcoxon"):
        sessions[pruner] = _open(place, pruner, shape, "lstm", _net(shape))
        seconds[pruner] = _search(sessions[pruner], shape.pruned_trials, pruner)
    whole = sessions["none"].study
    training = sum(one.user_attrs["seconds"] for one in finished(whole))
    row.ratios.append(
        Ratio(
            "a search's time outside trainings / in trainings",
            Spread.of([seconds["none"] / training - 1]),
            "at most 0.03",
        )
    )
    best = best_of(whole)
    assert best is not None
    for pruner in ("median", "wilcoxon"):
        what = f"time with the {pruner} pruner / without"
        row.ratios.append(
            Ratio(what, Spread.of([seconds[pruner] / seconds["none"]]), "at most 0.7")
        )
        study = sessions[pruner].study
        found = best_of(study)
        assert found is not None
        n_ended = sum(one.state.name == "PRUNED" for one in finished(study))
        row.notes.append(
            f"The {pruner} pruner ended {n_ended} of {shape.pruned_trials} trials; the best score "
            f"of the others is {found.value:+.4f}, {best.value - found.value:.4f} below that of "
            f"the search without a pruner."
        )
    own = (seconds["none"] - training) / shape.pruned_trials
    row.absolute += [
        ("a search without a pruner", Spread.of([seconds["none"]]), "s"),
        ("a trial's time outside trainings", Spread.of([own]), "s"),
        ("a trial's trainings", Spread.of([training / shape.pruned_trials]), "s"),
    ]


def _add_sharing(row: Row, place: Path, shape: TuneSize, rounds: int) -> None:
    models = {"lightgbm": {"n_estimators": shape.trees}}
    found = []
    for number in range(rounds + 1):
        task = _open(place, f"sharing-{number}", shape, "lightgbm", models).task
        seconds = []
        for share in (0.1, 0.2):
            begun = time.perf_counter()
            evaluate(task, {"reg_lambda": share}, task.experiment.seeds, runner=Runner())
            seconds.append(time.perf_counter() - begun)
        found.append(seconds[1] / seconds[0])
    # The first round imports what the others find.
    row.ratios.append(
        Ratio("second trial of the same windows / first", Spread.of(found[1:]), "at most 0.9")
    )


def _work(asked: Asked, n_trials: int) -> None:
    logging.disable(logging.WARNING)
    _search(open_session(asked), n_trials)


def _add_workers(row: Row, place: Path, shape: TuneSize) -> None:
    seconds = []
    for workers in (1, 2):
        session = _open(place, f"workers-{workers}", shape, "lstm", _net(shape))
        context = multiprocessing.get_context("spawn")
        arguments = (session.asked, shape.shared_trials)
        processes = [context.Process(target=_work, args=arguments) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        trials = finished(session.study)
        first = min(one.datetime_start for one in trials)
        seconds.append((max(one.datetime_complete for one in trials) - first).total_seconds())
    what = f"speed of two workers / of one, {shape.shared_trials} trials"
    row.ratios.append(Ratio(what, Spread.of([seconds[0] / seconds[1]]), "at least 1.7"))


def _add_suggestions(row: Row, place: Path, shape: TuneSize) -> None:
    session = _open(place, "suggestions", shape, "lstm", _net(shape))
    few, many = (
        _suggest(session.ranges, place / f"stored-{n}.db", n) for n in (FEW_STORED, shape.stored)
    )
    row.ratios.append(
        Ratio(
            f"seconds a suggestion takes more with {shape.stored:,} stored trials than with "
            f"{FEW_STORED}",
            Spread.of([max(one - other, 1e-6) for one, other in zip(many, few, strict=True)]),
            "at most 0.2",
        )
    )


def _suggest(ranges: Ranges, path: Path, n_stored: int) -> list[float]:
    """Return the seconds of some suggestions to a study with stored trials."""
    optuna = load_optuna()
    with quiet(), warnings.catch_warnings():
        # A heartbeat goes with a search, and nobody dies here.
        warnings.simplefilter("ignore", UserWarning)
        study = optuna.create_study(
            storage=open_storage(f"sqlite:///{path}"),
            direction="maximize",
            sampler=make_sampler(ranges, Search("random")),
        )
        source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        stored = [source.ask() for _ in range(n_stored)]
        for trial in stored:
            draw(trial, ranges)
        study.add_trials(
            [
                optuna.create_trial(
                    params=trial.params, distributions=trial.distributions, value=trial.number
                )
                for trial in stored
            ]
        )
        study.sampler = make_sampler(ranges, Search("tpe"))
        found = []
        for _ in range(SUGGESTIONS + 1):
            begun = time.perf_counter()
            trial = study.ask()
            draw(trial, ranges)
            found.append(time.perf_counter() - begun)
            study.tell(trial, 0.0)
    return found[1:]


def search_quickly(place: Path, trials: int, bars: int) -> None:
    """Make trials of a quick model in this process."""
    shape = TuneSize(symbols=2, bars=bars, folds=1, hidden_size=8, epochs=2)
    _search(_open(place, f"quick-{trials}", shape, "lstm", _net(shape)), trials)
