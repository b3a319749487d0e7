"""`SequenceModel`: the regressors of this package as models of qlib.

qlib decides which dates train, validate and test, and what a row holds. From there on the rules are
those of every other path: windows are cut from each instrument's rows along the calendar, labels
that reach into a later part train nothing, and scaling is fitted on training rows alone.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from qlib.data.dataset import DatasetH, TSDatasetH
from qlib.log import get_module_logger
from qlib.model.base import ModelFT
from qlib.workflow import R

from freqai_lstm_plugins.config import parse_count
from freqai_lstm_plugins.data.assembly import apply_scaling, assemble
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models.catalogue import NAIVE, model_names, new_model
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.models.registry import load_model, save_model
from freqai_lstm_plugins.models.regressor import SequenceRegressor
from freqai_lstm_plugins.models.tabular import TabularRegressor
from freqai_lstm_plugins.names import closest, require_names
from freqai_lstm_plugins.nets import NETS
from freqai_lstm_plugins.qlib.dataset import (
    INFER,
    Table,
    calendar_of,
    cut_valid,
    dates_of,
    days_of,
    fetch,
    is_sampled,
    known_columns,
    read_table,
    rows_of_part,
    span_of,
    weights_of,
)
from freqai_lstm_plugins.qlib.expressions import reach, warn_of_peeking
from freqai_lstm_plugins.qlib.rows import panel_of
from freqai_lstm_plugins.qlib.settings import log_needless, translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qlib.data.dataset.weight import Reweighter

    from freqai_lstm_plugins.models.contract import Model
    from freqai_lstm_plugins.training.history import Epoch

logger = get_module_logger("SequenceModel")

DEFAULT_STEP_LEN = 20
"""W on a dataset that names none: that of qlib's own recurrent baselines on Alpha158."""

ENSEMBLE = EnsembleRegressor.kind


@dataclass(frozen=True)
class _Fitted:
    """What a training left: all that a prediction needs beside the dataset."""

    model: Model
    scaling: Scaling
    schema: Schema
    window: int

    def to_state(self) -> dict[str, Any]:
        """Return plain data, and the bytes of the model file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.zip"
            save_model(self.model, path)
            content = path.read_bytes()
        return {
            "file": content,
            "scaling": self.scaling.to_dict(),
            "schema": dataclasses.asdict(self.schema),
            "window": self.window,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> _Fitted:
        """Read the model file anew; nothing that it holds is executed."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.zip"
            path.write_bytes(state["file"])
            model = load_model(path)
        scaling, schema = Scaling(**state["scaling"]), Schema(**state["schema"])
        return cls(model, scaling, schema, state["window"])


