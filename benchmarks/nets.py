"""The nets side by side: what each weighs, and what its training and its predictions cost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import made_up
from benchmarks.measure import Row, alternate
from benchmarks.report import shown
from benchmarks.sizes import Size
from benchmarks.train import bare_loop
from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.nets import NETS

DENSE = "with dense supervision"


def nets(size: Size) -> Row:
    """Compare the nets with the lstm, and dense supervision with exact windows."""
    shape = size.nets
    row = Row(
        "nets",
        "The nets side by side",
        f"Each net with its default settings and its default loss (quantiles for the tft, squared "
        f"error for the others), windows of {size.window} rows. Training is one epoch of "
        f"{shape.batches} steps of {size.batch_size} windows, without validation, its set-up "
        f"included; prediction is that of {shape.predict_rows:,} rows in one call, and of the "
        f"newest row alone. A file holds one model as `save` writes it, with and without the state "
        "of its optimizer, which only continual learning needs.",
    )
    table = [
        "| F | net | parameters | file | with optimizer |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for n_features in shape.features:
        models = {name: _trained(size, name, n_features) for name in NETS}
        table += [_weights(n_features, name, model) for name, model in models.items()]
        _add_training(row, size, n_features)
        _add_prediction(row, size, n_features, models)
    row.notes.append("\n".join(table))
    return row


def _model(size: Size, name: str, supervision: str = "exact") -> SequenceRegressor:
    return SequenceRegressor(name, size.window, supervision=supervision, **bare_loop(size))


def _trained(size: Size, name: str, n_features: int) -> SequenceRegressor:
    return _model(size, name).fit(*made_up(size.window + size.batch_size, n_features))


def _weights(n_features: int, name: str, model: SequenceRegressor) -> str:
    """Return a line of the table, and leave the model without its optimizer's state."""
    count = sum(weight.numel() for weight in model.model.parameters())
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.zip")
        model.save(path)
        whole = path.stat().st_size
        model.forget_optimizer()
        model.save(path)
        alone = path.stat().st_size
    return f"| {n_features} | {name} | {count:,} | {shown(alone, 'B')} | {shown(whole, 'B')} |"


def _add_training(row: Row, size: Size, n_features: int) -> None:
    # W - 1 rows before the first target, so that every step is full.
    rows, targets = made_up(size.nets.batches * size.batch_size + size.window - 1, n_features)
    sides = {name: lambda name=name: _model(size, name).fit(rows, targets) for name in NETS}
    dense = [name for name, net in NETS.items() if hasattr(net, "forward_steps")]
    for name in dense:
        sides[f"{name} {DENSE}"] = lambda name=name: _model(size, name, "dense").fit(rows, targets)
    times = alternate(sides, size.nets.rounds)
    what = f"F {n_features}, training"
    row.compare(what, {name: times[name] for name in NETS}, {})
    for name in dense:
        kept = {side: times[side] for side in (f"{name} {DENSE}", name)}
        row.compare(what, kept, {})


def _add_prediction(
    row: Row, size: Size, n_features: int, models: dict[str, SequenceRegressor]
) -> None:
    rows, _ = made_up(size.nets.predict_rows + size.window - 1, n_features)
    for what, given, rounds in (
        (f"{size.nets.predict_rows:,} predictions", rows, size.nets.rounds),
        ("1 prediction", rows[-size.window :], size.live_rounds),
    ):
        sides = {name: partial(model.predict, given) for name, model in models.items()}
        row.compare(f"F {n_features}, {what}", alternate(sides, rounds), {})
