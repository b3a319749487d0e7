from __future__ import annotations

import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.freqai.panel.layout import layout_of, require_same_columns

ADA = ["%-x_8_ADA/USDT_15m", "%-hour", "%-x_8_BTC/USDT_15m", "%-x_8_ETH/USDT_15m"]
BTC = ["%-x_8_BTC/USDT_15m", "%-hour", "%-x_8_ETH/USDT_15m"]
ETH = ["%-x_8_ETH/USDT_15m", "%-hour", "%-x_8_BTC/USDT_15m"]
CORRELATED = ["BTC/USDT", "ETH/USDT"]
NAMES = ["%-x_8_15m", "%-hour", "%-x_8_BTC/USDT_15m", "%-x_8_ETH/USDT_15m"]


@pytest.mark.parametrize(
    ("features", "pair", "sources"),
    [
        (ADA, "ADA/USDT", ADA),
        (BTC, "BTC/USDT", [BTC[0], "%-hour", BTC[0], BTC[2]]),
        (ETH, "ETH/USDT", [ETH[0], "%-hour", ETH[2], ETH[0]]),
    ],
)
def test_every_pair_has_the_same_names_and_a_correlated_one_stands_in_for_itself(
    features, pair, sources
):
    layout = layout_of(features, pair, CORRELATED)
    assert layout.names == NAMES
    assert layout.sources == sources


def test_futures_whose_colons_freqai_takes_out_are_known_too():
    layout = layout_of(["%-x_BTC/USDTUSDT_5m"], "BTC/USDT:USDT", ["BTC/USDT:USDT"])
    assert layout.names == ["%-x_5m", "%-x_BTC/USDTUSDT_5m"]


def test_a_frame_keeps_its_candles_and_labels():
    frame = pd.DataFrame({"date": [1], "%-x_BTC/USDT_5m": [2.0], "&-y": [3.0]})
    layout = layout_of(["%-x_BTC/USDT_5m"], "BTC/USDT", ["BTC/USDT"])
    arranged = layout.arrange(frame)
    assert arranged.to_dict("list") == {
        "date": [1],
        "&-y": [3.0],
        "%-x_5m": [2.0],
        "%-x_BTC/USDT_5m": [2.0],
    }


def test_two_features_of_one_name_are_refused_by_that_name():
    with pytest.raises(ConfigError, match=r"two features are called '%-x_5m'"):
        layout_of(["%-x_BTC/USDT_5m", "%-x_5m"], "BTC/USDT", [])


def test_features_that_differ_for_another_reason_are_named():
    with pytest.raises(ConfigError, match=r"those of ETH/USDT without %-b and with %-c, compared"):
        require_same_columns({"BTC/USDT": ["%-a", "%-b"], "ETH/USDT": ["%-a", "%-c"]}, "features")
    with pytest.raises(ConfigError, match="in another order"):
        require_same_columns({"BTC/USDT": ["%-a", "%-b"], "ETH/USDT": ["%-b", "%-a"]}, "features")