class SequenceModel(ModelFT):
    """A net, a tree, a linear model or an ensemble of this package, as a model of qlib.

    In a `qrun` file it stands by `class: SequenceModel` and
    `module_path: freqai_lstm_plugins.qlib`, and in pickles by the same; both are in users' files
    and never change. Datasets are `DatasetH`, whose rows become windows here, and `TSDatasetH`.

    A pickle of it holds plain data and the bytes of this package's model file.
    """

    # The path that pickles keep.
    __module__ = "freqai_lstm_plugins.qlib"

    def __init__(
        self,
        model: str = "lstm",
        step_len: int | None = None,
        label_horizon: int | None = None,
        valid_size: float = 0.15,
        seed: int | None = None,
        scale: bool = True,
        **settings: Any,
    ) -> None:
        """Set every parameter; nothing is trained yet.

        Args:
            model: Name in the catalogue, such as `lstm` or `lightgbm`, or `ensemble`.
            step_len: W; by default that of a `TSDatasetH`, else 20. A tree or a linear model, which
                sees single days, takes as many as its `lags` reach over, and a naive forecast one.
            label_horizon: Days that a label looks ahead; by default what its expression says.
            valid_size: Last share of the training days that validates where there is no segment
                `valid`; 0 for none.
            seed: Seed of whatever the model draws; None takes 42.
            scale: Standardize features and label, whatever the handler does. Without, a net sees
                what the handler's processors give.
            **settings: The model's own settings, under our names or qlib's. Those of an ensemble
                hold `members`, a dictionary of each one's settings by its name.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        super().__init__()
        self.model = model
        self.step_len = None if step_len is None else parse_count(step_len, 1, "step_len")
        self.label_horizon = (
            None if label_horizon is None else parse_count(label_horizon, 0, "label_horizon")
        )
        if not 0 <= valid_size < 1:
            raise ConfigError(
                f"valid_size must be a number from 0 up to, not including, 1, not {valid_size!r}."
            )
        self.valid_size = valid_size
        if not isinstance(scale, bool):
            raise ConfigError(f"scale must be true or false, not {scale!r}.")
        self.scale = scale
        self.seed = 42 if seed is None else seed
        self.settings = settings
        self._fitted: _Fitted | None = None
        # So that what is wrong is said before a dataset was loaded for it.
        self._make(self._checked_window(self.step_len or DEFAULT_STEP_LEN), 0)
        log_needless(model, settings)
        for name, given in settings.get("members", {}).items():
            log_needless(_kind(name, given), given)

    def fit(
        self,
        dataset: DatasetH,
        evals_result: dict[str, Any] | None = None,
        save_path: str | Path | None = None,
        reweighter: Reweighter | None = None,
    ) -> None:
        """Train on the segment `train`, and stop early by `valid` where there is one.

        Args:
            dataset: The dataset.
            evals_result: Is given the losses of all epochs under `train` and `valid`.
            save_path: Where the model file goes, beside what a recorder pickles.
            reweighter: Weighs the rows of training and of validation.

        Raises:
            DataError: The dataset has no usable training row, or no label.
            ConfigError: Nothing says how far labels look ahead.
        """
        self._train(dataset, None, evals_result, save_path, reweighter)

    def finetune(
        self,
        dataset: DatasetH,
        evals_result: dict[str, Any] | None = None,
        save_path: str | Path | None = None,
        reweighter: Reweighter | None = None,
    ) -> None:
        """Go on from the trained weights, with the scaling that they were trained on.

        Arguments are those of `fit`.

        Raises:
            ConfigError: The model is not trained, or is no net.
            MismatchError: The features are not those of the training.
        """
        former = self._require_fitted()
        if not isinstance(former.model, SequenceRegressor):
            raise ConfigError(f"{self.model} cannot go on from a training: fit it anew.")
        self._train(dataset, former, evals_result, save_path, reweighter)

    def predict(self, dataset: DatasetH, segment: str | slice = "test") -> pd.Series[float]:
        """Predict every row of a segment, from the rows before the segment too.

        Args:
            dataset: The dataset.
            segment: Name of a segment, or a slice of dates.

        Returns:
            Predictions by date and instrument, in the order in which qlib's models give them for
            such a dataset, in the label's units; NaN where no full window ends.

        Raises:
            ConfigError: The model is not trained.
            DataError: There is no such segment, or it holds no row.
            MismatchError: The features are not those of the training.
        """
        fitted, span = self._require_fitted(), span_of(dataset, segment)
        until = slice(None, span.stop)
        frame = known_columns(fetch(dataset, until, "feature", INFER), fitted.schema.feature_names)
        calendar = calendar_of(frame.index)
        first, _ = days_of(calendar, segment, span)
        days = calendar.get_indexer(dates_of(frame.index))
        is_near = days > first - fitted.window
        frame, days = frame[is_near], days[is_near]
        panel = panel_of(dataset, frame, None, days)
        rows, has_window = apply_scaling(
            panel.rows, fitted.scaling, fitted.window, tells_symbols=False
        )
        is_asked = panel.days >= first
        point = fitted.model.predict_windows(rows, has_window & is_asked).point
        values = pd.Series(fitted.scaling.unscale_targets(point)[:, 0], frame.index[panel.order])
        if isinstance(dataset, TSDatasetH):
            is_asked &= is_sampled(dataset, values.index, until, INFER)
            return values[is_asked]
        return values.reindex(frame.index[days >= first])

    def __getstate__(self) -> dict[str, Any]:
        """Return plain data alone."""
        kept = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {**kept, "_fitted": None if self._fitted is None else self._fitted.to_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the model file that the state holds."""
        super().__init__()
        fitted = state["_fitted"]
        # Pickles of earlier versions always scaled.
        self.__dict__.update({"scale": True, **state})
        self._fitted = None if fitted is None else _Fitted.from_state(fitted)

    def _require_fitted(self) -> _Fitted:
        if self._fitted is None:
            raise ConfigError("This model is not fitted yet: fit it, or load one from a recorder.")
        return self._fitted

    def _train(
        self,
        dataset: DatasetH,
        former: _Fitted | None,
        evals_result: dict[str, Any] | None,
        save_path: str | Path | None,
        reweighter: Reweighter | None,
    ) -> None:
        window = self._window(dataset) if former is None else former.window
        horizon = self._horizon(dataset)
        table = read_table(dataset)
        warn_of_peeking(dataset.handler, table.calendar, table.parts["train"][1])
        table = cut_valid(table, self.valid_size)
        names = list(table.features.columns)
        given = None if self.scale else Scaling.none(len(names), 1)
        if former is not None:
            require_names("features", names, former.schema.feature_names)
            given = former.scaling
        data, scaling = _prepared(dataset, table, window, horizon, reweighter, given)
        model = self._make(window, horizon)
        if isinstance(model, SequenceRegressor):
            known = None if former is None else former.model
            start = known if isinstance(known, SequenceRegressor) else None
            model.fit_windows(data, start_from=start, on_epoch=_log_epoch)
        else:
            model.fit_windows(data, on_epoch=_log_epoch)
        self._fitted = _Fitted(model, scaling, data.schema, window)
        if save_path is not None:
            save_model(model, save_path)
        _tell(model.history_.epochs, evals_result)

    def _make(self, window: int, horizon: int) -> Model:
        settings = translated(self.model, self.settings)
        if self.model != ENSEMBLE:
            known = [*model_names(), ENSEMBLE]
            if self.model not in known:
                raise ConfigError(
                    f"unknown model {self.model!r}: the models are {', '.join(known)}."
                    f"{closest(self.model, known)}"
                )
            return new_model(self.model, settings, window=window, seed=self.seed)
        members = settings.pop("members", {})
        if isinstance(members, dict):
            members = {
                name: translated(_kind(name, given), given) if isinstance(given, dict) else given
                for name, given in members.items()
            }
        # What is no section of settings is refused there.
        return EnsembleRegressor(
            members, window=window, label_period=horizon, seed=self.seed, **settings
        )

    def _window(self, dataset: DatasetH) -> int:
        own = dataset.step_len if isinstance(dataset, TSDatasetH) else None
        if self.step_len is not None and own not in (None, self.step_len):
            raise ConfigError(
                f"step_len = {self.step_len} of the model and {own} of the dataset differ: leave "
                f"the model's out."
            )
        chosen = self.step_len or self._seen_days() or own or DEFAULT_STEP_LEN
        return self._checked_window(chosen)

    def _seen_days(self) -> int | None:
        """Return the days that a model of single days sees; None for any other."""
        if self.model in NAIVE:
            return 1
        model = self._make(1, 0)
        # Days without a full window before them, as behind a listing, have something to tell too.
        return max(model.config.lags) + 1 if isinstance(model, TabularRegressor) else None

    def _checked_window(self, window: int) -> int:
        # A tree sees the newest row alone in any case.
        if window == 1 and (self.model in NETS or self.model == ENSEMBLE):
            raise ConfigError(
                f"step_len = 1 leaves {self.model} nothing to learn of the days before: take at "
                f"least 2, {DEFAULT_STEP_LEN} by default, or a tree such as lightgbm."
            )
        return window

    def _horizon(self, dataset: DatasetH) -> int:
        if self.label_horizon is not None:
            return self.label_horizon
        found = reach(dataset.handler, "label")
        if not found:
            raise ConfigError(
                "The labels of this dataset name no expression that says how far they look ahead: "
                "set label_horizon, 2 for Ref($close, -2) / Ref($close, -1) - 1."
            )
        return max(found.values())


