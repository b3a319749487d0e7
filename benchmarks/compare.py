"""A whole comparison: what the house around its jobs takes, beside the jobs themselves."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import peak
from benchmarks.comparison import comparison
from benchmarks.measure import Ratio, Row, Side, Spread, alternate, ratios
from benchmarks.sizes import CompareSize, Size
from freqai_lstm_plugins.research.experiment_schema import Experiment
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.metrics import cs_ic, cs_rank_ic
from freqai_lstm_plugins.research.started import Started, start, train
from freqai_lstm_plugins.research.store import list_entries

WORKERS = 2
DASK_SECONDS = 30.0


def compare(size: Size) -> Row:
    """Time a comparison and its parts, and measure its memory with few and with many symbols."""
    shape = size.compare
    row = Row(
        "compare",
        "A whole comparison",
        f"`freqai-lstm compare` as a function: {shape.symbols} made-up symbols of {shape.bars:,} "
        f"daily bars, {shape.folds} folds; an lstm of {shape.hidden_size} units with "
        f"{shape.epochs} epochs and no early stopping, lightgbm, ridge and the forecast of zero; "
        f"{WORKERS} workers, each with one thread. The first run computes everything, start-up of "
        "the workers included; the repeated one finds it done. Seconds of jobs are those that each "
        "job took in its worker. Dask is a scheduler and two workers of one thread on this "
        "machine, as a user starts them; their start is not counted. Memory is the most that "
        "a process has in use which does all jobs of quick models, one after the other, and judges "
        "them. Correlations across symbols stand against pandas' own, date by date, as qlib's "
        f"`calc_ic` computes them, over {shape.figure_dates:,} dates of {shape.many_symbols} "
        "symbols.",
    )
    with TemporaryDirectory() as folder:
        place = Path(folder)
        experiment = _experiment(place / "candles", shape)
        times = [_run(experiment, place / f"run-{n}") for n in range(size.compare_rounds)]
        _add_times(row, times)
        end_workers()
        with _cluster() as address:
            dask = [
                _run(experiment, place / f"dask-{n}", dask=address)
                for n in range(size.compare_rounds)
            ]
    together = [one.trained / other.trained for one, other in zip(dask, times, strict=True)]
    row.ratios.append(
        Ratio(f"jobs on dask / by joblib, {WORKERS} workers", Spread.of(together), "at most 1.15")
    )
    if peak.is_measurable():
        few, many = (
            peak.in_child("compare", symbols=n, bars=shape.bars, folds=shape.folds)
            for n in (shape.few_symbols, shape.many_symbols)
        )
        what = f"peak memory, {shape.many_symbols} symbols / {shape.few_symbols}"
        row.ratios.append(Ratio(what, Spread.of([many.bytes / few.bytes]), "at most 1.2"))
    add_figures(row, shape, size.compare_rounds)
    return row


@dataclass(frozen=True)
class _Times:
    """Seconds of one comparison: its parts, its jobs together, and the same run once more."""

    started: float
    trained: float
    judged: float
    jobs: float
    again: float

    @property
    def whole(self) -> float:
        return self.started + self.trained + self.judged


def _run(experiment: Experiment, out: Path, dask: str | None = None) -> _Times:
    marks = [time.perf_counter()]
    run = start(experiment, out)
    marks.append(time.perf_counter())
    run = train(run, workers=WORKERS, dask=dask)
    marks.append(time.perf_counter())
    _refuse_failures(run)
    judge_run(run)
    marks.append(time.perf_counter())
    judge_run(train(start(experiment, out), workers=WORKERS))
    marks.append(time.perf_counter())
    started, trained, judged, again = np.diff(marks).tolist()
    jobs = sum(entry.metadata["seconds"] for entry in list_entries(out))
    return _Times(started, trained, judged, jobs, again)


def end_workers() -> None:
    """End joblib's processes, which would wait for more work beside the cluster."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _refuse_failures(run: Started) -> None:
    if len(run.failures):
        raise RuntimeError(f"A job failed: {run.failures['reason'].iloc[0]}")


