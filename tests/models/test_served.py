"""Which pairs one net for many serves."""

from __future__ import annotations

import json

from freqai_lstm_plugins.models.served import served_pairs


def test_only_metadata_that_name_the_net_are_those_of_its_pairs(tmp_path):
    panel = {"net": "cb_panel_9", "pair": "BTC/USDT", "pairs": ["BTC/USDT"]}
    for coin, metadata in {
        "btc": {"panel": panel, "mean": float("nan")},
        "eth": {"panel": {**panel, "net": "cb_panel_8"}},
        "ada": {},
        "sol": {"panel": {**panel, "pairs": None}},
        "xrp": {"panel": [1]},
    }.items():
        (tmp_path / f"cb_{coin}_9_metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "cb_dot_9_metadata.json").write_text("[")
    (tmp_path / "cb_btc_8_metadata.json").write_text(json.dumps({"panel": panel}))
    assert list(served_pairs(tmp_path / "cb_panel_9")) == [(tmp_path / "cb_btc_9", panel)]
