"""The installed config of the ensemble, word for word as the docs say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.names import ENSEMBLE_CONFIG_NAME
from freqai_lstm_plugins.replay import ReplayExchange
from freqai_lstm_plugins.replay.demo import merge
from tests.e2e.bot import LIVE, PAIRS, SMALL, Bot, candles, has_trained_all, live_exchange
from tests.e2e.test_backtesting import predictions

pytestmark = pytest.mark.freqtrade
pytest.importorskip("lightgbm")

LABEL = "&-forward_return"
MEMBERS = ("lstm", "lightgbm", "ridge")


def shrink(bot: Bot) -> None:
    """Take the installed config of the ensemble, with members that are trained fast."""
    settings = json.loads((bot.userdir / ENSEMBLE_CONFIG_NAME).read_text())
    small = {name: value for name, value in SMALL["freqai"].items() if "model" not in name}
    merge(settings, {"freqai": small})
    given = settings["freqai"]["model_training_parameters"]
    given["model_kwargs"]["members"]["lstm"]["hidden_dim"] = 8
    given["model_kwargs"]["members"]["lightgbm"]["n_estimators"] = 20
    given["trainer_kwargs"]["n_epochs"] = 2
    bot.settings = settings


def test_backtesting_with_the_installed_config_weighs_and_shows_the_members(tmp_path):
    market = candles()
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, {})
        shrink(bot)
        bot.configure(
            {
                "timerange": f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
                "lea_strategy": {
                    "backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}",
                    "max_disagreement": 5.0,
                },
            }
        )
        bot.run("download-data")
        output = bot.run("backtesting", "--freqaimodel", "LeaEnsembleRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert "shows no disagreement" not in output
    assert output.count("Done training") == len(bot.models()) == 4
    first = predictions(bot, "eth")
    assert (first["do_predict"] == 1).all()
    weights = first[[f"{LABEL}_w_{member}" for member in MEMBERS]]
    assert ((weights.sum(axis=1) - 1).abs() < 1e-9).all()
    assert first[f"{LABEL}_disagreement"].gt(0).any()
    fitted = load_model(bot.models()[0]).require_fitted()
    assert [member.name for member in fitted.members] == list(MEMBERS)
    assert fitted.weighed[0].n_rows > 100


FOLLOWING = {
    "combine": "dynamic",
    "interval": 0.8,
    # So that weights move within the few candles of a test.
    "rates": [1.0],
    "half_lives": [5],
}
RECORDER = """
import json

from LeaFreqAIStrategy import LeaFreqAIStrategy


class RecordingStrategy(LeaFreqAIStrategy):
    def populate_indicators(self, dataframe, metadata):
        dataframe = super().populate_indicators(dataframe, metadata)
        names = [name for name in dataframe if name.startswith("&-") or name == "do_predict"]
        row = dataframe.iloc[-1]
        seen = {name: float(row[name]) for name in names}
        seen |= {"pair": metadata["pair"], "date": row["date"].isoformat()}
        with (self.config["user_data_dir"] / "seen.jsonl").open("a") as stream:
            stream.write(json.dumps(seen) + "\\n")
        return dataframe
"""


def following_bot(folder: Path, exchange: ReplayExchange) -> Bot:
    """Return a bot whose weights follow labels, and which writes down what its strategy sees."""
    bot = Bot(folder, exchange, {})
    shrink(bot)
    changes = {**LIVE, "strategy": "RecordingStrategy", "dry_run": True}
    bot.configure({**changes, "db_url": f"sqlite:///{folder / 'trades.sqlite'}"})
    parameters = {"label_period_candles": 2}
    kwargs = {"model_kwargs": FOLLOWING}
    bot.configure(
        {"freqai": {"feature_parameters": parameters, "model_training_parameters": kwargs}}
    )
    (bot.userdir / "strategies" / "RecordingStrategy.py").write_text(RECORDER)
    return bot


def seen_by(bot: Bot) -> pd.DataFrame:
    """Return what the strategy saw of the newest candle each time, by pair and candle."""
    place = bot.userdir / "seen.jsonl"
    # A bot that writes this moment ends its line later.
    lines = place.read_text().split("\n")[:-1] if place.is_file() else []
    nothing = {"pair": "", "date": "", "do_predict": 0}
    table = pd.DataFrame([nothing, *map(json.loads, lines)])
    # freqtrade marks the candle of its first prediction after a start as not predicted.
    table = table[table["do_predict"] == 1]
    return table.drop_duplicates(["pair", "date"], keep="last").set_index(["pair", "date"])


def has_seen_more(bot: Bot) -> Callable[[str], bool]:
    """Return what tells whether the strategy has seen a predicted candle more of each pair."""

    def count() -> pd.Series:
        return seen_by(bot).groupby("pair").size().reindex(PAIRS, fill_value=0)

    before = count()
    return lambda _: bool((count() > before).all())


@pytest.mark.slow
def test_a_dry_run_killed_at_three_candles_goes_on_as_if_it_had_not_been(tmp_path):
    """Catches weights that depend on what a process remembers."""
    with live_exchange() as exchange:
        whole = following_bot(tmp_path / "whole", exchange)
        broken = following_bot(tmp_path / "broken", exchange)
        model = ("--freqaimodel", "LeaEnsembleRegressor")
        with whole.start("trade", "--dry-run", *model) as unbroken:
            unbroken.wait_for(has_trained_all, "the first training", 300)
            # Both have the same models, and the second never trains.
            shutil.copytree(whole.userdir / "models", broken.userdir / "models")
            for path in broken.userdir.glob("models/*/pair_dictionary.json"):
                path.write_text(path.read_text().replace(str(whole.userdir), str(broken.userdir)))
            unbroken.wait_for(has_seen_more(whole), "a predicted candle of each pair", 300)
            restarts = []
            for _ in range(3):
                with broken.start("trade", "--dry-run", *model) as child:
                    more = has_seen_more(broken)
                    output = child.wait_for(more, "a predicted candle of each pair", 300)
                    child.kill()
                assert "Starting training" not in output
                restarts.append(seen_by(broken).index[-1])
            with broken.start("trade", "--dry-run", *model) as child:
                child.wait_for(has_seen_more(broken), "a candle after the last kill", 300)
            # The other bot may be at that candle yet.
            last = seen_by(broken).index[-1][1]
            unbroken.wait_for(
                lambda _: (seen_by(whole).reset_index()["date"] == last).sum() == len(PAIRS),
                "the last candle of each pair",
                400,
            )
            assert "raised exception" not in unbroken.output()
    one, other = seen_by(whole), seen_by(broken)
    common = one.index.intersection(other.index)
    # A candle after each start at least, of each pair.
    assert len(common) >= 4 * len(PAIRS)
    assert len(set(restarts)) == 3
    assert set(restarts) <= set(common)
    names = [name for name in one if name.startswith("&-")]
    assert {f"{LABEL}_w_{member}" for member in MEMBERS} <= set(names)
    pd.testing.assert_frame_equal(
        one.loc[common, names], other.loc[common, names], rtol=0, atol=1e-6
    )
    moved = one.loc[common, [f"{LABEL}_w_{member}" for member in MEMBERS]].std()
    assert moved.max() > 1e-3
