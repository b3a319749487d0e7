"""Features and labels as files, from the package's own strategy and candles on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from freqtrade.data.dataprovider import DataProvider
from typer.testing import CliRunner

from freqai_lstm_plugins.commands.features import features
from freqai_lstm_plugins.data.candles import find_files
from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.freqai.export import export_features
from tests.freqai.saved import PAIRS, load_model, make_userdir

LABEL = "&-forward_return"
CANDLE = ["date", "open", "high", "low", "close", "volume"]


@pytest.fixture(scope="module")
def userdir(tmp_path_factory):
    return make_userdir(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def exported(userdir, tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    return list(export_features(out, userdir=userdir))


@pytest.fixture
def changed(userdir, tmp_path):
    """Write a config with a few changes."""

    def write(**changes):
        config = json.loads((userdir / "config-lea.json").read_text())
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(config | changes))
        return [path]

    return write


def backtested(userdir: Path, pair: str) -> list[pd.DataFrame]:
    """Return what a backtest of three days trains its models on."""
    settings = {"train_period_days": 2, "backtest_period_days": 1}
    strategy = load_model(
        userdir, "LeaLSTMRegressor", timerange="20251229-20260101", freqai=settings
    )
    strategy.config["config_files"] = [str(userdir / "config-lea.json")]
    strategy.dp, model = DataProvider(strategy.config, None), strategy.freqai
    model.live, real_train, seen = False, model.train, []

    def train(frame, *arguments, **options):
        seen.append(frame)
        return real_train(frame, *arguments, **options)

    model.train = train
    candles = pd.read_feather(userdir / "data" / "binance" / f"{pair.replace('/', '_')}-5m.feather")
    model.start(candles, {"pair": pair}, strategy)
    return seen


@pytest.mark.parametrize("number", [0, 1])
def test_exported_features_are_those_that_a_backtest_computes(number, exported, userdir):
    pair = PAIRS[number]
    found = pd.read_parquet(exported[number].path).set_index("date")
    seen = backtested(userdir, pair)
    assert len(seen) == 3
    for frame in seen:
        frame = frame.set_index("date")
        frame.columns = [str(name).replace(f"_{pair}_", "_") for name in frame]
        names = [name for name in frame if name.startswith("%")]
        assert names == [name for name in found if name.startswith("%")]
        part = found.loc[frame.index]
        # Rolling sums begin at other candles, so they are rounded otherwise.
        np.testing.assert_allclose(part[names], frame[names], rtol=1e-6, atol=1e-9)
        pd.testing.assert_frame_equal(part[CANDLE[1:]], frame[CANDLE[1:]])
        # A training does not know what comes after it.
        assert list(frame[LABEL].isna()) == [False] * (len(frame) - 6) + [True] * 6
        np.testing.assert_allclose(part[LABEL].iloc[:-6], frame[LABEL].iloc[:-6], rtol=1e-6)


def test_a_file_holds_every_stored_candle_and_says_how_far_its_labels_look_ahead(exported, userdir):
    for written, pair in zip(exported, PAIRS, strict=True):
        frame = pd.read_parquet(written.path)
        candles = pd.read_feather(
            userdir / "data" / "binance" / f"{pair.replace('/', '_')}-5m.feather"
        )
        pd.testing.assert_frame_equal(frame[CANDLE], candles[CANDLE], check_dtype=False)
        names = [name for name in frame if name.startswith("%")]
        assert list(frame) == [*CANDLE, *names, LABEL]
        assert frame[LABEL].isna().iloc[-6:].all()
        assert not frame[LABEL].isna().iloc[-7]
        assert (written.pair, written.n_features) == (pair, len(names))
        assert frame.attrs == {
            "pair": pair,
            "timeframe": "5m",
            "strategy": "LeaFreqAIStrategy",
            "label_period": 6,
            "class_names": [],
        }


def test_all_pairs_have_the_same_columns_beside_those_of_correlated_pairs(userdir, tmp_path):
    config = json.loads((userdir / "config-lea.json").read_text())
    config["freqai"]["feature_parameters"]["include_corr_pairlist"] = []
    path = tmp_path / "alone.json"
    path.write_text(json.dumps(config))
    first, second = export_features(tmp_path / "out", userdir=userdir, configs=[path])
    names = [list(pd.read_parquet(written.path)) for written in (first, second)]
    assert names[0] == names[1]
    assert {"%-return_gen_5m", "%-return_gen_15m", "%-hour-sin"} < set(names[0])
    assert not [name for name in names[0] if "/" in name]
    # Whoever reads folders of candles finds them, and their pairs by the names.
    assert [file.symbol for file in find_files(tmp_path / "out", timeframe="5m")] == list(PAIRS)


def test_a_range_is_exported_with_all_its_features(userdir, tmp_path):
    (written,) = export_features(
        tmp_path, userdir=userdir, timerange="20251230-20251231", pairs=["ETH/USDT"]
    )
    frame = pd.read_parquet(written.path)
    assert len(frame) == 288
    assert frame["date"].iloc[0] == pd.Timestamp("2025-12-30", tz="UTC")
    assert frame.filter(like="%").notna().all(axis=None)


def test_expressions_in_the_whitelist_are_the_pairs_on_disk(userdir, tmp_path, changed):
    exchange = {"name": "binance", "pair_whitelist": ["E.*/USDT"]}
    found = export_features(tmp_path, userdir=userdir, configs=changed(exchange=exchange))
    assert [written.pair for written in found] == ["ETH/USDT"]


WITH_CLASSES = """
from LeaFreqAIStrategy import LeaFreqAIStrategy


