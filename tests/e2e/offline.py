"""Predicts again, in the test's own process, the candles that a stopped bot predicted."""

from __future__ import annotations

import json
from urllib.request import urlopen

import pandas as pd
from freqtrade.configuration import Configuration
from freqtrade.enums import RunMode
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen
from freqtrade.resolvers import StrategyResolver
from freqtrade.resolvers.freqaimodel_resolver import FreqaiModelResolver

from tests.e2e.bot import Bot


def served_candles(url: str, pair: str, timeframe: str) -> pd.DataFrame:
    """Ask the exchange for the newest thousand candles of a pair that are closed."""
    symbol = pair.replace("/", "")
    with urlopen(f"{url}/api/v3/klines?symbol={symbol}&interval={timeframe}&limit=1000") as answer:
        rows = json.load(answer)
    names = ["open", "high", "low", "close", "volume"]
    frame = pd.DataFrame([row[:6] for row in rows[:-1]], columns=["date", *names])
    frame = frame.astype(dict.fromkeys(names, float))
    return frame.assign(date=pd.to_datetime(frame["date"].astype("int64"), unit="ms", utc=True))


class _Provider:
    runmode = RunMode.DRY_RUN

    def __init__(self, url: str) -> None:
        self.url = url

    def get_pair_dataframe(self, pair: str, timeframe: str) -> pd.DataFrame:
        return served_candles(self.url, pair, timeframe)

    def current_whitelist(self) -> list[str]:
        return []


def predict_again(bot: Bot, url: str, model: str, pair: str) -> pd.DataFrame:
    """Return date, predictions and `do_predict` of every candle that the exchange serves."""
    arguments = {
        "config": [str(bot.config), str(bot.overlay)],
        "user_data_dir": str(bot.userdir),
        "datadir": str(bot.datadir),
        "freqaimodel": model,
    }
    config = Configuration(arguments, RunMode.DRY_RUN).get_config()
    # It only reads, so it takes no lock of the identifier.
    config["runmode"] = RunMode.OTHER
    strategy = StrategyResolver.load_strategy(config)
    strategy.dp = _Provider(url)
    freqai = FreqaiModelResolver.load_freqaimodel(config)
    freqai.live = True
    kitchen = FreqaiDataKitchen(config, True, pair)
    freqai.model = freqai.dd.load_data(pair, kitchen)
    candles = served_candles(url, pair, config["timeframe"])
    frame = kitchen.use_strategy_to_populate_indicators(
        strategy, prediction_dataframe=candles, pair=pair
    )
    kitchen.find_labels(frame)
    predicted, do_predict = freqai.predict(frame, kitchen)
    return predicted.assign(date=candles["date"], do_predict=do_predict)


def recorded(bot: Bot, pair: str) -> pd.DataFrame:
    """Return what the bot has stored of its predictions, one row a candle."""
    path = next(bot.userdir.glob("models/*/historic_predictions.pkl"))
    return pd.read_pickle(path)[pair]
