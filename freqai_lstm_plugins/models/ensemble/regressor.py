"""`EnsembleRegressor`: members of several kinds, trained on the same windows, and one forecast.

The members' weights come from forecasts of rows that the members were not trained on (see
`out_of_fold`); then all members are trained once on the whole slice.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from freqai_lstm_plugins.checkpoint import Checkpoint, model_class, write_checkpoint
from freqai_lstm_plugins.config import parse_settings
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, TrainingError
from freqai_lstm_plugins.models.catalogue import is_adaptive
from freqai_lstm_plugins.models.contract import Model, Predictions
from freqai_lstm_plugins.models.ensemble.combine import (
    following_weights,
    point_and_disagreement,
)
from freqai_lstm_plugins.models.ensemble.out_of_fold import (
    FATAL,
    OnEpoch,
    OutOfFold,
    forecast_folds,
    no_evidence,
    put,
)
from freqai_lstm_plugins.models.ensemble.settings import (
    EnsembleConfig,
    Member,
    check_members,
    make_member,
    read_members,
)
from freqai_lstm_plugins.models.ensemble.weighing import Weighed, confident_weights, weigh
from freqai_lstm_plugins.models.estimator import SequenceEstimator
from freqai_lstm_plugins.models.plain import read_numbers, read_schema, read_whole, read_window
from freqai_lstm_plugins.models.tabular import TabularRegressor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray
    from freqai_lstm_plugins.data.preparation import Prepared, Schema
    from freqai_lstm_plugins.training.history import History

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnsembleFitted:
    """A fitted ensemble, whole.

    Attributes:
        members: Members that were trained, in order.
        models: Their models.
        weighed: For each target what the out-of-fold rows say.
        schema: Names of features and labels.
        target_mean: (K,) mean training target.
        failures: Why a member was left out, by its name.
        last_time: Number of the training slice's last candle; None where nobody said.
    """

    members: list[Member]
    models: list[Model]
    weighed: list[Weighed]
    schema: Schema
    target_mean: list[float]
    failures: dict[str, str]
    last_time: int | None

    def learned_by(self, member: Member, schema: Schema) -> Any:
        """Return the model of a member of the same settings and columns; None without one."""
        names = (schema.feature_names, schema.label_names, schema.symbols)
        own = (self.schema.feature_names, self.schema.label_names, self.schema.symbols)
        pairs = zip(self.members, self.models, strict=True)
        return next((model for one, model in pairs if one == member and own == names), None)


@dataclass(frozen=True)
class EnsemblePredictions(Predictions):
    """Forecasts, and what they were made of.

    Attributes:
        members: (N, K, M) forecasts of the members.
        weights: (N, K, M) their weights.
        disagreement: (N, K) weighted deviation of the members.
    """

    members: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0)))
    weights: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0)))
    disagreement: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    def tail(self, n_rows: int) -> EnsemblePredictions:
        """Return the last rows alone."""
        start = len(self.point) - n_rows
        return EnsemblePredictions(
            self.point[start:],
            None if self.lower is None else self.lower[start:],
            None if self.upper is None else self.upper[start:],
            None,
            self.members[start:],
            self.weights[start:],
            self.disagreement[start:],
        )


@dataclass(frozen=True)
class KnownLabels:
    """Labels of rows, for weights that follow losses.

    Attributes:
        targets: (N, K) in the units that the members were trained in; NaN where there is none. Only
            those that are known by then count at a row, whatever stands here.
        positions: (N,) number of each row's candle, rising.
        is_later: (N,) rows after the training slice; the others keep the starting weights.
        known_at: (N,) number of the candle at which each label is known; None for `label_period`
            candles after its row.
    """

    targets: FloatArray
    positions: IntArray
    is_later: BoolArray
    known_at: IntArray | None = None


class EnsembleRegressor:
    """A model of numbers made of several."""

    kind: ClassVar[str] = "ensemble"

    def __init__(
        self, members: Mapping[str, Mapping[str, Any]], *, window: int, **settings: Any
    ) -> None:
        """Set every parameter; nothing is trained yet.

        Args:
            members: Settings of each member by its name (see `settings.read_members`).
            window: W.
            **settings: Fields of `EnsembleConfig`.

        Raises:
            ConfigError: There is no member, or a setting is unknown or wrong.
            MissingExtraError: A member's library is not installed.
        """
        self.config = parse_settings(EnsembleConfig, settings, self.kind)
        self.window = window
        self.members = read_members(members)
        self.fitted: EnsembleFitted | None = None
        check_members(self.members, self.config, window)

    def fit_windows(
        self,
        data: Prepared,
        *,
        start_from: EnsembleRegressor | None = None,
        on_epoch: OnEpoch | None = None,
        last_time: int | None = None,
    ) -> Self:
        """Weigh members by out-of-fold forecasts, then train them on the whole slice.

        Args:
            data: Windows of the slice; those of `data.valid` only stop members early.
            start_from: A fitted ensemble whose members go on learning, where they have the same
                settings, features and labels; those of the folds start afresh. It is only read.
            on_epoch: Called after each pass of each member, those of the folds too.
            last_time: Number of the slice's last candle, for whoever asks the file for it.

        Raises:
            TrainingError: No member could be trained.
            StoppedError: `on_epoch` raised it.
            DataError: There are too few out-of-fold rows for an interval.
        """
        if data.schema.classes:
            raise ConfigError(f"{self.kind} predicts numbers, and the targets are classes.")
        evidence, failures = self._evidence(data, on_epoch)
        former = None if start_from is None else start_from.require_fitted()
        models = self._train(data, failures, on_epoch, former)
        kept = list(models)
        weighed = [
            self._weigh(label, part, kept)
            for label, part in zip(data.schema.label_names, evidence, strict=True)
        ]
        self.fitted = EnsembleFitted(
            [self.members[number] for number in kept],
            list(models.values()),
            weighed,
            data.schema,
            data.train.targets.double().mean(dim=0).tolist(),
            failures,
            last_time,
        )
        return self

    # what a prediction does

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> EnsemblePredictions:
        """Predict the rows (N, F) at which a full window ends, by the weights to start from."""
        return self.combined(self.forecast_members(rows, has_window))

    def forecast_members(self, rows: FloatArray, has_window: BoolArray) -> FloatArray:
        """Return what each member says, lower and upper ends of intervals too: (3, N, K, M)."""
        fitted = self.require_fitted()
        shape = len(rows), len(fitted.schema.label_names), len(fitted.models)
        said = np.full((3, *shape), np.nan)
        for place, model in enumerate(fitted.models):
            put(said[..., place], model.predict_windows(rows, has_window))
        return said

    def combined(self, said: FloatArray, known: KnownLabels | None = None) -> EnsemblePredictions:
        """Make one forecast of what members say.

        Args:
            said: As `forecast_members` gives it.
            known: Labels for weights that follow them; None keeps the weights to start from.
        """
        n_rows, n_labels, n_members = said.shape[1:]
        point, spread = np.empty((2, n_rows, n_labels))
        weights = np.empty((n_rows, n_labels, n_members))
        lower, upper = np.full((2, n_rows, n_labels), np.nan)
        for k, weighed in enumerate(self.require_fitted().weighed):
            weights[:, k], ends = self._weights_of(weighed, said[:, :, k], k, known)
            point[:, k], spread[:, k] = point_and_disagreement(said[0, :, k], weights[:, k])
            if weighed.margin is not None:
                low, high = (point[:, k], point[:, k]) if ends is None else ends
                lower[:, k] = np.minimum(low - weighed.margin, point[:, k])
                upper[:, k] = np.maximum(high + weighed.margin, point[:, k])
        has_interval = self.config.interval is not None
        return EnsemblePredictions(
            point,
            lower if has_interval else None,
            upper if has_interval else None,
            None,
            said[0],
            weights,
            spread,
        )

    @property
    def follows_labels(self) -> bool:
        """Whether known labels change the weights."""
        return self.config.combine == "dynamic"

    @property
    def history_(self) -> History:
        """Losses of the first member's training."""
        return self.require_fitted().models[0].history_

    @property
    def feature_names_in_(self) -> list[str]:
        """Names of the features, in the order of the columns of rows."""
        return self.require_fitted().schema.feature_names

    @property
    def symbols_(self) -> list[str]:
        """Names of the symbols that members are told; none where they are told none."""
        return self.require_fitted().schema.symbols

    @property
    def label_names_(self) -> list[str]:
        """Names of the targets."""
        return self.require_fitted().schema.label_names

    def forget_optimizer(self) -> None:
        """Drop the nets' optimizer states, which only continual learning needs."""
        for model in self.require_fitted().models:
            if isinstance(model, SequenceEstimator):
                model.forget_optimizer()

    def require_fitted(self) -> EnsembleFitted:
        """Return what a training left.

        Raises:
            ConfigError: There was none.
        """
        if self.fitted is None:
            raise ConfigError("This ensemble is not fitted yet: fit it, or load a file.")
        return self.fitted

    # files

    def save(self, path: str | Path) -> None:
        """Write the fitted ensemble to a file, whole or not at all."""
        write_checkpoint(Checkpoint(self.kind, self.to_state()), Path(path))

    def to_state(self) -> dict[str, Any]:
        """Return plain data and tensors from which `from_state` builds the same model."""
        fitted = self.require_fitted()
        return {
            "settings": asdict(self.config),
            "window": self.window,
            "members": [asdict(member) for member in self.members],
            "trained": [
                {"name": member.name, "model": model.kind, "state": model.to_state()}
                for member, model in zip(fitted.members, fitted.models, strict=True)
            ],
            "weighed": [asdict(part) for part in fitted.weighed],
            "schema": asdict(fitted.schema),
            "target_mean": fitted.target_mean,
            "failures": fitted.failures,
            "last_time": fitted.last_time,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described.

        Raises:
            MismatchError: The state is not of an ensemble, or of members unknown here.
        """
        try:
            members = {
                one["name"]: one["settings"] | {"kind": one["kind"]} for one in state["members"]
            }
            model = cls(members, window=read_window(state["window"]), **state["settings"])
            by_name = {member.name: member for member in model.members}
            trained = state["trained"]
            schema = read_schema(state["schema"])
            weighed = [Weighed.from_plain(part, len(trained)) for part in state["weighed"]]
            if not trained or len(weighed) != len(schema.label_names):
                raise DataError(f"{len(trained)} members and weights of {len(weighed)} labels")
            last_time = state["last_time"]
            model.fitted = EnsembleFitted(
                [by_name[one["name"]] for one in trained],
                [_read_member(one, model.window, schema) for one in trained],
                weighed,
                schema,
                read_numbers(state["target_mean"], len(weighed), "target_mean"),
                {str(name): str(reason) for name, reason in state["failures"].items()},
                None if last_time is None else read_whole(last_time, -(2**62), 2**62),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MismatchError(
                f"The model file holds no sound ensemble ({error}): train it again."
            ) from error
        return model

    # what a fit does

    def _make(self, number: int) -> Model:
        return make_member(self.members[number], number, self.config, self.window)

    def _evidence(
        self, data: Prepared, on_epoch: OnEpoch | None
    ) -> tuple[list[OutOfFold], dict[str, str]]:
        config = self.config
        if (config.combine == "mean" or len(self.members) == 1) and config.interval is None:
            # Equal weights need no evidence, nor does the one of a single member.
            return [no_evidence(len(self.members))] * data.train.targets.shape[1], {}
        makers = {
            member.name: lambda number=number: self._make(number)
            for number, member in enumerate(self.members)
        }
        return forecast_folds(data, makers, config.label_period, config.folds, on_epoch)

    def _train(
        self,
        data: Prepared,
        failures: dict[str, str],
        on_epoch: OnEpoch | None,
        former: EnsembleFitted | None,
    ) -> dict[int, Model]:
        """Train members that have not failed, by their numbers; note those that fail now."""
        models: dict[int, Model] = {}
        for number, member in enumerate(self.members):
            if member.name in failures:
                continue
            try:
                made = self._make(number)
                begun = None if former is None else former.learned_by(member, data.schema)
                if isinstance(made, SequenceEstimator | TabularRegressor) and begun is not None:
                    models[number] = made.fit_windows(data, start_from=begun, on_epoch=on_epoch)
                else:
                    models[number] = made.fit_windows(data, on_epoch=on_epoch)
            except FATAL:
                raise
            # A member that cannot be trained leaves its weight to the others.
            except Exception as error:
                failures[member.name] = f"{type(error).__name__}: {error}"
                logger.warning("Member %s is left out: %s", member.name, error)
        if not models:
            raise TrainingError(
                f"No member of the ensemble could be trained: {next(iter(failures.values()))}"
            )
        if self.config.combine == "confident" and not any(map(self._is_adaptive, models)):
            raise TrainingError(
                f"No member whose interval changes from row to row could be trained, and "
                f"'confident' chooses by these: {next(iter(failures.values()))}"
            )
        return models

    def _is_adaptive(self, number: int) -> bool:
        return is_adaptive(self.members[number].kind, self.members[number].settings)

    def _weigh(self, label: str, found: OutOfFold, kept: list[int]) -> Weighed:
        adaptive = [self._is_adaptive(number) for number in kept]
        names = [self.members[number].name for number in kept]
        return weigh(label, names, adaptive, found.of_members(kept), self.config)

    def _weights_of(
        self, weighed: Weighed, said: FloatArray, target: int, known: KnownLabels | None
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray] | None]:
        """Return the weights of one target, (M,) or (N, M), and the ends of the chosen intervals.

        Args:
            weighed: What the out-of-fold rows say of the target.
            said: (3, N, M).
            target: Its number.
            known: As for `combined`.
        """
        start = np.asarray(weighed.weights)
        if weighed.widenings is not None:
            forecasts, lower, upper = said
            weights, low, high = confident_weights(
                forecasts, lower, upper, weighed, self.config.max_width
            )
            return weights, (low, high)
        if known is None or weighed.follow is None:
            return start, None
        later = known.is_later & np.isfinite(said[0]).any(axis=1)
        weights = np.tile(start, (len(later), 1))
        weights[later] = following_weights(
            said[0][later],
            known.targets[later, target],
            known.positions[later],
            start,
            weighed.follow,
            None if known.known_at is None else known.known_at[later],
        )
        return weights, None


def _read_member(one: Mapping[str, Any], window: int, schema: Schema) -> Model:
    """Build a member from what a file holds, and check that it is of the ensemble's rows.

    Raises:
        DataError: It sees other rows, or tells of other labels.
    """
    if one["model"] == EnsembleRegressor.kind:
        raise DataError(f"member {one['name']!r} is an ensemble")
    model = model_class(one["model"]).from_state(one["state"])
    fitted = model.fitted
    own = fitted.schema
    # A naive forecast sees no window.
    sees = getattr(model, "window", getattr(fitted, "window", window))
    if sees != window:
        raise DataError(f"member {one['name']!r} does not see windows of {window} rows")
    names = (own.feature_names, own.label_names, own.symbols)
    if names != (schema.feature_names, schema.label_names, schema.symbols) or own.classes:
        raise DataError(f"member {one['name']!r} is of other features or labels")
    found: Model = model
    return found
