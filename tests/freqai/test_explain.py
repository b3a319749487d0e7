"""`freqai-lstm explain` on models that FreqAI saved, with the package's own strategy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins import cli
from freqai_lstm_plugins.errors import ConfigError, DataError, MismatchError, NotACheckpointError
from freqai_lstm_plugins.freqai import explain as module
from freqai_lstm_plugins.freqai.explain import explain_file, write_results
from freqai_lstm_plugins.freqai.offline import (
    choose_span,
    load_strategy,
    make_features,
    new_kitchen,
    read_config,
)
from tests.freqai.saved import PAIRS, load_model, make_userdir, save_model
from tests.freqai.test_own_net import OWN_MODEL

MODELS = ("LeaLSTMRegressor", "LeaTFTRegressor", "LightGBMRegressor", "XGBoostRegressor")


@pytest.fixture(scope="module")
def userdir(tmp_path_factory):
    return make_userdir(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def saved(userdir):
    """A saved model of each kind, made once."""
    files = {}

    def get(name):
        if name not in files:
            files[name] = save_model(userdir, name, freqai={"identifier": name})
        return files[name]

    return get


@pytest.fixture
def changed(userdir):
    """Write a config with a few changes beside the installed one."""

    def write(**changes):
        config = json.loads((userdir / "config-lea.json").read_text())
        config["freqai"]["feature_parameters"] |= changes.pop("features", {})
        path = userdir / "changed.json"
        path.write_text(json.dumps(config | changes))
        return [path]

    return write


def call(*arguments, cwd):
    command = [sys.executable, "-m", "freqai_lstm_plugins.cli", "explain", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=cwd
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_explained_on_the_newest_candles(name, saved, userdir):
    found = explain_file(saved(name), userdir=userdir, max_windows=40)
    explanation = found.explanation
    assert found.pair == PAIRS[0]
    assert explanation.target == "&-forward_return"
    assert explanation.is_exact()
    assert "%-volume-zscore-period_10_BTC/USDT_5m" in explanation.importance.index
    assert explanation.importance.shape[1] == (8 if name.startswith("Lea") else 1)
    candles = pd.read_feather(userdir / "data" / "binance" / "BTC_USDT-5m.feather")
    assert list(found.dates) == list(candles["date"].iloc[-40:])


SMALL_ENSEMBLE = {
    "model_kwargs": {
        "members": {
            "lstm": {"hidden_dim": 4, "n_layer": 1},
            "lightgbm": {"n_estimators": 10, "lags": [0, 1]},
            "ridge": {},
        },
        "folds": 1,
    },
    "trainer_kwargs": {"n_epochs": 1, "num_threads": 1},
}


def test_a_saved_ensemble_is_explained_by_the_command(userdir, tmp_path):
    replace = {"freqai": {"model_training_parameters": SMALL_ENSEMBLE}}
    name = "LeaEnsembleRegressor"
    file = save_model(userdir, name, replace=replace, freqai={"identifier": name})
    result = call(
        str(file), "--candles", "20", "--out", str(tmp_path / "x.png"), cwd=userdir.parent
    )
    assert result.returncode == 0, result.stderr
    assert "&-forward_return of BTC/USDT by ensemble" in result.stdout
    assert "20 candles from" in result.stdout
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    found = explain_file(file, userdir=userdir, max_windows=20).explanation
    assert found.is_exact()
    assert found.importance.shape[1] == 8
    with pytest.raises(ConfigError, match="is a number: it has no classes"):
        explain_file(file, userdir=userdir, label_class="up")


def test_the_explained_windows_are_those_that_the_bot_predicts_from(saved, userdir, monkeypatch):
    """Catches another order of features, another scaling, and windows that end elsewhere."""
    name, seen = "LeaLSTMRegressor", {}

    def keep_windows(model, rows, ends, **options):
        has_window = np.zeros(len(rows), dtype=bool)
        has_window[ends.numpy()] = True
        seen["outputs"] = model.predict_rows(rows.numpy(), has_window)[has_window]
        return real_explain(model, rows, ends, **options)

    def keep_frame(*arguments):
        seen["frame"] = real_features(*arguments)
        return seen["frame"]

    real_explain, real_features = module.explain_fitted, module.make_features
    monkeypatch.setattr(module, "explain_fitted", keep_windows)
    monkeypatch.setattr(module, "make_features", keep_frame)
    found = explain_file(saved(name), userdir=userdir, max_windows=20)

    bot = load_model(userdir, name, freqai={"identifier": name}).freqai
    kitchen = FreqaiDataKitchen(bot.config, live=True, pair=PAIRS[0])
    bot.model = bot.dd.load_data(PAIRS[0], kitchen)
    predicted, do_predict = bot.predict(seen["frame"], kitchen)
    assert list(seen["frame"]["date"].iloc[-20:]) == list(found.dates)
    assert do_predict[-20:].all()
    outputs = pd.DataFrame(seen["outputs"], columns=kitchen.label_list)
    expected, _, _ = kitchen.label_pipeline.inverse_transform(outputs)
    np.testing.assert_allclose(predicted.iloc[-20:], expected, atol=1e-6)


# One candle in a hundred of the last day, on which nothing was trained, is far from all others.
SPIKES = """
        number = dataframe["date"].astype("int64") // 300_000
        is_new = dataframe["date"] >= "2025-12-31"
        dataframe["%-spike"] = number % 7 + 1000.0 * (is_new & (number % 100 == 0))
        return dataframe
