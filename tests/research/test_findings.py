"""Everything a report shows, from a made-up comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.research.findings import (
    EQUAL,
    HINDSIGHT,
    NO_CHOICE,
    Trading,
    choose_measure,
    find,
)
from freqai_lstm_plugins.research.market import build_market
from freqai_lstm_plugins.research.portfolio import Plan
from freqai_lstm_plugins.research.predictions import check_predictions, keep_common
from tests.research.markets import BINANCE_COSTS
from tests.research.reports import made_findings, made_predictions

MODELS = {"lstm", "tft", "ridge", "lightgbm", "naive_last", "naive_zero"}


@pytest.fixture(scope="module")
def found():
    return made_findings()


def test_every_table_speaks_of_every_model_in_the_order_of_the_ranking(found):
    ranked = list(found.ranking.index)
    assert set(ranked) == MODELS
    assert found.ranking["estimate"].is_monotonic_decreasing
    assert list(found.per_symbol) == list(found.ic) == ranked
    assert set(found.scores.index.get_level_values("model")) == MODELS
    assert set(found.returns) == {*MODELS, EQUAL}
    # What always says the same has no quantiles but the middle, and no outcomes to compare.
    assert set(found.outcomes["model"]) == MODELS - {"naive_zero"}


def test_the_ranking_agrees_with_the_scores(found):
    means = found.scores["cs_rank_ic"].groupby("model").mean()
    pd.testing.assert_series_equal(
        found.ranking["estimate"].sort_index(), means, check_names=False, atol=1e-12
    )
    assert found.figure == "mean rank IC across symbols"
    assert found.ranking.loc["lightgbm", "skill"] == 0.0
    assert found.ranking.loc["naive_zero", "win_rate"] > 0.5


def test_accounts_are_shown_at_no_costs_and_at_once_and_twice_as_much(found):
    returns = found.accounts["annual_return"].unstack("costs")
    assert (returns["none"] >= returns["once"]).all()
    assert (returns["once"] >= returns["twice"]).all()
    assert returns.index.tolist() == sorted({*MODELS, EQUAL})
    excess = found.accounts["annual_excess"].loc[EQUAL]
    assert excess.tolist() == [0.0] * 3
    assert found.accounts["break_even"].loc[EQUAL].isna().all()
    deflated = found.accounts["deflated_sharpe"].unstack("costs")
    assert deflated["once"].drop(EQUAL).between(0, 1).all()
    assert deflated[["none", "twice"]].isna().all(axis=None)


def test_notes_say_how_to_read_the_figures(found):
    assert HINDSIGHT in found.notes
    assert found.notes[0].startswith("Models are compared on the 1440 of 1440 candles")
    assert "200 draws of seeds and of blocks of" in found.notes[1]


def test_a_planted_lead_is_named_in_the_first_sentence():
    skill = {"lstm": 0.5, "lightgbm": 0.0}
    found = made_findings(skill=skill, n_dates=120)
    assert found.verdicts[0].startswith("By mean rank IC across symbols, at least one model is bet")
    assert found.verdicts[1].startswith("Better than lightgbm: lstm (+0.")
    assert found.ranking.index[0] == "lstm"


def test_few_symbols_are_ranked_over_time():
    predictions, _ = made_predictions(n_dates=60, n_symbols=3)
    assert choose_measure(predictions) == "ts_rank_ic"
    found = find(predictions, horizon=1, dates_per_year=365, n_draws=50)
    assert found.figure == "mean rank IC over time"
    assert found.accounts is None
    assert found.quantiles.shape[1] == 5


def test_a_model_that_is_silent_shortens_the_comparison_for_all():
    predictions, _ = made_predictions(n_dates=60)
    silent = (predictions["model"] == "ridge") & (predictions["symbol"] == "S01")
    predictions.loc[silent, "prediction"] = np.nan
    found = find(check_predictions(predictions), horizon=1, dates_per_year=365, n_draws=50)
    assert found.notes[0].startswith("Models are compared on the 300 of 360 candles")
    assert "S01" not in found.per_symbol.index
    assert found.scores["n_rows"].unique().tolist() == [300]


def test_a_model_that_failed_in_a_fold_is_traded_where_it_answered():
    predictions, frame = made_predictions(n_dates=90)
    failed = (predictions["model"] == "ridge") & (predictions["fold"] == 0)
    trading = Trading(build_market(frame), Plan("top", k=2), BINANCE_COSTS)
    settings = {"horizon": 1, "dates_per_year": 365, "n_draws": 50}
    found = find(predictions[~failed], trading=trading, **settings)
    assert (found.returns["ridge"][:30] == 0).all()
    assert (found.returns["ridge"][31:] != 0).all()
    assert found.notes[0].startswith("Models are compared on the 360 of 540 candles")


@pytest.mark.parametrize(("k", "is_told"), [(5, False), (6, True)])
def test_accounts_that_hold_all_symbols_in_any_case_are_told_of(k, is_told):
    predictions, frame = made_predictions(n_dates=30)
    trading = Trading(build_market(frame), Plan("top", k=k), BINANCE_COSTS)
    found = find(predictions, trading=trading, horizon=1, dates_per_year=365, n_draws=20)
    assert (NO_CHOICE in found.notes) == is_told


def test_models_without_a_common_candle_cannot_be_compared():
    predictions, _ = made_predictions(n_dates=20)
    predictions.loc[predictions["model"] == "ridge", "prediction"] = np.nan
    assert keep_common(predictions).empty
    with pytest.raises(DataError, match="no candle that all"):
        find(predictions, horizon=1, dates_per_year=365)
