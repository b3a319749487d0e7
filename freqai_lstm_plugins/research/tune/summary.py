"""Says what a search found, in sentences and as plain data."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.research.tune.parts import DEFAULTS, TUNED

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.tune.choice import Candidate, Choice
    from freqai_lstm_plugins.research.tune.holdout import Opened, Verdict
    from freqai_lstm_plugins.research.tune.luck import Luck
    from freqai_lstm_plugins.research.tune.nested import Nested
    from freqai_lstm_plugins.research.tune.session import Session


def say(choice: Choice, opened: Opened | None, luck: Luck | None) -> list[str]:
    """Say in sentences what was chosen, and what it is worth."""
    lines = [f"Chosen: {_say_candidate(choice.winner)}."]
    if opened is not None:
        lines += _say_pairs(opened, "On the holdout")
        times = len(opened.openings)
        if times > 1:
            how = "twice" if times == 2 else f"{times} times"
            lines.append(f"The holdout was opened {how}, so its figures have chosen too.")
    if luck is not None:
        lines.append(
            f"Of {luck.n_tried} trials: deflated Sharpe ratio {_said(luck.deflated_sharpe)}, "
            f"probability of overfitting {_said(luck.overfitting)}."
        )
    return lines


def say_nested(nested: Nested) -> list[str]:
    """Say in sentences what each fold chose, and what searching is worth."""
    lines = [
        f"Fold {number}: {_say_candidate(choice.winner)}."
        for number, choice in nested.choices.items()
    ]
    return lines + _say_pairs(nested.verdict, "With a search in each fold")


def _say_candidate(one: Candidate) -> str:
    whose = "the defaults" if one.is_default else f"trial {one.number}"
    return (
        f"{whose}, {one.worth.score:+.4g} with new seeds (standard error {one.worth.error:.2g}, "
        f"{one.first:+.4g} in the search)"
    )


def _said(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.2f}"


def _say_pairs(verdict: Verdict, where: str) -> list[str]:
    lines = verdict.judgement.comparisons.to_dict("records")
    ordered = [line for name in (TUNED, DEFAULTS) for line in lines if line["model"] == name]
    return [
        f"{where}, {line['model']} against {line['against']}: {line['verdict']} by "
        f"{verdict.figure} ({line['difference']:+.3g}, 95 % {line['lower']:+.3g} to "
        f"{line['upper']:+.3g})."
        for line in ordered
    ]


def to_json(
    session: Session, choice: Choice, opened: Opened | None, luck: Luck | None
) -> dict[str, Any]:
    """Return everything that was found as plain data; NaN becomes None."""
    task = session.task
    found: dict[str, Any] = {
        "model": task.model,
        "kind": task.kind,
        "objective": task.objective,
        "tuning_part_ends": session.cut.end,
        **_choice_to_json(choice),
    }
    if opened is not None:
        found["holdout"] = {"openings": list(opened.openings), **_verdict_to_json(opened)}
    if luck is not None:
        numbers = {"deflated_sharpe": luck.deflated_sharpe, "overfitting": luck.overfitting}
        plain = {name: None if math.isnan(value) else value for name, value in numbers.items()}
        found["luck"] = {"n_tried": luck.n_tried, **plain}
    return found


def nested_to_json(nested: Nested) -> dict[str, Any]:
    """Return what each fold chose, and what came of it, as plain data."""
    folds = [
        {"fold": number, **_choice_to_json(choice)} for number, choice in nested.choices.items()
    ]
    return {"folds": folds, **_verdict_to_json(nested.verdict)}


def _choice_to_json(choice: Choice) -> dict[str, Any]:
    winner = choice.winner
    return {
        "trial": winner.number,
        "is_default": winner.is_default,
        "settings": winner.settings,
        "candidates": [
            {
                "trial": one.number,
                "is_default": one.is_default,
                "settings": one.settings,
                "score_in_search": one.first,
                "score": one.worth.score,
                "error": one.worth.error,
                "cost": one.cost,
            }
            for one in choice.candidates
        ],
    }


def _verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    comparisons = verdict.judgement.comparisons
    return {
        "figure": verdict.figure,
        "comparisons": json.loads(comparisons.to_json(orient="records")),
    }
