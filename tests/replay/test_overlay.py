from __future__ import annotations

import json
from pathlib import Path

from freqai_lstm_plugins.replay import exchange_overlay, write_overlay


def test_the_overlay_sends_every_request_to_the_replay_exchange() -> None:
    exchange = exchange_overlay("http://127.0.0.1:81", ["BTC/USDT"])["exchange"]
    addresses = exchange["ccxt_config"]["urls"]["api"]
    assert addresses["public"] == addresses["private"] == "http://127.0.0.1:81/api/v3"
    assert all(address.startswith("http://127.0.0.1:81/") for address in addresses.values())
    assert exchange["pair_whitelist"] == ["BTC/USDT"]
    assert exchange["only_from_ccxt"] is True
    assert exchange["enable_ws"] is False


def test_the_overlay_never_trades_for_real() -> None:
    overlay = exchange_overlay("http://127.0.0.1:81", ["BTC/USDT"])
    assert overlay["dry_run"] is True
    assert overlay["exchange"]["key"] == overlay["exchange"]["secret"] == ""
    assert overlay["fiat_display_currency"] == ""
    assert overlay["telegram"]["enabled"] is False


def test_the_overlay_file_holds_the_overlay(tmp_path: Path) -> None:
    path = write_overlay(tmp_path / "new" / "replay.json", "http://127.0.0.1:81", ["BTC/USDT"])
    assert json.loads(path.read_text()) == exchange_overlay("http://127.0.0.1:81", ["BTC/USDT"])
