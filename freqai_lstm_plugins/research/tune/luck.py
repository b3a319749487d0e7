"""Whether a winner may be the luckiest of many.

Source: Bailey and Lopez de Prado, The deflated Sharpe ratio, 2014; Bailey, Borwein, Lopez de Prado
and Zhu, The probability of backtest overfitting, 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.research.extras import load_extra
from freqai_lstm_plugins.research.inference import deflate_sharpe
from freqai_lstm_plugins.research.tune.objective import Runner, excess_returns
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished

if TYPE_CHECKING:
    from freqai_lstm_plugins.research.tune.choice import Choice
    from freqai_lstm_plugins.research.tune.session import Session

MOST_SPLITS, BARS_PER_SPLIT = 16, 4


@dataclass(frozen=True)
class Luck:
    """Whether the winner's returns in the search may be those of the luckiest.

    Attributes:
        n_tried: Trials that were looked at: with a score, ended early, and failed.
        deflated_sharpe: Probability that the winner's Sharpe ratio beats the best of as many
            trials without skill; NaN where it never traded otherwise than equal weight.
        overfitting: Probability that the best trial of one half of the dates is below the median
            in the other half; NaN with fewer than two trials that differ.
    """

    n_tried: int
    deflated_sharpe: float
    overfitting: float


def ask_luck(session: Session, choice: Choice, runner: Runner) -> Luck:
    """Deflate the winner's Sharpe ratio by all trials, and ask how often their best disappoints."""
    task, n_tried = session.task, len(finished(session.study))
    returns = {
        trial.number: excess_returns(
            task, dict(trial.user_attrs[SETTINGS]), task.experiment.seeds, runner=runner
        )
        for trial in completed(session.study)
    }
    table = pd.DataFrame(returns).dropna()
    deflated = deflate_sharpe(table, max(n_tried, table.shape[1]))
    return Luck(
        n_tried,
        float(deflated.get(choice.winner.number, math.nan)),
        _overfitting(table),
    )


def _overfitting(returns: pd.DataFrame) -> float:
    moving = returns.loc[:, returns.std() > 1e-15].T.drop_duplicates()
    n_splits = min(MOST_SPLITS, moving.shape[1] // BARS_PER_SPLIT // 2 * 2)
    if len(moving) < 2 or n_splits < 2:
        return math.nan
    ask: Any = load_extra("purgedcv", "The probability of overfitting")
    found = ask.probability_of_backtest_overfitting(moving.to_numpy(), n_splits)
    return float(np.clip(found.pbo, 0, 1))
