"""One net for all pairs in a bot: one training serves all, and pairs come and go."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from freqai_lstm_plugins.errors import StoppedError
from tests.freqai.host import make_frame, make_model, train
from tests.freqai.panel.bot import PanelRun
from tests.freqai.panel.walk import PAIRS, PANEL, make_market

pytestmark = pytest.mark.filterwarnings(
    # freqtrade reads dates in a way that pandas will change.
    "ignore:Series.values returning:DeprecationWarning"
)

ADA, BTC, ETH = PAIRS


@pytest.fixture(scope="module")
def market():
    return make_market(days=3)


def test_one_training_serves_every_pair(tmp_path, market, caplog):
    with PanelRun(tmp_path, market) as bot:
        for pair in PAIRS:
            assert not bot.candle(1, pair)["do_predict"].any()
        bot.wait(lambda: bot.served(*PAIRS))
        for pair in PAIRS:
            bot.candle(1, pair)
            assert bot.candle(0, pair)["do_predict"].iloc[-1] == 1
            assert not bot.model.needs_training(pair)
    assert len(list(tmp_path.glob("models/test/sub-train-*/*_model.zip"))) == 1


def facts(bot: PanelRun, pair: str) -> dict:
    return bot.model.dd.model_dictionary[pair].companion[0]["panel"]


def train_again(bot: PanelRun) -> None:
    """Let the next look at the queue find the net too old, and wait for the next one."""
    net = bot.model.dd.model_dictionary[BTC].fitted
    for entry in bot.model.dd.pair_dict.values():
        if entry["model_filename"]:
            entry["trained_timestamp"] -= 7 * 3600
    bot.wait(lambda: bot.model.dd.model_dictionary[BTC].fitted is not net)
    bot.wait(lambda: not bot.model.needs_training(BTC))


def test_a_pair_that_joins_predicts_by_the_present_net_and_is_trained_on_next(tmp_path, market):
    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        bot.provider.whitelist.append(ETH)
        assert not bot.candle(1, ETH)["do_predict"].any()
        bot.wait(lambda: bot.served(*PAIRS))
        bot.candle(1, ETH)
        assert bot.candle(0, ETH)["do_predict"].iloc[-1] == 1
        assert facts(bot, ETH)["pairs"] == [ADA, BTC]
        train_again(bot)
        assert bot.served(*PAIRS)
        assert facts(bot, ETH)["pairs"] == list(PAIRS)


def test_a_pair_that_joins_with_too_few_candles_says_how_many_it_needs(tmp_path, market, caplog):
    young = {**market, ETH: market[ETH].tail(9)}
    with PanelRun(tmp_path, young, pairs=(ADA, BTC)) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        bot.provider.whitelist.append(ETH)
        bot.candle(0, ETH)
        bot.wait(lambda: "ETH/USDT has 9 candles, and a forecast needs 10" in caplog.text)
        assert bot.served(ADA, BTC)


def test_a_pair_that_leaves_is_not_trained_on_and_dropped_one_training_later(tmp_path, market):
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(*PAIRS))
        bot.provider.whitelist.remove(ADA)
        for is_there in (True, False):
            train_again(bot)
            assert facts(bot, BTC)["pairs"] == [BTC, ETH]
            assert (ADA in bot.model.dd.model_dictionary) is is_there
        bot.wait(lambda: ADA not in bot.model.train_queue)
        entries = bot.model.dd.pair_dict
    # Three trainings; purge_old_models is 2.
    assert len(list(tmp_path.glob("models/test/sub-train-panel_*"))) == 2
    assert all(Path(entries[pair]["data_path"]).is_dir() for pair in (BTC, ETH))
    assert not entries[ADA]["model_filename"]


@pytest.mark.parametrize("what", ["no candles", "all NaN", "a constant label"])
def test_a_pair_whose_data_fail_is_left_out_and_stops_no_other(tmp_path, market, caplog, what):
    broken = market[ADA].copy()
    if what == "no candles":
        broken = broken.iloc[:0]
    elif what == "all NaN":
        broken["volume"] = np.nan
    else:
        broken[["open", "high", "low", "close"]] = 1.0
        # A feature that moves, so that the label alone is to blame.
        broken["high"] += np.arange(len(broken)) % 7 / 100
    with PanelRun(tmp_path, {**market, ADA: market[ADA]}) as bot:
        bot.market[ADA] = broken
        bot.model.dd.historic_data[ADA] = {"15m": broken}
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(BTC, ETH))
        bot.candle(1, BTC)
        assert bot.candle(0, BTC)["do_predict"].iloc[-1] == 1
        assert ADA not in bot.model.dd.model_dictionary
    assert "ADA/USDT is left out of this training" in caplog.text
    assert facts(bot, BTC)["pairs"] == [BTC, ETH]


def test_a_bot_that_starts_again_predicts_by_the_net_on_disk(tmp_path, market):
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(*PAIRS))
        before = bot.candle(0, ETH)["&-return"].iloc[-1]
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, ETH)
        assert bot.candle(0, ETH)["&-return"].iloc[-1] == pytest.approx(before, abs=1e-7)
        assert not any(map(bot.model.needs_training, PAIRS))
        bot.candle(0, BTC)
        # One net in memory, as after the training.
        assert bot.served(ETH, BTC)


@pytest.mark.parametrize("part", ["model.zip", "feature_pipeline.pkl", "metadata.json"])
def test_a_damaged_file_is_told_by_its_hash_and_made_again(tmp_path, market, caplog, part):
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(*PAIRS))
    name = "cb_panel_*" if part == "model.zip" else "cb_btc_*"
    (file,) = tmp_path.glob(f"models/test/sub-train-panel_*/{name}_{part}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with PanelRun(tmp_path, market) as bot:
        assert f"Training {BTC} again, its saved model is unusable" in caplog.text
        assert ("Training ADA/USDT again" in caplog.text) is (part == "model.zip")
        bot.candle(1, BTC)
        bot.wait(lambda: BTC in bot.model.dd.model_dictionary)
        bot.candle(1, BTC)
        assert bot.candle(0, BTC)["do_predict"].iloc[-1] == 1


def test_an_embedding_lets_a_pair_wait_for_the_training_that_tells_it(tmp_path, market, caplog):
    changes = {PANEL: {"symbol_embedding": 2}}
    with PanelRun(tmp_path, market, pairs=(ADA, BTC), **changes) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        bot.provider.whitelist.append(ETH)
        bot.candle(0, ETH)
        bot.wait(lambda: "has no forecast before the next training" in caplog.text)
        train_again(bot)
        assert bot.served(*PAIRS)
        assert bot.model.dd.model_dictionary[ETH].symbols_ == list(PAIRS)


def test_continual_learning_goes_on_with_other_pairs_and_says_so(tmp_path, market, caplog):
    caplog.set_level(logging.INFO)
    changes = {"freqai__continual_learning": True}
    with PanelRun(tmp_path, market, pairs=(ADA, BTC), **changes) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        bot.provider.whitelist.append(ETH)
        bot.candle(0, ETH)
        bot.wait(lambda: bot.served(*PAIRS))
        train_again(bot)
        assert facts(bot, BTC)["pairs"] == list(PAIRS)
    assert "The net of all pairs is now trained with ETH/USDT." in caplog.text
    assert "starts afresh" not in caplog.text


def test_statistics_of_live_predictions_are_each_pairs_own(tmp_path, market):
    changes = {"freqai__fit_live_predictions_candles": 20}
    with PanelRun(tmp_path, market, pairs=(BTC, ETH), **changes) as bot:
        bot.candle(2, BTC)
        bot.wait(lambda: bot.served(BTC, ETH))
        means = {}
        for pair in (BTC, ETH):
            found = [bot.candle(ago, pair) for ago in (2, 1, 0)][-1]
            means[pair] = found["&-return_mean"].iloc[-1]
            assert means[pair] == pytest.approx(found["&-return"].iloc[-21:-1].mean())
        assert means[BTC] != means[ETH]


def test_the_cut_counts_the_candles_that_are_trained_on(tmp_path, market, monkeypatch):
    changes = {"freqai__feature_parameters__buffer_train_data_candles": 10}
    with PanelRun(tmp_path, market, pairs=(BTC,), **changes) as bot:
        cut, prepare, seen = bot.model._cut, bot.model.prepare_slice, []

        def count(dates):
            seen.append(dates[BTC].iloc[0])
            return cut(dates)

        def look(frame, *given):
            seen.append(frame["date"].iloc[0])
            return prepare(frame, *given)

        monkeypatch.setattr(bot.model, "_cut", count)
        monkeypatch.setattr(bot.model, "prepare_slice", look)
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(BTC))
    counted, trained_on = seen
    assert counted == trained_on


def test_a_bot_that_has_just_started_learns_on_from_the_net_on_disk(
    tmp_path, market, caplog, monkeypatch
):
    changes = {"pairs": (ADA, BTC), "freqai__continual_learning": True}
    with PanelRun(tmp_path, market, **changes) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
    with PanelRun(tmp_path, market, **changes) as bot:
        formers = []

        def look(*given):
            formers.append(bot.model.former)
            raise StoppedError("seen")

        monkeypatch.setattr(bot.model, "train_panel", look)
        for entry in bot.model.dd.pair_dict.values():
            entry["trained_timestamp"] -= 7 * 3600
        with pytest.raises(StoppedError):
            bot.model.train_now(BTC, bot.strategy)
        assert formers[0].companion[0]["panel"]["pairs"] == [ADA, BTC]


def test_all_pairs_change_to_a_new_net_in_one_step(tmp_path):
    class Untouched(dict):
        """What the trading loop reads meanwhile."""

        def __setitem__(self, *given):
            pytest.fail("changed pair by pair")

        update = pop = __setitem__

    model, frame = make_model(tmp_path, **{PANEL: {}}), make_frame(300)
    former, _ = train(model, frame, 1)
    seen = model.dd.model_dictionary = Untouched(model.dd.model_dictionary)
    trained, _ = train(model, frame.iloc[40:], 2)
    assert {found.fitted for found in seen.values()} == {former.fitted}
    assert {found.fitted for found in model.dd.model_dictionary.values()} == {trained.fitted}


def test_pair_dictionary_names_one_training_for_all(tmp_path, market):
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(*PAIRS))
    entries = json.loads((tmp_path / "models/test/pair_dictionary.json").read_text())
    assert len({entry["trained_timestamp"] for entry in entries.values()}) == 1
    assert len({entry["data_path"] for entry in entries.values()}) == 1
