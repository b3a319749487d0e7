"""LeaFreqAIStrategy: entries on a predicted return that pays for its costs.

The strategy fits any FreqAI regressor; nothing in it depends on a model. It learns one number, the
return over the next `label_period_candles` candles in units of the volatility that is known when
the candle closes, and it buys where the prediction is worth more than the trade costs and stands
out from the model's other predictions. A class derived from it that sets `can_short` sells short
by the same rules, turned round.

It needs nothing but freqtrade, so that this one file can be copied and changed. Its siblings
LeaDirectionStrategy (for classifiers) and LeaLongShortStrategy (for futures) derive from it and
must stand in the same folder.

Next to the usual keys it reads a section `lea_strategy` of the configuration. Every key is
optional, and one that is not listed here is refused:

    fee                   Fee of one side as a fraction; `fee` at the top level goes first.
    slippage              Expected slippage of one side as a fraction.
    interval_margin       Enter only where even the near end of the predicted interval pays for
                          the costs and this fraction more: the lower end for a long trade, the
                          upper one for a short trade. 0 asks for the costs alone, null or no key
                          for nothing. The model must predict intervals (the training setting
                          `interval`); with one that does not, a warning says so, and the other
                          rules decide.
    max_disagreement      Enter only where the members of an ensemble disagree by no more than this,
                          in the units of the prediction, volatilities. null or no key for any. The
                          model must show its members' disagreement (LeaEnsembleRegressor); with
                          one that does not, a warning says so, and the other rules decide.
    backtest_timerange    Backtest this range where the command line names none. `timerange` in the
                          file then names the candles to download, training included.
    model_training_parameters
                          {model's name: parameters} that replace `model_training_parameters` for
                          the models named. Trees and nets understand different parameters and
                          refuse each other's.
"""

from __future__ import annotations

import difflib
import logging
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from freqtrade.constants import Config
from freqtrade.enums import RunMode, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.persistence import Trade
from freqtrade.strategy import DecimalParameter, IntParameter, IStrategy
from pandas import DataFrame, Series, to_datetime

logger = logging.getLogger(__name__)

SECTION = "lea_strategy"
NUMBERS = ("fee", "slippage", "interval_margin", "max_disagreement")
KEYS = (*NUMBERS, "backtest_timerange", "model_training_parameters")
PLACEHOLDER = "{freqaimodel}"

LABEL = "&-forward_return"
LOWER, UPPER = f"{LABEL}_lower", f"{LABEL}_upper"
DISAGREEMENT = f"{LABEL}_disagreement"
LABEL_CLIP = 5.0  # volatilities; one wild candle must not rule the loss
VOLATILITY_CANDLES = 100
TREND_CANDLES = 100
VOLUME_CANDLES = 50
ATR_CANDLES = 50  # steadier than the usual 14: the stop follows it and never loosens
FEATURE_CLIP = 8.0  # keeps one outlier from squeezing a min-max scaled feature into a point
TINY = 1e-12
SIGNS = {"long": 1.0, "short": -1.0}


def ratio(numerator: Series, denominator: Series, flat: float = 0.0) -> Series:
    """Divide; where the denominator is zero the result is `flat`, where it is NaN it is NaN."""
    result = numerator / denominator.where(denominator.abs() > TINY)
    return result.mask(denominator.abs() <= TINY, flat)


def returns(dataframe: DataFrame, candles: int = 1) -> Series:
    """Return the change of the close over `candles` candles; NaN where a price is not positive."""
    close = dataframe["close"].where(dataframe["close"] > 0)
    return close / close.shift(candles) - 1


def volatility(dataframe: DataFrame, horizon: int) -> Series:
    """Return the standard deviation of a return over `horizon` candles, as known at each candle.

    A rolling window, not an exponential one: it forgets, so a candle gets the same value in a
    backtest and in a live frame that begins later.
    """
    one_candle = returns(dataframe).rolling(VOLATILITY_CANDLES).std()
    return one_candle * np.sqrt(horizon)


