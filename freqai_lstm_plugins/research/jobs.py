"""One job of a comparison: a model is trained on a fold and forecasts the fold's test rows.

A job is a few plain values, so that any process on any machine can do it from the tables in the
output folder. Its key hashes all that its result depends on; a finished job is one folder that was
renamed into place, so a job is either done or not, and nobody does it twice.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import resource
import secrets
import shutil
import time
import traceback
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.data.assembly import Assembled, Rows, assemble, balance_symbols
from freqai_lstm_plugins.data.candles import file_stem
from freqai_lstm_plugins.data.preparation import Schema
from freqai_lstm_plugins.data.splits import Fold, FoldRows, assert_no_peeking, fold_rows
from freqai_lstm_plugins.errors import DataError, FreqaiLSTMError, StoppedError
from freqai_lstm_plugins.features.labels import KNOWN_AT, LABEL
from freqai_lstm_plugins.files import is_unwritable, write_text
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.models.registry import new_model, save_model
from freqai_lstm_plugins.research.dataset import LAST_KNOWN_LABEL, Table, read_features
from freqai_lstm_plugins.research.defaults import changed_defaults
from freqai_lstm_plugins.research.forecasting import known_at_dates, moments, predict_test
from freqai_lstm_plugins.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freqai_lstm_plugins.models.contract import Model
    from freqai_lstm_plugins.training.history import Epoch

MODEL_FILE, METADATA_FILE, PREDICTIONS_FILE = "model.zip", "metadata.json", "predictions.parquet"
MODELS_FOLDER, PANEL, WITHOUT = "models", "panel", "without"
ABANDONED_SECONDS = 600.0
# Where a run writes, below its output folder: what else lies there is not ours to remove.
WRITTEN = ("models/**/", "data/", "checks/", "report/**/", "")
# Versions of these decide what a training gives.
PACKAGES = ("torch", "lightgbm", "xgboost", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Attributes:
        model: Name in the experiment.
        kind: Name of the model in the catalogue.
        settings: Its settings.
        tables: Tables of the symbols: one, or all of a panel.
        is_panel: Whether one model is trained for all tables.
        symbol_embedding: Numbers that tell a net of a panel the symbol; 0 tells none.
        feature_names: F names.
        fold: Its dates.
        seed: Seed of the training.
        window: W.
        label_period: Rows that a label looks ahead.
        balance: What counts the same in a panel's training: `candles` or `symbols`.
        left_out: The symbol that is forecast by a panel of all others; None where the symbols that
            are forecast are those that are trained on.
    """

    model: str
    kind: str
    settings: dict[str, Any]
    tables: tuple[Table, ...]
    is_panel: bool
    symbol_embedding: int
    feature_names: tuple[str, ...]
    fold: Fold
    seed: int
    window: int
    label_period: int = 0
    balance: str = "candles"
    left_out: str | None = None

    @property
    def symbols(self) -> list[str]:
        """Names of its tables' symbols, in order."""
        return [table.symbol for table in self.tables]

    @property
    def subject(self) -> str:
        """The symbol, or the word for all of them."""
        if self.left_out is not None:
            return f"{PANEL} {WITHOUT} {self.left_out}"
        return PANEL if self.is_panel else self.tables[0].symbol

    @property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        content = {
            "kind": self.kind,
            "settings": self.settings,
            "tables": sorted((table.symbol, table.digest) for table in self.tables),
            "is_panel": self.is_panel,
            "symbol_embedding": self.symbol_embedding,
            "features": self.feature_names,
            "fold": asdict(replace(self.fold, number=0)),
            "seed": self.seed,
            "window": self.window,
            "label_period": self.label_period,
            "packages": package_versions(),
        }
        # Added later: results of jobs that know nothing of these keep their keys.
        if self.balance != "candles":
            content["balance"] = self.balance
        if self.left_out is not None:
            content["left_out"] = self.left_out
        changed = changed_defaults(self.kind, self.settings)
        if changed:
            content["defaults"] = changed
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def place(self) -> Path:
        """Where the result goes, below the output folder."""
        version = f"fold{self.fold.number}-seed{self.seed}-{self.key[:12]}"
        return Path(MODELS_FOLDER) / self._group / file_stem(self.model) / version

    @property
    def _group(self) -> Path:
        if self.left_out is not None:
            return Path(WITHOUT, file_stem(self.left_out))
        return Path(PANEL) if self.is_panel else Path("symbols", file_stem(self.subject))

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.model}, {self.subject}, fold {self.fold.number}, seed {self.seed}"


