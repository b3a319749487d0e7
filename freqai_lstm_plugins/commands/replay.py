"""Serves candles as if this machine were Binance."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from freqai_lstm_plugins.commands.console import out
from freqai_lstm_plugins.names import separated


def replay(
    datadir: Annotated[
        Path | None,
        typer.Option(help="Folder with freqtrade feather files. A synthetic market without it."),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Pairs to serve, with commas; by default all of the folder, or made-up "
            "BTC/USDT and ETH/USDT."
        ),
    ] = None,
    timeframe: Annotated[str, typer.Option(help="Timeframe of the stored candles.")] = "5m",
    serve_as: Annotated[
        str | None,
        typer.Option(help="Serve the candles as if they were of this timeframe, such as 1m."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Shift the candles so that the newest one is now.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, help="Days of a synthetic market.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a synthetic market.")] = 7,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    config: Annotated[
        Path, typer.Option(help="Where to write the config that points freqtrade here.")
    ] = Path("replay.json"),
) -> None:
    """Serve candles on this machine as if it were Binance.

    It ends on Ctrl-C. Run freqtrade with the config that it wrote, as the last --config; a bot
    needs a market that goes on, so --live here:

    freqtrade trade --config user_data/config-lea.json --config replay.json
    """
    from freqai_lstm_plugins.data.timeframes import timeframe_ms
    from freqai_lstm_plugins.replay import (
        ReplayExchange,
        read_candles,
        relabel,
        synthetic_market,
        write_overlay,
    )

    names = None if pairs is None else separated(pairs)
    if datadir is None:
        n_candles = days * 86_400_000 // timeframe_ms(timeframe)
        made_up = names or ("BTC/USDT", "ETH/USDT")
        candles = synthetic_market(made_up, timeframe, n_candles, seed)
    else:
        candles = read_candles(datadir, names, timeframe)
    if serve_as is not None and serve_as != timeframe:
        candles, timeframe = relabel(candles, serve_as), serve_as
    with ReplayExchange(candles, timeframe, live=live, port=port) as exchange:
        # Before the config is there: a program that waited for it may stop us at once.
        ended = _interruption()
        write_overlay(config, exchange.url, exchange.pairs)
        source = f"candles of {datadir}" if datadir else "a synthetic market (made up)"
        served = ", ".join(exchange.pairs)
        out.print(f"Serving {served}: {source} on {exchange.url}, on this machine alone.")
        out.print(f"Give freqtrade --config {config} as its last config. Ctrl-C ends.")
        ended.wait()


def _interruption() -> threading.Event:
    """Return what is set by Ctrl-C and by SIGTERM, which from now on end nothing else."""
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: ended.set())
    return ended
