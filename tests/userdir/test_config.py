from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import pytest
import xgboost
from freqtrade.configuration import Configuration
from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException
from freqtrade.resolvers import StrategyResolver

from .conftest import CONFIG_FILE, ROOT, STRATEGY_FILE

SECTION = "lea_strategy"
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

    def load(model: str, runmode: RunMode = RunMode.BACKTEST, **args: Any) -> dict[str, Any]:
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


def test_a_config_without_freqai_is_one_line_that_says_where_to_begin(module, config):
    del config["freqai"]
    with pytest.raises(OperationalException, match=r"lacks 'freqai' of .* config-lea.json"):
        _ = module.LeaFreqAIStrategy(config).horizon


def test_the_configuration_names_no_dates():
    assert not re.findall(r"20[0-9]{6}", CONFIG_FILE.read_text())


@pytest.fixture
def dated(tmp_path) -> Path:
    """A config of one's own with a range to download and one to backtest."""
    path = tmp_path / "dated.json"
    ranges = {"timerange": "20250720-20251001", SECTION: {"backtest_timerange": "20250901-"}}
    path.write_text(json.dumps(ranges))
    return path


def test_a_backtest_takes_the_range_of_the_section(load, dated):
    assert load("LightGBMRegressor", config=[str(CONFIG_FILE), str(dated)])["timerange"] == (
        "20250901-"
    )


def test_a_timerange_on_the_command_line_goes_first(load, dated):
    config = load(
        "LightGBMRegressor", config=[str(CONFIG_FILE), str(dated)], timerange="20250905-20250912"
    )
    assert config["timerange"] == "20250905-20250912"


def test_outside_a_backtest_the_timerange_names_the_candles(load, dated):
    config = load("LightGBMRegressor", RunMode.DRY_RUN, config=[str(CONFIG_FILE), str(dated)])
    assert config["timerange"] == "20250720-20251001"


def test_a_backtest_of_the_bots_own_predictions_keeps_their_range(module, config):
    config["runmode"] = RunMode.BACKTEST
    config["freqai_backtest_live_models"] = True
    del config["timerange"]
    config[SECTION]["backtest_timerange"] = "20250901-"
    module.LeaFreqAIStrategy(config)
    assert "timerange" not in config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"interval_margn": 0.1}, "unknown key 'interval_margn'. Did you mean 'interval_margin'?"),
        ({"unheard_of": 1}, "unknown key 'unheard_of'. Known keys: fee, slippage, interval_margin"),
        ({"interval_margin": "0.1"}, "lea_strategy.interval_margin must be a number, not '0.1'"),
        ({"fee": True}, "lea_strategy.fee must be a number, not True"),
        ([], "lea_strategy must be a section of keys, not []"),
    ],
)
def test_a_wrong_key_of_the_section_is_refused_in_one_line(module, config, section, message):
    config[SECTION] = section
    with pytest.raises(OperationalException, match=re.escape(message)) as error:
        module.LeaFreqAIStrategy(config)
    assert "\n" not in str(error.value)


def test_all_timeframes_that_features_need_are_downloaded():
    config = json.loads(CONFIG_FILE.read_text())
    assert config["timeframes"] == config["freqai"]["feature_parameters"]["include_timeframes"]


def test_the_configuration_is_a_dry_run_without_secrets():
    config = json.loads(CONFIG_FILE.read_text())
    assert config["dry_run"] is True
    assert not {"key", "secret", "password"} & config["exchange"].keys()
    assert not config.get("telegram", {}).get("enabled", False)
    assert not config.get("api_server", {}).get("enabled", False)


STRATEGIES = [
    "LeaAlpha158Strategy",
    "LeaDirectionStrategy",
    "LeaFreqAIStrategy",
    "LeaLongShortStrategy",
]
SOURCES = sorted(path.name for path in (ROOT / "freqai_lstm_plugins/freqaimodels").glob("*.py"))


@pytest.mark.parametrize(
    ("link", "source"),
    [
        ("config.json", "userdir/config.json"),
        *((f"strategies/{name}.py", f"userdir/strategies/{name}.py") for name in STRATEGIES),
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
def test_freqtrade_finds_the_strategies_in_user_data(tmp_path):
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
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert set(STRATEGIES) <= set(result.stdout.split())
