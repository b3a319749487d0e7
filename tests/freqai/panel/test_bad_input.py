"""What cannot be trained as one net for all pairs: a clear line each, or what is done instead."""

from __future__ import annotations

import re

import numpy as np
import pytest
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins.errors import StoppedError
from freqai_lstm_plugins.freqai.panel import joining
from tests.freqai.host import (
    OTHER,
    PAIR,
    WINDOW,
    make_frame,
    make_model,
    predict,
    train,
    train_all,
    turned_over,
)
from tests.freqai.panel.walk import (
    PAIRS,
    PANEL,
    backtest_pairs,
    make_market,
    panel_model,
    run_pairs,
)
from tests.freqai.walk import PER_DAY

ADA, BTC, ETH = PAIRS
FIRST = 2 * PER_DAY
SPLIT = "freqai__data_split_parameters"

NET = """
from torch import nn

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class Net(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.out = nn.Linear(n_features, n_outputs)

    def forward(self, x):
        return self.out(x[:, -1])


class MyNet(SequenceRegressorModel):
    def build_net(self, n_features, n_outputs):
        return Net({n_features}, n_outputs)
"""


@pytest.fixture(scope="module")
def market():
    market = make_market(days=3)
    return {pair: frame.reset_index(drop=True) for pair, frame in market.items()}


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ({"pair": [BTC]}, r"model_training_parameters.panel: unknown setting 'pair'.*'pairs'"),
        ({"pairs": "all"}, r"panel: pairs must be 'whitelist' or a list"),
        ({"pairs": []}, r"panel: pairs must be 'whitelist' or a list"),
        ({"balance": "rows"}, r"panel: balance must be one of candles, pairs, not 'rows'"),
        ({"symbol_embedding": -1}, r"symbol_embedding must be an integer of at least 0"),
        ({"pairs": [BTC, "ETH/EUR"]}, r"BTC/USDT and ETH/EUR are in different quote currencies"),
        ("whitelist", r"panel must be a dictionary of settings"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_start(tmp_path, panel, message):
    with pytest.raises(OperationalException, match=message):
        make_model(tmp_path, **{PANEL: panel})


def test_another_list_of_pairs_under_an_old_identifier_is_refused_and_named(tmp_path):
    make_model(tmp_path, **{PANEL: {"pairs": [BTC, ADA]}})
    # The order of pairs changes nothing.
    make_model(tmp_path, **{PANEL: {"pairs": [ADA, BTC]}})
    for panel, change in (
        ({"pairs": [ADA, BTC, ETH]}, rf"panel.pairs: \['{ADA}', '{BTC}'\] -> .*'{ETH}'\]"),
        ({"pairs": [ADA, BTC], "balance": "pairs"}, "panel.balance: 'candles' -> 'pairs'"),
        (None, "panel.balance: 'candles' -> None"),
    ):
        with pytest.raises(OperationalException, match=f"used with other settings .*{change}"):
            make_model(tmp_path, **{PANEL: panel})


def test_principal_components_are_refused_at_the_start(tmp_path):
    key = "freqai__feature_parameters__principal_component_analysis"
    with pytest.raises(OperationalException, match="makes columns of their own for each pair"):
        make_model(tmp_path, **{PANEL: {}, key: True})


def test_a_share_of_training_rows_is_refused_at_the_start(tmp_path):
    key = "freqai__data_split_parameters__train_size"
    with pytest.raises(OperationalException, match="train_size would be without effect"):
        make_model(tmp_path, **{PANEL: {}, key: 0.5})


@pytest.mark.parametrize("value", ["half", -0.1, 1.5, True])
def test_a_wrong_share_of_test_rows_is_refused_at_the_start(tmp_path, value):
    with pytest.raises(OperationalException, match=f"test_size must be a fraction.*{value!r}"):
        make_model(tmp_path, **{PANEL: {}, SPLIT: {"test_size": value}})


@pytest.mark.parametrize("split", [{}, {"test_size": None}, {"test_size": 0}, {"test_size": 50}])
def test_the_share_of_test_rows_means_what_it_means_for_a_net_a_pair(tmp_path, split):
    frame, counts = make_frame(300), []
    for panel in (None, {}):
        model = make_model(tmp_path / str(panel), **{PANEL: panel, SPLIT: dict(split)})
        trained, _ = train(model, frame) if panel is None else train_all(model, {PAIR: frame})
        counts.append([trained.history_.n_train_windows, trained.history_.n_valid_windows])
    # Half a row is rounded in other ways.
    assert counts[1] == pytest.approx(counts[0], abs=1)
    assert (counts[0][1] == 0) is (split.get("test_size") == 0)


def test_a_pair_of_few_candles_is_trained_on_beside_one_of_many(tmp_path):
    model, frame = make_model(tmp_path, **{PANEL: {}}), make_frame(900)
    young = turned_over(frame.tail(200)).reset_index(drop=True)
    trained, _ = train_all(model, {OTHER: frame, PAIR: young})
    assert trained.companion[0]["panel"]["pairs"] == [PAIR, OTHER]
    _, do_predict = predict(model, young)
    assert do_predict.tolist() == [0] * (WINDOW - 1) + [1] * (200 - WINDOW + 1)


def test_learning_on_with_other_pairs_starts_afresh_where_the_net_is_told_them(tmp_path, caplog):
    changes = {PANEL: {"symbol_embedding": 2}, "freqai__continual_learning": True}
    model, frame = make_model(tmp_path, **changes), make_frame(300)
    for stamp, other in enumerate((OTHER, OTHER, "NEW/USDT"), start=1):
        assert "starts afresh" not in caplog.text
        train_all(model, {PAIR: frame, other: turned_over(frame)}, stamp)
    assert "continual learning starts afresh. The model was trained on 2 pairs" in caplog.text


@pytest.mark.parametrize("late", [30, 300])
def test_a_young_pair_is_trained_on_where_the_test_part_comes_first(tmp_path, late):
    key = "freqai__feature_parameters__reverse_train_test_order"
    model, frame = make_model(tmp_path, **{PANEL: {}, key: True}), make_frame(400)
    young = frame.iloc[late:].reset_index(drop=True)
    trained, _ = train_all(model, {PAIR: frame, "NEW/USDT": young})
    assert trained.companion[0]["panel"]["pairs"] == sorted([PAIR, "NEW/USDT"])


def test_a_stopped_bot_prepares_no_further_pair(tmp_path):
    model, frame = make_model(tmp_path, **{PANEL: {}}), make_frame(400)
    model._stop_event.set()
    with pytest.raises(StoppedError, match=f"given up before {PAIR} was prepared"):
        train_all(model, {PAIR: frame})


def test_a_panel_of_one_pair_is_trained_and_said_to_be_one(tmp_path, market, caplog):
    predicted, _ = backtest_pairs(tmp_path, {BTC: market[BTC]})
    assert predicted[BTC]["do_predict"].iloc[FIRST:].all()
    assert "The panel is BTC/USDT alone" in caplog.text


def test_pairs_that_share_no_time_train_on_those_before_the_cut(tmp_path, market, caplog):
    apart = {
        ADA: market[ADA].iloc[: FIRST - 60],
        BTC: market[BTC].iloc[FIRST - 30 :].reset_index(drop=True),
    }
    predicted, _ = backtest_pairs(tmp_path, apart, pairs=[BTC])
    assert "BTC/USDT is left out of this training" in caplog.text
    assert predicted[BTC]["do_predict"].iloc[30:].all()


def test_a_whitelist_of_two_quote_currencies_is_refused(tmp_path, market):
    with pytest.raises(OperationalException, match="different quote currencies"):
        backtest_pairs(tmp_path, {BTC: market[BTC], "ETH/EUR": market[ETH]})


def test_pairs_whose_data_fail_are_left_out_and_stop_no_other(tmp_path, market, caplog):
    still = market[ADA].copy()
    still[["open", "low", "close"]] = 1.0
    still["high"] = 1.0 + np.arange(len(still)) % 7 / 100
    silent = market[BTC].assign(volume=np.nan)
    given = {**market, ADA: still, "SOL/USDT": silent}
    model = panel_model(tmp_path, given)
    predicted = run_pairs(model, given, whitelist=[*given, "XRP/USDT"])
    assert "the label '&-return' of ADA/USDT is the same at all" in caplog.text
    assert "SOL/USDT is left out of this training: SOL/USDT: the feature" in caplog.text
    assert "XRP/USDT is left out of this training: XRP/USDT has no candles." in caplog.text
    for pair, found in predicted.items():
        told = found["do_predict"].iloc[FIRST:]
        assert told.all() if pair in (BTC, ETH) else not told.any()


def test_a_feature_that_is_constant_for_one_pair_stays_a_column(tmp_path, market):
    quiet = market[ADA].assign(volume=5.0)
    predicted, _ = backtest_pairs(tmp_path, {**market, ADA: quiet})
    for pair in PAIRS:
        assert predicted[pair]["do_predict"].iloc[FIRST:].all()


@pytest.mark.parametrize(("width", "is_taken"), [("n_features", True), ("3", False)])
def test_a_net_of_ones_own_needs_room_for_the_embedding(tmp_path, market, width, is_taken):
    folder = tmp_path / "freqaimodels"
    folder.mkdir()
    (folder / "MyNet.py").write_text(NET.replace("{n_features}", width))
    changes = {
        "freqaimodel": "MyNet",
        "freqaimodel_path": str(folder),
        "freqai__model_training_parameters__model_kwargs": {},
        PANEL: {"symbol_embedding": 2},
    }
    if is_taken:
        predicted, _ = backtest_pairs(tmp_path, market, **changes)
        assert predicted[ETH]["do_predict"].iloc[FIRST:].all()
        return
    with pytest.raises(OperationalException, match=r"build_net gets n_features = 5, 3 features"):
        backtest_pairs(tmp_path, market, **changes)


def test_more_rows_than_memory_end_no_backtest_and_are_counted(
    tmp_path, market, caplog, monkeypatch
):
    class Small:
        available = 1000

    monkeypatch.setattr(joining.psutil, "virtual_memory", Small)
    predicted, _ = backtest_pairs(tmp_path, market)
    assert re.search(r"3 pairs have [\d,]+ rows of 3 numbers, which take \d+ MB", caplog.text)
    assert not any(found["do_predict"].any() for found in predicted.values())
