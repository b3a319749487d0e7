from __future__ import annotations

import json
from pathlib import Path

import pytest

from freqai_lstm_plugins import install as installing
from freqai_lstm_plugins.errors import UserDirError
from freqai_lstm_plugins.install import LONGER, RECORD, install, template_files

REPO = Path(__file__).parents[1]


def states(files):
    return {file.path.name: file.state for file in files}


def test_every_file_is_written_into_a_directory_that_did_not_exist(tmp_path):
    files = install(tmp_path / "new" / "user_data")
    assert set(states(files)) == {
        "LeaLSTMRegressor.py",
        "LeaGRURegressor.py",
        "LeaALSTMRegressor.py",
        "LeaTFTRegressor.py",
        "LeaEnsembleRegressor.py",
        "LeaLSTMClassifier.py",
        "LeaGRUClassifier.py",
        "LeaAlpha158Strategy.py",
        "LeaDirectionStrategy.py",
        "LeaFreqAIStrategy.py",
        "LeaLongShortStrategy.py",
        "config-lea.json",
        "config-lea-ensemble.json",
    }
    for (source, _), file in zip(template_files(), files, strict=True):
        if source != installing.ENSEMBLE:
            assert file.path.read_text() == source.read_text()


@pytest.mark.parametrize("market", [{}, {"pairs": ["A/B:B"], "timeframe": "1h"}])
def test_the_config_of_the_ensemble_is_the_other_config_with_another_model(tmp_path, market):
    install(tmp_path, **market)
    net, ensemble = (
        json.loads((tmp_path / name).read_text())
        for name in ("config-lea.json", "config-lea-ensemble.json")
    )
    assert ensemble.pop("freqaimodel") == "LeaEnsembleRegressor"
    del net["freqaimodel"]
    given = ensemble["freqai"].pop("model_training_parameters")
    assert set(given["model_kwargs"]["members"]) == {"lstm", "lightgbm", "ridge"}
    del net["freqai"]["model_training_parameters"]
    assert ensemble == net


def test_a_second_run_changes_nothing(tmp_path):
    install(tmp_path)
    assert set(states(install(tmp_path)).values()) == {"up to date"}


def test_a_changed_file_is_kept(tmp_path):
    install(tmp_path)
    strategy = tmp_path / "strategies" / "LeaFreqAIStrategy.py"
    strategy.write_text("# mine\n")
    files = install(tmp_path)
    assert states(files)["LeaFreqAIStrategy.py"] == "changed by you, kept"
    assert strategy.read_text() == "# mine\n"


def test_force_replaces_a_changed_file_and_loses_none_of_its_versions(tmp_path):
    install(tmp_path)
    strategy = tmp_path / "strategies" / "LeaFreqAIStrategy.py"
    for text in ("# first\n", "# second\n"):
        strategy.write_text(text)
        install(tmp_path, force=True)
        assert "class LeaFreqAIStrategy(" in strategy.read_text()
    assert strategy.with_name("LeaFreqAIStrategy.py.bak").read_text() == "# first\n"
    assert strategy.with_name("LeaFreqAIStrategy.py.bak1").read_text() == "# second\n"


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserDirError, match=r"Cannot write to the user directory .*file/user_data"):
        install(tmp_path / "file" / "user_data")


def test_a_link_that_leads_out_of_the_directory_is_refused_and_followed_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    userdir = tmp_path / "user_data"
    userdir.mkdir()
    (userdir / "strategies").symlink_to(outside)
    with pytest.raises(UserDirError, match="leads out of the user directory"):
        install(userdir)
    assert list(outside.iterdir()) == []
    # Nothing was written before the refusal either.
    assert [path.name for path in userdir.iterdir()] == ["strategies"]


def config(userdir):
    return json.loads((userdir / "config-lea.json").read_text())


def test_the_config_trades_the_pairs_and_the_timeframe_that_were_asked_for(tmp_path):
    install(tmp_path, pairs=["SOL/USDC", "ADA/USDC", "XRP/USDC"], timeframe="1h")
    written = config(tmp_path)
    assert written["exchange"]["pair_whitelist"] == ["SOL/USDC", "ADA/USDC", "XRP/USDC"]
    assert written["stake_currency"] == "USDC"
    assert written["max_open_trades"] == 3
    assert written["trading_mode"] == "spot"
    assert written["strategy"] == "LeaFreqAIStrategy"
    features = written["freqai"]["feature_parameters"]
    assert written["timeframe"] == "1h"
    assert written["timeframes"] == features["include_timeframes"] == ["1h", "12h"]
    assert features["include_corr_pairlist"] == ["SOL/USDC", "ADA/USDC"]
    # As many candles as 30 days of 5m candles have.
    assert written["freqai"]["train_period_days"] == 360
    assert written["freqai"]["backtest_period_days"] == 90


