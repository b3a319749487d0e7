"""How good predictions were, in the field's usual figures, as functions of one table.

All take the table of `research.predictions`, and use the rows that have a prediction and a label.

| figure | what it is |
|---|---|
| `ts_ic`, `ts_rank_ic` | correlation of prediction and label of one symbol over time; its mean |
| `cs_ic`, `cs_rank_ic` | correlation across the symbols of one date; the mean over dates |
| `icir`, `rank_icir` | mean over dates of the line above, divided by its standard deviation |
| `mse`, `mae` | mean squared and absolute error, in units of the label |
| `r2` | 1 - squared error / squared error of the forecast that is always zero |
| `hit_rate` | how often the sign was right; where it names none, half a hit |
| `majority` | what always naming the more frequent sign would have got on the same rows |
| `coverage`, `width` | how many labels lie within the interval, and its mean width |
| `top_minus_bottom` | mean label of the top fifth of each date less that of the bottom fifth |
| `autocorrelation` | correlation of a symbol's prediction with its one before; low means turnover |

What needs several symbols is absent, not NaN, where no date has at least five. A forecast that is
the same for all it is compared with puts nothing in order, so its correlation counts as 0; where
all *labels* are the same there is none.

Source: information coefficients as in qlib's `contrib/eva/alpha.py`; skill and win rate as in
Shchur et al., fev-bench, 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.predictions import Across, FloatArray, Wide, widen

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = ["model", "seed"]
MIN_SYMBOLS = 5
N_QUANTILES = 5
# One task that went wrong by orders of magnitude shall not decide a mean of ratios.
RATIO_LIMITS = (0.01, 100.0)

Measure = Literal["ts_ic", "ts_rank_ic", "cs_ic", "cs_rank_ic", "mse"]


def cs_ic(table: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's correlation across the symbols of each date: a line a date, a column a run.

    Dates on which no run has five symbols are absent, and so are runs without any date.
    """
    return _across_symbols(table, is_ranked=False)


