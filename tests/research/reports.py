"""A made-up comparison for tests of its findings and report."""

from __future__ import annotations

import numpy as np
import pandas as pd

from freqai_lstm_plugins.research.findings import Trading, find
from freqai_lstm_plugins.research.market import Rules, build_market
from freqai_lstm_plugins.research.portfolio import Plan
from freqai_lstm_plugins.research.predictions import check_predictions
from freqai_lstm_plugins.research.report import Report, Run
from tests.research.candles import candles, walk_of
from tests.research.markets import BINANCE_COSTS
from tests.research.tables import table, together, with_ic

SKILL = {"lstm": 0.06, "tft": 0.03, "ridge": 0.02, "lightgbm": 0.05, "naive_last": 0.0}
SEEDS = {"lstm": 3, "tft": 3}


def made_predictions(n_dates=240, n_symbols=6, seed=0, skill=None):
    """Return predictions of several models and the candles their labels come from."""
    rng = np.random.default_rng(seed)
    closes = walk_of(rng, n_dates + 3, n_symbols)
    labels = closes[2 : n_dates + 2] / closes[1 : n_dates + 1] - 1
    fold = np.arange(n_dates) * 3 // n_dates
    parts = [
        table(0.02 * with_ic(rng, labels / 0.02, ic), labels, model=model, seed=number, fold=fold)
        for model, ic in (skill or SKILL).items()
        for number in range(SEEDS.get(model, 1))
    ]
    parts.append(table(np.zeros_like(labels), labels, model="naive_zero", fold=fold))
    return check_predictions(together(*parts)), candles(closes)


def made_findings(n_draws=200, plan=None, **settings):
    predictions, frame = made_predictions(**settings)
    trading = Trading(
        market=build_market(frame),
        plan=plan or Plan("top", k=2),
        costs=BINANCE_COSTS,
        rules=Rules(),
        n_tried=12,
        is_hindsight=True,
    )
    return find(predictions, horizon=2, dates_per_year=252, trading=trading, n_draws=n_draws)


def made_run():
    epochs = np.arange(1, 15)
    histories = {
        model: pd.DataFrame(
            {
                "epoch": epochs,
                "train_loss": 1 / epochs**slope,
                "valid_loss": 1 + 0.01 * (epochs - 5) ** 2 * slope,
            }
        )
        for model, slope in (("lstm", 0.3), ("tft", 0.2))
    }
    dates = pd.date_range("2024-01-01", periods=3, freq="80D", tz="UTC")
    return Run(
        title="Six made-up symbols",
        summary="6 symbols, 6 models, 3 folds, 3 seeds, 2024-01-01 to 2024-08-27",
        experiment='[data]\nfolder = "candles"\n\n[label]\nkind = "return"  # <script>\n',
        histories=histories,
        timings=pd.DataFrame(
            {
                "model": ["lstm", "tft"],
                "jobs": [54, 54],
                "seconds": [812.4, 3021.0],
                "mib": [410.0, 602.5],
            }
        ),
        purged=pd.DataFrame(
            {
                "fold": [0, 1, 2],
                "first_test": dates,
                "n_train": [400, 480, 560],
                "n_purged": [2, 2, 2],
            }
        ),
        checks=pd.DataFrame(
            {
                "symbol": ["S01", "S03"],
                "date": dates[:2],
                "warning": [
                    "close lies outside of low..high, so that the row counts as missing",
                    "price moved by more than the limit of 7 % | and stayed there",
                ],
            }
        ),
        failures=pd.DataFrame(
            {"job": ["tft/S05/fold 1/seed 2"], "reason": ["DataError: too few rows"]}
        ),
    )


def made_report(**settings):
    return Report(made_run(), made_findings(**settings))