def test_futures_are_traded_on_both_sides(tmp_path):
    install(tmp_path, pairs=["BTC/USDT:USDT", "ETH/USDT:USDT"])
    written = config(tmp_path)
    assert written["trading_mode"] == "futures"
    assert written["margin_mode"] == "isolated"
    assert written["strategy"] == "LeaLongShortStrategy"
    assert written["stake_currency"] == "USDT"
    assert (tmp_path / "strategies" / "LeaLongShortStrategy.py").is_file()


@pytest.mark.parametrize("timeframe", list(LONGER))
def test_every_timeframe_gives_spans_that_a_bot_can_keep(tmp_path, timeframe):
    install(tmp_path, timeframe=timeframe)
    freqai = config(tmp_path)["freqai"]
    assert 2 <= freqai["train_period_days"] <= 730
    assert 1 <= freqai["backtest_period_days"] < freqai["train_period_days"]
    assert 1 <= freqai["live_retrain_hours"] < freqai["expiration_hours"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"pairs": ["BTCUSDT"]}, "'BTCUSDT' is no pair: write BTC/USDT"),
        ({"pairs": ["BTC/USDT", "ETH/USDC"]}, "of one stake currency and market"),
        ({"pairs": ["BTC/USDT", "ETH/USDT:USDT"]}, "of one stake currency and market"),
        ({"timeframe": "7m"}, "Unknown timeframe '7m': use one of 1m, 3m, 5m"),
    ],
)
def test_what_no_bot_can_trade_is_refused_before_anything_is_written(tmp_path, asked, message):
    with pytest.raises(UserDirError, match=message):
        install(tmp_path / "user_data", **asked)
    assert not (tmp_path / "user_data").exists()


def test_a_second_run_remembers_what_the_first_was_asked_for(tmp_path):
    install(tmp_path, pairs=["SOL/USDT"], timeframe="15m")
    assert set(states(install(tmp_path)).values()) == {"up to date"}
    files = install(tmp_path, timeframe="1h")
    assert states(files)["config-lea.json"] == "upgraded"
    assert config(tmp_path)["exchange"]["pair_whitelist"] == ["SOL/USDT"]


def test_a_newer_version_replaces_what_the_user_left_alone(tmp_path, monkeypatch):
    templates = tmp_path / "templates"
    (templates / "strategies").mkdir(parents=True)
    for source, place in template_files():
        if "freqaimodels" not in place:
            (templates / place.replace("-lea", "")).write_text(source.read_text())
    monkeypatch.setattr(installing, "TEMPLATE_DIR", templates)
    userdir = tmp_path / "user_data"
    install(userdir)
    for path in templates.rglob("*.py"):
        path.write_text(path.read_text() + "# newer\n")
    changed = userdir / "strategies" / "LeaDirectionStrategy.py"
    changed.write_text("# mine\n")
    found = states(install(userdir))
    assert found["LeaFreqAIStrategy.py"] == found["LeaLongShortStrategy.py"] == "upgraded"
    assert (userdir / "strategies" / "LeaFreqAIStrategy.py").read_text().endswith("# newer\n")
    assert found["LeaDirectionStrategy.py"] == "changed by you, kept"
    assert changed.read_text() == "# mine\n"
    # What was kept once does not count as ours later.
    assert states(install(userdir))["LeaDirectionStrategy.py"] == "changed by you, kept"


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1, "market": 2}', "\x00"])
def test_a_damaged_record_keeps_every_changed_file(tmp_path, text):
    install(tmp_path)
    (tmp_path / RECORD).write_text(text)
    strategy = tmp_path / "strategies" / "LeaFreqAIStrategy.py"
    strategy.write_text("# mine\n")
    assert states(install(tmp_path))["LeaFreqAIStrategy.py"] == "changed by you, kept"


def test_the_repositorys_own_user_directory_is_the_same_source():
    for source, place in template_files():
        if source == installing.ENSEMBLE:
            # Made of the other config.
            continue
        name = place.replace("config-lea", "config")
        assert (REPO / "user_data" / name).resolve() == source.resolve()
