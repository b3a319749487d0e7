"""One net for all pairs after a training, a file or a run that failed, and how it goes on."""

from __future__ import annotations

import gc
import shutil
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from freqai_lstm_plugins.freqai import retries
from freqai_lstm_plugins.freqai.panel import backtest, value
from freqai_lstm_plugins.freqai.panel.model import ALL_PAIRS
from tests.freqai.panel.bot import PanelRun
from tests.freqai.panel.test_bad_input import NET
from tests.freqai.panel.walk import (
    PAIRS,
    PANEL,
    backtest_pairs,
    make_market,
    panel_model,
    run_pairs,
)
from tests.freqai.walk import PER_DAY, weights

pytestmark = pytest.mark.filterwarnings(
    # freqtrade reads dates in a way that pandas will change.
    "ignore:Series.values returning:DeprecationWarning"
)

ADA, BTC, ETH = PAIRS
FIRST = 2 * PER_DAY
CONTINUAL = "freqai__continual_learning"
SAVES = "freqai__save_backtest_models"


@pytest.fixture(scope="module")
def market():
    return make_market(days=3)


def forget_newest_slice(folder: Path) -> None:
    """Leave a folder as a backtest leaves it that is ended before its last slice."""
    newest = max(folder.glob("models/test/backtesting_predictions/*_prediction.feather"))
    stamp = newest.name.split("_")[2]
    newest.unlink()
    for path in folder.glob(f"models/test/sub-train-*_{stamp}"):
        shutil.rmtree(path)


@pytest.mark.parametrize("panel", [{}, None], ids=["all pairs", "a net a pair"])
@pytest.mark.parametrize("is_saved", [True, False], ids=["saved", "not saved"])
def test_an_interrupted_backtest_learns_on_from_the_slice_before_or_says_that_it_cannot(
    tmp_path, caplog, panel, is_saved
):
    days = {BTC: make_market()[BTC]}
    changes = {CONTINUAL: True, SAVES: is_saved, PANEL: panel}
    whole, _ = backtest_pairs(tmp_path, days, **changes)
    assert "starts afresh" not in caplog.text
    learned = weights(tmp_path)
    forget_newest_slice(tmp_path)
    resumed, _ = backtest_pairs(tmp_path, days, **changes)
    same = resumed[BTC]["&-return"].equals(whole[BTC]["&-return"])
    assert same is is_saved
    assert ("continual learning starts afresh" in caplog.text) is not is_saved
    assert weights(tmp_path) == learned


def test_a_pair_without_a_model_lets_the_net_learn_on_all_the_same(tmp_path):
    """Catches a net that learns on from what the first pair has, and not from the net before."""
    days = make_market(pairs=(ADA, BTC))
    # It has too few candles to be predicted before the second slice.
    young = {BTC: days[BTC], ADA: days[ADA].iloc[FIRST - 8 :].reset_index(drop=True)}
    learned = []
    for order in ((ADA, BTC), (BTC, ADA)):
        folder = tmp_path / order[0][:3]
        backtest_pairs(folder, young, pairs=order, **{CONTINUAL: True})
        learned.append(weights(folder))
    assert len(learned[0]) == 2
    assert learned[0] == learned[1]


def failing(model, kept: list):
    """Let trainings fail once their rows are joined, and look whether these outlive them."""

    def fail(data, dk, **more):
        kept.append(weakref.ref(data["train_windows"].rows))
        raise RuntimeError("out of luck")

    return fail


def test_a_failed_slice_lets_go_of_its_rows_and_fails_for_each_pair(
    tmp_path, market, caplog, monkeypatch
):
    """caplog keeps what is logged with its tracebacks, as freqtrade does."""
    model, kept = panel_model(tmp_path, market), []
    monkeypatch.setattr(model, "fit", failing(model, kept))
    predicted = run_pairs(model, market)
    assert not any(found["do_predict"].any() for found in predicted.values())
    # The others need not try what failed once.
    assert len(kept) == 1
    assert "net of all pairs has failed in this slice. RuntimeError: out of luck" in caplog.text
    gc.collect()
    assert kept[0]() is None


def test_pairs_join_the_net_that_there_is_while_its_next_training_rests(
    tmp_path, market, caplog, monkeypatch
):
    # However long the rest takes here.
    monkeypatch.setattr(retries, "FIRST_PAUSE", retries.LONGEST_PAUSE)
    kept: list = []
    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        monkeypatch.setattr(bot.model, "fit", failing(bot.model, kept))
        for entry in bot.model.dd.pair_dict.values():
            entry["trained_timestamp"] -= 7 * 3600
        bot.wait(lambda: bot.model.retries.rests(ALL_PAIRS))
        gc.collect()
        assert kept[0]() is None
        bot.provider.whitelist.append(ETH)
        bot.candle(1, ETH)
        bot.wait(lambda: bot.served(*PAIRS))
        assert bot.model.retries.rests(ALL_PAIRS)
        bot.candle(1, ETH)
        assert bot.candle(0, ETH)["do_predict"].iloc[-1] == 1


