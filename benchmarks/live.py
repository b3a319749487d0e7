"""Live prediction of the newest candle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.host import OURS, PARAMETERS, Ready, made_up_frame, nets, ready
from benchmarks.measure import Ratio, Row, Spread, Stopwatch, alternate, ratios
from benchmarks.sizes import Size

OUR_LIMIT = 3e-3


def live(size: Size) -> Row:
    """Compare one `predict` of the newest candle with the built-in models, for one and many pairs.

    Afterwards the same calls run again with stopwatches in them, to tell where the time goes.
    """
    row = Row(
        "live",
        "Live: the newest candle",
        f"The FreqAI models' own `predict`, in live mode, of the last {size.window} candles with "
        f"{size.predict_features} features, as freqtrade hands them over: each model with its "
        "own default net (ours is the training row's), the same pipelines, one target. With many "
        "pairs each has weights and pipelines of its own. Features are not computed here, and "
        "loading a model is not part of it. `pipeline` is FreqAI's filtering and scaling, `net` "
        "the net or the trees, `windows` the rest.",
    )
    frame = made_up_frame(size.live_train_rows, size.predict_features)
    newest = frame.tail(size.window)
    names = (OURS, *PARAMETERS)
    with TemporaryDirectory() as folder:
        one = {name: ready(Path(folder), name, frame, size, live=True) for name in names}
        many = {name: one[name].for_pairs(size.pairs) for name in names}
        for what, models, rounds in (
            ("1 pair", one, size.live_rounds),
            (f"{size.pairs} pairs", many, size.rounds),
        ):
            sides = {name: partial(models[name].predict, newest) for name in names}
            row.compare(what, alternate(sides, rounds), {})
        _compare_pairs(row, one[OURS], many[OURS], newest, size)
        for name in names:
            _add_parts(row, name, one[name], newest, size)
    return row


def _compare_pairs(row: Row, one: Ready, many: Ready, newest: pd.DataFrame, size: Size) -> None:
    def repeated() -> None:
        for _ in range(size.pairs):
            one.predict(newest)

    times = alternate({"one": repeated, "many": partial(many.predict, newest)}, size.rounds)
    spread = Spread.of(ratios(times["one"], times["many"]))
    what = f"{OURS}: {size.pairs} predictions of one pair against one of {size.pairs} pairs"
    row.ratios.append(Ratio(what, spread, "at least 1"))


def _add_parts(row: Row, name: str, one: Ready, newest: pd.DataFrame, size: Size) -> None:
    pipeline, net = _stopwatches(one)
    whole = Stopwatch()
    parts: dict[str, list[float]] = {"pipeline": [], "net": [], "windows": []}
    for _ in range(size.live_rounds):
        with whole.running():
            one.predict(newest)
        laps = {"pipeline": pipeline.lap(), "net": net.lap()}
        for part, seconds in (laps | {"windows": whole.lap() - sum(laps.values())}).items():
            parts[part].append(seconds)
    for part, values in parts.items():
        row.absolute.append((f"{name}, 1 pair: {part}", Spread.of(values), "s"))
    if name == OURS:
        ours = [a + b for a, b in zip(parts["net"], parts["windows"], strict=True)]
        spread = Spread.of([OUR_LIMIT / value for value in ours])
        what = f"{1e3 * OUR_LIMIT:.0f} ms against windows and net of {OURS}"
        row.ratios.append(Ratio(what, spread, "at least 1"))


def _stopwatches(one: Ready) -> tuple[Stopwatch, Stopwatch]:
    """Put stopwatches into FreqAI's part of a prediction, and into the net's."""
    pipeline, net = Stopwatch(), Stopwatch()
    kitchen = one.kitchens[0]
    for name in ("find_features", "filter_features"):
        pipeline.watch(kitchen, name)
    pipeline.watch(kitchen.feature_pipeline, "transform")
    pipeline.watch(kitchen.label_pipeline, "inverse_transform")
    found = nets(one.trained)
    for owner in found:
        net.watch(owner, "forward")
    if not found:
        net.watch(one.trained[0], "predict")
    return pipeline, net
