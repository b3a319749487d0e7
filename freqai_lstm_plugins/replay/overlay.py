"""The config fragment that points freqtrade at the replay exchange and keeps it offline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import ReplayError
from freqai_lstm_plugins.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def exchange_overlay(url: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Build the config to pass as freqtrade's last `--config`.

    Beside the exchange it sets what would reach out of this machine or trade for real: dry run on,
    no conversion to fiat (which asks CoinGecko), no Telegram, a static list of pairs.

    Args:
        url: `ReplayExchange.url`.
        pairs: The pairs to trade, such as `BTC/USDT`, or `BTC/USDT:USDT` for futures.

    Raises:
        ReplayError: The pairs are of both kinds; freqtrade trades one.
    """
    if len({":" in pair for pair in pairs}) > 1:
        raise ReplayError(
            f"a bot trades spot pairs or futures, not both: choose among {', '.join(pairs)}"
        )
    is_futures = any(":" in pair for pair in pairs)
    base = url.rstrip("/")
    spot, futures = f"{base}/api/v3", f"{base}/fapi/v1"
    return {
        "dry_run": True,
        "trading_mode": "futures" if is_futures else "spot",
        "margin_mode": "isolated" if is_futures else "",
        "fiat_display_currency": "",
        # Settings from earlier configs are merged key by key, so each is named to be overridden.
        "telegram": {"enabled": False, "token": "", "chat_id": ""},
        "pairlists": [{"method": "StaticPairList"}],
        "exchange": {
            "name": "binance",
            "key": "",
            "secret": "",
            "enable_ws": False,
            "only_from_ccxt": True,
            "ccxt_config": {
                "enableRateLimit": False,
                "urls": {
                    "api": {
                        "public": spot,
                        "private": spot,
                        "fapiPublic": futures,
                        "fapiPrivate": futures,
                    }
                },
                "options": {
                    "fetchMarkets": {"types": ["linear" if is_futures else "spot"]},
                    "fetchCurrencies": False,
                    "fetchMargins": False,
                },
            },
            "pair_whitelist": list(pairs),
            "pair_blacklist": [],
        },
    }


def write_overlay(path: Path, url: str, pairs: Sequence[str]) -> Path:
    """Write `exchange_overlay` as JSON, whole or not at all, and give the path."""
    write_text(path, json.dumps(exchange_overlay(url, pairs), indent=2) + "\n")
    return path