@dataclass(frozen=True)
class Done:
    """How a job ended.

    Attributes:
        job: The job.
        seconds: What it took.
        failure: Why it failed, in one line; None where it succeeded.
        lacks_room: Whether it failed because the disk is full or may only be read.
    """

    job: Job
    seconds: float
    failure: str | None = None
    lacks_room: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a job trains on and forecasts.

    Attributes:
        frame: Rows of its tables, one table after the other.
        codes: Number of each row's table.
        split: Which rows belong to the parts of its fold.
        assembled: Scaled rows and windows.
    """

    frame: pd.DataFrame
    codes: np.ndarray[Any, Any]
    split: FoldRows
    assembled: Assembled

    @property
    def n_bytes(self) -> int:
        """About what it takes in memory."""
        columns = int(self.frame.memory_usage(index=False).sum())
        # Windows hold the same rows once more, in half of the bytes a number.
        return columns + self.assembled.rows.nbytes * 3 // 2


@dataclass
class Shared:
    """Inputs that jobs of one process have in common, kept up to a number of bytes.

    What does not fit is made anew each time: trials go round and round the same jobs, so whatever
    was let go of for it would be the next to be asked for.
    """

    most_bytes: int = 512 * 2**20
    held: dict[Any, Inputs] = field(default_factory=dict)
    n_bytes: int = 0

    def inputs(self, job: Job) -> Inputs:
        """Return the inputs of a job."""
        schema = schema_of(job)
        names = tuple(schema.feature_names)
        key = (job.tables, job.fold, job.window, names, bool(schema.symbols), *_chosen(job))
        if key in self.held:
            return self.held[key]
        made = make_inputs(job)
        if self.n_bytes + made.n_bytes <= self.most_bytes:
            self.held[key] = made
            self.n_bytes += made.n_bytes
        return made


@functools.cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on, where they are installed."""
    # Its own by what it says itself: what pip noted of a checkout stays as old as the installation.
    found = {"freqai_lstm_plugins": __version__}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def is_done(job: Job, out: Path) -> bool:
    """Whether the result of a job is there, whole."""
    return _is_whole(out / job.place)


def _is_whole(folder: Path) -> bool:
    # A folder of ours has all of its files; one that was copied by hand may lack some.
    return all((folder / name).is_file() for name in (METADATA_FILE, MODEL_FILE, PREDICTIONS_FILE))


