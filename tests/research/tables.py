"""Tables of predictions for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd


def table(predictions, labels, *, model="ridge", seed=0, fold=0, symbols=None, start="2024-01-01"):
    """Make a table of (dates, symbols) arrays, a candle a day."""
    predictions, labels = np.asarray(predictions, float), np.asarray(labels, float)
    n_dates, n_symbols = labels.shape
    dates = pd.date_range(start, periods=n_dates, freq="D", tz="UTC")
    names = symbols or [f"S{number:02d}" for number in range(n_symbols)]
    return pd.DataFrame(
        {
            "date": np.repeat(dates, n_symbols),
            "symbol": names * n_dates,
            "model": model,
            "seed": seed,
            "fold": np.repeat(np.broadcast_to(fold, n_dates), n_symbols),
            "prediction": predictions.ravel(),
            "label": labels.ravel(),
            "known_at": np.repeat(dates + pd.Timedelta(days=1), n_symbols),
        }
    )


def together(*tables):
    return pd.concat(tables, ignore_index=True)


def with_ic(rng, labels, ic):
    """Return predictions whose true correlation with normal labels is `ic`."""
    return ic * labels + np.sqrt(1 - ic**2) * rng.normal(size=labels.shape)
