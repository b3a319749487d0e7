"""What an ensemble is told: its members, and how their forecasts become one."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from freqai_lstm_plugins.config import TrainConfig, at_least, canonical_keys, field_names, setting
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models.catalogue import (
    is_adaptive,
    model_names,
    new_model,
    require_library,
    takes_threads,
)
from freqai_lstm_plugins.models.ensemble.combine import HALF_LIVES, RATES
from freqai_lstm_plugins.models.tabular import TabularRegressor
from freqai_lstm_plugins.names import closest
from freqai_lstm_plugins.nets import NETS

if TYPE_CHECKING:
    from freqai_lstm_plugins.models.contract import Model

logger = logging.getLogger(__name__)

# Level of the members' intervals where `confident` compares them and nobody names one.
DEFAULT_INTERVAL = 0.8
# Names stand in columns of a host.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# What hosts append to a label's name for columns of other things.
_TAKEN = ("lower", "upper", "disagreement", "mean", "std")


def _are_numbers(values: list[Any]) -> bool:
    return len(values) > 0 and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )


def _are_half_lives(values: list[Any]) -> bool:
    return _are_numbers(values) and all(0 < value < 1e9 for value in values)


def _are_rates(values: list[Any]) -> bool:
    return _are_numbers(values) and all(0 <= value < 1e9 for value in values)


@dataclass(frozen=True)
class EnsembleConfig:
    """How members' forecasts become one.

    Attributes:
        combine: `stack` weighs members by their out-of-fold errors, drawn towards equal weights;
            `mean` takes the plain mean; `dynamic` starts as `stack` and follows the errors of
            labels that become known; `confident` takes at each row the member whose interval is
            narrowest; `best` takes the member of the least out-of-fold error alone, which the
            others are compared with.
        folds: Out-of-fold parts over the last half of the windows; fewer where rows are few.
        label_period: Rows that a target looks ahead.
        interval: Share of the targets that the predicted interval is to hold, such as 0.8; null
            predicts no interval.
        max_width: Where all members' intervals are wider, in the targets' units, `confident` makes
            no forecast; null always makes one.
        share: Share of the starting weights that `dynamic` always mixes in.
        half_lives: Numbers of candles after which a loss counts half, of which `dynamic` takes the
            one that would have served best.
        rates: How strongly weights follow losses, of which `dynamic` takes one as well; 0 keeps the
            weights to start from.
        seed: Seed of the first member; the next ones take the numbers after it.
        num_threads: CPU threads of members that name none themselves.
        symbol_embedding: Learned numbers that tell nets the symbol, where rows name one.
    """

    combine: Literal["stack", "mean", "dynamic", "confident", "best"] = setting(
        "stack", "", lambda v: True
    )
    folds: int = setting(3, "an integer of at least 1", at_least(1))
    label_period: int = setting(0, "an integer of at least 0", at_least(0))
    interval: float | None = setting(
        None, "a number between 0 and 1, such as 0.8, or null", lambda v: 0 < v < 1
    )
    max_width: float | None = setting(None, "a number above 0, or null", lambda v: v > 0)
    share: float = setting(0.05, "a number between 0 and 1", lambda v: 0 < v < 1)
    half_lives: list[float] = field(
        default_factory=lambda: list(HALF_LIVES),
        metadata={"rule": "a list of numbers above 0", "check": _are_half_lives},
    )
    rates: list[float] = field(
        default_factory=lambda: list(RATES),
        metadata={"rule": "a list of numbers of at least 0", "check": _are_rates},
    )
    seed: int = setting(42, "an integer from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32)
    num_threads: int | None = setting(None, "an integer of at least 1, or null", at_least(1))
    symbol_embedding: int = setting(0, "an integer of at least 0", at_least(0))


@dataclass(frozen=True)
class Member:
    """A model of the ensemble: its name, its kind, and the settings it is made with."""

    name: str
    kind: str
    settings: dict[str, Any]


def read_members(given: Any) -> list[Member]:
    """Read members from their settings by name.

    Args:
        given: Settings of each member by its name, which is the name of its kind, may have an
            ending (`lstm-2`), or may be any name where the settings hold a `kind`.

    Raises:
        ConfigError: There is none, or a name or a kind cannot be.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"ensemble: members must be a section of models, not {given!r}.")
    if not given:
        raise ConfigError("ensemble: members is empty. Name at least one, such as lightgbm.")
    members = [_member(str(name), settings) for name, settings in given.items()]
    names = [member.name for member in members]
    for name in names:
        if name in _TAKEN or name.removeprefix("w_") in set(names) - {name}:
            raise ConfigError(
                f"ensemble: {name!r} cannot name a member: its column would bear the name of "
                f"another one. Call it otherwise, such as {name}-1."
            )
    return members


