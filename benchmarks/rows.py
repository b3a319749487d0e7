"""The rows by their names."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.alpha158 import alpha158_row
from benchmarks.compare import compare
from benchmarks.coverage import coverage
from benchmarks.ensemble import ensemble
from benchmarks.growth import growth
from benchmarks.headline import headline
from benchmarks.imports import imports
from benchmarks.live import live
from benchmarks.measure import Row
from benchmarks.memory import memory
from benchmarks.nets import nets
from benchmarks.panel import panel
from benchmarks.predict import predict
from benchmarks.sizes import Size
from benchmarks.supervision import supervision
from benchmarks.train import train
from benchmarks.tune import tune
from benchmarks.whole import whole

ROWS: dict[str, Callable[[Size], Row]] = {
    "train": train,
    "nets": nets,
    "predict": predict,
    "live": live,
    "memory": memory,
    "growth": growth,
    "whole": whole,
    "headline": headline,
    "imports": imports,
    "supervision": supervision,
    "coverage": coverage,
    "alpha158": alpha158_row,
    "compare": compare,
    "tune": tune,
    "ensemble": ensemble,
    "panel": panel,
}
