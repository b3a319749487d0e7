"""One net for all pairs in a backtest: trained once a slice, and found by all pairs."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from freqtrade.exceptions import OperationalException

from tests.freqai.host import MODELS
from tests.freqai.panel.walk import (
    PAIRS,
    PANEL,
    backtest_pairs,
    make_market,
    panel_model,
    run_pairs,
)
from tests.freqai.walk import CLASSES, PER_DAY, ClassStrategy, SmallStrategy, weights

ADA, BTC, ETH = PAIRS
FIRST = 2 * PER_DAY
TRAINING = "freqai__model_training_parameters__trainer_kwargs"
CORRELATED = "freqai__feature_parameters__include_corr_pairlist"


@pytest.fixture(scope="module")
def market():
    return make_market()


@pytest.fixture(scope="module")
def first(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    return folder, *backtest_pairs(folder, market)


def predicted_columns(found: pd.DataFrame, market: dict) -> pd.DataFrame:
    return found[[name for name in found if name not in market[ADA]]]


def assert_same(one: dict, other: dict, market: dict) -> None:
    for pair in one:
        pd.testing.assert_frame_equal(
            predicted_columns(one[pair], market), predicted_columns(other[pair], market)
        )


class Counting(SmallStrategy):
    """Counts how often the features of a pair are made."""

    counts: dict[str, int] = {}  # noqa: RUF012

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        if len(dataframe) > PER_DAY:
            self.counts[metadata["pair"]] = self.counts.get(metadata["pair"], 0) + 1
        return dataframe


def test_every_pair_is_predicted_by_one_net_a_slice(first):
    folder, predicted, _ = first
    for pair in PAIRS:
        assert predicted[pair]["do_predict"].iloc[FIRST:].all()
        assert predicted[pair]["&-return"].iloc[FIRST:].nunique() > PER_DAY
    assert len(weights(folder)) == 2


def test_features_of_each_pair_are_made_once_a_run(tmp_path, market):
    Counting.counts = {}
    backtest_pairs(tmp_path, market, Counting)
    assert Counting.counts == dict.fromkeys(PAIRS, 1)


def test_the_order_of_pairs_changes_no_weight_and_no_prediction(first, tmp_path, market):
    folder, predicted, _ = first
    turned = dict(reversed(market.items()))
    other, _ = backtest_pairs(tmp_path, turned)
    assert weights(tmp_path) == weights(folder)
    assert_same(predicted, other, market)


def test_without_saved_models_the_net_lives_for_the_run(first, tmp_path, market, caplog):
    caplog.set_level(logging.INFO)
    _, predicted, _ = first
    other, _ = backtest_pairs(tmp_path, market, freqai__save_backtest_models=False)
    assert caplog.text.count("Done training one net for 3 pairs") == 2
    assert not list(tmp_path.glob("models/test/*/*_model.zip"))
    assert_same(predicted, other, market)


@pytest.mark.parametrize("panel", [{}, None], ids=["all pairs", "a net a pair"])
def test_continual_learning_goes_on_from_models_that_are_not_saved(tmp_path, market, panel):
    predicted = [
        backtest_pairs(
            tmp_path / str(is_saved),
            {BTC: market[BTC]},
            freqai__continual_learning=True,
            freqai__save_backtest_models=is_saved,
            **{PANEL: panel},
        )[0]
        for is_saved in (True, False)
    ]
    assert_same(*predicted, market)


@pytest.mark.parametrize("is_whole", [True, False], ids=["all files", "without one pair's"])
def test_the_next_run_finds_the_files_of_a_slice(first, tmp_path, market, caplog, is_whole):
    caplog.set_level(logging.INFO)
    folder, predicted, _ = first
    copied = tmp_path / "user"
    shutil.copytree(folder, copied)
    shutil.rmtree(copied / "models/test/backtesting_predictions")
    if not is_whole:
        for path in copied.glob("models/test/*/cb_eth_*"):
            path.unlink()
    other, _ = backtest_pairs(copied, market)
    assert caplog.text.count("Done training one net") == (0 if is_whole else 2)
    assert_same(predicted, other, market)


def test_no_pair_predicts_by_a_net_that_was_trained_again(tmp_path):
    market = make_market(days=3)
    backtest_pairs(tmp_path, market)
    shutil.rmtree(tmp_path / "models/test/backtesting_predictions")
    for path in tmp_path.glob("models/test/*/cb_btc_*"):
        path.unlink()
    _, model = backtest_pairs(tmp_path, market)
    models = model.dd.model_dictionary
    assert models[ETH].net_ is not models[ADA].net_


def test_other_pairs_under_the_same_identifier_are_refused_by_name(first, market):
    folder, _, _ = first
    model = panel_model(folder, market)
    with pytest.raises(OperationalException, match="would train it without ETH/USDT"):
        run_pairs(model, market, whitelist=(ADA, BTC))


def test_a_pair_that_the_net_was_not_trained_on_is_predicted_all_the_same(tmp_path, market):
    """Leave one pair out: with symbol_embedding = 0 the net serves pairs it has never seen."""
    predicted, _ = backtest_pairs(tmp_path, market, **{PANEL: {"pairs": [ADA, BTC]}})
    assert predicted[ETH]["do_predict"].iloc[FIRST:].all()
    assert predicted[ETH]["&-return"].iloc[FIRST:].nunique() > PER_DAY


def test_a_pair_outside_the_list_has_no_forecast_where_the_net_is_told_the_pair(
    tmp_path, market, caplog
):
    predicted, _ = backtest_pairs(
        tmp_path, market, **{PANEL: {"pairs": [ADA, BTC], "symbol_embedding": 2}}
    )
    assert predicted[BTC]["do_predict"].iloc[FIRST:].all()
    assert not predicted[ETH]["do_predict"].any()
    assert "ETH/USDT is none of the pairs that the net is told" in caplog.text


def test_a_young_pair_has_forecasts_from_its_first_full_window(tmp_path, market, caplog):
    caplog.set_level(logging.INFO)
    start = FIRST - 5 * 4
    young = {**market, ETH: market[ETH].iloc[start:].reset_index(drop=True)}
    predicted, _ = backtest_pairs(tmp_path, young)
    told = predicted[ETH]["do_predict"].to_numpy()
    # Eight candles warm the strategy's indicators up, and the window has six.
    assert told[FIRST - start :].all()
    assert "ETH/USDT is left out of this training: ETH/USDT: none of its" in caplog.text
    assert "ETH/USDT predicts by the net of 2 pairs" in caplog.text


def test_a_correlated_pair_shares_the_net_with_the_others(tmp_path, market):
    predicted, _ = backtest_pairs(tmp_path, market, **{CORRELATED: [BTC, ETH]})
    for pair in PAIRS:
        assert predicted[pair]["do_predict"].iloc[FIRST:].all()


def test_no_validation_lies_before_anothers_training(tmp_path, market, monkeypatch):
    """Catches pairs that are each split at a fraction of their own rows."""
    shorter = {**market, ADA: market[ADA].iloc[PER_DAY:].reset_index(drop=True)}
    model = panel_model(tmp_path, shorter)
    seen = []

    def look(data, dk, **more):
        train, valid = data["train_windows"], data["valid_windows"]
        times, known = data["times"], data["known_at"]
        seen.append((known[train.ends.numpy()].max(), times[valid.ends.numpy()].min()))
        raise OperationalException("seen")

    monkeypatch.setattr(model, "fit", look)
    run_pairs(model, shorter, pairs=[BTC])
    assert len(seen) == 2
    for last_known, first_valid in seen:
        assert last_known < first_valid


class AsManyFeatures(SmallStrategy):
    """Adds a feature for one pair alone."""

    def feature_engineering_standard(self, dataframe, metadata, **kwargs):
        if metadata["pair"] == ETH:
            return dataframe.assign(**{"%-more": dataframe["close"]})
        return dataframe


def test_features_of_one_pair_alone_are_refused_with_their_names(tmp_path, market):
    with pytest.raises(OperationalException, match=r"those of ETH/USDT with %-more, compared"):
        backtest_pairs(tmp_path, market, AsManyFeatures)


MEMBERS = {
    "freqaimodel": "LeaEnsembleRegressor",
    "freqai__model_training_parameters__model_kwargs": {
        "members": {
            "lstm": {"hidden_dim": 4, "n_layer": 1, "head_size": 4},
            "ridge": {"lags": [0, 1]},
        },
        "combine": "dynamic",
        "folds": 2,
        "half_lives": [10],
    },
}
KINDS = {
    "intervals": (SmallStrategy, {f"{TRAINING}__interval": 0.8}),
    "quantiles": (
        SmallStrategy,
        {f"{TRAINING}__loss": "quantile", "freqaimodel": "LeaGRURegressor"},
    ),
    "classes": (ClassStrategy, {"freqaimodel": "LeaLSTMClassifier"}),
    "ensemble": (SmallStrategy, MEMBERS),
    "told ensemble": (SmallStrategy, {**MEMBERS, PANEL: {"symbol_embedding": 2}}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_net_answers_in_every_way(tmp_path, market, kind):
    strategy, changes = KINDS[kind]
    days = {pair: frame.iloc[: FIRST + PER_DAY] for pair, frame in market.items()}
    predicted, _ = backtest_pairs(tmp_path, days, strategy, **changes)
    for pair in PAIRS:
        found = predicted[pair].iloc[FIRST:]
        assert found["do_predict"].all()
        if kind == "classes":
            assert found[CLASSES].sum(axis=1).to_numpy() == pytest.approx(1.0)
        if kind == "intervals":
            assert (found["&-return_lower"] <= found["&-return"]).all()
            assert (found["&-return"] <= found["&-return_upper"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({path.stem for path in MODELS.glob("Lea*.py")} - {"LeaEnsembleRegressor"})
)
@pytest.mark.parametrize("panel", [{}, {"symbol_embedding": 2, "balance": "pairs"}])
def test_every_net_of_the_package_serves_all_pairs(tmp_path, market, name, panel):
    strategy = ClassStrategy if name.endswith("Classifier") else SmallStrategy
    days = {pair: frame.iloc[: FIRST + PER_DAY] for pair, frame in market.items()}
    shape = {"freqai__model_training_parameters__model_kwargs": {"hidden_dim": 8, "n_layer": 1}}
    changes = {"freqaimodel": name, PANEL: panel, **shape}
    predicted, _ = backtest_pairs(tmp_path, days, strategy, **changes)
    for pair in PAIRS:
        assert predicted[pair]["do_predict"].iloc[FIRST:].all()


def test_a_later_candle_of_one_pair_changes_no_earlier_forecast_and_no_earlier_weight(
    first, tmp_path, market
):
    """Catches a scaling, a cut or a training by which one pair sees another's future."""
    folder, before, _ = first
    row = FIRST + 30
    changed = market[ETH].copy()
    prices = ["open", "high", "low", "close"]
    factor = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.05, len(changed) - row)))
    changed.loc[row:, prices] = changed.loc[row:, prices].mul(factor, axis=0)
    after, _ = backtest_pairs(tmp_path, {**market, ETH: changed})
    mine, theirs = sorted(weights(tmp_path).items()), sorted(weights(folder).items())
    assert mine[0] == theirs[0]
    # The second slice's training has seen the change, so that the test compares anything.
    assert mine[1] != theirs[1]
    for pair in PAIRS:
        known = slice(None, row if pair == ETH else FIRST + PER_DAY)
        pd.testing.assert_frame_equal(
            predicted_columns(after[pair], market).iloc[known],
            predicted_columns(before[pair], market).iloc[known],
        )