def _member(name: str, given: Any) -> Member:
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"ensemble: member {name!r} must be a section of settings, not {given!r}."
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"ensemble: {name!r} cannot name a member: names stand in columns, so take letters, "
            f"digits, '-', '_' and '.'."
        )
    settings = dict(given)
    # `lstm-2` is an lstm: the same kind may stand in an ensemble several times.
    kind = str(settings.pop("kind", name.partition("-")[0]))
    if kind not in model_names():
        raise ConfigError(
            f"ensemble: member {name!r} is of the unknown kind {kind!r}: the kinds are "
            f"{', '.join(model_names())}.{closest(kind.lower(), model_names())}"
        )
    return Member(name, kind, settings)


def check_members(members: list[Member], config: EnsembleConfig, window: int) -> None:
    """Refuse members that could not be trained, or combined as is asked.

    Raises:
        ConfigError: A setting of a member is wrong, or `confident` has nothing to choose by.
        MissingExtraError: A member's library is not installed.
    """
    if len(members) == 1:
        logger.info("The ensemble has one member, so it is that member.")
    for number, member in enumerate(members):
        require_library(member.kind)
        try:
            make_member(member, number, config, window)
        except ConfigError as error:
            raise ConfigError(f"ensemble: member {member.name!r}: {error}") from error
    adaptive = [member.name for member in members if is_adaptive(member.kind, member.settings)]
    if config.combine == "confident" and len(adaptive) < 2:
        raise ConfigError(
            f"ensemble: combine = 'confident' chooses by intervals that change from row to row; of "
            f"the members {', '.join(member.name for member in members)} these have such: "
            f"{', '.join(adaptive) or 'none'}. Set loss to 'quantile' for at least two members, or "
            f"combine otherwise."
        )


def check_lags(members: list[Member], config: EnsembleConfig, window: int) -> None:
    """Refuse members that look at rows outside of the window.

    Training leaves such a one out, and a file of it loads; whoever still has the settings is told.

    Raises:
        ConfigError: Names the member and the lag.
    """
    for number, member in enumerate(members):
        model = make_member(member, number, config, window)
        if isinstance(model, TabularRegressor):
            try:
                model.require_window(window)
            except ConfigError as error:
                raise ConfigError(f"ensemble: member {member.name!r}: {error}") from error


def make_member(member: Member, number: int, config: EnsembleConfig, window: int) -> Model:
    """Make a member that is not trained yet.

    Args:
        member: The member.
        number: Its place among the members, from 0.
        config: Settings of the ensemble.
        window: W.
    """
    settings = dict(member.settings)
    if config.combine == "confident" and is_adaptive(member.kind, settings):
        settings.setdefault("interval", config.interval or DEFAULT_INTERVAL)
    if config.num_threads is not None and takes_threads(member.kind):
        settings.setdefault("num_threads", config.num_threads)
    seed = settings.pop("seed", (config.seed + number) % 2**32)
    embedding = config.symbol_embedding
    return new_model(member.kind, settings, window=window, seed=seed, symbol_embedding=embedding)


def with_defaults(members: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return members whose nets train by `defaults` where their own settings say nothing.

    Args:
        members: As for `read_members`.
        defaults: Fields of `TrainConfig`.

    Raises:
        ConfigError: A member states a setting twice.
    """
    result: dict[str, Any] = {}
    for member in read_members(members):
        own = canonical_keys(member.settings, f"member {member.name!r}")
        known = set(field_names(TrainConfig)) - {"seed", "interval"}
        if member.kind in NETS:
            own = {name: defaults[name] for name in defaults if name in known} | own
        result[member.name] = {"kind": member.kind, **own}
    return result
