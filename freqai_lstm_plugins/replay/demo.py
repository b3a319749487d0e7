"""The demonstration: the real freqtrade backtests and trades on the replay exchange."""

from __future__ import annotations

import json
import re
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from freqai_lstm_plugins.errors import MissingExtraError, ReplayError
from freqai_lstm_plugins.figures import new_figure
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.install import TEMPLATE_DIR, install
from freqai_lstm_plugins.names import MODEL_SUFFIX
from freqai_lstm_plugins.replay import (
    Candles,
    ReplayExchange,
    read_candles,
    relabel,
    synthetic_market,
    write_overlay,
)
from freqai_lstm_plugins.replay.process import ChildError, Freqtrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODEL = "LeaLSTMRegressor"
BACKTEST_ID = "demo-backtest"
PAIRS = ("BTC/USDT", "ETH/USDT")
# Without these it would end in the middle; a picture is drawn where matplotlib is installed.
NEEDED = ("freqtrade", "datasieve", "sklearn", "aiohttp", "pyarrow")
SYNTHETIC_SEED = 7
SYNTHETIC_SIGNAL = 0.3
PREDICTED = re.compile(
    r"(?P<pair>[A-Z]+/[A-Z]+): candle (?P<candle>\S+) predicted .* do_predict 1$", re.MULTILINE
)


@dataclass(frozen=True)
class DemoSize:
    """How much the demonstration does.

    Attributes:
        train_days: Days of 5m candles to train each backtest model on.
        backtest_days: Days to backtest.
        slice_days: Days between two trainings of the backtest.
        epochs: Epochs at most.
        hidden_size: Units of the LSTM.
        candles_before: 1m candles that the dry run predicts before it is stopped.
        candles_after: 1m candles that it predicts after the restart.
    """

    train_days: int = 14
    backtest_days: int = 12
    slice_days: int = 4
    epochs: int = 30
    hidden_size: int = 64
    candles_before: int = 3
    candles_after: int = 2


QUICK = DemoSize(14, 8, 4, 20, 32, 1, 1)
FULL = DemoSize()