def average_true_range(dataframe: DataFrame, candles: int) -> Series:
    """Return the simple mean of the true range as a fraction of the close."""
    before = dataframe["close"].shift()
    high = np.maximum(dataframe["high"], before)
    low = np.minimum(dataframe["low"], before)
    close = dataframe["close"].where(dataframe["close"] > 0)
    return (high - low).rolling(candles).mean() / close


def zscore(values: Series, candles: int) -> Series:
    """Return how far each value lies from the mean of its window, in standard deviations."""
    window = values.rolling(candles)
    return ratio(values - window.mean(), window.std()).clip(-FEATURE_CLIP, FEATURE_CLIP)


def trend(dataframe: DataFrame) -> Series:
    """Return how many average true ranges the close lies above its long mean."""
    close = dataframe["close"].where(dataframe["close"] > 0)
    distance = 1 - close.rolling(TREND_CANDLES).mean() / close
    return ratio(distance, average_true_range(dataframe, TREND_CANDLES))


def column(dataframe: DataFrame, name: str) -> Series:
    """Return a column as floats, or NaN in every row where the frame has no such column."""
    if name not in dataframe:
        return Series(np.nan, index=dataframe.index)
    return dataframe[name].astype(float)


def check_section(section: Any) -> None:
    """Refuse what is misspelt or no number: a risk rule that counts for nothing is the worst.

    Raises:
        OperationalException: A key is unknown, or a value of the wrong kind. freqtrade ends with a
            status of 0 on its error for configurations, as if all were well.
    """
    if not isinstance(section, dict):
        raise OperationalException(f"{SECTION} must be a section of keys, not {section!r}.")
    for key, value in section.items():
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(KEYS)}."
            raise OperationalException(f"{SECTION}: unknown key {key!r}. {hint}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in NUMBERS and value is not None and not is_number:
            raise OperationalException(f"{SECTION}.{key} must be a number, not {value!r}.")


def answer_of(model: Any) -> str | None:
    """Return what a FreqAI model predicts, `numbers` or `classes`, as far as its bases tell."""
    bases = [base.__name__ for base in type(model).__mro__]
    if any("Classifier" in name for name in bases):
        return "classes"
    return "numbers" if any("Regress" in name for name in bases) else None


def _is_same_dtype(one: Any, other: Any) -> bool:
    """Tell whether two date types have the same unit and the very same kind of timezone."""
    zones = getattr(one, "tz", None), getattr(other, "tz", None)
    return str(one) == str(other) and type(zones[0]) is type(zones[1])


class LeaFreqAIStrategy(IStrategy):
    """Enter on predictions that beat costs and stand out; leave when they turn or time is up."""

    INTERFACE_VERSION = 3

    # What the model has to predict: numbers or classes.
    answers = "numbers"

    timeframe = "5m"
    can_short = False
    process_only_new_candles = True
    # The longest window is 100 candles, on every timeframe; the rest is reserve.
    startup_candle_count = 200

    # The stop and the target that count move with the ATR. These are the outermost bounds.
    stoploss = -0.10
    minimal_roi = {"0": 0.10}  # noqa: RUF012
    use_custom_stoploss = True
    use_exit_signal = True
    order_types = {  # noqa: RUF012
        "entry": "limit",
        "exit": "limit",
        "stoploss": "market",
        "stoploss_on_exchange": False,
    }

    entry_z = DecimalParameter(0.0, 3.0, default=1.0, decimals=1, space="buy")
    cost_multiple = DecimalParameter(0.0, 3.0, default=1.0, decimals=1, space="buy")
    trend_floor = DecimalParameter(-20.0, 10.0, default=-8.0, decimals=1, space="buy")
    volume_floor = DecimalParameter(0.0, 1.5, default=0.3, decimals=1, space="buy")
    exit_z = DecimalParameter(-1.0, 3.0, default=1.0, decimals=1, space="sell")
    hold_multiple = IntParameter(1, 6, default=2, space="sell")
    stop_multiple = DecimalParameter(0.5, 6.0, default=2.0, decimals=1, space="sell")
    target_multiple = DecimalParameter(0.5, 8.0, default=3.0, decimals=1, space="sell")

    # Share of the proposed stake at the entry threshold, and how many standard deviations above it
    # the whole stake is reached.
    smallest_share = 0.4
    full_stake_z = 2.0

    def __init__(self, config: Config) -> None:
        """Settle what one configuration leaves open for the model that was chosen.

        FreqAI stores models and predictions under `freqai.identifier` and finds predictions again
        by identifier, pair and date alone. With one identifier for all, the second model of a
        comparison would be handed the predictions of the first. The placeholder `{freqaimodel}`
        gives every model an identifier of its own.

        freqtrade builds the strategy before FreqAI's model, and both hold the same configuration;
        no hook is earlier.
        """
        settings = config.get(SECTION, {})
        check_section(settings)
        self._settle_config(config)
        super().__init__(config)
        known = {key: value for key, value in settings.items() if value is not None}
        fee = config.get("fee")
        self.fee = float(known.get("fee", 0.001) if fee is None else fee)
        self.slippage = float(known.get("slippage", 0.0002))
        margin = settings.get("interval_margin")
        self.interval_margin = None if margin is None else float(margin)
        self._warned_without_btc = False
        self._warned_without_interval = False
        most = settings.get("max_disagreement")
        self.max_disagreement = None if most is None else float(most)
        self._warned_without_disagreement = False

    @staticmethod
    def _settle_config(config: Config) -> None:
        settings = config.get(SECTION, {})
        model = config.get("freqaimodel")
        freqai = config.get("freqai", {})
        # freqtrade's bias checkers run in this mode, and before each of their runs they empty the
        # folder of the identifier as it is written. So for them it stays as it is written: another
        # name would keep the predictions of the run before, and the bot's folder is left alone.
        is_bias_check = config.get("runmode") == RunMode.UTIL_NO_EXCHANGE
        if model and PLACEHOLDER in freqai.get("identifier", "") and not is_bias_check:
            freqai["identifier"] = freqai["identifier"].replace(PLACEHOLDER, model)
        own_parameters = settings.get("model_training_parameters", {})
        if model in own_parameters:
            freqai["model_training_parameters"] = own_parameters[model]

        timerange = settings.get("backtest_timerange")
        written = config.get("original_config", {}).get("timerange")
        is_backtest = config.get("runmode") in (RunMode.BACKTEST, RunMode.HYPEROPT)
        # A backtest of the bot's own predictions knows its range, and refuses another.
        is_replayed = config.get("freqai_backtest_live_models", False)
        is_open = config.get("timerange") == written and not is_replayed
        if timerange and is_backtest and is_open:
            config["timerange"] = timerange
            logger.info("Backtesting %s.backtest_timerange: %s", SECTION, timerange)

    def load_freqAI_model(self) -> None:  # noqa: N802
        """Load the model, and refuse one that answers something else than is asked here.

        freqtrade calls this before the first candle; its own hook for strategies comes after, and
        turns every error into a traceback.

        Raises:
            OperationalException: The model predicts classes where numbers are needed, or the other
                way round.
        """
        super().load_freqAI_model()
        answer = answer_of(self.freqai)
        if answer is not None and answer != self.answers:
            wanted = "Regressor" if self.answers == "numbers" else "Classifier"
            raise OperationalException(
                f"{type(self).__name__} needs {self.answers}, and {type(self.freqai).__name__} "
                f"predicts {answer}: choose a --freqaimodel such as LeaLSTM{wanted}, or another "
                f"--strategy (LeaFreqAIStrategy takes numbers, LeaDirectionStrategy classes)."
            )

    @property
    def plot_config(self) -> dict[str, Any]:
        """What freqtrade's plots and web page show."""
        return {
            "main_plot": {},
            "subplots": {
                **self.forecast_plots(),
                "expected return": {
                    "expected_return": {"color": "#9467bd"},
                    "required_return": {"color": "#7f7f7f"},
                },
                "do_predict": {"do_predict": {"color": "#8c564b", "type": "bar"}},
                "BTC trend (ATRs)": {"btc_trend": {"color": "#ff7f0e"}},
            },
        }

    def forecast_plots(self) -> dict[str, Any]:
        """Return the plots of what the model predicts."""
        lines = {
            LABEL: {"color": "#1f77b4"},
            "entry_threshold": {"color": "#2ca02c"},
            "exit_threshold": {"color": "#d62728"},
        }
        if self.predicts_intervals:
            lines[LOWER] = {"color": "#aec7e8", "fill_to": UPPER}
            lines[UPPER] = {"color": "#aec7e8"}
        return {"prediction (volatilities)": lines}

    @property
    def predicts_intervals(self) -> bool:
        """Whether the model is asked for intervals, so that their columns exist."""
        training = self.config.get("freqai", {}).get("model_training_parameters", {})
        return training.get("trainer_kwargs", {}).get("interval") is not None

    @property
    def horizon(self) -> int:
        """Candles that the target looks ahead."""
        try:
            return int(self.config["freqai"]["feature_parameters"]["label_period_candles"])
        except KeyError as error:
            raise OperationalException(
                f"{type(self).__name__} trades what a FreqAI model predicts, and the config lacks "
                f"{error} of freqai.feature_parameters.label_period_candles: start from the "
                f"config-lea.json that `freqai-lstm install` writes."
            ) from None

    @property
    def costs(self) -> float:
        """Fees and slippage of a round trip, as a fraction."""
        return 2 * (self.fee + self.slippage)

    @property
    def candle(self) -> timedelta:
        """Length of a candle."""
        return timedelta(seconds=timeframe_to_seconds(self.timeframe))

    @property
    def btc_pair(self) -> str | None:
        """The pair whose trend gates entries, or None where BTC itself is the stake."""
        stake = self.config["stake_currency"]
        if stake == "BTC":
            return None
        is_futures = self.config.get("trading_mode") == TradingMode.FUTURES
        return f"BTC/{stake}:{stake}" if is_futures else f"BTC/{stake}"

    def informative_pairs(self) -> list[tuple[str, str]]:
        """Ask for the candles of BTC, whether or not it is traded."""
        return [(self.btc_pair, self.timeframe)] if self.btc_pair else []

    def feature_engineering_expand_all(
        self, dataframe: DataFrame, period: int, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Add the features that depend on a period; once a period, timeframe and pair."""
        one_candle = returns(dataframe)
        moves = ratio(returns(dataframe, period), volatility(dataframe, period))
        highest = dataframe["high"].rolling(period).max()
        lowest = dataframe["low"].rolling(period).min()
        window = dataframe["close"].rolling(period)
        close = dataframe["close"].where(dataframe["close"] > 0)
        gains = one_candle.clip(lower=0).rolling(period).sum()
        losses = -one_candle.clip(upper=0).rolling(period).sum()

        dataframe["%-return-period"] = moves.clip(-FEATURE_CLIP, FEATURE_CLIP)
        dataframe["%-return-zscore-period"] = zscore(one_candle, period)
        dataframe["%-volume-zscore-period"] = zscore(dataframe["volume"], period)
        dataframe["%-atr-period"] = average_true_range(dataframe, period)
        dataframe["%-bollinger-width-period"] = 4 * window.std() / close
        dataframe["%-range-position-period"] = ratio(
            2 * dataframe["close"] - highest - lowest, highest - lowest
        )
        # Cutler's RSI from -1 to 1: simple sums, so its value does not depend on where data begin.
        dataframe["%-rsi-period"] = ratio(gains - losses, gains + losses)
        return dataframe

    def feature_engineering_expand_basic(
        self, dataframe: DataFrame, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Add the features without a period; once a timeframe and pair.

        The trend is here, not in `feature_engineering_standard`, so that the trend of BTC reaches
        every pair through `include_corr_pairlist`, aligned by FreqAI and by date. For training in
        a live bot the data provider has only the latest candles of BTC, a tenth of what is trained
        on; FreqAI hands this method the whole history.
        """
        span = dataframe["high"] - dataframe["low"]
        close = dataframe["close"].where(dataframe["close"] > 0)
        dataframe["%-return"] = returns(dataframe)
        dataframe["%-range"] = span / close
        dataframe["%-close-position"] = ratio(
            2 * dataframe["close"] - dataframe["high"] - dataframe["low"], span
        )
        dataframe["%-trend"] = trend(dataframe)
        return dataframe

    def feature_engineering_standard(
        self, dataframe: DataFrame, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Add the hour of the day and the day of the week as points on a circle."""
        date = dataframe["date"].dt
        day = (date.hour + date.minute / 60) / 24
        week = (date.day_of_week + day) / 7
        dataframe["%-hour-sin"] = np.sin(2 * np.pi * day)
        dataframe["%-hour-cos"] = np.cos(2 * np.pi * day)
        dataframe["%-weekday-sin"] = np.sin(2 * np.pi * week)
        dataframe["%-weekday-cos"] = np.cos(2 * np.pi * week)
        return dataframe

    def set_freqai_targets(
        self, dataframe: DataFrame, metadata: dict[str, Any], **kwargs: Any
    ) -> DataFrame:
        """Set the target: the coming return in volatilities.

        It is NaN in the last `label_period_candles` rows, whose future is unknown, and where the
        market stood still; FreqAI leaves such rows out of training.
        """
        scale = volatility(dataframe, self.horizon)
        coming = returns(dataframe, self.horizon).shift(-self.horizon)
        target = ratio(coming, scale, flat=np.nan)
        # FreqAI's frame is in a hundred pieces, which pandas warns about; a copy is in one.
        dataframe = dataframe.copy()
        dataframe[LABEL] = target.clip(-LABEL_CLIP, LABEL_CLIP)
        return dataframe

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Let FreqAI predict, then add what the gates and exits compare the prediction with."""
        self._align_history_dates(dataframe)
        dataframe = self.freqai.start(dataframe, metadata, self)
        dataframe["volatility"] = volatility(dataframe, self.horizon)
        dataframe["expected_return"] = self.forecast(dataframe) * dataframe["volatility"]
        dataframe["atr"] = average_true_range(dataframe, ATR_CANDLES)
        dataframe["volume_mean"] = dataframe["volume"].rolling(VOLUME_CANDLES).mean()
        dataframe["btc_trend"] = self._btc_trend(dataframe, metadata["pair"])
        return dataframe

    def forecast(self, dataframe: DataFrame) -> Series:
        """Return the predicted move in volatilities."""
        return column(dataframe, LABEL)

    def _align_history_dates(self, dataframe: DataFrame) -> None:
        """Give the candles that a live FreqAI trains on the date type of the exchange's candles.

        Candles read from disk carry another UTC object than those from the exchange. FreqAI
        appends the new ones to the old ones, pandas 3 makes a column of objects of the two, and
        from the first new candle on every training fails in a merge. Aligned before the first is
        appended, the column stays one of dates.
        """
        drawer = getattr(self.freqai, "dd", None)
        if drawer is None or self.dp.runmode not in (RunMode.DRY_RUN, RunMode.LIVE):
            return
        wanted = dataframe["date"].dtype
        with drawer.history_lock:
            for frames in drawer.historic_data.values():
                for timeframe, frame in frames.items():
                    if not frame.empty and not _is_same_dtype(frame["date"].dtype, wanted):
                        frames[timeframe] = frame.assign(
                            date=to_datetime(frame["date"], utc=True).astype(wanted)
                        )

    def _btc_trend(self, dataframe: DataFrame, pair: str) -> Series:
        """Return the trend of BTC at the candles of `dataframe`; NaN where BTC has no candle.

        Both frames have the same timeframe, so a row meets the BTC candle that closes with it.
        Where there are no BTC candles at all, the pair's own trend stands in, with a warning.
        """
        if self.btc_pair is None or pair == self.btc_pair:
            return trend(dataframe)
        btc = self.dp.get_pair_dataframe(self.btc_pair, self.timeframe)
        if btc.empty:
            if not self._warned_without_btc:
                logger.warning(
                    "There are no candles of %s, so the trend of each pair gates its own entries.",
                    self.btc_pair,
                )
                self._warned_without_btc = True
            return trend(dataframe)
        by_date = Series(trend(btc).to_numpy(), index=btc["date"])
        return dataframe["date"].map(by_date)

    def entry_gates(self, dataframe: DataFrame, side: str = "long") -> DataFrame:
        """Return one boolean column a gate; a row is an entry where all are true.

        A missing or unfinished model leaves NaN or zeros and `do_predict` 0, which opens no gate.
        """
        sign = SIGNS[side]
        volume = column(dataframe, "volume")
        floor = self.volume_floor.value * column(dataframe, "volume_mean")
        required = self.cost_multiple.value * self.costs
        gates = {
            "trusted": column(dataframe, "do_predict") == 1,
            "profitable": sign * column(dataframe, "expected_return") > required,
            "trend": sign * column(dataframe, "btc_trend") > self.trend_floor.value,
            "volume": (volume > 0) & (volume >= floor),
        }
        return DataFrame(gates | self.forecast_gates(dataframe, side))

    def forecast_gates(self, dataframe: DataFrame, side: str) -> dict[str, Series]:
        """Return the gates that depend on how the model answers."""
        sign = SIGNS[side]
        deviation = column(dataframe, f"{LABEL}_std")
        above_mean = sign * (column(dataframe, LABEL) - column(dataframe, f"{LABEL}_mean"))
        gates = {"unusual": (deviation > 0) & (above_mean > self.entry_z.value * deviation)}
        if self.interval_margin is not None and self._has_interval(dataframe):
            near_end = sign * column(dataframe, LOWER if side == "long" else UPPER)
            surely = near_end * column(dataframe, "volatility")
            gates["sure"] = surely > self.costs + self.interval_margin
        if self.max_disagreement is not None and self._has_disagreement(dataframe):
            gates["agreed"] = column(dataframe, DISAGREEMENT) <= self.max_disagreement
        return gates

    def _has_disagreement(self, dataframe: DataFrame) -> bool:
        """Tell whether the model shows its members' disagreement; warn once where it does not."""
        if DISAGREEMENT in dataframe:
            return True
        if not self._warned_without_disagreement:
            logger.warning(
                "%s.max_disagreement is set, but the model shows no disagreement, so that rule "
                "does not count. Take LeaEnsembleRegressor, with columns on.",
                SECTION,
            )
            self._warned_without_disagreement = True
        return False

    def _has_interval(self, dataframe: DataFrame) -> bool:
        """Tell whether the model predicts intervals; warn once where it does not."""
        if LOWER in dataframe and UPPER in dataframe:
            return True
        if not self._warned_without_interval:
            logger.warning(
                "%s.interval_margin is set, but the model predicts no intervals, so that rule does "
                "not count. Set interval among the model's training settings, for example to 0.8.",
                SECTION,
            )
            self._warned_without_interval = True
        return False

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides that may be traded."""
        return ("long", "short") if self.can_short else ("long",)

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Mark the candles at which all gates are open."""
        self.add_thresholds(dataframe)
        dataframe["required_return"] = self.cost_multiple.value * self.costs
        for side in self.sides:
            enter = self.entry_gates(dataframe, side).all(axis=1)
            dataframe.loc[enter, [f"enter_{side}", "enter_tag"]] = (1, "prediction")
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        """Mark the candles at which a trusted prediction has turned against the position."""
        for side in self.sides:
            leave = self.has_turned(dataframe, side)
            dataframe.loc[leave, [f"exit_{side}", "exit_tag"]] = (1, "prediction_turned")
        return dataframe

    def add_thresholds(self, dataframe: DataFrame) -> None:
        """Add what the plot compares the prediction with."""
        deviation = column(dataframe, f"{LABEL}_std")
        mean = column(dataframe, f"{LABEL}_mean")
        dataframe["entry_threshold"] = mean + self.entry_z.value * deviation
        dataframe["exit_threshold"] = mean - self.exit_z.value * deviation

    def has_turned(self, dataframe: DataFrame, side: str) -> Series:
        """Tell at which candles a trusted prediction speaks against a position on `side`."""
        deviation = column(dataframe, f"{LABEL}_std")
        above_mean = SIGNS[side] * (column(dataframe, LABEL) - column(dataframe, f"{LABEL}_mean"))
        trusted = (column(dataframe, "do_predict") == 1) & (deviation > 0)
        return trusted & (above_mean < -self.exit_z.value * deviation)

    def newest_row(self, pair: str, current_time: datetime) -> Series | None:
        """Return the newest analyzed candle, or None where there is none that is fresh.

        A candle is stale once the candle after it has closed too.
        """
        dataframe, _ = self.dp.get_analyzed_dataframe(pair, self.timeframe)
        if dataframe.empty:
            return None
        row = dataframe.iloc[-1]
        is_stale = current_time > row["date"] + 2 * self.candle
        return None if is_stale else row

    def confirm_trade_entry(
        self,
        pair: str,
        order_type: str,
        amount: float,
        rate: float,
        time_in_force: str,
        current_time: datetime,
        entry_tag: str | None,
        side: str,
        **kwargs: Any,
    ) -> bool:
        """Check every gate again on the newest candle, and that the price has not run away."""
        row = self.newest_row(pair, current_time)
        if row is None:
            logger.info("No entry into %s: its newest analyzed candle is missing or stale.", pair)
            return False
        gates = self.entry_gates(row.to_frame().T, side).iloc[0]
        if not gates.all():
            shut = ", ".join(gates.index[~gates.astype(bool)])
            logger.info("No entry into %s: shut gates: %s.", pair, shut)
            return False
        left = SIGNS[side] * (row["expected_return"] - (rate / row["close"] - 1))
        if left <= self.cost_multiple.value * self.costs:
            logger.info("No entry into %s: at %s the expected return is gone.", pair, rate)
            return False
        return True

    def custom_stake_amount(
        self,
        pair: str,
        current_time: datetime,
        current_rate: float,
        proposed_stake: float,
        min_stake: float | None,
        max_stake: float,
        leverage: float,
        entry_tag: str | None,
        side: str,
        **kwargs: Any,
    ) -> float:
        """Stake more on a prediction that stands out more, within the exchange's bounds."""
        share = self.stake_share(self.newest_row(pair, current_time), side)
        return min(max(proposed_stake * share, min_stake or 0.0), max_stake)

    def stake_share(self, row: Series | None, side: str = "long") -> float:
        """Return the share of the proposed stake, from `smallest_share` to 1."""
        confidence = np.nan if row is None else self.confidence(row, side)
        if not np.isfinite(confidence):
            return self.smallest_share
        share = float(np.clip(confidence, 0.0, 1.0))
        return self.smallest_share + (1 - self.smallest_share) * share

    def confidence(self, row: Series, side: str) -> float:
        """Return 0 for a prediction at the entry threshold, 1 where the whole stake is due."""
        deviation = row.get(f"{LABEL}_std", np.nan)
        if not deviation > 0:
            return np.nan
        z = SIGNS[side] * (row[LABEL] - row[f"{LABEL}_mean"]) / deviation
        return float((z - self.entry_z.value) / self.full_stake_z)

    def usual_move(self, pair: str, current_time: datetime) -> float | None:
        """Return the ATR stretched from one candle to the horizon, as a fraction of the price."""
        row = self.newest_row(pair, current_time)
        atr = np.nan if row is None else row.get("atr", np.nan)
        return float(atr * np.sqrt(self.horizon)) if atr > 0 else None

    def custom_exit(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        **kwargs: Any,
    ) -> str | None:
        """Leave at the target, or when the time that the prediction spoke of is over."""
        longest = self.hold_multiple.value * self.horizon * self.candle
        if current_time - trade.open_date_utc >= longest:
            return "horizon_passed"
        move = self.usual_move(pair, current_time)
        if move is not None and current_profit >= self.target_multiple.value * move:
            return "target_reached"
        return None

    def custom_stoploss(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        after_fill: bool,
        **kwargs: Any,
    ) -> float | None:
        """Trail the price at a distance of a few usual moves; freqtrade only ever tightens it."""
        move = self.usual_move(pair, current_time)
        if move is None:
            return None
        return -min(self.stop_multiple.value * move, -self.stoploss)
