"""Writes a model file of the present format and what it predicts; run once for each new format.

    python -m tests.trust.formats.make NAME [NET]

A file that was committed once is never written again: old files must keep loading as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from freqai_lstm_plugins import SequenceRegressor

FOLDER = Path(__file__).parent


def example_rows() -> np.ndarray:
    """Return rows (40, 3) that need no random generator, so that they stay the same for ever."""
    row, column = np.arange(40)[:, None], np.arange(3)[None, :]
    return np.sin(0.3 * row + column) + 0.1 * ((7 * row + 3 * column) % 11)


def main(name: str, net: str) -> None:
    rows = example_rows()
    targets = np.column_stack([rows[:, 0] - rows[:, 1], rows[:, 2]])
    model = SequenceRegressor(
        net, window=5, hidden_size=8, num_layers=2, max_epochs=20, progress=False
    )
    model.fit(rows, targets)
    path = FOLDER / f"{name}.zip"
    if path.exists():
        raise SystemExit(f"{path} exists, and committed files are never written again.")
    model.save(path)
    predicted = np.nan_to_num(model.predict(rows), nan=-999.0)
    path.with_suffix(".json").write_text(json.dumps(predicted.tolist()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *(sys.argv[2:] or ["lstm"]))