def run_job(
    job: Job,
    out: Path,
    shared: Shared | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Done:
    """Do a job unless its result is there; a failure is told, not raised.

    Args:
        job: The job.
        out: The output folder.
        shared: Inputs of other jobs of this process.
        on_epoch: Called after each pass of the training, in this process.

    Raises:
        StoppedError: `on_epoch` raised it; nothing is written then.
    """
    started = time.perf_counter()
    try:
        if not is_done(job, out):
            with _one_thread(), _without_yardsticks():
                _compute(job, out, started, shared, on_epoch)
    except StoppedError:
        raise
    except FreqaiLSTMError as error:
        return _failed(job, started, error, str(error))
    # Whatever a model or a full disk raises: the other jobs go on, and the reason is kept.
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
        return _failed(job, started, error, " ".join(reason.split()))
    return Done(job, time.perf_counter() - started)


def _failed(job: Job, started: float, error: Exception, reason: str) -> Done:
    return Done(job, time.perf_counter() - started, reason, is_unwritable(error))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread: workers share the cores between them."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1):
        yield


@contextlib.contextmanager
def _without_yardsticks() -> Iterator[None]:
    """Leave out what each of hundreds of trainings has to say of itself; the report counts it."""
    logger = logging.getLogger("freqai_lstm_plugins.models.yardstick")
    before = logger.level
    logger.setLevel(max(logging.ERROR, before))
    try:
        yield
    finally:
        logger.setLevel(before)


def make_inputs(job: Job) -> Inputs:
    """Read the tables of a job, and put its windows together."""
    frame, codes = join_frames([read_features(table) for table in job.tables])
    schema = schema_of(job)
    rows, split = rows_of(frame, codes, schema.feature_names), split_rows(job.fold, frame)
    assert_no_peeking(job.fold, split, frame["date"], frame[KNOWN_AT])
    if job.left_out is not None:
        split = _without(split, np.array(job.symbols)[codes] == job.left_out)
    assembled = assemble(rows, split.train, split.valid, schema, job.window)
    if job.balance == "symbols":
        assembled = replace(assembled, data=balance_symbols(assembled.data, codes))
    # What features were made into is in the rows now.
    return Inputs(frame[["date", LABEL, KNOWN_AT]], codes, split, assembled)


def _chosen(job: Job) -> tuple[str | None, ...]:
    """Return what decides which rows of the tables are trained on, and with which weights."""
    return job.balance, job.left_out


def _without(split: FoldRows, is_left_out: np.ndarray[Any, Any]) -> FoldRows:
    """Train on all symbols but one, and test on that one."""
    train, valid = split.train & ~is_left_out, split.valid & ~is_left_out
    if not train.any():
        raise DataError("no other symbol has training rows in this fold")
    return replace(split, train=train, valid=valid, test=split.test & is_left_out)


def _compute(
    job: Job,
    out: Path,
    started: float,
    shared: Shared | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    inputs = make_inputs(job) if shared is None else shared.inputs(job)
    frame, split, assembled = inputs.frame, inputs.split, inputs.assembled
    model = make_model(job)
    # Rows of a panel stand symbol after symbol, and folds inside the training part go by time.
    dates, times = np.unique(moments(frame["date"]), return_inverse=True)
    prepared = replace(assembled.data, times=times, known_at=known_at_dates(dates, frame))
    model.fit_windows(prepared, on_epoch=on_epoch)
    symbols = np.array(job.symbols)[inputs.codes]
    predicted = predict_test(model, assembled, split, frame, symbols)
    if predicted.empty:
        raise DataError("no window ends at a test row: give the test part more rows than a window")
    target = out / job.place
    target.parent.mkdir(parents=True, exist_ok=True)
    # Workers of several machines may share the folder, so the process says too little.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        save_model(model, temporary / MODEL_FILE)
        predicted.to_parquet(temporary / PREDICTIONS_FILE, index=False)
        metadata = _metadata(job, assembled, split, model, predicted)
        metadata["seconds"] = time.perf_counter() - started
        write_text(temporary / METADATA_FILE, json.dumps(metadata, indent=1, default=str))
        _rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        # Another worker was faster; its result is the same.
        if not _is_whole(target):
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)


def sweep(out: Path) -> None:
    """Remove what runs that were killed while they wrote have left behind."""
    for temporary in (path for place in WRITTEN for path in out.glob(f"{place}.*.tmp")):
        # Another run may be writing this very moment, which takes it seconds.
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > ABANDONED_SECONDS:
                if temporary.is_dir():
                    shutil.rmtree(temporary, ignore_errors=True)
                else:
                    temporary.unlink()


def join_frames(frames: list[pd.DataFrame]) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Return the tables one after the other, and the number of each row's table."""
    codes = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    return pd.concat(frames, ignore_index=True), codes


def schema_of(job: Job) -> Schema:
    """Return what the columns of a job's rows are called."""
    names = (
        [*job.feature_names, LAST_KNOWN_LABEL] if job.kind == "naive_last" else [*job.feature_names]
    )
    tells = bool(job.symbol_embedding)
    return Schema(names, [LABEL], [], job.symbols if tells else [])


def rows_of(frame: pd.DataFrame, codes: np.ndarray[Any, Any], feature_names: Sequence[str]) -> Rows:
    """Return the rows of joined tables; the first row of each table follows none."""
    follows = np.diff(codes, prepend=-1) == 0
    features = frame[list(feature_names)].to_numpy(dtype=np.float64)
    return Rows(features, frame[[LABEL]].to_numpy(dtype=np.float64), follows, codes)


def split_rows(fold: Fold, frame: pd.DataFrame) -> FoldRows:
    """Return which rows of a table belong to the parts of a fold."""
    return fold_rows(fold, frame["date"], frame[KNOWN_AT])


def make_model(job: Job) -> Model:
    """Return the model of a job, not trained yet."""
    return new_model(
        job.kind,
        job.settings,
        window=job.window,
        seed=job.seed,
        symbol_embedding=job.symbol_embedding,
        label_period=job.label_period,
    )


def _metadata(
    job: Job, assembled: Assembled, split: FoldRows, model: Model, predicted: pd.DataFrame
) -> dict[str, Any]:
    scaling, valid = assembled.data.scaling, assembled.data.valid
    return {
        "key": job.key,
        "model": job.model,
        "kind": job.kind,
        "settings": job.settings,
        "symbols": job.symbols,
        "is_panel": job.is_panel,
        "balance": job.balance,
        "left_out": job.left_out,
        "symbol_embedding": job.symbol_embedding,
        "fold": asdict(job.fold),
        "seed": job.seed,
        "window": job.window,
        "feature_names": schema_of(job).feature_names,
        "tables": {table.symbol: table.digest for table in job.tables},
        "files": {table.symbol: table.path.name for table in job.tables},
        "data_range": [str(predicted["date"].min()), str(predicted["date"].max())],
        "rows": {
            "train": len(assembled.data.train),
            "valid": 0 if valid is None else len(valid),
            "test": len(predicted),
            "purged": split.purged,
            "embargoed": split.embargoed,
            "unlabelled": split.unlabelled,
        },
        "scaling": None if scaling is None else scaling.to_dict(),
        "history": model.history_.to_dict(),
        **_members(model),
        "metrics": _metrics(predicted),
        "packages": package_versions(),
        # Of the whole worker so far: a later job of it can only show as much or more.
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _members(model: Model) -> dict[str, Any]:
    """Return what an ensemble's out-of-fold rows said of its members."""
    if not isinstance(model, EnsembleRegressor):
        return {}
    fitted = model.require_fitted()
    weighed = fitted.weighed[0]
    names = [member.name for member in fitted.members]
    return {
        "ensemble": {
            "weights": dict(zip(names, weighed.weights, strict=True)),
            "errors": dict(zip(names, weighed.member_errors, strict=False)),
            "mean_error": weighed.mean_error,
            "own_error": weighed.own_error,
            "effective_members": weighed.effective_members,
            "correlation": weighed.correlation,
        }
    }


def _metrics(predicted: pd.DataFrame) -> dict[str, float | None]:
    """Return a few figures of one job, to be seen in a list of models."""
    known = predicted.dropna(subset=["prediction", "label"])
    if len(known) < 2:
        return {"n": len(known), "mse": None, "rank_ic": None}
    error = known["prediction"] - known["label"]
    constant = known["prediction"].nunique() < 2 or known["label"].nunique() < 2
    rank = None if constant else float(known["prediction"].rank().corr(known["label"].rank()))
    return {"n": len(known), "mse": float((error**2).mean()), "rank_ic": rank}
