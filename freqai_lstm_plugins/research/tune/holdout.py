"""Opens the part of the data that nothing of a search has seen, and says what the winner is worth.

Winner, defaults and LightGBM are trained on the rows before, and compared in pairs on the same rows
after. When that was done is written into the study before anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.data.candles import bars_per_year
from freqai_lstm_plugins.errors import DataError, TrainingError
from freqai_lstm_plugins.research.experiment_schema import MODEL_KEYS
from freqai_lstm_plugins.research.findings import TITLES, choose_measure
from freqai_lstm_plugins.research.inference import CHAMPION, Judgement, judge
from freqai_lstm_plugins.research.judgement import judge_run
from freqai_lstm_plugins.research.metrics import date_series
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from freqai_lstm_plugins.research.report import Section
from freqai_lstm_plugins.research.started import Started, start, train
from freqai_lstm_plugins.research.store import load_predictions
from freqai_lstm_plugins.research.tune.choice import Choice, settings_hash
from freqai_lstm_plugins.research.tune.page import plot_sections
from freqai_lstm_plugins.research.tune.parts import (
    DEFAULTS,
    TUNED,
    holdout_part,
    section_of,
    with_models,
)
from freqai_lstm_plugins.research.tune.ranges import WINDOW, canonical_settings
from freqai_lstm_plugins.research.tune.storage import writing_study
from freqai_lstm_plugins.research.tune.study import finished

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from freqai_lstm_plugins.research.experiment_schema import Experiment
    from freqai_lstm_plugins.research.tune.objective import Runner
    from freqai_lstm_plugins.research.tune.session import Session

HOLDOUT_FOLDER, OPENINGS = "holdout", "holdout openings"


@dataclass(frozen=True)
class Verdict:
    """What rows said that no search had seen.

    Attributes:
        judgement: Winner, defaults and LightGBM, compared pairwise.
        figure: What was compared.
        page: The report.
    """

    judgement: Judgement
    figure: str
    page: Path


@dataclass(frozen=True)
class Opened(Verdict):
    """What the holdout said.

    Attributes:
        openings: Every opening so far: date, hash, n_trials.
    """

    openings: tuple[dict[str, Any], ...]


def open_holdout(session: Session, choice: Choice, runner: Runner) -> Opened:
    """Train winner, defaults and LightGBM on the tuning part, and judge them on the holdout.

    That it was opened is written into the study first.

    Raises:
        DataError: The holdout is too short to judge.
        TrainingError: A training failed.
    """
    asked = session.asked
    models = rivals(asked.experiment, asked.model)
    models[TUNED] = models[DEFAULTS] | choice.winner.settings
    title = f"{asked.model}, tuned, on the holdout"
    experiment = with_models(holdout_part(asked.experiment, session.cut), models, title)
    started = start(experiment, asked.out / HOLDOUT_FOLDER)
    openings = _note_opening(session, choice)
    found = compare_rivals(started, runner, plot_sections(session.study))
    return Opened(found.judgement, found.figure, found.page, openings)


def rivals(experiment: Experiment, model: str) -> dict[str, dict[str, Any]]:
    """Return what is compared, by name; in the winner's place stand the defaults too."""
    settings = section_of(experiment, model)
    own = {key: settings.pop(key) for key in MODEL_KEYS if key in settings}
    fixed = {WINDOW: experiment.features.window, **canonical_settings(settings, own["kind"]), **own}
    return {
        TUNED: dict(fixed),
        DEFAULTS: fixed,
        CHAMPION: {"kind": CHAMPION, "scope": own.get("scope", "symbol")},
    }


def compare_rivals(started: Started, runner: Runner, more: Sequence[Section] = ()) -> Verdict:
    """Train what is missing, and compare winner, defaults and LightGBM in pairs.

    Args:
        started: A run of these three, beside compare's baselines.
        runner: How jobs are done.
        more: Parts of the report beside compare's.

    Raises:
        DataError: There are too few rows to judge.
        TrainingError: A training failed.
    """
    started = train(started, workers=runner.workers, dask=runner.dask)
    if len(started.failures):
        first = started.failures.iloc[0]
        raise TrainingError(f"{first['job']}: {first['reason']}")
    experiment, names = started.experiment, (TUNED, DEFAULTS, CHAMPION)
    wanted = [job for job in started.plan.jobs if job.model in names]
    table = check_predictions(load_predictions(wanted, started.out, experiment.seeds))
    common = keep_common(table)
    if common.empty:
        raise DataError("No test row has a label and a prediction of all models.")
    measure = choose_measure(common)
    judgement = judge(
        date_series(common, measure),
        horizon=experiment.label.horizon,
        dates_per_year=bars_per_year(started.dataset.calendar),
        baselines=(DEFAULTS, CHAMPION),
    )
    rows = Section(
        "rivals",
        "Tuned, defaults and LightGBM",
        f"Differences in {TITLES[measure]} on the same rows; above zero is better. p_holm holds "
        "for all lines together.",
        judgement.comparisons,
    )
    return Verdict(judgement, TITLES[measure], judge_run(started, (rows, *more)))


def _note_opening(session: Session, choice: Choice) -> tuple[dict[str, Any], ...]:
    openings = list(session.study.user_attrs.get(OPENINGS, []))
    now = {
        "hash": settings_hash(choice.winner.settings),
        "n_trials": len(finished(session.study)),
    }
    # To look at the same figures again is no second look.
    if not openings or any(openings[-1][key] != value for key, value in now.items()):
        date = datetime.now(UTC).isoformat(timespec="seconds")
        openings.append({"date": date, **now})
        with writing_study():
            session.study.set_user_attr(OPENINGS, openings)
    return tuple(openings)