def _kind(name: str, settings: Mapping[str, Any]) -> str:
    """Return what kind of model a member of an ensemble is."""
    return str(settings.get("kind", name.partition("-")[0]))


def _prepared(
    dataset: DatasetH,
    table: Table,
    window: int,
    horizon: int,
    reweighter: Reweighter | None,
    scaling: Scaling | None,
) -> tuple[Prepared, Scaling]:
    """Return what a model is trained on, and how it was scaled: as given, or by training rows."""
    panel = panel_of(dataset, table.features, table.label, table.days)
    assembled = assemble(
        panel.rows,
        rows_of_part(table, "train", horizon)[panel.order],
        rows_of_part(table, "valid", horizon)[panel.order],
        Schema(list(table.features.columns), [str(table.label.columns[0])]),
        window,
        weights=weights_of(table, reweighter)[panel.order],
        scaling=scaling,
    )
    found = assembled.data.scaling
    assert found is not None
    # An ensemble cuts folds by time, which here is not where a row stands.
    return dataclasses.replace(assembled.data, times=panel.days), found


def _log_epoch(epoch: Epoch) -> None:
    losses = ", ".join(f"{name} {loss:.6f}" for name, loss in _losses(epoch).items())
    logger.info(f"epoch {epoch.number}: {losses} ({epoch.seconds:.1f} s)")


def _tell(epochs: list[Epoch], evals_result: dict[str, Any] | None) -> None:
    """Give the losses to whoever asked, and to the recorder where one is active."""
    losses = [_losses(epoch) for epoch in epochs]
    if evals_result is not None:
        for name in ("train", "valid"):
            evals_result[name] = [found[name] for found in losses if name in found]
    recorder = _active_recorder()
    if recorder is not None:
        for epoch, found in zip(epochs, losses, strict=True):
            recorder.log_metrics(step=epoch.number, **found)


def _losses(epoch: Epoch) -> dict[str, float]:
    found = {"train": epoch.train_loss}
    return found if epoch.valid_loss is None else {**found, "valid": epoch.valid_loss}


def _active_recorder() -> Any:
    """Return qlib's recorder without starting one, which `R.get_recorder` would do."""
    try:
        experiment = R.exp_manager.active_experiment
    except AttributeError:
        # qlib was not initialized.
        return None
    return None if experiment is None else experiment.active_recorder
