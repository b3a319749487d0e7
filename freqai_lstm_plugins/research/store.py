"""What jobs left in an output folder: models, predictions, and what is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.assembly import apply_scaling
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import DataError, NotACheckpointError
from freqai_lstm_plugins.models.registry import load_model
from freqai_lstm_plugins.research.forecasting import forecast, in_label_units
from freqai_lstm_plugins.research.jobs import (
    METADATA_FILE,
    MODEL_FILE,
    PANEL,
    PREDICTIONS_FILE,
    WITHOUT,
    Job,
    is_done,
    join_frames,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

DATA_FOLDER = "data"
# What every result says of itself, whichever version wrote it.
KNOWN_OF_ALL = ("model", "symbols", "is_panel", "fold", "seed", "rows", "metrics", "seconds")


@dataclass(frozen=True)
class Entry:
    """A finished job.

    Attributes:
        folder: Where its files lie.
        metadata: What is known of it, see `docs/compare.md`.
    """

    folder: Path
    metadata: dict[str, Any]

    @property
    def subject(self) -> str:
        """The symbol that was trained on, or that it was a panel."""
        if self.metadata.get("left_out") is not None:
            return f"{PANEL} {WITHOUT} {self.metadata['left_out']}"
        return PANEL if self.metadata["is_panel"] else str(self.metadata["symbols"][0])

    @property
    def model_file(self) -> Path:
        """The model file."""
        return self.folder / MODEL_FILE

    def predictions(self) -> pd.DataFrame:
        """Return its forecasts, with the model's name, its seed and its fold beside each.

        Raises:
            NotACheckpointError: The file is damaged.
        """
        try:
            found = pd.read_parquet(self.folder / PREDICTIONS_FILE)
        except (OSError, ValueError) as error:
            raise NotACheckpointError(
                f"The predictions in {self.folder} are damaged: remove that folder, and run again."
            ) from error
        return found.assign(
            model=self.metadata["model"],
            seed=int(self.metadata["seed"]),
            fold=int(self.metadata["fold"]["number"]),
        )


def read_entry(folder: Path) -> Entry:
    """Return the finished job in a folder.

    Raises:
        NotACheckpointError: The folder holds none.
    """
    try:
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotACheckpointError(
            f"{folder} holds no finished model ({error}): remove it, and run again."
        ) from error
    known = metadata if isinstance(metadata, dict) else {}
    lacking = [name for name in KNOWN_OF_ALL if name not in known]
    if lacking:
        raise NotACheckpointError(
            f"{folder} holds no finished model ({METADATA_FILE} lacks {', '.join(lacking)}): "
            "remove it, and run again."
        )
    return Entry(folder, metadata)


def find_entries(out: Path) -> list[Entry]:
    """Return all finished jobs of an output folder, by their paths; none where there are none."""
    # What a killed worker was writing begins with a dot, and is no model.
    return [
        read_entry(path.parent)
        for path in sorted(out.glob(f"models/**/{METADATA_FILE}"))
        if not path.parent.name.startswith(".")
    ]


def list_entries(out: Path) -> list[Entry]:
    """Return all finished jobs of an output folder, by their paths.

    Raises:
        DataError: There is no such folder, it cannot be read, or it holds no models.
    """
    try:
        found = find_entries(out)
    except OSError as error:
        raise DataError(f"The folder {out} cannot be read: {error.strerror}.") from error
    if not found:
        raise DataError(f"{out} holds no models: run `freqai-lstm compare` with --out {out} first.")
    return found


def load_predictions(jobs: Iterable[Job], out: Path, seeds: Sequence[int]) -> pd.DataFrame:
    """Return one long table of what jobs forecast; those that failed are left out.

    A model that does not depend on its seed was trained once, and stands under every seed.
    """
    parts = []
    planned: dict[str, set[int]] = {}
    for job in jobs:
        planned.setdefault(job.model, set()).add(job.seed)
        if not is_done(job, out):
            continue
        # The experiment's name of a model and number of a fold, as a result may be of another run.
        found = read_entry(out / job.place).predictions()
        parts.append(found.assign(model=job.model, seed=job.seed, fold=job.fold.number))
    if not parts:
        raise DataError("No job succeeded, so there is nothing to compare.")
    table = pd.concat(parts, ignore_index=True)
    # By the plan: of a model whose other seeds failed, one seed is all that is known.
    once = {model for model, own in planned.items() if len(own) == 1}
    return pd.concat([table, *_repeated(table, once, seeds)], ignore_index=True)


def _repeated(table: pd.DataFrame, once: set[str], seeds: Sequence[int]) -> list[pd.DataFrame]:
    repeated = []
    for _, rows in table[table["model"].isin(once)].groupby("model"):
        only = rows["seed"].iloc[0]
        repeated += [rows.assign(seed=seed) for seed in seeds if seed != only]
    return repeated


def reproduce(entry: Entry, out: Path) -> pd.DataFrame:
    """Predict a finished job's test rows anew, from its model file and the tables.

    Returns:
        date, symbol and prediction, a row for each stored prediction.

    Raises:
        NotACheckpointError: A table that the model was trained on is no longer there.
    """
    known = entry.metadata
    paths = [out / DATA_FOLDER / known["files"][symbol] for symbol in known["symbols"]]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise NotACheckpointError(f"{entry.folder}: the table {missing} is gone, run it again.")
    frame, codes = join_frames([pd.read_parquet(path) for path in paths])
    rows, scaling = rows_of(frame, codes, known["feature_names"]), Scaling(**known["scaling"])
    scaled, has_window = apply_scaling(
        rows, scaling, known["window"], tells_symbols=bool(known["symbol_embedding"])
    )
    test = known["fold"]["test"]
    is_test = frame["date"].between(pd.Timestamp(test["first"]), pd.Timestamp(test["last"]))
    wanted = has_window & is_test.to_numpy()
    symbols = np.array(known["symbols"])[codes]
    if known.get("left_out") is not None:
        wanted &= symbols == known["left_out"]
    point = forecast(load_model(entry.model_file), scaled, wanted, frame, symbols, scaling).point
    prediction = in_label_units(scaling, point)
    table = pd.DataFrame({"date": frame["date"], "symbol": symbols, "prediction": prediction})
    return table[wanted].reset_index(drop=True)
