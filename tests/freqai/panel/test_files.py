"""What is saved of one net for all pairs, and who reads it without a bot."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from freqai_lstm_plugins.cli import app
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.freqai.explain import explain_file
from freqai_lstm_plugins.freqai.saved import find_saved
from freqai_lstm_plugins.names import MODEL_SUFFIX
from tests.freqai.saved import PAIRS, make_userdir, save_all

BTC, ETH = PAIRS


@pytest.fixture(scope="module")
def userdir(tmp_path_factory):
    return make_userdir(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def plain(userdir):
    return save_all(userdir, "LeaLSTMRegressor", {}, "plain")


@pytest.fixture(scope="module")
def told(userdir):
    return save_all(userdir, "LeaLSTMRegressor", {"symbol_embedding": 3}, "told")


def test_the_correlated_pairs_share_one_layout(plain):
    """Both pairs of the installed config are correlated pairs too."""
    layouts = {}
    for coin in ("btc", "eth"):
        (path,) = plain.parent.glob(f"cb_{coin}_*_metadata.json")
        metadata = json.loads(path.read_text())
        layouts[coin] = metadata["panel"]["sources"]
        assert set(layouts[coin]) == set(metadata["training_features_list"])
    assert len(layouts["btc"]) == len(layouts["eth"])
    # Where ETH has BTC's columns, BTC has its own once more.
    for mine, theirs in zip(layouts["btc"], layouts["eth"], strict=True):
        if BTC in theirs:
            assert mine == theirs


def test_inspect_shows_the_pairs(plain):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["inspect", str(plain)])
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    assert "BTC/USDT, ETH/USDT" in shown
    assert "pair of" not in shown


@pytest.mark.parametrize("kind", ["plain", "told"])
def test_explain_takes_a_pair(userdir, kind, request):
    file = request.getfixturevalue(kind)
    found = {pair: explain_file(file, userdir=userdir, pair=pair, max_windows=20) for pair in PAIRS}
    for pair, explained in found.items():
        assert explained.pair == pair
        assert explained.explanation.gap < 0.1 * explained.explanation.moved
    btc, eth = (found[pair].explanation.importance for pair in PAIRS)
    assert list(btc.index) == list(eth.index)
    assert not btc.equals(eth)


def test_metadata_that_cannot_be_read_hide_no_other_pair(plain):
    damaged = plain.with_name(plain.name.replace("cb_panel_", "cb_ada_")).name
    path = plain.with_name(damaged.removesuffix(MODEL_SUFFIX) + "_metadata.json")
    path.write_text('{"training_feat')
    try:
        assert find_saved(plain, ETH).stem.name.startswith("cb_eth_")
        with pytest.raises(ConfigError, match="--pair: BTC/USDT, ETH/USDT"):
            find_saved(plain, "ADA/USDT")
    finally:
        path.unlink()


def test_explain_without_a_pair_names_those_that_there_are(userdir, plain):
    with pytest.raises(ConfigError, match="--pair: BTC/USDT, ETH/USDT"):
        explain_file(plain, userdir=userdir)