def test_a_pair_that_cannot_join_lets_go_of_its_rows(tmp_path, market, caplog, monkeypatch):
    model, kept = panel_model(tmp_path, market), []

    def fail(net, facts, given):
        rows = market[ETH].copy()
        kept.append(weakref.ref(rows))
        raise RuntimeError("out of luck")

    monkeypatch.setattr(model, "_live_slice", lambda *_: None)
    monkeypatch.setattr(model, "join_pair", fail)
    model._let_others_join(SimpleNamespace(models={}, net=None, facts={}), [ETH], *[None] * 3)
    assert "Training ETH/USDT raised exception RuntimeError" in caplog.text
    gc.collect()
    assert kept[0]() is None


def test_files_that_vanish_are_written_again_and_any_pair_lends_the_net(tmp_path, market, caplog):
    with PanelRun(tmp_path, market) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(*PAIRS))
        lost = [*tmp_path.glob("models/test/sub-train-panel_*/cb_ada_*")]
        lost += tmp_path.glob("models/test/sub-train-panel_*/cb_panel_*")
        for path in lost:
            path.unlink()
        # As after a start, in which the first pair of all was not asked yet.
        bot.model.dd.model_dictionary.pop(ADA)
        assert not bot.candle(1, ADA)["do_predict"].any()
        assert caplog.text.count("Training ADA/USDT again, its saved model is unusable") == 1
        bot.wait(lambda: bot.served(*PAIRS))
        bot.candle(1, ADA)
        assert bot.candle(0, ADA)["do_predict"].iloc[-1] == 1
    assert all(path.is_file() for path in lost)


def test_the_first_pair_that_can_be_read_lends_the_net(tmp_path, market):
    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        first, second = bot.model.dd.pair_dict
        for path in tmp_path.glob(f"models/test/sub-train-panel_*/cb_{first[:3].lower()}_*"):
            path.unlink()
        lent = bot.model._served_by(bot.model.dd.pair_dict[second]["trained_timestamp"])
        assert lent.companion[0]["panel"]["pair"] == second


def test_a_net_of_ones_own_stands_in_memory_once_after_a_restart(tmp_path, market):
    folder = tmp_path / "freqaimodels"
    folder.mkdir()
    (folder / "MyNet.py").write_text(NET.replace("{n_features}", "n_features"))
    changes = {
        "freqaimodel": "MyNet",
        "freqaimodel_path": str(folder),
        "freqai__model_training_parameters__model_kwargs": {},
    }
    with PanelRun(tmp_path, market, pairs=(ADA, BTC), **changes) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
    with PanelRun(tmp_path, market, pairs=(ADA, BTC), **changes) as bot:
        for pair in (ADA, BTC):
            bot.candle(1, pair)
            assert bot.candle(0, pair)["do_predict"].iloc[-1] == 1
        nets = [bot.model.dd.model_dictionary[pair].net_ for pair in (ADA, BTC)]
        assert nets[0] is nets[1]


@pytest.fixture(scope="module")
def trained(market, tmp_path_factory):
    """A bot's folder after one training, and what it predicts for the newest candle."""
    folder = tmp_path_factory.mktemp("trained")
    with PanelRun(folder, market, pairs=(ADA, BTC)) as bot:
        bot.candle(1, BTC)
        bot.wait(lambda: bot.served(ADA, BTC))
        found = bot.candle(0, BTC)["&-return"].iloc[-1]
    # Trainings are told apart by their second.
    time.sleep(1)
    return folder, found


@pytest.mark.parametrize("n_written", range(3))
def test_a_kill_between_the_files_of_a_training_leaves_the_former_net(
    tmp_path, market, trained, caplog, monkeypatch, n_written
):
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    former = (tmp_path / "models/test/pair_dictionary.json").read_text()
    names = former.replace(str(trained[0]), str(tmp_path))
    (tmp_path / "models/test/pair_dictionary.json").write_text(names)
    written, write = [], value.write_companion

    def killed(*given):
        if len(written) == n_written:
            raise KeyboardInterrupt
        written.append(None)
        write(*given)

    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        for entry in bot.model.dd.pair_dict.values():
            entry["trained_timestamp"] -= 7 * 3600
        if n_written < 2:
            monkeypatch.setattr(value, "write_companion", killed)
        else:
            monkeypatch.setattr(bot.model.dd, "save_drawer_to_disk", killed)
            written += [None, None]
        with pytest.raises(KeyboardInterrupt):
            bot.model.train_now(BTC, bot.strategy)
    monkeypatch.undo()
    with PanelRun(tmp_path, market, pairs=(ADA, BTC)) as bot:
        assert "unusable" not in caplog.text
        found = bot.candle(0, BTC)["&-return"].iloc[-1]
    assert found == pytest.approx(trained[1], abs=1e-7)


def test_of_two_backtests_at_a_time_one_trains_a_slice_and_the_other_finds_it(
    tmp_path, market, caplog, monkeypatch
):
    """The other run goes through the slice while this one waits for the lock."""
    caplog.set_level("INFO")
    held, others = backtest.held, []

    @contextmanager
    def waiting(path):
        if not others:
            others.append(None)
            others.append(backtest_pairs(tmp_path, market)[0])
        with held(path):
            yield

    monkeypatch.setattr(backtest, "held", waiting)
    mine, _ = backtest_pairs(tmp_path, market)
    assert caplog.text.count("Done training one net for 3 pairs") == 1
    for pair in PAIRS:
        assert np.array_equal(mine[pair]["&-return"], others[1][pair]["&-return"], equal_nan=True)