"""


def test_outliers_are_context_in_the_explained_windows_as_in_the_bots(tmp_path):
    """Catches a rule of its own, by which an outlier breaks every window that holds it."""
    userdir = make_userdir(tmp_path, freqai={"feature_parameters": {"DI_threshold": 5.0}})
    place = userdir / "strategies" / "LeaFreqAIStrategy.py"
    last = '["%-weekday-cos"] = np.cos(2 * np.pi * week)'
    text, more = place.read_text().split(f"{last}\n        return dataframe\n")
    place.write_text(f"{text}{last}{SPIKES}{more}")
    file = save_model(userdir, "LeaLSTMRegressor")
    found = explain_file(file, userdir=userdir, timerange="20251231-", max_windows=1000)

    bot = load_model(userdir, "LeaLSTMRegressor").freqai
    config = read_config(userdir)
    strategy = load_strategy(config)
    span = choose_span(config, PAIRS[0], None, 288 + 7)
    frame = make_features(new_kitchen(config, PAIRS[0]), strategy, span)
    kitchen = FreqaiDataKitchen(bot.config, live=True, pair=PAIRS[0])
    bot.model = bot.dd.load_data(PAIRS[0], kitchen)
    _, do_predict = bot.predict(frame, kitchen)
    is_last_day = frame["date"] >= "2025-12-31"
    assert list(found.dates) == list(frame["date"][is_last_day & (do_predict == 1)])
    assert len(found.dates) in (288 - 2, 288 - 3)


def test_a_range_of_time_is_explained_where_it_is_asked_for(saved, userdir):
    found = explain_file(
        saved("LightGBMRegressor"), userdir=userdir, timerange="20251229-20251230", max_windows=9
    )
    assert found.dates[-1] == pd.Timestamp("2025-12-29 23:55", tz="UTC")
    assert len(found.dates) == 9


def test_explaining_changes_no_file_of_the_user(saved, userdir):
    file = saved("LightGBMRegressor")
    before = {path: path.stat().st_mtime_ns for path in userdir.rglob("*") if path.is_file()}
    explain_file(file, userdir=userdir, max_windows=5)
    after = {path: path.stat().st_mtime_ns for path in userdir.rglob("*") if path.is_file()}
    assert {
        path
        for path in after.keys() | before.keys()
        if "__pycache__" not in path.parts and after.get(path) != before.get(path)
    } == set()


def test_a_net_of_the_users_own_is_built_by_its_model_class(tmp_path):
    userdir = make_userdir(tmp_path)
    (userdir / "freqaimodels" / "MyOwnLSTM.py").write_text(OWN_MODEL)
    parameters = {"model_kwargs": {"width": 5}, "trainer_kwargs": {"n_epochs": 1}}
    file = save_model(
        userdir, "MyOwnLSTM", replace={"freqai": {"model_training_parameters": parameters}}
    )
    found = explain_file(file, userdir=userdir, max_windows=10)
    assert found.model == "MyOwnLSTM"
    assert found.explanation.moved > 0
    (userdir / "freqaimodels" / "MyOwnLSTM.py").unlink()
    with pytest.raises(ConfigError, match="Impossible to load FreqaiModel 'MyOwnLSTM'"):
        explain_file(file, userdir=userdir)


def test_features_behind_a_pca_bear_its_names(tmp_path):
    parameters = {"principal_component_analysis": True}
    userdir = make_userdir(tmp_path, freqai={"feature_parameters": parameters})
    found = explain_file(save_model(userdir, "LeaGRURegressor"), userdir=userdir, max_windows=10)
    assert all(str(name).startswith("PC") for name in found.explanation.importance.index)


def test_the_command_prints_a_table_and_writes_picture_and_csv(saved, userdir, tmp_path):
    file = saved("LeaTFTRegressor")
    result = call(
        str(file),
        "--candles",
        "20",
        "--top",
        "3",
        "--csv",
        str(tmp_path / "t.csv"),
        "--out",
        str(tmp_path / "heat.png"),
        cwd=userdir.parent,
    )
    assert result.returncode == 0, result.stderr
    assert "&-forward_return of BTC/USDT by tft" in result.stdout
    assert "20 candles from 2025-12-31 22:20 to 2025-12-31 23:55 UTC" in result.stdout
    table = pd.read_csv(tmp_path / "t.csv")
    assert [name for name in table["feature"] if name in result.stdout] == list(
        table["feature"][:3]
    )
    assert table["share"].sum() == pytest.approx(1)
    assert list(table.columns[-2:]) == ["lag_1", "lag_0"]
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    assert "WARNING" not in result.stderr


def test_an_error_of_the_command_is_one_line_and_leaves_no_file(
    saved, userdir, tmp_path, monkeypatch, capsys
):
    file, picture = str(saved("LightGBMRegressor")), str(tmp_path / "heat.png")
    range_without_candles = ["--timerange", "20200101-20200102"]
    arguments = ["explain", file, "--out", picture, *range_without_candles]
    monkeypatch.chdir(userdir.parent)
    monkeypatch.setattr(sys, "argv", ["freqai-lstm", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert "no candles of BTC/USDT 5m in the timerange 20200101-20200102" in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_model_are_looked_for(saved, userdir, tmp_path):
    file = saved("LeaLSTMRegressor")
    with pytest.raises(NotACheckpointError, match=r"There is no model file .*nothing\.zip"):
        explain_file(tmp_path / "nothing.zip", userdir=userdir)
    with pytest.raises(NotACheckpointError, match=r"those of FreqAI end in _model\.zip"):
        explain_file(userdir / "config-lea.json", userdir=userdir)
    alone = shutil.copy(file, tmp_path / "model.zip")
    with pytest.raises(NotACheckpointError, match=r"explain\(load_model\('model\.zip'\), X\)"):
        explain_file(Path(alone), userdir=userdir)
    copy = Path(shutil.copytree(file.parent, tmp_path / "copy"))
    (copy / file.name.replace("model.zip", "label_pipeline.pkl")).unlink()
    with pytest.raises(NotACheckpointError, match=r"no cb_btc_\d+_label_pipeline\.pkl beside"):
        explain_file(copy / file.name, userdir=userdir)


def test_a_damaged_pickle_is_told(saved, userdir, tmp_path):
    file = saved("LightGBMRegressor")
    copy = Path(shutil.copytree(file.parent, tmp_path / "copy"))
    (copy / file.name).write_bytes(file.read_bytes()[:100])
    with pytest.raises(NotACheckpointError, match="the model or its pipelines cannot be loaded"):
        explain_file(copy / file.name, userdir=userdir)


def test_a_model_of_another_timeframe_is_told(saved, userdir, changed):
    config = changed(timeframe="15m", features={"include_timeframes": ["15m"]})
    with pytest.raises(MismatchError, match=r"candles of 5 minutes, and the timeframe .* is 15m"):
        explain_file(saved("LeaLSTMRegressor"), userdir=userdir, configs=config)


def test_a_strategy_with_other_features_is_told(saved, userdir, changed):
    config = changed(features={"indicator_periods_candles": [11]})
    with pytest.raises(
        MismatchError, match=r"LeaFreqAIStrategy makes other features .* missing %-"
    ):
        explain_file(saved("LightGBMRegressor"), userdir=userdir, configs=config)


WRONG = [
    ({"pair": "XRP/USDT"}, DataError, "no candles of XRP/USDT 5m"),
    ({"strategy": "Nothing"}, ConfigError, "Impossible to load Strategy 'Nothing'"),
    ({"userdir": Path("nowhere")}, ConfigError, "no user directory nowhere"),
    ({"datadir": Path("nowhere")}, ConfigError, "no folder of candles nowhere"),
    ({"configs": [Path("nothing.json")]}, ConfigError, "nothing.json"),
    ({"timerange": "today"}, ConfigError, "Incorrect syntax for timerange"),
    ({"target": "&-other"}, ConfigError, "target '&-other' is none of the model's"),
    ({"label_class": "up"}, ConfigError, "it has no classes|is a number"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_a_wrong_argument_is_named(arguments, error, message, saved, userdir):
    with pytest.raises(error, match=message):
        explain_file(saved("LightGBMRegressor"), **{"userdir": userdir, **arguments})


def test_a_pair_that_the_name_does_not_tell_is_asked_for(saved, userdir, changed):
    config = changed(exchange={"name": "binance", "pair_whitelist": ["ETH/USDT"]})
    with pytest.raises(
        ConfigError, match=r"Which pair is 'cb_btc_\d+' of\? .* Name it with --pair"
    ):
        explain_file(saved("LightGBMRegressor"), userdir=userdir, configs=config)


def test_a_strategy_that_fails_is_named(saved, userdir):
    broken = (userdir / "strategies" / "LeaFreqAIStrategy.py").read_text()
    broken = broken.replace("LeaFreqAIStrategy", "Broken").replace(
        "one_candle = returns(dataframe)\n        moves", "one_candle = 1 / 0\n        moves"
    )
    (userdir / "strategies" / "Broken.py").write_text(broken)
    with pytest.raises(ConfigError, match=r"Broken failed to make the features .*ZeroDivision"):
        explain_file(saved("LightGBMRegressor"), userdir=userdir, strategy="Broken")


def test_a_picture_that_cannot_be_written_is_told(saved, userdir, tmp_path):
    found = explain_file(saved("LightGBMRegressor"), userdir=userdir, max_windows=5)
    with pytest.raises(ConfigError, match=r"Cannot draw .*x\.abc"):
        write_results(found, 3, tmp_path / "x.abc", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot write the results"):
        write_results(found, 3, tmp_path / "file" / "x.png", None)


@pytest.mark.parametrize("name", ["LeaGRUClassifier", "LightGBMClassifier", "XGBoostClassifier"])
def test_a_class_of_a_saved_classifier_is_explained(name, tmp_path):
    userdir = make_userdir(tmp_path)
    place = userdir / "strategies" / "LeaFreqAIStrategy.py"
    numbers = "dataframe[LABEL] = target.clip(-LABEL_CLIP, LABEL_CLIP)"
    classes = (
        'self.freqai.class_names = ["down", "up"]\n        dataframe[LABEL] = '
        '(target > 0).map({True: "up", False: "down"}).astype(object).mask(target.isna())'
    )
    text = place.read_text()
    assert numbers in text
    place.write_text(text.replace(numbers, classes))
    trees = {"model_training_parameters": {"n_estimators": 10, "n_jobs": 1}}
    replace = None if name.startswith("Lea") else {"freqai": trees}
    file = save_model(userdir, name, replace=replace)
    up, down = (
        explain_file(file, userdir=userdir, max_windows=10, label_class=label).explanation
        for label in (None, "down")
    )
    assert up.target == "&-forward_return = up"
    assert down.target == "&-forward_return = down"
    np.testing.assert_allclose(up.direction, -down.direction, atol=1e-5)
    with pytest.raises(ConfigError, match="label_class 'flat' is none of the model's: down, up"):
        explain_file(file, userdir=userdir, max_windows=10, label_class="flat")
