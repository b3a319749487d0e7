from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.replay import ReplayExchange
from tests.e2e.bot import PAIRS, REPO, Bot, candles

pytestmark = pytest.mark.freqtrade


@pytest.fixture(scope="module")
def market():
    return candles()


@pytest.fixture(scope="module")
def changes(market):
    """Which candles are downloaded, and the last four days as what is backtested."""
    days = market[PAIRS[0]]["date"].dt.floor("D")
    start, stop = days.iloc[-1] - pd.Timedelta(days=4), days.iloc[-1]
    return {
        "timerange": f"{days.iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
        "lea_strategy": {"backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}"},
    }


@pytest.fixture
def bot(tmp_path, market, changes):
    with ReplayExchange(market, "5m") as exchange:
        bot = Bot(tmp_path, exchange, changes)
        bot.run("download-data")
        yield bot


def predictions(bot: Bot, coin: str) -> pd.DataFrame:
    files = sorted(bot.userdir.glob(f"models/*/backtesting_predictions/cb_{coin}_*.feather"))
    return pd.concat([pd.read_feather(path) for path in files], ignore_index=True)


def test_backtesting_trains_saves_predicts_and_the_next_run_loads(bot):
    output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor")
    assert "BACKTESTING REPORT" in output
    assert output.count("Done training") == len(bot.models()) == 4
    assert SequenceRegressor.load(bot.models()[0]).net_name == "lstm"
    first = predictions(bot, "eth")
    # Each slice begins with real context, so no candle of the backtest is without a prediction.
    assert len(first) == 4 * 288
    assert (first["do_predict"] == 1).all()
    assert (first["&-forward_return"] != 0).all()
    # Without the stored predictions the second run needs the models themselves.
    for folder in bot.userdir.glob("models/*/backtesting_predictions"):
        shutil.rmtree(folder)
    output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor", "--cache", "none")
    assert "Starting training" not in output
    assert output.count("Found model at") == 4
    pd.testing.assert_frame_equal(predictions(bot, "eth"), first)


@pytest.mark.slow
def test_a_damaged_backtest_model_is_trained_again(bot):
    bot.run("backtesting")
    for folder in bot.userdir.glob("models/*/backtesting_predictions"):
        shutil.rmtree(folder)
    damaged = bot.models()[0]
    damaged.write_bytes(damaged.read_bytes()[:1000])
    output = bot.run("backtesting", "--cache", "none")
    assert "again, its saved model is unusable" in output
    assert output.count("Done training") == 1
    SequenceRegressor.load(damaged)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("LeaGRURegressor", marks=pytest.mark.slow),
        "PyTorchMLPRegressor",
        "LightGBMRegressor",
        pytest.param("XGBoostRegressor", marks=pytest.mark.slow),
    ],
)
def test_one_config_serves_every_model(bot, model):
    output = bot.run("backtesting", "--freqaimodel", model)
    assert "BACKTESTING REPORT" in output
    assert (bot.userdir / "models" / f"lea-{model}").is_dir()
    assert "raised exception" not in output


def refusal(bot: Bot, *arguments: str) -> str:
    """Return what freqtrade says when it refuses to start; it is one line, without a traceback."""
    with bot.start("backtesting", *arguments) as child:
        assert child.process.wait(400) != 0
        output = child.output()
    assert "Traceback" not in output
    return output


def test_a_misspelt_setting_ends_with_one_line_and_no_traceback(bot):
    bot.configure({"freqai": {"model_training_parameters": {"learning_rat": 1}}})
    output = refusal(bot, "--freqaimodel", "LeaLSTMRegressor")
    assert "unknown setting 'learning_rat'. Did you mean 'learning_rate'?" in output


def test_a_misspelt_rule_of_the_strategy_ends_with_one_line(bot):
    bot.configure({"lea_strategy": {"interval_margn": 0.1}})
    assert "unknown key 'interval_margn'. Did you mean 'interval_margin'?" in refusal(bot)


def test_a_strategy_and_a_model_that_do_not_fit_end_with_one_line(bot):
    """A model of numbers with a strategy of classes, and the other way round."""
    output = refusal(bot, "--strategy", "LeaDirectionStrategy")
    assert "LeaDirectionStrategy needs classes, and LeaLSTMRegressor predicts numbers" in output
    output = refusal(bot, "--freqaimodel", "LightGBMClassifier")
    assert "LeaFreqAIStrategy needs numbers, and LightGBMClassifier predicts classes" in output


@pytest.mark.parametrize(
    "model", [pytest.param("LeaGRUClassifier", marks=pytest.mark.slow), "LightGBMClassifier"]
)
def test_the_installed_strategy_for_classes_takes_every_classifier(bot, model):
    # Trees know none of the settings of nets.
    if model.startswith("LightGBM"):
        bot.settings["freqai"]["model_training_parameters"] = {"n_estimators": 20, "verbosity": -1}
    bot.configure({"strategy": "LeaDirectionStrategy"})
    output = bot.run("backtesting", "--freqaimodel", model)
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    first = predictions(bot, "eth")
    assert (first["do_predict"] == 1).all()
    assert first["&-direction"].isin(["down", "flat", "up"]).all()


def test_a_classifier_gives_the_documented_strategy_its_classes(bot, changes):
    page = (REPO / "docs" / "freqai.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (strategy,) = (block for block in blocks if "class DirectionStrategy" in block)
    (bot.userdir / "strategies" / "DirectionStrategy.py").write_text(strategy)
    bot.configure({"freqai": {"identifier": "direction"}, "strategy": "DirectionStrategy"})
    timerange = changes["lea_strategy"]["backtest_timerange"]
    arguments = ["--freqaimodel", "LeaLSTMClassifier", "--timerange", timerange]
    output = bot.run("backtesting", *arguments)
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    classes = ["down", "flat", "up"]
    first = predictions(bot, "eth")
    assert {"&-direction", *classes} <= set(first)
    assert first["&-direction"].isin(classes).all()
    assert (first["do_predict"] == 1).all()
    assert ((first[classes].sum(axis=1) - 1).abs() < 1e-5).all()
    # The second run finds the predictions on disk.
    output = bot.run("backtesting", *arguments, "--cache", "none")
    assert "BACKTESTING REPORT" in output
    assert output.count("Found backtesting prediction file") == 4


def test_intervals_reach_the_strategy_that_asks_for_them(bot):
    training = {"trainer_kwargs": {"n_epochs": 2, "loss": "quantile", "interval": 0.5}}
    asked = {"interval_margin": 0.0}
    bot.configure({"lea_strategy": asked, "freqai": {"model_training_parameters": training}})
    output = bot.run("backtesting", "--freqaimodel", "LeaLSTMRegressor")
    assert "BACKTESTING REPORT" in output
    assert "raised exception" not in output
    assert "predicts no intervals" not in output
    first = predictions(bot, "eth")
    assert (first["do_predict"] == 1).all()
    label = first["&-forward_return"]
    assert (first["&-forward_return_lower"] <= label).all()
    assert (label <= first["&-forward_return_upper"]).all()
    # Quantiles of its own make each candle's interval as wide as it needs.
    width = first["&-forward_return_upper"] - first["&-forward_return_lower"]
    assert width.nunique() > len(first) / 2
