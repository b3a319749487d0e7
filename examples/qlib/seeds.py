"""Trains our nets and qlib's on one dataset with several seeds, and writes the table of what came.

    python examples/qlib/seeds.py --seeds 5 --epochs 4 --page docs/qlib.md

Run where `qlib_data` is. Each training is one process, and what it found is kept in a folder, so
that a second run goes on where the first one was stopped.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import qlib
import torch
from qlib.contrib.eva.alpha import calc_ic
from qlib.contrib.model import gbdt, pytorch_alstm_ts, pytorch_gru_ts, pytorch_lstm_ts
from qlib.data.dataset import DatasetH, TSDatasetH
from qlib.data.dataset.handler import DataHandlerLP
from qlib.utils import init_instance_by_config
from qlib.workflow import R
from ruamel.yaml import YAML

from freqai_lstm_plugins.files import replacing, write_text
from freqai_lstm_plugins.qlib import SequenceModel

HERE = Path(__file__).parent
BEGIN, END = "<!-- seeds: begin -->", "<!-- seeds: end -->"
NETS = {
    "LSTM": ("lstm", pytorch_lstm_ts.LSTM),
    "GRU": ("gru", pytorch_gru_ts.GRU),
    "ALSTM": ("alstm", pytorch_alstm_ts.ALSTM),
}
SHAPE = {"hidden_size": 64, "num_layers": 2, "dropout": 0.2, "lr": 0.001, "batch_size": 800}
# From qlib's benchmark of LightGBM on Alpha158.
TREES = {
    "learning_rate": 0.2,
    "colsample_bytree": 0.8879,
    "subsample": 0.8789,
    "lambda_l1": 205.6999,
    "lambda_l2": 580.9768,
    "max_depth": 8,
    "num_leaves": 210,
}
OURS, THEIRS = "ours", "qlib's"
MEASURES = ("IC", "Rank IC")
BLOCK_DAYS = 20
DRAWS = 2000


@dataclass(frozen=True)
class Training:
    """What one training cost.

    Attributes:
        seconds: Of the processor, data preparation included.
        bytes: Most memory at any moment above what was in use before; 0 where it is not told.
        rounds: Epochs, or trees of a boosting.
    """

    seconds: float
    bytes: int
    rounds: int


def new_model(name: str, side: str, seed: int, epochs: int) -> Any:
    """Return an untrained model."""
    if name == "LightGBM":
        if side == OURS:
            return SequenceModel(
                "lightgbm", seed=seed, num_boost_round=1000, early_stop=50, **TREES
            )
        return gbdt.LGBModel(seed=seed, num_threads=torch.get_num_threads(), **TREES)
    kind, theirs = NETS[name]
    given = {**SHAPE, "n_epochs": epochs, "early_stop": epochs + 1, "seed": seed, "GPU": -1}
    if side == OURS:
        # Nor does qlib's loop do any of these.
        off = {"weight_decay": 0.0, "gradient_clip": 0.0, "lr_schedule": "none", "scale": False}
        return SequenceModel(kind, num_threads=torch.get_num_threads(), **off, **given)
    # Without processes that load windows, which would cost more than they bring here.
    return theirs(d_feat=20, n_jobs=0, **given)


def train(model: Any, dataset: DatasetH) -> Training:
    """Train a model in this process, and measure it."""
    evals: dict[str, Any] = {}
    gc.collect()
    before = _memory("VmRSS")
    if before:
        # Makes the peak so far forgotten.
        Path("/proc/self/clear_refs").write_text("5")
    started = time.process_time()
    if isinstance(model, gbdt.LGBModel):
        # It logs, and so needs a recorder.
        with R.start(experiment_name="seeds"):
            model.fit(dataset, evals_result=evals)
    else:
        model.fit(dataset, evals_result=evals)
    seconds = time.process_time() - started
    losses = evals["valid"]
    rounds = len(next(iter(losses.values())) if isinstance(losses, dict) else losses)
    return Training(seconds, max(_memory("VmHWM") - before, 0), rounds)


def _memory(name: str) -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def run(place: Path, name: str, side: str, seed: int, epochs: int, dataset: DatasetH) -> None:
    """Train one model, and keep what it predicts and what it cost."""
    model = new_model(name, side, seed, epochs)
    cost = train(model, dataset)
    with replacing(place.with_suffix(".pkl")) as stream:
        pd.to_pickle(model.predict(dataset), stream)
    # Last, because a second run looks for it.
    write_text(place.with_suffix(".json"), json.dumps(vars(cost)) + "\n")


def daily(predicted: pd.Series, label: pd.Series) -> pd.DataFrame:
    """Return IC and rank IC of each day; 0 where a forecast is the same for all stocks."""
    ic, rank_ic = calc_ic(predicted, label)
    days = pd.DataFrame({"IC": ic, "Rank IC": rank_ic})
    by_day = predicted.groupby(level="datetime")
    days[(by_day.nunique() == 1) & (by_day.count() > 1)] = 0.0
    return days.dropna()


def intervals(
    by_seed: np.ndarray, other: np.ndarray | None = None, draws: int = DRAWS
) -> dict[str, tuple[float, float, float]]:
    """Return mean and ratio of a series of days, each with its 95 % interval.

    Args:
        by_seed: (S, D) values of D days with S seeds.
        other: (S', D) values of the same days that are subtracted; None for nothing.
        draws: How often seeds and blocks of days are drawn anew.

    Returns:
        (value, low, high) of the `mean`, and of the `ratio` of mean to standard deviation.
    """
    random = np.random.default_rng(0)
    sides = [by_seed] if other is None else [by_seed, other]
    days = by_seed.shape[1]
    length = min(BLOCK_DAYS, days)
    found = []
    for _ in range(draws):
        starts = random.integers(0, days - length + 1, -(-days // length))
        drawn = (starts[:, None] + np.arange(length)).ravel()[:days]
        found.append(
            _summary([side[random.integers(0, len(side), len(side))][:, drawn] for side in sides])
        )
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return dict(zip(("mean", "ratio"), zip(_summary(sides), low, high, strict=True), strict=True))


def _summary(sides: list[np.ndarray]) -> np.ndarray:
    """Return mean and ratio, averaged over seeds; of a second side they are subtracted."""
    each = [
        np.array([side.mean(), (side.mean(axis=1) / side.std(axis=1, ddof=1)).mean()])
        for side in sides
    ]
    return each[0] if len(each) == 1 else each[0] - each[1]


def read_runs(
    folder: Path, name: str, side: str, seeds: int
) -> tuple[list[dict[str, Any]], list[pd.Series]]:
    """Return what the trainings of a model cost, and what they predict, seed by seed."""
    places = [folder / f"{name}-{side[:4]}-{seed}" for seed in range(seeds)]
    costs = [json.loads(place.with_suffix(".json").read_text()) for place in places]
    return costs, [pd.read_pickle(place.with_suffix(".pkl")) for place in places]


def table(folder: Path, label: pd.Series, seeds: int) -> list[str]:
    """Return two tables: of all models, and of the differences between the sides."""
    measured = [
        "| | | IC | ICIR | Rank IC | Rank ICIR | seconds an epoch | memory |",
        "| --- | --- | --- | --- | --- | --- | ---: | ---: |",
    ]
    apart = ["| ours - qlib's | IC | Rank IC |", "| --- | --- | --- |"]
    # Ours leave out what lies behind a suspension: the same rows for everybody.
    known = read_runs(folder, next(iter(NETS)), OURS, 1)[1][0].dropna().index
    for name in (*NETS, "LightGBM"):
        by_side = {}
        for side in (OURS, THEIRS):
            costs, predicted = read_runs(folder, name, side, seeds)
            days = [daily(one.reindex(known), label.reindex(known)) for one in predicted]
            by_side[side] = pd.concat(days, axis=1, keys=range(seeds)).dropna()
            found = [intervals(_of(by_side[side], measure)) for measure in MEASURES]
            cells = [name, side, *(_span(one[kind]) for one in found for kind in ("mean", "ratio"))]
            # A boosting's trees are no epochs: all of them count as one.
            rounds = [cost["rounds"] if name in NETS else 1 for cost in costs]
            each = zip(costs, rounds, strict=True)
            seconds = np.median([cost["seconds"] / n for cost, n in each])
            memory = np.median([cost["bytes"] for cost in costs]) / 2**20
            measured.append(f"| {' | '.join(cells)} | {seconds:.3g} | {memory:,.0f} MiB |")
        shared = by_side[OURS].index.intersection(by_side[THEIRS].index)
        pairs = [[_of(by_side[side].loc[shared], one) for side in by_side] for one in MEASURES]
        cells = [name, *(_span(intervals(*pair)["mean"]) for pair in pairs)]
        apart.append(f"| {' | '.join(cells)} |")
    return [*measured, "", *apart]


def _of(days: pd.DataFrame, measure: str) -> np.ndarray:
    return days.xs(measure, axis=1, level=1).to_numpy().T


def _span(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def write_page(page: Path, lines: list[str]) -> None:
    """Put lines between the markers of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}.")
    write_text(page, "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))


def datasets(workflow: dict[str, Any]) -> dict[type, DatasetH]:
    """Return the workflow's dataset as windows and, of the same rows, flat."""
    series = init_instance_by_config(workflow["task"]["dataset"])
    return {TSDatasetH: series, DatasetH: DatasetH(series.handler, series.segments)}


def main() -> int:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workflow", type=Path, default=HERE / "vn30.yaml")
    parser.add_argument("--folder", type=Path, default=Path("seeds"), help="Keeps what was found.")
    parser.add_argument("--page", type=Path, help="Takes the table, between its markers.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    workflow = YAML(typ="safe").load(arguments.workflow)
    manager = workflow["qlib_init"]["exp_manager"]["kwargs"]
    manager["uri"] = f"sqlite:///{arguments.folder / 'runs.db'}"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    qlib.init(**workflow["qlib_init"], logging_level=30)
    found = datasets(workflow)
    # A forked process has the dataset at once, and leaves no memory behind.
    context = multiprocessing.get_context("fork")
    for seed in range(arguments.seeds):
        for name in (*NETS, "LightGBM"):
            for side in (OURS, THEIRS):
                place = arguments.folder / f"{name}-{side[:4]}-{seed}"
                if place.with_suffix(".json").exists():
                    continue
                dataset = found[DatasetH if name == "LightGBM" else TSDatasetH]
                work = partial(run, place, name, side, seed, arguments.epochs, dataset)
                child = context.Process(target=work)
                child.start()
                child.join()
                if child.exitcode:
                    print(f"{name} ({side}, seed {seed}) failed.", file=sys.stderr)
                    return 1
                print(
                    f"{name} ({side}, seed {seed}): {place.with_suffix('.json').read_text()}",
                    end="",
                )
    label = found[DatasetH].prepare("test", col_set="label", data_key=DataHandlerLP.DK_R).iloc[:, 0]
    lines = table(arguments.folder, label, arguments.seeds)
    if arguments.page:
        write_page(arguments.page, lines)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
