"""FreqAI's switch `plot_feature_importances`, in a backtest and in the bot."""

from __future__ import annotations

import logging
import re
import sys
from types import SimpleNamespace

import pytest
from freqtrade.configuration import TimeRange
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.freqai import importances
from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR, make_frame, make_kitchen, make_model
from tests.freqai.walk import TIMEFRAME, backtest

SWITCH = "freqai__feature_parameters__plot_feature_importances"


def train(model, frame, stamp=1):
    """Train as the bot's thread does, with candles that need no strategy."""
    kitchen = make_kitchen(model, frame)
    kitchen.set_paths(PAIR, stamp)
    model.dd.get_pair_dict_info(PAIR)
    model.dd.get_base_and_corr_dataframes = lambda *arguments: ({}, {})
    kitchen.use_strategy_to_populate_indicators = lambda *arguments, **options: frame
    dates = frame["date"]
    start, stop = (int(date.timestamp()) for date in (dates.iloc[0], dates.iloc[-1]))
    timerange = TimeRange("date", "date", start, stop)
    strategy = SimpleNamespace()
    model.extract_data_and_train_model(timerange, PAIR, strategy, kitchen, timerange)
    return kitchen


def bars(path):
    """Return the names of the features in a plot, as they are drawn."""
    found = re.findall(r'"y":\[("%-[^\]]*|"PC[^\]]*)\]', path.read_text(encoding="utf-8"))
    return [re.findall(r'"([^"]+)"', part) for part in found]


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_a_live_training_writes_a_plot_for_each_label(tmp_path, logged):
    pytest.importorskip("plotly")
    epochs = "freqai__model_training_parameters__trainer_kwargs__n_epochs"
    model = make_model(tmp_path, **{SWITCH: 2, epochs: 30})
    kitchen = train(model, make_frame(300, n_targets=2))
    plots = sorted(kitchen.data_path.glob("*.html"))
    assert [path.name for path in plots] == [
        f"{kitchen.model_filename}--target.html",
        f"{kitchen.model_filename}--target1.html",
    ]
    assert (kitchen.data_path / f"{kitchen.model_filename}_model.zip").is_file()
    best, worst = bars(plots[0])
    # Drawn from below, so that the first stands on top.
    assert best[-1] == "%-signal"
    assert len(best) == len(worst) == 2
    assert "%-signal" not in worst
    assert "does not support" not in logged.text


def test_a_backtest_writes_a_plot_for_each_training(tmp_path, logged):
    pytest.importorskip("plotly")
    candles = synthetic_market([PAIR], TIMEFRAME, 5 * 96, seed=3)[PAIR]
    backtest(tmp_path, candles, **{SWITCH: 3})
    models = sorted((tmp_path / "models" / "test").glob("sub-train-*/*_model.zip"))
    plots = sorted((tmp_path / "models" / "test").glob("sub-train-*/*--return.html"))
    assert len(plots) == len(models) > 1
    assert [plot.parent for plot in plots] == [path.parent for path in models]
    assert "does not support" not in logged.text


def test_a_pca_names_its_components(tmp_path):
    pytest.importorskip("plotly")
    switches = {"freqai__feature_parameters__principal_component_analysis": True, SWITCH: 2}
    kitchen = train(make_model(tmp_path, **switches), make_frame(300))
    (plot,) = kitchen.data_path.glob("*.html")
    assert all(name.startswith("PC") for name in bars(plot)[0])


@pytest.mark.parametrize("package", ["plotly", "captum.attr"])
def test_without_the_packages_training_goes_on_and_the_log_names_them(
    package, tmp_path, monkeypatch, logged
):
    monkeypatch.setitem(sys.modules, package, None)
    kitchen = train(make_model(tmp_path, **{SWITCH: 2}), make_frame(200))
    assert (kitchen.data_path / f"{kitchen.model_filename}_model.zip").is_file()
    assert not list(kitchen.data_path.glob("*.html"))
    assert "plot_feature_importances is left out" in logged.text
    assert "freqai_lstm_plugins[explain]" in logged.text


def test_a_plot_that_fails_breaks_no_training(tmp_path, monkeypatch, logged):
    def fail(*arguments):
        raise RuntimeError("no luck")

    monkeypatch.setattr(importances, "_importances", fail)
    kitchen = train(make_model(tmp_path, **{SWITCH: 2}), make_frame(200))
    assert (kitchen.data_path / f"{kitchen.model_filename}_model.zip").is_file()
    assert "plot_feature_importances failed, RuntimeError: no luck" in logged.text


def test_without_the_switch_nothing_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(importances, "_importances", None)
    kitchen = train(make_model(tmp_path), make_frame(200))
    assert isinstance(kitchen, FreqaiDataKitchen)
    assert not list(kitchen.data_path.glob("*.html"))
