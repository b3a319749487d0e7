"""What a comparison found, as tables: everything that its report shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.inference import (
    CHAMPION,
    Judgement,
    deflate_sharpe,
    describe,
    judge,
)
from freqai_lstm_plugins.research.market import Market, Rules
from freqai_lstm_plugins.research.metrics import (
    MIN_SYMBOLS,
    RUN,
    Measure,
    date_series,
    quantile_labels,
    scores,
    skill,
    ts_rank_ic,
)
from freqai_lstm_plugins.research.portfolio import (
    Account,
    Costs,
    Plan,
    hold_equally,
    measure,
    trade,
)
from freqai_lstm_plugins.research.predictions import keep_common, pivot_forecasts

if TYPE_CHECKING:
    from collections.abc import Mapping

EQUAL = "equal weight"
HINDSIGHT = (
    "The symbols were chosen with hindsight, so absolute returns are too good: differences against "
    "equal weight are the figures that count."
)
TITLES: dict[Measure, str] = {
    "cs_rank_ic": "mean rank IC across symbols",
    "cs_ic": "mean IC across symbols",
    "ts_rank_ic": "mean rank IC over time",
    "ts_ic": "mean IC over time",
    "mse": "mean squared error, sign turned",
}
NO_CHOICE = (
    "portfolio.k is no smaller than the number of symbols, so every account holds all of them, "
    "whatever was forecast: accounts say nothing of the models."
)
N_OUTCOMES = 20


@dataclass(frozen=True)
class Trading:
    """How predictions are traded, in a market with its rules and costs.

    Attributes:
        market: Candles of all symbols.
        plan: How predictions become positions.
        rules: What the market allows.
        costs: Of each side.
        n_tried: Models times settings that were ever looked at; the models of the table by default.
        is_hindsight: Whether symbols were chosen knowing how they fared.
    """

    market: Market
    plan: Plan
    costs: Costs
    rules: Rules = field(default_factory=Rules)
    n_tried: int | None = None
    is_hindsight: bool = False


@dataclass(frozen=True)
class Findings:
    """Tables of what the predictions were worth.

    Attributes:
        figure: Title of the figure that ranks models.
        verdicts: Sentences, the most important first.
        notes: What a reader must know before he believes a number.
        ranking: A line a model, the best first.
        comparisons: A line a model and what it is held against.
        scores: A line a model and seed, a column a figure.
        per_symbol: A line a symbol, a column a model: rank IC over time, mean over seeds.
        ic: A line a date, a column a model: what the date gives to the ranking figure.
        quantiles: A line a model, a column a quantile of its predictions: mean label.
        outcomes: `model`, `prediction`, `label`, `n_rows`: means of rows with similar predictions.
        accounts: A line a model and costs, a column a figure of its account.
        account_comparisons: As `comparisons`, of what accounts earned in a bar.
        returns: A line a bar, a column a model and equal weight: net return.
    """

    figure: str
    verdicts: tuple[str, ...]
    notes: tuple[str, ...]
    ranking: pd.DataFrame
    comparisons: pd.DataFrame
    scores: pd.DataFrame
    per_symbol: pd.DataFrame
    ic: pd.DataFrame
    quantiles: pd.DataFrame
    outcomes: pd.DataFrame
    accounts: pd.DataFrame | None = None
    account_comparisons: pd.DataFrame | None = None
    returns: pd.DataFrame | None = None


def find(
    table: pd.DataFrame,
    *,
    horizon: int,
    dates_per_year: float,
    trading: Trading | None = None,
    ranked_by: Measure | None = None,
    n_draws: int | None = None,
) -> Findings:
    """Judge predictions in every way that the report shows.

    Args:
        table: Predictions, checked.
        horizon: Dates that a label spans.
        dates_per_year: Dates of the table in a year.
        trading: How to trade them; no accounts without it.
        ranked_by: Figure that ranks models and is tested: rank IC across symbols by default, or
            over time where most dates have fewer than five symbols.
        n_draws: Draws of the bootstrap; None takes as many as the comparisons ask for.

    Raises:
        DataError: There are too few dates, or no candle that all models have a prediction for.
        MissingExtraError: arch or purgedcv is not installed.
    """
    common = keep_common(table)
    if common.empty:
        raise DataError("There is no candle that all models have a prediction and a label for.")
    chosen = ranked_by or choose_measure(common)
    series = date_series(common, chosen)
    judgement = judge(series, horizon=horizon, dates_per_year=dates_per_year, n_draws=n_draws)
    traded = _trade_all(table, trading, horizon, n_draws) if trading else None
    ranking = _rank(common, judgement)
    models = list(ranking.index)
    quantiles = _quantiles(common)
    verdicts = describe(judgement, TITLES[chosen])
    notes = [_count_rows(table, common), _say_method(judgement)]
    if traded and trading:
        against = traded.judgement.comparisons["against"]
        told = traded.judgement.comparisons[against == EQUAL]
        verdicts += describe(replace(traded.judgement, comparisons=told), "net return of a bar")
        notes += [HINDSIGHT] if trading.is_hindsight else []
        plan = trading.plan
        notes += [NO_CHOICE] if plan.kind == "top" and plan.k >= table["symbol"].nunique() else []
    return Findings(
        figure=TITLES[chosen],
        verdicts=tuple(verdicts),
        notes=tuple(notes),
        ranking=ranking,
        comparisons=judgement.comparisons,
        scores=scores(common),
        per_symbol=_mean_of_seeds(ts_rank_ic(common))[models],
        ic=_mean_of_seeds(series)[models],
        quantiles=quantiles.loc[[name for name in models if name in quantiles.index]],
        outcomes=_outcomes(common),
        accounts=traded.figures if traded else None,
        account_comparisons=traded.judgement.comparisons if traded else None,
        returns=traded.returns if traded else None,
    )


def choose_measure(common: pd.DataFrame) -> Measure:
    """Rank across symbols where at least half of the dates have five of them, else over time."""
    n_symbols = common.groupby("date")["symbol"].nunique()
    return "cs_rank_ic" if (n_symbols >= MIN_SYMBOLS).mean() >= 0.5 else "ts_rank_ic"


def _count_rows(table: pd.DataFrame, common: pd.DataFrame) -> str:
    n_all = len(table[["symbol", "date"]].drop_duplicates())
    n_common = len(common[["symbol", "date"]].drop_duplicates())
    return (
        f"Models are compared on the {n_common} of {n_all} candles that all of them have a "
        f"prediction and a label for."
    )


def _say_method(judgement: Judgement) -> str:
    return (
        f"Intervals hold 95 % of {judgement.n_draws} draws of seeds and of blocks of "
        f"{judgement.block} dates in the mean, from {judgement.n_dates} dates; p values hold for "
        f"all comparisons of a table together."
    )


def _mean_of_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.T.groupby(level="model").mean().T


def _rank(common: pd.DataFrame, judgement: Judgement) -> pd.DataFrame:
    ranking = judgement.models.copy()
    if judgement.best_set is not None:
        words = {True: "yes", False: "no"}
        ranking["in_best_set"] = [words[name in judgement.best_set] for name in ranking.index]
    if CHAMPION in ranking.index:
        ranking = ranking.join(skill(common, CHAMPION))
    return ranking.sort_values("estimate", ascending=False)


def _quantiles(common: pd.DataFrame) -> pd.DataFrame:
    by_run = quantile_labels(common, "symbol")
    if by_run.empty:
        by_run = quantile_labels(common, "date")
    by_model = by_run.groupby(level="model").mean()
    return by_model.rename(columns=lambda number: f"quantile {number}")


def _outcomes(common: pd.DataFrame) -> pd.DataFrame:
    """Return mean prediction and label of rows whose predictions are neighbours in rank.

    Models that always say the same are left out.
    """
    by_model = common.groupby("model")["prediction"]
    varied = common[by_model.transform("nunique") > 1]
    share = varied.groupby("model")["prediction"].rank(method="first", pct=True)
    place = np.ceil(share * N_OUTCOMES).rename("place")
    groups = varied.groupby(["model", place])
    found = groups[["prediction", "label"]].mean()
    found["n_rows"] = groups.size()
    return found.reset_index("model").reset_index(drop=True)


@dataclass(frozen=True)
class _Traded:
    figures: pd.DataFrame
    returns: pd.DataFrame
    judgement: Judgement


def _trade_all(table: pd.DataFrame, trading: Trading, horizon: int, n_draws: int | None) -> _Traded:
    runs = list(table[RUN].drop_duplicates().itertuples(index=False, name=None))
    dates = pd.DatetimeIndex(np.sort(table["date"].unique()))
    symbols = sorted(table["symbol"].unique())
    accounts = {}
    for model, seed in runs:
        # A model that failed in some fold holds what it has until it answers again.
        forecasts = pivot_forecasts(table, model, seed).reindex(index=dates, columns=symbols)
        accounts[model, seed] = trade(forecasts, trading.market, trading.plan, trading.rules)
    everywhere = pd.DataFrame(1.0, index=dates, columns=symbols)
    equal = hold_equally(trading.market, everywhere, trading.rules)
    net = {run: account.net(trading.costs) for run, account in accounts.items()}
    net[EQUAL, 0] = equal.net(trading.costs)
    series = pd.DataFrame(net, index=equal.dates).rename_axis(columns=RUN)
    judgement = judge(
        series,
        horizon=horizon,
        dates_per_year=trading.market.bars_per_year,
        baselines=(CHAMPION, EQUAL),
        champion=EQUAL,
        n_draws=n_draws,
    )
    returns = _mean_of_seeds(series)
    figures = _measure_all(accounts, equal, trading.costs)
    excess = returns.drop(columns=EQUAL).sub(returns[EQUAL], axis=0)
    deflated = deflate_sharpe(excess, max(trading.n_tried or 0, excess.shape[1]))
    once = figures.index.get_level_values("costs") == "once"
    figures["deflated_sharpe"] = figures.index.get_level_values("model").map(deflated.to_dict())
    figures.loc[~once, "deflated_sharpe"] = math.nan
    return _Traded(figures, returns, judgement)


def _measure_all(
    accounts: Mapping[tuple[Any, Any], Account], equal: Account, costs: Costs
) -> pd.DataFrame:
    """Measure each account at no costs, at those given and at twice as much, mean over seeds."""
    lines = []
    for name, factor in (("none", 0.0), ("once", 1.0), ("twice", 2.0)):
        paid = costs.times(factor)
        for (model, _), account in [*accounts.items(), ((EQUAL, 0), equal)]:
            lines.append({"model": model, "costs": name, **measure(account, equal, paid)})
    # Where one seed has no figure the model has none: the mean of the others would flatter it.
    groups = pd.DataFrame(lines).groupby(["model", "costs"])
    return groups.agg(_mean_of_all)


def _mean_of_all(values: pd.Series[float]) -> float:
    return float(values.to_numpy().mean())
