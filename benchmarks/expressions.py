"""Alpha158 as its expressions say it, one at a time, by pandas: slow, and independent of ours.

What pandas can do over a window it does, and the rest is `rolling.apply`; or `rolling.apply` does
all but the order statistics, because pandas carries sums from row to row, and a window that follows
a spike is not exact. The text of an expression is
evaluated as it stands, but for the dollar signs, with the functions below under qlib's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

WINDOWS = (5, 10, 20, 30, 60)
PRICES = ("open", "high", "low", "close", "vwap")

CANDLE = {
    "KMID": "($close-$open)/$open",
    "KLEN": "($high-$low)/$open",
    "KMID2": "($close-$open)/($high-$low+1e-12)",
    "KUP": "($high-Greater($open, $close))/$open",
    "KUP2": "($high-Greater($open, $close))/($high-$low+1e-12)",
    "KLOW": "(Less($open, $close)-$low)/$open",
    "KLOW2": "(Less($open, $close)-$low)/($high-$low+1e-12)",
    "KSFT": "(2*$close-$high-$low)/$open",
    "KSFT2": "(2*$close-$high-$low)/($high-$low+1e-12)",
    "OPEN0": "$open/$close",
    "HIGH0": "$high/$close",
    "LOW0": "$low/$close",
    "VWAP0": "$vwap/$close",
}
UP = "Sum(Greater(${x}-Ref(${x}, 1), 0), W)"
DOWN = "Sum(Greater(Ref(${x}, 1)-${x}, 0), W)"
WHOLE = "(Sum(Abs(${x}-Ref(${x}, 1)), W)+1e-12)"
MOVED = "Abs($close/Ref($close, 1)-1)*$volume"
ROLLING = {
    "ROC": "Ref($close, W)/$close",
    "MA": "Mean($close, W)/$close",
    "STD": "Std($close, W)/$close",
    "BETA": "Slope($close, W)/$close",
    "RSQR": "Rsquare($close, W)",
    "RESI": "Resi($close, W)/$close",
    "MAX": "Max($high, W)/$close",
    "MIN": "Min($low, W)/$close",
    "QTLU": "Quantile($close, W, 0.8)/$close",
    "QTLD": "Quantile($close, W, 0.2)/$close",
    "RANK": "Rank($close, W)",
    "RSV": "($close-Min($low, W))/(Max($high, W)-Min($low, W)+1e-12)",
    "IMAX": "IdxMax($high, W)/W",
    "IMIN": "IdxMin($low, W)/W",
    "IMXD": "(IdxMax($high, W)-IdxMin($low, W))/W",
    "CORR": "Corr($close, Log($volume+1), W)",
    "CORD": "Corr($close/Ref($close,1), Log($volume/Ref($volume, 1)+1), W)",
    "CNTP": "Mean($close>Ref($close, 1), W)",
    "CNTN": "Mean($close<Ref($close, 1), W)",
    "CNTD": "Mean($close>Ref($close, 1), W)-Mean($close<Ref($close, 1), W)",
    "SUMP": f"{UP}/{WHOLE}".replace("{x}", "close"),
    "SUMN": f"{DOWN}/{WHOLE}".replace("{x}", "close"),
    "SUMD": f"({UP}-{DOWN})/{WHOLE}".replace("{x}", "close"),
    "VMA": "Mean($volume, W)/($volume+1e-12)",
    "VSTD": "Std($volume, W)/($volume+1e-12)",
    "WVMA": f"Std({MOVED}, W)/(Mean({MOVED}, W)+1e-12)",
    "VSUMP": f"{UP}/{WHOLE}".replace("{x}", "volume"),
    "VSUMN": f"{DOWN}/{WHOLE}".replace("{x}", "volume"),
    "VSUMD": f"({UP}-{DOWN})/{WHOLE}".replace("{x}", "volume"),
}


def expressions() -> dict[str, str]:
    """Return the expression of each feature, by its name and in qlib's order."""
    rolling = {
        f"{stem}{window}": text.replace("W", str(window))
        for stem, text in ROLLING.items()
        for window in WINDOWS
    }
    return CANDLE | rolling


def line(values: np.ndarray) -> tuple[float, float, float]:
    """Fit a line to one window; return slope, R² and the newest value's residual."""
    known = ~np.isnan(values)
    if known.sum() < 2:
        return np.nan, np.nan, np.nan
    places = np.arange(1.0, len(values) + 1)
    x = places[known] - places[known].mean()
    y = values[known] - values[known].mean()
    slope = (x @ y) / (x @ x)
    explained = slope * (x @ y) / (y @ y) if (y @ y) > 0 else np.nan
    fitted = values[known].mean() + slope * (places[-1] - places[known].mean())
    return slope, explained, values[-1] - fitted


def deviation(values: np.ndarray) -> float:
    """Return the sample standard deviation of one window; equal values have exactly none."""
    known = values[~np.isnan(values)]
    return (known - known[0]).std(ddof=1) if len(known) > 1 else np.nan


MOMENTS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.nanmean,
    "sum": np.nansum,
    "std": deviation,
}


