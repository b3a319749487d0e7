"""Opens a search: from an experiment, a model and ranges to the study and what its trials do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.models.registry import ENSEMBLE, settings_classes
from freqai_lstm_plugins.research.experiment import resolved
from freqai_lstm_plugins.research.tune.objective import OBJECTIVES, Objective, Task, make_task
from freqai_lstm_plugins.research.tune.parts import Cut, make_cut, section_of, tuning_part
from freqai_lstm_plugins.research.tune.ranges import (
    WINDOW,
    Choices,
    Ranges,
    describe,
    load_ranges,
    parse_ranges,
)
from freqai_lstm_plugins.research.tune.storage import default_url, open_storage
from freqai_lstm_plugins.research.tune.study import BELONGS, claim_study, find_study

if TYPE_CHECKING:
    from pathlib import Path

    from freqai_lstm_plugins.research.experiment_schema import Experiment

SEARCH_FOLDER = "search"
SHARE = 0.2


@dataclass(frozen=True)
class Asked:
    """What a user says of a search; None leaves it to the study, or to a default.

    Attributes:
        experiment: The whole experiment.
        model: Name of the model, in the experiment or in the catalogue.
        out: Folder for everything.
        ranges: JSON file.
        objective: Figure that is to be large.
        storage: Address of the study.
        study: Its name there.
        share: Share of the dates that are held out.
    """

    experiment: Experiment
    model: str
    out: Path
    ranges: Path | None = None
    objective: Objective | None = None
    storage: str | None = None
    study: str | None = None
    share: float | None = None


@dataclass(frozen=True)
class Session:
    """A search that is open.

    Attributes:
        asked: What the user said.
        study: Optuna's study.
        task: What its trials do, on the tuning part.
        ranges: What they may draw.
        cut: Where the holdout begins.
    """

    asked: Asked
    study: Any
    task: Task
    ranges: Ranges
    cut: Cut


def open_session(asked: Asked, *, may_create: bool = True, cut: Cut | None = None) -> Session:
    """Open a study, or make it.

    Args:
        asked: What the user said.
        may_create: Whether a study that is not there is made.
        cut: Where the data of a new study end; None leaves the share out that was asked for.

    Raises:
        ConfigError: The study is another's, or a setting, range or address is none.
        DataError: The data cannot be used, or the folder cannot be written.
    """
    experiment, model = asked.experiment, asked.model
    section = section_of(experiment, model)
    kind = str(section["kind"])
    _require_tunable(kind, section)
    if asked.objective not in (None, *OBJECTIVES):
        raise ConfigError(f"--objective {asked.objective!r} is none of {', '.join(OBJECTIVES)}.")
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{asked.out} cannot be written: {error.strerror}.") from error
    # What is wrong with ranges is said before anything is made.
    given = load_ranges(asked.ranges, kind, model) if asked.ranges else None
    name = asked.study or model
    storage = open_storage(default_url(asked.out) if asked.storage is None else asked.storage)
    study = find_study(storage, name)
    if study is None and not may_create:
        raise ConfigError(
            f"There is no study {name!r} to choose from: search first, with --trials."
        )
    before = study.user_attrs.get(BELONGS) if study is not None else None
    if given is None:
        given = (
            parse_ranges(before["ranges"], kind, "The study")
            if before
            else load_ranges(None, kind, model)
        )
    objective = asked.objective or (before["objective"]["name"] if before else "rank_ic")
    cut, share = _cut(asked, before, given, cut)
    task = make_task(
        tuning_part(experiment, model, cut), model, objective, asked.out / SEARCH_FOLDER
    )
    belongs = _belongs(experiment, task, given, cut, share)
    return Session(asked, claim_study(storage, name, belongs), task, given, cut)


def _require_tunable(kind: str, section: dict[str, Any]) -> None:
    if kind == ENSEMBLE and "members" not in section:
        raise ConfigError(
            "The members of an ensemble come from the experiment: name them under "
            "models.NAME.members, and take --model NAME."
        )
    if not settings_classes(kind):
        raise ConfigError(f"{kind} has no settings, so there is nothing to tune.")


def _cut(
    asked: Asked, before: dict[str, Any] | None, ranges: Ranges, given: Cut | None
) -> tuple[Cut, float | None]:
    if given is not None:
        return given, None
    if before is None:
        share = SHARE if asked.share is None else asked.share
        return make_cut(asked.experiment, share, _largest_window(asked.experiment, ranges)), share
    # The data may have grown since: the cut stays where it was.
    known = dict(before["holdout"])
    share = known.pop("share")
    return Cut(**known), share if asked.share is None else asked.share


def _largest_window(experiment: Experiment, ranges: Ranges) -> int:
    one = ranges.get(WINDOW)
    if one is None:
        return experiment.features.window
    return int(max(one.values)) if isinstance(one, Choices) else int(one.high)


def _belongs(
    experiment: Experiment, task: Task, ranges: Ranges, cut: Cut, share: float | None
) -> dict[str, Any]:
    """Return all that the trials of a study must have in common, by section."""
    values = resolved(experiment)
    sections = ("data", "features", "label", "split", "costs", "portfolio")
    found = {name: values[name] for name in sections} | {
        "model": {"name": task.model, **section_of(experiment, task.model)},
        "seeds": {"all": list(experiment.seeds)},
        "ranges": describe(ranges),
        "objective": {"name": task.objective},
        "holdout": {**asdict(cut), "share": share},
        "tables": {name: one.digest for name, one in task.started.dataset.tables.items()},
    }
    return dict(json.loads(json.dumps(found)))
