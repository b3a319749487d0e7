from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from freqai_lstm_plugins.replay import Candles, synthetic_market

Answer = tuple[int, Any]


@pytest.fixture
def get() -> Callable[..., Answer]:
    """Ask a server for one endpoint; gives the HTTP status and the JSON of the body."""
    # Without a proxy handler, for a proxy of the environment cannot reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(url: str, endpoint: str, api: str = "api/v3", **query: object) -> Answer:
        address = f"{url}/{api}/{endpoint}?{urllib.parse.urlencode(query)}"
        try:
            with opener.open(address, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return ask


@pytest.fixture(scope="session")
def market() -> dict[str, Candles]:
    """Two pairs of 2,500 five-minute candles; the first hour is incomplete, the last is not."""
    return synthetic_market(["BTC/USDT", "ADA/USDT"], "5m", 2_500, seed=3)