class Slow:
    """Evaluates expressions over one symbol's candles.

    Args:
        candles: Columns open, high, low, close, volume, and vwap if it is known.
        qlib_compatible: Do as qlib does; otherwise by the rules of `alpha158`.
        exact: Take every sum, mean and deviation from the window alone.
    """

    def __init__(
        self, candles: pd.DataFrame, *, qlib_compatible: bool = False, exact: bool = False
    ) -> None:
        self.qlib, self.exact = qlib_compatible, exact
        frame = candles.astype(np.float32 if qlib_compatible else np.float64)
        if not qlib_compatible:
            prices = [name for name in PRICES if name in frame]
            frame[prices] = frame[prices].where(frame[prices] > 0)
        if "vwap" not in frame:
            frame["vwap"] = (frame["high"] + frame["low"] + frame["close"]) / 3
        self.frame = frame
        functions = ("Ref", "Mean", "Sum", "Std", "Slope", "Rsquare", "Resi", "Max", "Min")
        functions += ("Quantile", "Rank", "IdxMax", "IdxMin", "Corr")
        self.names: dict[str, Any] = {
            **{name: getattr(self, name.lower()) for name in functions},
            **{name: frame[name] for name in (*PRICES, "volume")},
            "Greater": np.maximum,
            "Less": np.minimum,
            "Abs": np.abs,
            "Log": self.log,
        }

    def columns(self) -> Iterator[tuple[str, pd.Series]]:
        """Yield name and values of each feature."""
        for name, text in expressions().items():
            yield name, self.evaluate(name, text)

    def evaluate(self, name: str, text: str) -> pd.Series:
        """Return the values of one feature."""
        python = text.replace("$", "")
        # Where qlib adds 1e-12, ours keeps zero by zero and nothing else.
        tiny = "1e-12" if self.qlib else "1e-300"
        with np.errstate(all="ignore"):
            result = eval(python.replace("1e-12", tiny), {}, self.names)
        if self.qlib:
            return result
        if name.startswith(("VMA", "VSTD")):
            result = result.where(self.frame["volume"] > 0)
        return result.where(result.abs() < 1e100)

    def over(self, values: pd.Series, window: int) -> Any:
        """Return the windows of a series."""
        if values.dtype == bool:
            # A comparison with NaN is unknown but in qlib.
            unknown = self.frame["close"].isna() | self.frame["close"].shift().isna()
            values = values.astype(float).mask(unknown & (not self.qlib))
        return values.rolling(window, min_periods=1 if self.qlib else window)

    def applied(self, values: pd.Series, window: int, function: Callable[..., float]) -> pd.Series:
        """Call a function of one window on every window."""
        return self.over(values, window).apply(function, raw=True)

    def moment(self, values: pd.Series, window: int, name: str) -> pd.Series:
        """Return mean, sum or std."""
        if self.exact:
            return self.applied(values, window, MOMENTS[name])
        return getattr(self.over(values, window), name)()

    def log(self, values: pd.Series) -> pd.Series:
        """Return the logarithm; that of infinity is unknown."""
        return np.log(values.replace(np.inf, np.nan))

    def ref(self, values: pd.Series, rows: int) -> pd.Series:
        """Return the value some rows earlier."""
        return values.shift(rows)

    def mean(self, values: pd.Series, window: int) -> pd.Series:
        """Return the mean."""
        return self.moment(values, window, "mean")

    def sum(self, values: pd.Series, window: int) -> pd.Series:
        """Return the sum."""
        return self.moment(values, window, "sum")

    def std(self, values: pd.Series, window: int) -> pd.Series:
        """Return the sample standard deviation."""
        return self.moment(values, window, "std")

    def max(self, values: pd.Series, window: int) -> pd.Series:
        """Return the largest value."""
        return self.over(values, window).max()

    def min(self, values: pd.Series, window: int) -> pd.Series:
        """Return the smallest value."""
        return self.over(values, window).min()

    def quantile(self, values: pd.Series, window: int, q: float) -> pd.Series:
        """Return a quantile."""
        return self.over(values, window).quantile(q)

    def rank(self, values: pd.Series, window: int) -> pd.Series:
        """Return the newest value's rank as a share."""
        return self.over(values, window).rank(pct=True)

    def idxmax(self, values: pd.Series, window: int) -> pd.Series:
        """Return the position of the largest value, from 1."""
        return self.applied(values, window, lambda rows: rows.argmax() + 1)

    def idxmin(self, values: pd.Series, window: int) -> pd.Series:
        """Return the position of the smallest value, from 1."""
        return self.applied(values, window, lambda rows: rows.argmin() + 1)

    def slope(self, values: pd.Series, window: int) -> pd.Series:
        """Return the slope of a line."""
        return self.applied(values, window, lambda rows: line(rows)[0])

    def rsquare(self, values: pd.Series, window: int) -> pd.Series:
        """Return how much a line explains; unknown where the window is flat."""
        found = self.applied(values, window, lambda rows: line(rows)[1])
        return found.mask(self.is_flat(values, window))

    def resi(self, values: pd.Series, window: int) -> pd.Series:
        """Return how far the newest value lies from a line."""
        return self.applied(values, window, lambda rows: line(rows)[2])

    def corr(self, left: pd.Series, right: pd.Series, window: int) -> pd.Series:
        """Return the correlation; unknown where one side is flat."""
        found = self.over(left, window).corr(right)
        return found.mask(self.is_flat(left, window) | self.is_flat(right, window))

    def is_flat(self, values: pd.Series, window: int) -> pd.Series:
        """Tell where a window is constant, by qlib's bound or beside its mean."""
        deviation = self.std(values, window)
        bound = 2e-5 if self.qlib else 1e-9 * self.mean(values, window).abs()
        return deviation <= bound


def slow_alpha158(
    candles: pd.DataFrame, *, qlib_compatible: bool = False, exact: bool = False
) -> pd.DataFrame:
    """Return all features of one symbol's candles, by `Slow`."""
    slow = Slow(candles, qlib_compatible=qlib_compatible, exact=exact)
    return pd.DataFrame(dict(slow.columns()))