@dataclass
class DemoReport:
    """What happened, step by step.

    Attributes:
        steps: (step, outcome, seconds) in the order in which the steps ended.
        market: Where the candles are from.
        picture: Price, predictions and trades of the backtest; None without matplotlib.
        folder: Everything that was written.
    """

    market: str
    folder: Path
    picture: Path | None = None
    steps: list[tuple[str, str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    """Places and sizes that the steps share."""

    folder: Path
    size: DemoSize
    threads: int

    @property
    def userdir(self) -> Path:
        return self.folder / "user_data"

    def config(self, name: str, changes: dict[str, Any]) -> Path:
        """Write the package's own config with a few changes."""
        config = json.loads((TEMPLATE_DIR / "config.json").read_text(encoding="utf-8"))
        merge(config, changes)
        path = self.folder / f"config-{name}.json"
        write_text(path, json.dumps(config, indent=2) + "\n")
        return path

    def arguments(self, command: str, name: str, *configs: Path) -> list[str]:
        """Return freqtrade's arguments; each `name` keeps its candles to itself."""
        shown = [part for path in configs for part in ("--config", str(path))]
        datadir = self.userdir / "data" / name
        return [command, "--userdir", str(self.userdir), "--datadir", str(datadir), *shown]


def run_demo(
    folder: Path,
    *,
    datadir: Path | None = None,
    quick: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> DemoReport:
    """Backtest, trade, restart and trade again on the replay exchange.

    Args:
        folder: Where everything is written; it must not exist, or be empty.
        datadir: Folder with freqtrade feather files of 5m candles; a synthetic market without it.
        quick: Do less, in two to three minutes on two cores.
        tell: Called with a line when a step begins.

    Raises:
        MissingExtraError: A package that it needs is not installed.
        ReplayError: The candles do not suffice, or `folder` holds something.
        ChildError: freqtrade failed; the message names its log.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ReplayError(f"{folder} is not empty. Choose another --out.")
    for package in NEEDED:
        if find_spec(package) is None:
            raise MissingExtraError(package, "demo", "The demonstration")
    run = _Run(folder.resolve(), QUICK if quick else FULL, threads=1)
    candles, market = _market(datadir, run.size)
    install(run.userdir)
    report = DemoReport(market, run.folder)
    # Both mostly wait or train with one thread, so they get along on two cores.
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(_backtest, run, candles, report, tell),
            pool.submit(_trade, run, candles, report, tell),
        ]
        for future in futures:
            future.result()
    if find_spec("matplotlib") is not None:
        report.picture = run.folder / "demo.png"
        draw_backtest(run.userdir, candles, market, report.picture)
    return report


def merge(config: dict[str, Any], changes: dict[str, Any]) -> None:
    """Put `changes` into `config`, dictionary by dictionary."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            # A copy: settings of one run must not change with those of the next.
            config[key] = deepcopy(value)


def _market(datadir: Path | None, size: DemoSize) -> tuple[dict[str, Candles], str]:
    # Indicators need candles before the first training: 4 days of them are plenty.
    days = size.train_days + size.backtest_days + 4
    n_candles = days * 288
    if datadir is None:
        market = synthetic_market(PAIRS, "5m", n_candles, SYNTHETIC_SEED, signal=SYNTHETIC_SIGNAL)
        return market, "synthetic market (made up, with a planted signal)"
    candles = read_candles(datadir, PAIRS, "5m")
    shortest = min(len(frame) for frame in candles.values())
    if shortest < n_candles:
        raise ReplayError(
            f"{datadir} holds {shortest} 5m candles of a pair; the demonstration needs {n_candles} "
            f"({days} days). Take --quick, or a folder with more candles."
        )
    return {pair: frame.tail(n_candles) for pair, frame in candles.items()}, f"candles of {datadir}"


@contextmanager
def _step(
    report: DemoReport, name: str, tell: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    tell(name)
    started = time.monotonic()
    outcome: list[str] = []
    yield outcome.append
    report.steps.append((name, "; ".join(outcome), time.monotonic() - started))


def _training_settings(size: DemoSize, threads: int) -> dict[str, Any]:
    return {
        "model_kwargs": {"hidden_dim": size.hidden_size, "n_layer": 1},
        "trainer_kwargs": {"n_epochs": size.epochs, "num_threads": threads},
    }


def _backtest(
    run: _Run, candles: dict[str, Candles], report: DemoReport, tell: Callable[[str], None]
) -> None:
    size = run.size
    newest = candles[PAIRS[0]]["date"].iloc[-1]
    stop = newest.floor("D")
    start = stop - pd.Timedelta(days=size.backtest_days)
    config = run.config(
        "backtest",
        {
            "lea_strategy": {"backtest_timerange": f"{start:%Y%m%d}-{stop:%Y%m%d}"},
            "timerange": f"{candles[PAIRS[0]]['date'].iloc[0]:%Y%m%d}-{stop:%Y%m%d}",
            "freqai": {
                "identifier": BACKTEST_ID,
                "train_period_days": size.train_days,
                "backtest_period_days": size.slice_days,
                "feature_parameters": {"indicator_periods_candles": [10, 20]},
                "model_training_parameters": _training_settings(size, run.threads),
            },
        },
    )
    log = run.folder / "logs"
    with ReplayExchange(candles, "5m") as exchange:
        overlay = write_overlay(run.folder / "exchange-backtest.json", exchange.url, PAIRS)
        with _step(report, "freqtrade download-data", tell) as done:
            arguments = run.arguments("download-data", "backtest", config, overlay)
            with Freqtrade(arguments, log / "download.log", threads=run.threads) as child:
                child.wait(300)
            stored = list((run.userdir / "data" / "backtest").rglob("*.feather"))
            done(f"{len(stored)} files of candles from the replay exchange")
        with _step(report, f"freqtrade backtesting --freqaimodel {MODEL}", tell) as done:
            arguments = [
                *run.arguments("backtesting", "backtest", config, overlay),
                "--freqaimodel",
                MODEL,
            ]
            with Freqtrade(arguments, log / "backtest.log", threads=run.threads) as child:
                output = child.wait(900)
            models = list(
                (run.userdir / "models").glob(f"{BACKTEST_ID}/sub-train-*/*{MODEL_SUFFIX}")
            )
            done(f"{len(models)} models trained and saved")
            done(f"{len(backtest_trades(run.userdir))} trades")
            done(f"rank correlation with what followed {_skill(run.userdir, candles):+.3f}")
            if output.count("Done training") != len(models) or not models:
                raise ChildError(f"Not every training left a model. See {child.log}.")


def _trade(
    run: _Run, candles: dict[str, Candles], report: DemoReport, tell: Callable[[str], None]
) -> None:
    size = run.size
    config = run.config(
        "trade",
        {
            "timeframe": "1m",
            "db_url": f"sqlite:///{run.folder / 'trades.sqlite'}",
            "internals": {"process_throttle_secs": 1},
            "freqai": {
                "identifier": "demo-trade",
                "train_period_days": 1,
                "live_retrain_hours": 6,
                "fit_live_predictions_candles": 0,
                "feature_parameters": {
                    "include_timeframes": ["1m", "5m"],
                    "indicator_periods_candles": [10],
                },
                "model_training_parameters": _training_settings(size, run.threads),
            },
        },
    )
    # 5m candles pass as 1m candles, so that something happens while one watches.
    live = relabel(candles, "1m")
    log = run.folder / "logs" / "trade.log"
    with ReplayExchange(live, "1m", live=True) as exchange:
        overlay = write_overlay(run.folder / "exchange-trade.json", exchange.url, PAIRS)
        arguments = [*run.arguments("trade", "trade", config, overlay), "--freqaimodel", MODEL]
        with (
            _step(report, "freqtrade trade (dry run)", tell) as done,
            Freqtrade(arguments, log, threads=run.threads) as bot,
        ):
            output = bot.wait_for(
                lambda text: predicted_candles(text) >= size.candles_before,
                f"{size.candles_before} predicted candle(s) a pair",
                240 + 60 * size.candles_before,
            )
            bot.stop()
            done(f"trained {output.count('Done training')} models")
            done(f"predicted {predicted_candles(output)} new 1m candle(s) a pair")
        with (
            _step(report, "the bot is stopped and started again", tell) as done,
            Freqtrade(arguments, log, threads=run.threads) as bot,
        ):
            output = bot.wait_for(
                lambda text: predicted_candles(text) >= size.candles_after,
                f"{size.candles_after} predicted candle(s) a pair after the restart",
                240 + 60 * size.candles_after,
            )
            bot.stop()
            if "Starting training" in output:
                raise ChildError(f"The restarted bot trained before it predicted. See {log}.")
            done(f"predicted {predicted_candles(output)} candle(s) a pair from the saved models")
            done("trained none")


def predicted_candles(output: str) -> int:
    """Return how many candles every pair has got a usable prediction for."""
    seen: dict[str, set[str]] = {pair: set() for pair in PAIRS}
    for match in PREDICTED.finditer(output):
        seen.setdefault(match["pair"], set()).add(match["candle"])
    return min(len(candles) for candles in seen.values())


def backtest_trades(userdir: Path) -> pd.DataFrame:
    """Return the trades of the newest backtest in a user directory."""
    results = sorted((userdir / "backtest_results").glob("*.zip"))
    with zipfile.ZipFile(results[-1]) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r".*\d\.json", n))
        content = json.loads(archive.read(name))
    trades = [trade for result in content["strategy"].values() for trade in result["trades"]]
    columns = ["pair", "open_date", "close_date", "open_rate", "close_rate", "profit_ratio"]
    frame = pd.DataFrame(trades, columns=[*columns, "is_short", "funding_fees"])
    for name in ("open_date", "close_date"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def backtest_predictions(userdir: Path, identifier: str, pair: str) -> pd.DataFrame:
    """Return the predictions that a backtest kept for a pair, in the order of time."""
    coin = pair.split("/")[0].lower()
    folder = userdir / "models" / identifier / "backtesting_predictions"
    parts = [pd.read_feather(path) for path in sorted(folder.glob(f"cb_{coin}_*.feather"))]
    return pd.concat(parts, ignore_index=True)


def draw_backtest(userdir: Path, candles: Mapping[str, Candles], market: str, path: Path) -> None:
    """Draw price, trades and predictions of the demonstration's backtest."""
    trades = backtest_trades(userdir)
    # The pair with most trades shows most.
    pair = max(PAIRS, key=lambda name: (trades["pair"] == name).sum())
    trades = trades[trades["pair"] == pair]
    predictions = backtest_predictions(userdir, BACKTEST_ID, pair)
    label = label_name(predictions)
    shown = candles[pair].merge(predictions[["date"]], on="date")
    figure = new_figure(11, 7)
    price, forecast = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    price.plot(shown["date"], shown["close"], color="black", linewidth=0.7, label="close")
    price.plot(trades["open_date"], trades["open_rate"], "^", color="tab:green", label="entry")
    price.plot(trades["close_date"], trades["close_rate"], "v", color="tab:red", label="exit")
    price.set(title=f"{pair}, 5m, {MODEL}\n{market}", ylabel="price in USDT")
    price.legend(loc="best")
    values = predictions[label].where(predictions["do_predict"] == 1, np.nan)
    forecast.plot(predictions["date"], values, color="tab:blue", linewidth=0.7)
    forecast.axhline(0, color="grey", linewidth=0.5)
    forecast.set(ylabel="predicted return\nin volatilities", xlabel="time (UTC)")
    figure.savefig(path, dpi=110)


def label_name(predictions: pd.DataFrame) -> str:
    """Return the name of the first label among the columns of a prediction frame."""
    return next(str(name) for name in predictions if str(name).startswith("&"))


def _skill(userdir: Path, candles: Mapping[str, Candles]) -> float:
    """Return the rank correlation of predictions and later returns, a mean over the pairs."""
    config = json.loads((TEMPLATE_DIR / "config.json").read_text(encoding="utf-8"))
    horizon = config["freqai"]["feature_parameters"]["label_period_candles"]
    correlations = []
    for pair in PAIRS:
        close = candles[pair].set_index("date")["close"]
        followed = (close.shift(-horizon) / close - 1).rename("followed")
        predictions = backtest_predictions(userdir, BACKTEST_ID, pair)
        usable = predictions[predictions["do_predict"] == 1].join(followed, on="date").dropna()
        ranks = usable[[label_name(predictions), "followed"]].rank()
        correlations.append(ranks.corr().to_numpy()[0, 1])
    return float(np.mean(correlations))


def default_folder() -> Path:
    """Return a folder for this run, named after the time."""
    return Path("freqai-lstm-demo") / f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S}"