def _add_times(row: Row, times: list[_Times]) -> None:
    for what, goal, found in (
        (
            f"time of the jobs' part / (sum of job seconds / {WORKERS} workers)",
            "at most 1.05",
            [one.trained / (one.jobs / WORKERS) for one in times],
        ),
        ("a finished run repeated / the first", "at most 0.03", [t.again / t.whole for t in times]),
        ("report / the whole run", "at most 0.1", [t.judged / t.whole for t in times]),
    ):
        row.ratios.append(Ratio(what, Spread.of(found), goal))
    for what, seconds in (
        ("the whole run", [one.whole for one in times]),
        ("reading, checking and planning", [one.started for one in times]),
        ("report", [one.judged for one in times]),
        ("a finished run repeated", [one.again for one in times]),
    ):
        row.absolute.append((what, Spread.of(seconds), "s"))


def add_figures(row: Row, shape: CompareSize, rounds: int) -> None:
    """Time correlations across symbols beside those of each date by itself."""
    table = _made_up_predictions(shape.figure_dates, shape.many_symbols)
    both: dict[str, list[float]] = {}
    for name, ours, method in (
        ("cs_ic", cs_ic, "pearson"),
        ("cs_rank_ic", cs_rank_ic, "spearman"),
    ):
        sides: dict[str, Side] = {
            "ours": partial(ours, table),
            "date by date": partial(_by_date, table, method),
        }
        times = alternate(sides, rounds)
        apart = np.abs(ours(table).to_numpy()[:, 0] - _by_date(table, method).to_numpy()).max()
        row.compare(name, times, {})
        row.notes.append(f"{name} and the way date by date differ by at most {apart:.1e}.")
        for side, seconds in times.items():
            so_far = both.get(side, [0.0] * rounds)
            both[side] = [one + more for one, more in zip(so_far, seconds, strict=True)]
    # One call of calc_ic gives both.
    spread = Spread.of(ratios(both["date by date"], both["ours"]))
    row.ratios.append(Ratio("cs_ic and cs_rank_ic against date by date", spread, "at least 50"))


def _by_date(table: pd.DataFrame, method: Any) -> pd.Series[float]:
    """Correlate prediction and label of each date by itself."""
    return table.groupby("date")[["prediction", "label"]].apply(
        lambda day: day["prediction"].corr(day["label"], method=method)
    )


def _made_up_predictions(dates: int, symbols: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = rng.normal(size=dates * symbols)
    return pd.DataFrame(
        {
            "date": np.repeat(pd.bdate_range("2010-01-04", periods=dates, tz="UTC"), symbols),
            "symbol": [f"S{number:02d}" for number in range(symbols)] * dates,
            "model": "model",
            "seed": 1,
            "fold": 0,
            "prediction": 0.1 * label + rng.normal(size=dates * symbols),
            "label": label,
        }
    )


def _experiment(folder: Path, shape: CompareSize) -> Experiment:
    net = {
        "hidden_size": shape.hidden_size,
        "num_layers": 1,
        "max_epochs": shape.epochs,
        "patience": shape.epochs,
    }
    models = {"lstm": net, "lightgbm": {"n_estimators": shape.trees}}
    return comparison(folder, shape.symbols, shape.bars, shape.folds, models)


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    """Start a scheduler and two workers as a user does, and end them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    worker = ["worker", address, "--nthreads", "1", "--no-dashboard"]
    with contextlib.ExitStack() as started:
        for arguments in (scheduler, *[worker] * WORKERS):
            child = started.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *arguments],
                    cwd=peak.ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            started.callback(child.terminate)
        _await_workers(address)
        yield address


def _await_workers(address: str) -> None:
    from distributed import Client

    with Client(address, timeout=DASK_SECONDS) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(WORKERS, timeout=DASK_SECONDS)
