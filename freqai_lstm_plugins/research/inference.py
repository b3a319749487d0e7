"""Whether one model is better than another, or whether it is luck.

All works on what each date gives to a figure (`metrics.date_series`, or an account's returns): a
line a date, a column a model and seed, greater is better. Blocks of dates are drawn with
replacement, the same for every model, and with them each model's seeds: so an interval holds both
what other times and what other seeds might have brought. Blocks are as long as the series'
dependence asks for, and at least twice as long as the label: of labels that overlap, blocks of one
label would cut every second pair apart.

Source: Politis and Romano, The stationary bootstrap, 1994, and Patton, Politis and White, 2009, for
the block length; Holm, 1979; Hansen, A test for superior predictive ability, 2005; Hansen, Lunde
and Nason, The model confidence set, 2011; Bailey and Lopez de Prado, The deflated Sharpe ratio,
2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.extras import load_extra

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from freqai_lstm_plugins.research.predictions import FloatArray

PURPOSE = "Asking whether a difference is luck"
BASELINES = ("lightgbm", "naive_zero")
CHAMPION = "lightgbm"
LEVEL = 0.05
# How often a true difference shall be found by as many years as a verdict asks for.
POWER = 0.8
DRAWS = 2000
# A p value is a share of draws: Holm multiplies it by the comparisons, and the least that draws can
# say must stay well below the level after that.
DRAWS_PER_COMPARISON = 50
MIN_BLOCKS = 4
LABELS_PER_BLOCK = 2
TIE = 1e-12
MOST_YEARS = 100.0
BETTER, WORSE, ALIKE = "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Judgement:
    """What the dates of a test say about its models.

    Attributes:
        models: A line a model: `estimate`, `lower`, `upper`, `error` (standard error), `n_seeds`.
        comparisons: A line a model and what it is held `against`: `difference` (above 0 is better),
            `lower`, `upper`, `p`, `p_holm` (over all lines), `verdict`, and `more_years`: how many
            more years of data would show a difference of that size; infinite where only more seeds
            would, NaN where the verdict is not open.
        best_set: Models that cannot be told from the best at 5 %; None for one model alone.
        champion: Model whose lead is tested.
        spa: Probability of such a lead over it if no model were better; None without it.
        block: Mean length of a block, in dates.
        n_dates: Dates of the test.
        n_draws: Draws of the bootstrap.
    """

    models: pd.DataFrame
    comparisons: pd.DataFrame
    best_set: tuple[str, ...] | None
    champion: str
    spa: float | None
    block: int
    n_dates: int
    n_draws: int


def judge(
    series: pd.DataFrame,
    *,
    horizon: int,
    dates_per_year: float,
    baselines: Sequence[str] = BASELINES,
    champion: str = CHAMPION,
    n_draws: int | None = None,
    seed: int = 0,
) -> Judgement:
    """Compare each model with the baselines, and all of them with the best.

    Args:
        series: A line a date, columns of (model, seed), greater is better. Dates that lack a value
            are left out.
        horizon: Dates that a label spans.
        dates_per_year: Dates of the series in a year.
        baselines: Models to hold the others against; those that are not there are passed over.
            Two of them are compared once, against the later one.
        champion: Model that all others together are tested against.
        n_draws: Draws of the bootstrap; None takes 2,000, and more for many comparisons.
        seed: Seed of the draws.

    Raises:
        ConfigError: `horizon` or `n_draws` is below 1.
        DataError: There are fewer dates than four of the shortest blocks have.
        MissingExtraError: arch is not installed.
    """
    if horizon < 1 or (n_draws is not None and n_draws < 1):
        raise ConfigError(f"horizon is {horizon} and n_draws {n_draws}: both must be 1 or more.")
    complete = series.dropna().sort_index(axis=1)
    least = least_dates(horizon)
    if len(complete) < least:
        raise DataError(
            f"There are {len(complete)} dates on which all models have a figure: labels of "
            f"{horizon} dates need {least} at least."
        )
    averages = complete.T.groupby(level=0).mean().T
    block = choose_block(averages, horizon)
    pairs = _pairs(averages, [name for name in baselines if name in averages])
    n_drawn = n_draws or max(DRAWS, DRAWS_PER_COMPARISON * len(pairs))
    drawn = _draw(complete, block, n_drawn, seed)
    models = _describe(complete, averages, drawn)
    comparisons = _compare(averages, drawn, pairs)
    comparisons["more_years"] = [
        _more_years(line, len(complete) / dates_per_year, _reach(len(comparisons)))
        for line in comparisons.to_dict("records")
    ]
    return Judgement(
        models=models,
        comparisons=comparisons.drop(columns=["date_error", "seed_error"]),
        best_set=find_best_set(averages, block, n_draws or DRAWS, seed),
        champion=champion,
        spa=ask_superiority(averages, champion, block, n_draws or DRAWS, seed),
        block=block,
        n_dates=len(complete),
        n_draws=n_drawn,
    )


def least_dates(horizon: int) -> int:
    """Return how many dates it takes to judge by labels of `horizon` dates."""
    return MIN_BLOCKS * LABELS_PER_BLOCK * horizon


def choose_block(averages: pd.DataFrame, horizon: int) -> int:
    """Return the longest block that any model, or its difference from another, asks for.

    Never shorter than two labels, nor so long that a series holds fewer than four blocks.
    """
    optimal_block_length = load_extra("arch.bootstrap", PURPOSE).optimal_block_length
    lead = averages.sub(averages.iloc[:, 0], axis=0).iloc[:, 1:]
    asked = [1.0]
    for _, values in [*averages.items(), *lead.items()]:
        if values.to_numpy().std() > 0:
            asked.append(float(optimal_block_length(values.to_numpy())["stationary"].iloc[0]))
    longest = len(averages) // MIN_BLOCKS
    wanted = math.ceil(max(value for value in asked if math.isfinite(value)))
    return max(LABELS_PER_BLOCK * horizon, min(wanted, longest))


@dataclass(frozen=True)
class _Drawn:
    """Means (D, M) of each model over drawn dates and seeds, and over drawn dates alone."""

    both: pd.DataFrame
    dates: pd.DataFrame


def _draw(series: pd.DataFrame, block: int, n_draws: int, seed: int) -> _Drawn:
    bootstrap = load_extra("arch.bootstrap", PURPOSE)
    n_dates = len(series)
    places = bootstrap.StationaryBootstrap(block, np.arange(n_dates), seed=seed)
    values = series.to_numpy()
    means = np.empty((n_draws, values.shape[1]))
    for number, (drawn, _) in enumerate(places.bootstrap(n_draws)):
        # Counting how often a date was drawn is much faster than copying its line.
        means[number] = np.bincount(drawn[0], minlength=n_dates) @ values / n_dates
    by_run = pd.DataFrame(means, columns=series.columns)
    dates = by_run.T.groupby(level=0).mean().T
    rng = np.random.default_rng([seed, 1])
    both = {}
    for model, runs in by_run.T.groupby(level=0):
        n_seeds = len(runs)
        parts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_draws) / n_seeds
        both[model] = (runs.to_numpy().T * parts).sum(axis=1)
    return _Drawn(pd.DataFrame(both)[list(dates)], dates)


def _ends(drawn: FloatArray) -> tuple[float, float]:
    lower, upper = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(lower), float(upper)


def _describe(series: pd.DataFrame, averages: pd.DataFrame, drawn: _Drawn) -> pd.DataFrame:
    lines = {}
    for model in averages:
        values = drawn.both[model].to_numpy()
        lower, upper = _ends(values)
        lines[model] = {
            "estimate": averages[model].mean(),
            "lower": lower,
            "upper": upper,
            "error": values.std(),
            "n_seeds": int((series.columns.get_level_values(0) == model).sum()),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("model")


def _pairs(averages: pd.DataFrame, baselines: Sequence[str]) -> list[tuple[str, str]]:
    """Return each model and what it is held against; the same two are no second comparison."""
    return [
        (str(model), baseline)
        for number, baseline in enumerate(baselines)
        for model in averages
        if model != baseline and model not in baselines[number + 1 :]
    ]


def _compare(
    averages: pd.DataFrame, drawn: _Drawn, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    lines: list[dict[str, Any]] = []
    for model, baseline in pairs:
        values = (drawn.both[model] - drawn.both[baseline]).to_numpy()
        difference = float(averages[model].mean() - averages[baseline].mean())
        lower, upper = _ends(values)
        date_error = float((drawn.dates[model] - drawn.dates[baseline]).std(ddof=0))
        lines.append(
            {
                "model": model,
                "against": baseline,
                "difference": difference,
                "lower": lower,
                "upper": upper,
                "p": _p_value(values, difference),
                "date_error": date_error,
                "seed_error": math.sqrt(max(float(values.var()) - date_error**2, 0.0)),
            }
        )
    columns = ["model", "against", "difference", "lower", "upper", "p", "date_error", "seed_error"]
    found = pd.DataFrame(lines, columns=columns)
    found.insert(6, "p_holm", holm(found["p"].to_numpy(dtype=float)))
    # Two models whose answers are the same have a difference of zero and no doubt about it.
    is_sure = (found["p_holm"] < LEVEL) & (found["difference"] != 0)
    words = np.where(found["difference"] > 0, BETTER, WORSE)
    found.insert(7, "verdict", np.where(is_sure, words, ALIKE))
    return found


def _p_value(drawn: FloatArray, difference: float) -> float:
    """Return how often drawn means lie as far from their own centre as that is from zero."""
    far = np.abs(drawn - difference) >= abs(difference) * (1 - 1e-12)
    return (1 + int(far.sum())) / (1 + len(drawn))


def holm(p: FloatArray) -> FloatArray:
    """Return p values that hold for all comparisons together (Holm's step-down)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(steps, 1.0)
    return result


def _reach(n_comparisons: int) -> float:
    """Return how many standard errors a true difference must have to be found among as many."""
    from scipy.stats import norm

    return float(norm.ppf(1 - LEVEL / 2 / n_comparisons) + norm.ppf(POWER))


def _more_years(line: dict[Hashable, Any], years: float, reach: float) -> float:
    """Return how many more years would show the difference that was seen, if it is true."""
    if line["verdict"] != ALIKE or line["difference"] == 0:
        return math.nan
    # More dates shrink the one part of the error, not the other.
    allowed = (line["difference"] / reach) ** 2 - line["seed_error"] ** 2
    if allowed <= 0:
        return math.inf
    return max(years * line["date_error"] ** 2 / allowed - years, 0.0)


def find_best_set(
    averages: pd.DataFrame, block: int, n_draws: int = DRAWS, seed: int = 0
) -> tuple[str, ...] | None:
    """Return the models that cannot be told from the best (model confidence set at 5 %).

    None for one model alone. Models whose answers are all the same stand or fall together.
    """
    kept = _first_alike(averages)
    if averages.shape[1] < 2:
        return None
    firsts = list(dict.fromkeys(kept.values()))
    if len(firsts) == 1:
        return tuple(kept)
    losses = -averages[firsts].to_numpy()
    # The test stumbles over models whose means are exactly the same.
    losses += TIE * np.abs(losses).max() * np.arange(len(firsts))
    mcs = load_extra("arch.bootstrap", PURPOSE).MCS(
        losses, LEVEL, reps=n_draws, block_size=block, seed=seed
    )
    mcs.compute()
    included = {firsts[number] for number in mcs.included}
    return tuple(name for name, first in kept.items() if first in included)


def _first_alike(averages: pd.DataFrame) -> dict[str, str]:
    """Name for each model the first one that has the same values, round-off apart."""
    scale = averages.abs().to_numpy().max() or 1.0
    # Adding zero makes 0.0 of a -0.0.
    rounded = (averages / scale).round(9) + 0.0
    firsts: dict[bytes, str] = {}
    return {
        str(name): firsts.setdefault(values.to_numpy().tobytes(), str(name))
        for name, values in rounded.items()
    }


def ask_superiority(
    averages: pd.DataFrame, champion: str, block: int, n_draws: int = DRAWS, seed: int = 0
) -> float | None:
    """Return the probability of such a lead over the champion if none were better (Hansen's SPA).

    None where there is no champion, or no other model whose answers differ from its.
    """
    if champion not in averages:
        return None
    base = averages[champion]
    others = averages.loc[:, [name for name in averages if not averages[name].equals(base)]]
    if others.empty or not others.shape[1]:
        return None
    spa = load_extra("arch.bootstrap", PURPOSE).SPA(
        -base.to_numpy(), -others.to_numpy(), block_size=block, reps=n_draws, seed=seed
    )
    spa.compute()
    return float(spa.pvalues["consistent"])


def deflate_sharpe(returns: pd.DataFrame, n_tried: int) -> pd.Series[float]:
    """Return the probability that each account's Sharpe ratio beats the best of as many by luck.

    Args:
        returns: What each bar earned: a line a bar, a column a model.
        n_tried: How many were looked at, models times settings, at least as many as columns.

    Returns:
        A probability for each model; those that never moved are absent.

    Raises:
        ConfigError: Fewer were looked at than there are accounts.
        MissingExtraError: purgedcv is not installed.
    """
    if n_tried < returns.shape[1]:
        raise ConfigError(
            f"{n_tried} accounts were looked at, but {returns.shape[1]} are given: count all."
        )
    deflated_sharpe_ratio = load_extra("purgedcv", "Deflating a Sharpe ratio").deflated_sharpe_ratio
    moving = returns.loc[:, returns.std() > 1e-15]
    sharpes = moving.mean() / moving.std(ddof=0)
    # Of one account there is no spread; what is known then is its own error.
    spread = float(sharpes.var()) if len(sharpes) > 1 else 1.0 / len(moving)
    found = {
        name: deflated_sharpe_ratio(values.to_numpy(), n_tried, spread)
        for name, values in moving.items()
    }
    return pd.Series(found, dtype=float, name="deflated_sharpe").rename_axis("model")


def describe(judgement: Judgement, figure: str) -> list[str]:
    """Say in sentences what was found, the verdict over all models first.

    Args:
        judgement: What `judge` returned.
        figure: Name of the figure that was compared, such as `mean rank IC`.
    """
    sentences = []
    if judgement.spa is not None:
        said = "at least one model is" if judgement.spa < LEVEL else "no model is shown to be"
        sentences.append(
            f"By {figure}, {said} better than {judgement.champion} "
            f"(p = {judgement.spa:.3f}, all models together)."
        )
    groups = judgement.comparisons.groupby(["against", "verdict"], sort=False)
    for (against, verdict), lines in groups:
        than = "from" if verdict == ALIKE else "than"
        said = ", ".join(_say(line, verdict) for line in lines.to_dict("records"))
        sentences.append(f"{str(verdict).capitalize()} {than} {against}: {said}.")
    if judgement.best_set is not None:
        sentences.append(f"Not to be told from the best: {', '.join(judgement.best_set)}.")
    return sentences


def _say(line: dict[Hashable, Any], verdict: Any) -> str:
    difference = f"{line['difference']:+.3g}"
    if verdict == ALIKE:
        return f"{line['model']} ({difference}; {_say_years(line['more_years'])})"
    return f"{line['model']} ({difference}; 95 % {line['lower']:+.3g} to {line['upper']:+.3g})"


def _say_years(years: float) -> str:
    """Say what it takes to tell a difference of that size from none."""
    if math.isnan(years):
        return "the same answers"
    if math.isinf(years):
        return "to tell takes more seeds"
    if years > MOST_YEARS:
        return f"to tell takes over {MOST_YEARS:.0f} more years"
    return f"to tell takes {max(years, 0.1):.1f} more years"
