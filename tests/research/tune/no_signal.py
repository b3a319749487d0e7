"""Searches that have nothing to find: `python -m tests.research.tune.no_signal PICTURE.png`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from freqai_lstm_plugins.figures import new_figure
from freqai_lstm_plugins.research.tune.choice import choose
from freqai_lstm_plugins.research.tune.holdout import open_holdout
from freqai_lstm_plugins.research.tune.luck import ask_luck
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.study import best_of
from tests.research.tune.studies import search, write_candles

SEEDS = range(20)
N_TRIALS = 12
# Settings that change what is forecast, and not only how strongly.
LUCKY = {
    "ridge": {
        "lags": {"choices": [[0], [0, 1], [0, 2], [0, 3], [0, 4], [1], [2], [3], [4], [1, 3]]},
        "alpha": {"min": 0.001, "max": 10.0, "log": True},
    },
    "lightgbm": {
        "num_leaves": {"min": 2, "max": 16},
        "lr": {"min": 0.01, "max": 0.5, "log": True},
        "min_child_samples": {"min": 5, "max": 60},
    },
}
SETTINGS = {"ridge": {}, "lightgbm": {"n_estimators": 15}}


@dataclass(frozen=True)
class Outcome:
    """What a search on random walks said.

    Attributes:
        best: The best score in the search.
        difference: Winner less defaults on the holdout.
        lower: Lower end of its 95 % interval.
        upper: Upper end.
        overfitting: Probability of overfitting.
        deflated: Deflated Sharpe ratio.
    """

    best: float
    difference: float
    lower: float
    upper: float
    overfitting: float
    deflated: float

    @property
    def holds_zero(self) -> bool:
        return self.lower <= 1e-12 and self.upper >= -1e-12


def search_noise(place: Path, model: str, seed: int, n_trials: int = N_TRIALS) -> Outcome:
    """Search, choose and open the holdout on the random walks of a seed."""
    folder = write_candles(place / f"data{seed}", "ABC", n=500, seed=seed)
    session = search(
        folder,
        place / f"out{seed}",
        n_trials,
        model=model,
        ranges=LUCKY,
        changes={"models": {model: SETTINGS[model]}, "seeds": [1], "portfolio": {"k": 1}},
        how=Search("random", seed=seed),
    )
    choice = choose(session, Runner())
    luck = ask_luck(session, choice, Runner())
    lines = open_holdout(session, choice, Runner()).judgement.comparisons
    line = lines[(lines["model"] == "tuned") & (lines["against"] == "defaults")].iloc[0]
    return Outcome(
        best_of(session.study).value,
        line["difference"],
        line["lower"],
        line["upper"],
        luck.overfitting,
        luck.deflated_sharpe,
    )


def require_luck(outcomes: list[Outcome]) -> None:
    """Check that the winners are told to be luck, while the searches look good."""
    assert sum(one.holds_zero for one in outcomes) >= 17
    assert 0.3 < np.nanmean([one.overfitting for one in outcomes]) < 0.7
    assert np.mean([one.deflated < 0.95 for one in outcomes]) >= 0.9
    best = np.array([one.best for one in outcomes])
    # Far above zero on average.
    assert best.mean() > 3 * best.std(ddof=1) / np.sqrt(len(best))


def draw(found: dict[str, list[Outcome]], path: Path) -> None:
    """Draw what the searches promised, and below it what the holdout gave."""
    figure = new_figure(9, 4.5)
    axes = figure.subplots(2, len(found), sharex=True, sharey="row", squeeze=False)
    for column, (model, outcomes) in enumerate(found.items()):
        ordered = sorted(outcomes, key=lambda one: one.best)
        places = np.arange(1, len(ordered) + 1)
        above, below = axes[0, column], axes[1, column]
        above.bar(places, [one.best for one in ordered], color="#0072b2")
        above.set_title(f"{model}: best of {N_TRIALS} trials", fontsize=10)
        middle = np.array([one.difference for one in ordered])
        ends = [
            [one.difference - one.lower for one in ordered],
            [one.upper - one.difference for one in ordered],
        ]
        below.errorbar(places, middle, yerr=ends, fmt="o", color="#d55e00", ms=4, lw=1)
        below.set_title("winner less defaults on the holdout, 95 %", fontsize=10)
        below.set_xticks([])
        for one in (above, below):
            one.axhline(0, color="black", lw=0.8)
    axes[0, 0].set_ylabel("rank IC")
    axes[1, 0].set_ylabel("difference")
    axes[1, 0].set_xlabel("20 sets of random walks, by the search's best score")
    figure.savefig(path, dpi=90)


def main(path: Path) -> None:
    """Run all, check all, and draw."""
    found = {}
    for model in LUCKY:
        with TemporaryDirectory() as folder:
            found[model] = [search_noise(Path(folder), model, seed) for seed in SEEDS]
        for one in found[model]:
            print(model, one)
        require_luck(found[model])
    draw(found, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
