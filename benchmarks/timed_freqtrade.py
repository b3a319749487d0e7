"""The real freqtrade, with stopwatches in its FreqAI model: `python -m benchmarks.timed_freqtrade`.

Arguments are freqtrade's own. Seconds spent in the model's methods go to the file that the
environment names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from freqtrade.main import main
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from benchmarks.measure import Stopwatch

RESULT = "BENCHMARKS_SECONDS"
# `train` prepares data and calls `fit`, which trains the net or the trees.
METHODS = ("train", "fit", "predict")


def timed_main(arguments: list[str], result: Path) -> None:
    """Run freqtrade, and write the seconds once it has ended."""
    stopwatches = {name: Stopwatch() for name in METHODS}
    load = FreqaiModelResolver.load_freqaimodel

    def load_timed(config: Any) -> Any:
        model = load(config)
        for name, stopwatch in stopwatches.items():
            stopwatch.watch(model, name)
        return model

    FreqaiModelResolver.load_freqaimodel = staticmethod(load_timed)
    try:
        main(arguments)
    finally:
        seconds = {name: stopwatch.seconds for name, stopwatch in stopwatches.items()}
        result.write_text(json.dumps(seconds))


if __name__ == "__main__":
    timed_main(sys.argv[1:], Path(os.environ[RESULT]))