class Classes(LeaFreqAIStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        self.freqai.class_names = ["down", "up"]
        dataframe = super().set_freqai_targets(dataframe, metadata, **kwargs)
        number = dataframe.pop("&-forward_return")
        text = (number > 0).map({True: "up", False: "down"}).mask(number.isna())
        return dataframe.assign(**{"&-direction": text})


class Leaks(LeaFreqAIStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe.assign(**{"&-move%": dataframe["close"].shift(-1)})


class Aimless(LeaFreqAIStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe


class Broken(LeaFreqAIStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        return dataframe["nothing"]
"""


@pytest.fixture(scope="module")
def strategies(userdir):
    (userdir / "strategies" / "Several.py").write_text(WITH_CLASSES)


@pytest.mark.usefixtures("strategies")
def test_classes_are_written_with_their_names(userdir, tmp_path):
    (written,) = export_features(
        tmp_path, userdir=userdir, strategy="Classes", pairs=["BTC/USDT"], timerange="20251231-"
    )
    frame = pd.read_parquet(written.path)
    assert written.labels == ("&-direction",)
    assert set(frame["&-direction"].iloc[:-6]) == {"down", "up"}
    assert frame["&-direction"].iloc[-6:].isna().all()
    assert frame.attrs["class_names"] == ["down", "up"]


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Leaks", "'&-move%' is a label by its '&' and a feature by its '%'"),
        ("Aimless", "Aimless sets no label for BTC/USDT"),
        ("Broken", r"Broken failed to make the labels of BTC/USDT \(KeyError: 'nothing'\)"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_and_leave_no_file(name, message, userdir, tmp_path):
    with pytest.raises(ConfigError, match=message):
        next(export_features(tmp_path, userdir=userdir, strategy=name))
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(userdir, tmp_path, changed):
    with pytest.raises(DataError, match="no candles of XRP/USDT 5m"):
        next(export_features(tmp_path, userdir=userdir, pairs=["XRP/USDT"]))
    with pytest.raises(DataError, match="in the timerange 20200101-20200102"):
        next(export_features(tmp_path, userdir=userdir, timerange="20200101-20200102"))
    nothing = changed(exchange={"name": "binance", "pair_whitelist": []})
    with pytest.raises(ConfigError, match="names no pairs"):
        next(export_features(tmp_path, userdir=userdir, configs=nothing))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot write the features of BTC/USDT"):
        next(export_features(tmp_path / "file", userdir=userdir, timerange="20251231-"))


def test_the_command_tells_what_it_wrote(userdir, tmp_path, monkeypatch):
    monkeypatch.chdir(userdir.parent)
    app = typer.Typer()
    app.command()(features)
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--pairs", "ETH/USDT,BTC/USDT", "--timerange", "20251231-"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert "2025-12-31 00:00 │ 2025-12-31 23:55" in result.output
    assert LABEL in result.output
    assert sorted(path.name for path in out.iterdir()) == [
        "BTC_USDT-5m.parquet",
        "ETH_USDT-5m.parquet",
    ]