def cs_rank_ic(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation across the symbols of each date, as `cs_ic` does."""
    return _across_symbols(table, is_ranked=True)


def _across_symbols(table: pd.DataFrame, *, is_ranked: bool) -> pd.DataFrame:
    wide = widen(table, "symbol")
    values = correlate_lines(*_values(wide, is_ranked), least=MIN_SYMBOLS)
    found = np.isfinite(values)
    return _by_run(pd.Series(values[found], wide.index[found]))


def ts_ic(table: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's correlation over time: a line a symbol, a column a run."""
    return _over_time(table, is_ranked=False)


def ts_rank_ic(table: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's correlation over time: a line a symbol, a column a run."""
    return _over_time(table, is_ranked=True)


def _over_time(table: pd.DataFrame, *, is_ranked: bool) -> pd.DataFrame:
    wide = widen(table, "date")
    values = correlate_lines(*_values(wide, is_ranked), least=3)
    return _by_run(pd.Series(values, wide.index))


def _by_run(values: pd.Series[float]) -> pd.DataFrame:
    """Turn values by model, seed and something else into columns by model and seed."""
    frame = values.unstack(RUN)
    assert isinstance(frame, pd.DataFrame)
    return frame.sort_index().sort_index(axis=1)


def _values(wide: Wide, is_ranked: bool) -> tuple[FloatArray, FloatArray]:
    if not is_ranked:
        return wide.prediction, wide.label
    return rank_lines(wide.prediction), rank_lines(wide.label)


def rank_lines(values: FloatArray) -> FloatArray:
    """Return the rank of each value in its line, from 1; equal values share their mean rank."""
    return pd.DataFrame(values).rank(axis=1).to_numpy()


def correlate_lines(x: FloatArray, y: FloatArray, *, least: int) -> FloatArray:
    """Return (N,) Pearson's correlation of each line of two (N, M) arrays.

    NaN stands in the same places of both and does not count. A line with fewer than `least` values,
    or whose `y` are all the same, gives NaN; one whose `x` are all the same gives 0.
    """
    finite = np.isfinite(x)
    n = finite.sum(axis=1)
    usable = n >= least
    result = np.full(len(x), np.nan)
    moved_x, varies_x = _centred(x[usable], n[usable])
    moved_y, varies_y = _centred(y[usable], n[usable])
    # Zeros add nothing, and are summed much faster than NaN is left out.
    moved_x, moved_y = (np.where(finite[usable], moved, 0.0) for moved in (moved_x, moved_y))
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt((moved_x**2).sum(axis=1) * (moved_y**2).sum(axis=1))
        values = (moved_x * moved_y).sum(axis=1) / root
    result[usable] = np.where(varies_y, np.where(varies_x, values, 0.0), np.nan)
    return result


def _centred(values: FloatArray, n: Any) -> tuple[FloatArray, Any]:
    """Return each line less its mean, and whether its values differ at all.

    By the ends, for a mean that was rounded leaves something of values that are all the same.
    """
    varies = np.fmax.reduce(values, axis=1) > np.fmin.reduce(values, axis=1)
    mean = np.where(np.isfinite(values), values, 0.0).sum(axis=1) / n
    return values - mean[:, None], varies


def icir(by_date: pd.DataFrame) -> pd.Series[float]:
    """Return each run's mean of `cs_ic` or `cs_rank_ic` divided by its standard deviation."""
    return by_date.mean() / by_date.std(ddof=1)


def errors(table: pd.DataFrame, by: Sequence[str] = RUN) -> pd.DataFrame:
    """Return errors, hits and coverage of each group of rows, with the rows in it (`n_rows`).

    Args:
        table: Predictions, checked.
        by: Columns whose values make a group, such as model, seed and symbol.
    """
    rows = table[np.isfinite(table["prediction"]) & np.isfinite(table["label"])]
    error, label = rows["prediction"] - rows["label"], rows["label"]
    named = np.sign(rows["prediction"]) * np.sign(label)
    columns = {
        "mse": error**2,
        "mae": error.abs(),
        "zero": label**2,
        # A label of zero has no sign to be right about.
        "hit_rate": ((named + 1) / 2).where(label != 0),
        "up": (label > 0).astype(float).where(label != 0),
    }
    if "lower" in rows:
        columns["coverage"] = ((rows["lower"] <= label) & (label <= rows["upper"])).astype(float)
        columns["width"] = rows["upper"] - rows["lower"]
    has_interval = rows["lower"].notna() if "lower" in rows else None
    for name in ("coverage", "width"):
        if name in columns:
            columns[name] = columns[name].where(has_interval)
    groups = pd.DataFrame(columns).groupby([rows[name] for name in by], observed=True)
    found = groups.mean()
    found.insert(0, "n_rows", groups.size())
    found.insert(3, "r2", 1 - found["mse"] / found.pop("zero").replace(0.0, np.nan))
    up = found.pop("up")
    found.insert(5, "majority", np.maximum(up, 1 - up))
    return found


def quantile_labels(
    table: pd.DataFrame, across: Across = "symbol", n_quantiles: int = N_QUANTILES
) -> pd.DataFrame:
    """Return the mean label in each quantile of the predictions: a line a run, columns from 1.

    Across symbols the quantiles are those of each date with at least that many symbols, and dates
    count alike. Across dates they are those of a symbol's whole test time, and symbols count alike:
    a description, for nobody knew these quantiles then. Absent where nothing has enough values.
    """
    wide = widen(table, across)
    by_line = _quantile_means(wide, n_quantiles)
    found = by_line.dropna(how="all")
    return found.groupby(level=RUN, observed=True).mean()


def _quantile_means(wide: Wide, n_quantiles: int) -> pd.DataFrame:
    n = np.isfinite(wide.prediction).sum(axis=1)
    usable = n >= n_quantiles
    ranks = rank_lines(wide.prediction[usable])
    bins = np.floor((ranks - 0.5) / n[usable, None] * n_quantiles)
    label = wide.label[usable]
    means = {}
    for number in range(n_quantiles):
        inside = bins == number
        total = np.where(inside, label, 0.0).sum(axis=1)
        count = inside.sum(axis=1)
        means[number + 1] = np.divide(total, count, np.full(len(label), np.nan), where=count > 0)
    return pd.DataFrame(means, index=wide.index[usable])


def top_minus_bottom(table: pd.DataFrame) -> pd.Series[float]:
    """Return each run's mean over dates of the top fifth's mean label less the bottom fifth's.

    Dates with fewer than five symbols, or whose predictions fill neither end, do not count.
    """
    found = _quantile_means(widen(table, "symbol"), N_QUANTILES)
    difference = (found[N_QUANTILES] - found[1]).dropna()
    return difference.groupby(level=RUN, observed=True).mean()


def autocorrelation(table: pd.DataFrame) -> pd.Series[float]:
    """Return each run's correlation of a prediction with the date before, mean over symbols."""
    wide = widen(table, "date")
    # A date that nothing is known of still parts its neighbours.
    values = pd.DataFrame(wide.prediction, columns=wide.columns)
    lines = values.reindex(columns=np.sort(table["date"].unique())).to_numpy()
    now, before = lines[:, 1:].copy(), lines[:, :-1].copy()
    alone = ~(np.isfinite(now) & np.isfinite(before))
    now[alone] = before[alone] = np.nan
    found = pd.Series(correlate_lines(now, before, least=3), wide.index)
    return found.groupby(level=RUN, observed=True).mean()


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return every figure of every run: a line a model and seed, a column a figure.

    Figures across symbols are absent where no date has five symbols, those of intervals where no
    model has them.
    """
    by_date = {"cs_ic": cs_ic(table), "cs_rank_ic": cs_rank_ic(table)}
    columns: dict[str, pd.Series[Any]] = {
        "ts_ic": ts_ic(table).mean(),
        "ts_rank_ic": ts_rank_ic(table).mean(),
    }
    if not by_date["cs_ic"].empty:
        columns |= {name: values.mean() for name, values in by_date.items()}
        columns["icir"] = icir(by_date["cs_ic"])
        columns["rank_icir"] = icir(by_date["cs_rank_ic"])
        columns["top_minus_bottom"] = top_minus_bottom(table)
    columns["autocorrelation"] = autocorrelation(table)
    return pd.concat([pd.DataFrame(columns), errors(table)], axis=1).rename_axis(RUN)


def skill(table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Compare squared errors with those of a baseline, task by task: `skill` and `win_rate`.

    A task is one symbol in one fold; seeds are averaged before. Skill is 1 less the geometric mean
    of the ratios of errors, win rate the share of tasks with the smaller error, ties half.

    Raises:
        DataError: There is no such model, or none of its tasks is another's too.
    """
    by_seed = errors(table, [*RUN, "symbol", "fold"])["mse"]
    by_task = by_seed.groupby(level=["model", "symbol", "fold"]).mean().unstack("model")
    assert isinstance(by_task, pd.DataFrame)
    if baseline not in by_task:
        raise DataError(f"No model is called {baseline!r}: there are {list(by_task)}.")
    by_task = by_task[by_task[baseline] > 0]
    ratios = by_task.div(by_task[baseline], axis=0)
    wins = ((ratios < 1) + 0.5 * (ratios == 1)).where(ratios.notna())
    result = pd.DataFrame(
        {
            "skill": 1 - np.exp(np.log(ratios.clip(*RATIO_LIMITS)).mean()),
            "win_rate": wins.mean(),
            "n_tasks": ratios.notna().sum(),
        }
    )
    return result.rename_axis("model")


def date_series(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Split a measure into what each date gives to it: a line a date, a column a run.

    The mean of a column is the run's figure, and greater is better (`mse` has its sign turned), so
    that every measure can be resampled by dates in one way. A correlation over time is split by its
    influence function, `r + zx * zy - r / 2 * (zx**2 + zy**2)`, exact to first order.

    Raises:
        DataError: The measure needs five symbols and no date has them.
    """
    if measure == "mse":
        usable = table[np.isfinite(table["prediction"]) & np.isfinite(table["label"])]
        squared = -((usable["prediction"] - usable["label"]) ** 2)
        # Every row counts alike, also those of dates with few symbols.
        sums = squared.groupby([usable[name] for name in (*RUN, "date")], observed=True)
        n_dates = usable["date"].nunique()
        n_rows = usable.groupby(RUN, observed=True).size()
        return _by_run(sums.sum()) * n_dates / n_rows
    if measure in ("cs_ic", "cs_rank_ic"):
        found = _across_symbols(table, is_ranked=measure == "cs_rank_ic")
        if found.empty:
            raise DataError(
                f"{measure} needs {MIN_SYMBOLS} symbols on a date, and no date has them."
            )
        return found
    return _influences(table, is_ranked=measure == "ts_rank_ic")


def _influences(table: pd.DataFrame, *, is_ranked: bool) -> pd.DataFrame:
    wide = widen(table, "date")
    x, y = (_standard(values) for values in _values(wide, is_ranked))
    n_values = np.isfinite(x).sum(axis=1)
    r = np.nansum(x * y, axis=1) / n_values
    influence = r[:, None] + x * y - r[:, None] / 2 * (x**2 + y**2)
    # A constant forecast has no correlation that a date could move.
    influence[(np.nansum(x**2, axis=1) == 0)] *= 0.0
    influence[(np.nansum(y**2, axis=1) == 0)] = np.nan
    frame = pd.DataFrame(
        influence / n_values[:, None], index=wide.index.droplevel("symbol"), columns=wide.columns
    )
    runs = frame.groupby(level=RUN, observed=True)
    n_symbols = frame.notna().any(axis=1).groupby(level=RUN, observed=True).sum()
    return runs.sum().div(n_symbols, axis=0).T.rename_axis("date") * len(wide.columns)


def _standard(values: FloatArray) -> FloatArray:
    """Return each line in standard deviations from its mean; zeros where all are the same."""
    n = np.isfinite(values).sum(axis=1)
    moved, varies = _centred(values, n)
    scale = np.sqrt(np.nansum(moved**2, axis=1) / n)
    return np.where(varies[:, None], moved, moved * 0.0) / np.where(varies, scale, 1.0)[:, None]
