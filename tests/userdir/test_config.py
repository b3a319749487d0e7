from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import pytest
import xgboost
from freqtrade.configuration import Configuration, TimeRange
from freqtrade.enums import RunMode
from freqtrade.resolvers import StrategyResolver

from .conftest import CONFIG_FILE, ROOT, STRATEGY_FILE

USER_DATA = ROOT / "user_data"
MODELS = [
    "LeaLSTMRegressor",
    "LeaGRURegressor",
    "PyTorchMLPRegressor",
    "LightGBMRegressor",
    "XGBoostRegressor",
]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Read the shipped configuration as freqtrade does, and let the strategy settle it."""

    def load(model: str, runmode: RunMode = RunMode.BACKTEST, **args: str) -> dict[str, Any]:
        arguments = {
            "config": [str(CONFIG_FILE)],
            # freqtrade fills the user directory with folders, so it gets one of its own.
            "user_data_dir": str(tmp_path),
            "strategy_path": str(STRATEGY_FILE.parent),
            "freqaimodel": model,
            **args,
        }
        config = Configuration(arguments, runmode).get_config()
        StrategyResolver.load_strategy(config)
        return config

    return load


@pytest.mark.parametrize("model", MODELS)
def test_one_configuration_serves_every_model(load, model):
    config = load(model)
    assert config["freqai"]["identifier"] == f"lea-{model}"
    parameters = config["freqai"]["model_training_parameters"]
    is_net = model.startswith(("Lea", "PyTorch"))
    assert ("trainer_kwargs" in parameters) == is_net


def test_the_trees_know_every_parameter_that_they_are_given():
    given = json.loads(CONFIG_FILE.read_text())["lea_strategy"]["model_training_parameters"]
    known = {
        "LightGBMRegressor": {*lightgbm.LGBMRegressor().get_params(), "verbosity"},
        "XGBoostRegressor": set(xgboost.XGBRegressor().get_params()),
    }
    assert given.keys() == known.keys()
    for model, parameters in given.items():
        assert set(parameters) <= known[model]


def test_the_nets_of_the_package_accept_their_parameters(load):
    settings = pytest.importorskip("freqai_lstm_plugins.freqai.settings")
    found = settings.read_settings(load("LeaLSTMRegressor"), "lstm")
    assert found.window == 24
    assert found.label_period == 24


def test_the_bias_checkers_empty_the_folder_that_they_then_use(load):
    """They empty the one that the file names: under another name they would find old results."""
    written = json.loads(CONFIG_FILE.read_text())["freqai"]["identifier"]
    found = load("LightGBMRegressor", RunMode.UTIL_NO_EXCHANGE)
    assert found["freqai"]["identifier"] == written == "lea-{freqaimodel}"
    assert "n_estimators" in found["freqai"]["model_training_parameters"]


def test_an_identifier_without_the_placeholder_stays(module, config):
    config["freqai"]["identifier"] = "mine"
    config["freqaimodel"] = "LightGBMRegressor"
    module.LeaFreqAIStrategy(config)
    assert config["freqai"]["identifier"] == "mine"


def test_a_second_strategy_on_the_same_configuration_changes_nothing(module, config):
    config["freqaimodel"] = "XGBoostRegressor"
    module.LeaFreqAIStrategy(config)
    settled = json.dumps(config["freqai"])
    module.LeaFreqAIStrategy(config)
    assert json.dumps(config["freqai"]) == settled


def test_the_strategy_loads_without_its_own_section_and_without_freqai(module, config):
    for key in ("lea_strategy", "freqai", "freqaimodel", "original_config"):
        del config[key]
    assert module.LeaFreqAIStrategy(config).costs > 0


def test_a_backtest_leaves_room_for_training(load):
    written = json.loads(CONFIG_FILE.read_text())
    candles = TimeRange.parse_timerange(written["timerange"])
    tested = TimeRange.parse_timerange(load("LightGBMRegressor")["timerange"])
    history = (tested.startts - candles.startts) / 86400
    # 200 startup candles of an hour are 8.3 days.
    assert history >= written["freqai"]["train_period_days"] + 200 / 24
    assert tested.stopts == candles.stopts


def test_a_timerange_on_the_command_line_goes_first(load):
    config = load("LightGBMRegressor", timerange="20250905-20250912")
    assert config["timerange"] == "20250905-20250912"


def test_outside_a_backtest_the_timerange_names_the_candles(load):
    written = json.loads(CONFIG_FILE.read_text())
    config = load("LightGBMRegressor", RunMode.DRY_RUN)
    assert config["timerange"] == written["timerange"]


def test_all_timeframes_that_features_need_are_downloaded():
    config = json.loads(CONFIG_FILE.read_text())
    assert config["timeframes"] == config["freqai"]["feature_parameters"]["include_timeframes"]


def test_the_configuration_is_a_dry_run_without_secrets():
    config = json.loads(CONFIG_FILE.read_text())
    assert config["dry_run"] is True
    assert not {"key", "secret", "password"} & config["exchange"].keys()
    assert not config.get("telegram", {}).get("enabled", False)
    assert not config.get("api_server", {}).get("enabled", False)


SOURCES = sorted(path.name for path in (ROOT / "freqai_lstm_plugins/freqaimodels").glob("*.py"))


@pytest.mark.parametrize(
    ("link", "source"),
    [
        ("config.json", "userdir/config.json"),
        ("strategies/LeaFreqAIStrategy.py", "userdir/strategies/LeaFreqAIStrategy.py"),
        *((f"freqaimodels/{name}", f"freqaimodels/{name}") for name in SOURCES),
    ],
)
def test_user_data_links_to_the_one_source(link, source):
    path = USER_DATA / link
    assert path.is_symlink()
    assert not path.readlink().is_absolute()
    assert path.resolve() == ROOT / "freqai_lstm_plugins" / source
    assert path.is_file()


@pytest.mark.freqtrade
def test_freqtrade_finds_the_strategy_in_user_data(tmp_path):
    program = Path(sys.executable).with_name("freqtrade")
    result = subprocess.run(
        [
            program,
            "list-strategies",
            "--userdir",
            tmp_path,
            "--strategy-path",
            "user_data/strategies",
            "-1",
            "--no-color",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "LeaFreqAIStrategy" in result.stdout.splitlines()
