"""`EnsembleRegressor`: members of several kinds, trained on the same windows, and one forecast.

The members' weights come from forecasts of rows that the members were not trained on (see
`out_of_fold`); then all members are trained once on the whole slice.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from freqai_lstm_plugins.checkpoint import model_class
from freqai_lstm_plugins.config import at_least, parse_settings, setting
from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray, IntArray
from freqai_lstm_plugins.data.preparation import Prepared, Schema
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, TrainingError
from freqai_lstm_plugins.models.catalogue import is_adaptive, new_model
from freqai_lstm_plugins.models.contract import Model, Predictions
from freqai_lstm_plugins.models.ensemble.combine import (
    Evidence,
    Follow,
    choose_follow,
    combine_points,
    disagreement,
    equal_weights,
    following_weights,
    learn_weights,
    most_confident,
)
from freqai_lstm_plugins.models.ensemble.out_of_fold import forecast_folds, wanted_rows
from freqai_lstm_plugins.models.intervals import margin_of, require_rows
from freqai_lstm_plugins.training.history import Epoch, History

logger = logging.getLogger(__name__)

# Share of the out-of-fold rows, at their end, that calibrate the interval and nothing else.
CALIBRATION_SHARE = 0.3


@dataclass(frozen=True)
class EnsembleConfig:
    """How members' forecasts become one.

    Attributes:
        combine: `stack` weighs members by their out-of-fold errors, drawn towards equal weights;
            `mean` takes the plain mean; `dynamic` starts as `stack` and follows the errors of
            labels that become known; `confident` takes at each row the member whose interval is
            narrowest.
        folds: Out-of-fold parts over the last half of the windows; fewer where rows are few.
        label_period: Rows that a target looks ahead.
        interval: Share of the targets that the predicted interval is to hold, such as 0.8; null
            predicts no interval.
        max_width: Where all members' intervals are wider, in the targets' units, `confident` makes
            no forecast; null always makes one.
        share: Share of the starting weights that `dynamic` always mixes in.
        seed: Seed of the first member; the next ones take the numbers after it.
    """

    combine: Literal["stack", "mean", "dynamic", "confident"] = setting("stack", "", lambda v: True)
    folds: int = setting(3, "an integer of at least 1", at_least(1))
    label_period: int = setting(0, "an integer of at least 0", at_least(0))
    interval: float | None = setting(
        None, "a number between 0 and 1, such as 0.8, or null", lambda v: 0 < v < 1
    )
    max_width: float | None = setting(None, "a number above 0, or null", lambda v: v > 0)
    share: float = setting(0.05, "a number between 0 and 1", lambda v: 0 < v < 1)
    seed: int = setting(42, "an integer from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)


@dataclass(frozen=True)
class Member:
    """A model of the ensemble: its name, its kind, and the settings it is made with."""

    name: str
    kind: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Weighed:
    """What the out-of-fold rows say of one target.

    Attributes:
        weights: (M,) weights to start from.
        penalty: Shrinkage that was chosen; infinity is the plain mean.
        follow: How weights follow losses; None where they do not.
        margin: Half of the interval's width; None without intervals.
        member_errors: (M,) mean squared errors out of fold.
        mean_error: That of the plain mean.
        own_error: That of these weights, on the folds that they were not learned from.
        n_rows: Out-of-fold rows.
    """

    weights: list[float]
    penalty: float
    follow: Follow | None
    margin: float | None
    member_errors: list[float]
    mean_error: float | None
    own_error: float | None
    n_rows: int


@dataclass(frozen=True)
class EnsembleFitted:
    """A fitted ensemble, whole.

    Attributes:
        members: Members that were trained, in order.
        models: Their models.
        weighed: For each target what the out-of-fold rows say.
        schema: Names of features and labels.
        window: W.
        target_mean: (K,) mean training target.
        failures: Why a member was left out, by its name.
    """

    members: list[Member]
    models: list[Model]
    weighed: list[Weighed]
    schema: Schema
    window: int
    target_mean: list[float]
    failures: dict[str, str]


@dataclass(frozen=True)
class EnsemblePredictions(Predictions):
    """Forecasts, and what they were made of.

    Attributes:
        members: (N, K, M) forecasts of the members.
        weights: (N, K, M) their weights.
        disagreement: (N, K) weighted deviation of the members.
    """

    members: FloatArray = dataclasses.field(default_factory=lambda: np.empty((0, 0, 0)))
    weights: FloatArray = dataclasses.field(default_factory=lambda: np.empty((0, 0, 0)))
    disagreement: FloatArray = dataclasses.field(default_factory=lambda: np.empty((0, 0)))


@dataclass(frozen=True)
class KnownLabels:
    """Labels of rows since the members' training, for weights that follow losses.

    Attributes:
        targets: (N, K) in the units that the members were trained in; NaN where there is none. Only
            those that are known by then count at a row, whatever stands here.
        positions: (N,) number of each row's candle, rising.
        is_later: (N,) rows after the training slice.
    """

    targets: FloatArray
    positions: IntArray
    is_later: BoolArray


class EnsembleRegressor:
    """A model of numbers made of several."""

    kind: ClassVar[str] = "ensemble"

    def __init__(
        self, members: Mapping[str, Mapping[str, Any]], *, window: int, **settings: Any
    ) -> None:
        """Set every parameter; nothing is trained yet.

        Args:
            members: Settings of each member by its name, which is the name of its kind, may have an
                ending (`lstm-2`), or may be any name where the settings hold a `kind`.
            window: W.
            **settings: Fields of `EnsembleConfig`.

        Raises:
            ConfigError: There is no member, or a setting is unknown or wrong.
        """
        self.config = parse_settings(EnsembleConfig, settings, self.kind)
        self.window = window
        self.members = [_member(name, given) for name, given in members.items()]
        self.fitted: EnsembleFitted | None = None
        self._check()

    def fit_windows(
        self, data: Prepared, *, on_epoch: Callable[[Epoch], None] | None = None
    ) -> Self:
        """Weigh members by out-of-fold forecasts, then train them on the whole slice.

        Args:
            data: Windows of the slice; those of `data.valid` only stop members early.
            on_epoch: Called after each pass of each member's last training.

        Raises:
            TrainingError: No member could be trained.
            DataError: There are too few out-of-fold rows for an interval.
        """
        if data.schema.classes:
            raise ConfigError(f"{self.kind} predicts numbers, and the targets are classes.")
        evidence, failures = self._evidence(data)
        trained: list[Member] = []
        models: list[Model] = []
        for number, member in enumerate(self.members):
            if member.name in failures:
                continue
            try:
                models.append(self._make(number).fit_windows(data, on_epoch=on_epoch))
                trained.append(member)
            # A member that cannot be trained leaves its weight to the others.
            except Exception as error:
                failures[member.name] = f"{type(error).__name__}: {error}"
                logger.warning("Member %s is left out: %s", member.name, error)
        if not trained:
            raise TrainingError(
                f"No member of the ensemble could be trained: {next(iter(failures.values()))}"
            )
        kept = [k for k, member in enumerate(self.members) if member in trained]
        weighed = [
            self._weigh(label, part, kept)
            for label, part in zip(data.schema.label_names, evidence, strict=True)
        ]
        self.fitted = EnsembleFitted(
            trained,
            models,
            weighed,
            data.schema,
            self.window,
            data.train.targets.double().mean(dim=0).tolist(),
            failures,
        )
        return self

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> EnsemblePredictions:
        """Predict the rows (N, F) at which a full window ends, by the weights to start from."""
        return self._predict(rows, has_window, None)

    def predict_following(
        self, rows: FloatArray, has_window: BoolArray, known: KnownLabels
    ) -> EnsemblePredictions:
        """Predict as `predict_windows` does, by weights that follow labels known at each row."""
        return self._predict(rows, has_window, known)

    @property
    def follows_labels(self) -> bool:
        """Whether known labels change the weights."""
        return self.config.combine == "dynamic"

    @property
    def history_(self) -> History:
        """Losses of the first member's training."""
        found = self.require_fitted().models[0]
        return found.history_

    def require_fitted(self) -> EnsembleFitted:
        """Return what a training left.

        Raises:
            ConfigError: There was none.
        """
        if self.fitted is None:
            raise ConfigError("This ensemble is not fitted yet: fit it, or load a file.")
        return self.fitted

    def to_state(self) -> dict[str, Any]:
        """Return plain data and tensors from which `from_state` builds the same model."""
        fitted = self.require_fitted()
        return {
            "settings": asdict(self.config),
            "window": self.window,
            "members": [asdict(member) for member in self.members],
            "trained": [
                asdict(member) | {"state": model.to_state(), "model": model.kind}
                for member, model in zip(fitted.members, fitted.models, strict=True)
            ],
            "weighed": [asdict(part) for part in fitted.weighed],
            "schema": asdict(fitted.schema),
            "target_mean": fitted.target_mean,
            "failures": fitted.failures,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described.

        Raises:
            MismatchError: The state is not of an ensemble, or of members unknown here.
        """
        try:
            members = {
                one["name"]: {**one["settings"], "kind": one["kind"]} for one in state["members"]
            }
            model = cls(members, window=state["window"], **state["settings"])
            trained = [
                Member(one["name"], one["kind"], dict(one["settings"])) for one in state["trained"]
            ]
            models = [
                model_class(one["model"]).from_state(one["state"]) for one in state["trained"]
            ]
            model.fitted = EnsembleFitted(
                trained,
                models,
                [_weighed(part, len(trained)) for part in state["weighed"]],
                Schema(**state["schema"]),
                state["window"],
                list(state["target_mean"]),
                dict(state["failures"]),
            )
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise MismatchError(
                f"The model file holds no sound ensemble ({error}): train it again."
            ) from error
        return model

    # what a fit does

    def _check(self) -> None:
        if not self.members:
            raise ConfigError("ensemble: members is empty. Name at least one, such as lightgbm.")
        if len(self.members) == 1:
            logger.info("The ensemble has one member, so it is that member.")
        for number, member in enumerate(self.members):
            try:
                self._make(number)
            except ConfigError as error:
                raise ConfigError(f"ensemble: member {member.name!r}: {error}") from error
        adaptive = [m.name for m in self.members if is_adaptive(m.kind, m.settings)]
        if self.config.combine == "confident" and len(adaptive) < 2:
            raise ConfigError(
                f"ensemble: combine = 'confident' chooses by intervals that change from row to "
                f"row, and {len(adaptive)} of the members {[m.name for m in self.members]} has "
                f"such: set loss to 'quantile' for at least two of them, or combine otherwise."
            )

    def _make(self, number: int) -> Model:
        member = self.members[number]
        settings = dict(member.settings)
        if self.config.combine == "confident" and is_adaptive(member.kind, settings):
            settings.setdefault("interval", self.config.interval or 0.8)
        seed = settings.pop("seed", (self.config.seed + number) % 2**32)
        return new_model(member.kind, settings, window=self.window, seed=seed)

    def _evidence(self, data: Prepared) -> tuple[list[Evidence], dict[str, str]]:
        n_targets = data.train.targets.shape[1]
        if self.config.combine == "mean" and self.config.interval is None:
            # Equal weights need no evidence.
            nothing = np.empty((0, len(self.members)))
            none = np.empty(0, dtype=np.int64)
            empty = Evidence(nothing, np.empty(0), np.empty(0), none, none)
            return [empty] * n_targets, {}
        makers = {
            member.name: lambda number=number: self._make(number)
            for number, member in enumerate(self.members)
        }
        return forecast_folds(data, makers, self.config.label_period, self.config.folds)

    def _weigh(self, label: str, evidence: Evidence, kept: list[int]) -> Weighed:
        config, n_members = self.config, len(kept)
        found = Evidence(
            evidence.forecasts[:, kept],
            evidence.targets,
            evidence.weights,
            evidence.folds,
            evidence.positions,
        )
        found = found.part(np.asarray(np.isfinite(found.forecasts).all(axis=1)))
        learned, held = self._halves(found)
        if config.interval is not None:
            require_rows(config.interval, len(held))
        if config.combine == "mean" or not len(learned):
            if config.combine != "mean":
                logger.warning(
                    "%s: too few rows to weigh members, so all count alike: %d windows would do.",
                    label,
                    wanted_rows(1, config.label_period),
                )
            weights, penalty = equal_weights(n_members), float("inf")
        else:
            weights, penalty = learn_weights(learned)
        follow = None
        if config.combine == "dynamic" and len(learned):
            follow = choose_follow(learned, weights, config.label_period, share=config.share)
        margin = None
        if config.interval is not None:
            errors = np.abs(combine_points(held.forecasts, weights) - held.targets)
            margin = margin_of(config.interval, errors)
        weighed = Weighed(
            weights.tolist(),
            penalty,
            follow,
            margin,
            *_errors(found),
            len(found),
        )
        self._log(label, [self.members[k].name for k in kept], weighed)
        return weighed

    def _halves(self, found: Evidence) -> tuple[Evidence, Evidence]:
        """Return the rows that weights are from, and those that calibrate the interval."""
        if self.config.interval is None:
            return found, found.part(np.zeros(len(found), dtype=bool))
        cut = round(len(found) * (1 - CALIBRATION_SHARE))
        first = found.positions[cut] if cut < len(found) else np.inf
        is_early = found.positions + self.config.label_period < first
        is_late = found.positions >= first
        return found.part(is_early), found.part(is_late)

    def _log(self, label: str, names: list[str], weighed: Weighed) -> None:
        shares = ", ".join(
            f"{name} {weight:.2f}" for name, weight in zip(names, weighed.weights, strict=True)
        )
        logger.info("%s: weights %s, from %d out-of-fold rows", label, shares, weighed.n_rows)
        if weighed.own_error is None or weighed.mean_error is None:
            return
        best = int(np.argmin(weighed.member_errors))
        if weighed.own_error > min(weighed.mean_error, weighed.member_errors[best]):
            logger.info(
                "%s: out of fold the ensemble (%.5g) is no better than %s (%.5g) or the plain mean "
                "(%.5g).",
                label,
                weighed.own_error,
                names[best],
                weighed.member_errors[best],
                weighed.mean_error,
            )

    # what a prediction does

    def _predict(
        self, rows: FloatArray, has_window: BoolArray, known: KnownLabels | None
    ) -> EnsemblePredictions:
        fitted = self.require_fitted()
        found = [model.predict_windows(rows, has_window) for model in fitted.models]
        members = np.stack([part.point for part in found], axis=2)
        weights = np.stack(
            [
                self._weights(fitted, k, members[:, k], found, known)
                for k in range(members.shape[1])
            ],
            axis=1,
        )
        n_targets = range(members.shape[1])
        point = np.stack([combine_points(members[:, k], weights[:, k]) for k in n_targets], axis=1)
        spread = np.stack([disagreement(members[:, k], weights[:, k]) for k in n_targets], axis=1)
        margins = [part.margin for part in fitted.weighed]
        lower = upper = None
        if all(margin is not None for margin in margins):
            half = np.array(margins, dtype=np.float64)
            lower, upper = point - half, point + half
        return EnsemblePredictions(point, lower, upper, None, members, weights, spread)

    def _weights(
        self,
        fitted: EnsembleFitted,
        target: int,
        forecasts: FloatArray,
        found: list[Predictions],
        known: KnownLabels | None,
    ) -> FloatArray:
        """Return the weights of each row for one target: (N, M)."""
        weighed = fitted.weighed[target]
        start = np.asarray(weighed.weights)
        weights = np.tile(start, (len(forecasts), 1))
        if self.config.combine == "confident":
            widths = [
                np.full(len(forecasts), np.nan)
                if part.lower is None or part.upper is None
                else part.upper[:, target] - part.lower[:, target]
                for part in found
            ]
            return most_confident(forecasts, np.stack(widths, axis=1), self.config.max_width)
        if known is not None and weighed.follow is not None:
            later = known.is_later & np.isfinite(forecasts).any(axis=1)
            weights[later] = following_weights(
                forecasts[later],
                known.targets[later, target],
                known.positions[later],
                start,
                weighed.follow,
            )
        return weights


def _member(name: str, given: Mapping[str, Any]) -> Member:
    if not isinstance(given, Mapping):
        raise ConfigError(f"ensemble: member {name!r} must be a dictionary of settings.")
    settings = dict(given)
    # `lstm-2` is an lstm: the same kind may stand in an ensemble several times.
    kind = settings.pop("kind", name.partition("-")[0])
    return Member(name, str(kind), settings)


def _errors(found: Evidence) -> tuple[list[float], float | None, float | None]:
    """Return mean squared errors out of fold: of each member, of their mean, of learned weights."""
    if not len(found):
        return [], None, None

    def error(part: Evidence, weights: FloatArray) -> float:
        return float(np.mean(np.square(combine_points(part.forecasts, weights) - part.targets)))

    n_members = found.forecasts.shape[1]
    numbers = np.unique(found.folds)
    # Judged on the folds after those that the weights are from, as members are.
    judged = found.part(found.folds > numbers[0]) if len(numbers) > 1 else found
    members = [error(judged, row) for row in np.eye(n_members)]
    own = None
    if len(numbers) > 1:
        parts = [
            (found.part(found.folds == n), learn_weights(found.part(found.folds < n))[0])
            for n in numbers[1:]
        ]
        total = sum(error(part, weights) * len(part) for part, weights in parts)
        own = total / sum(len(part) for part, _ in parts)
    return members, error(judged, equal_weights(n_members)), own


def _weighed(part: Mapping[str, Any], n_members: int) -> Weighed:
    follow = None if part["follow"] is None else Follow(**part["follow"])
    found = Weighed(**{**part, "follow": follow})
    if len(found.weights) != n_members:
        raise DataError(f"{len(found.weights)} weights for {n_members} members")
    return found
