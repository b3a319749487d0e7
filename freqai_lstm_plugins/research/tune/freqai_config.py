"""Writes chosen settings as a complete config of freqtrade, from the package's own template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.config import TrainConfig, field_names
from freqai_lstm_plugins.data.candles import bar_length
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.files import write_text
from freqai_lstm_plugins.install import LONGER, MINUTES, Market, config_text
from freqai_lstm_plugins.models.registry import ENSEMBLE
from freqai_lstm_plugins.research.tune.choice import Choice, settings_hash
from freqai_lstm_plugins.research.tune.ranges import WINDOW, default_settings

if TYPE_CHECKING:
    from pathlib import Path

    from freqai_lstm_plugins.research.tune.session import Session

# Kind -> the class that freqtrade finds by its name.
FREQAI_MODELS = {
    "lstm": "LeaLSTMRegressor",
    "gru": "LeaGRURegressor",
    "alstm": "LeaALSTMRegressor",
    "tft": "LeaTFTRegressor",
    "lightgbm": "LightGBMRegressor",
    "xgboost": "XGBoostRegressor",
    ENSEMBLE: "LeaEnsembleRegressor",
}
# Kind -> the library's names of losses.
OBJECTIVES = {
    "lightgbm": {"mse": "regression", "mae": "regression_l1"},
    "xgboost": {"mse": "reg:squarederror", "mae": "reg:absoluteerror"},
}
# What freqtrade's own trees do not have, or have under another name.
NOT_FOR_TREES = ("early_stopping_rounds", "lags", "loss", "interval", "num_threads", "seed")


def freqai_config(session: Session, choice: Choice) -> dict[str, Any]:
    """Return the config of a bot that trades the experiment's pairs with the chosen settings.

    Raises:
        ConfigError: freqtrade has no such model, or the symbols are no pairs of one market.
    """
    kind, experiment = session.task.kind, session.task.experiment
    if kind not in FREQAI_MODELS:
        raise ConfigError(
            f"--write-config: freqtrade has no model for {kind}, only for "
            f"{', '.join(FREQAI_MODELS)}."
        )
    config = json.loads(config_text(_market(session)))
    settings = {**session.task.settings, **choice.winner.settings}
    window = int(settings.pop(WINDOW))
    settings.pop("num_threads", None)
    model = FREQAI_MODELS[kind]
    parameters = _parameters(session, choice, settings)
    config["freqaimodel"] = model
    freqai = config["freqai"]
    freqai["conv_width"] = window
    freqai["feature_parameters"]["label_period_candles"] = experiment.label.horizon
    freqai["model_training_parameters"] = parameters
    if kind in OBJECTIVES:
        config["lea_strategy"]["model_training_parameters"][model] = parameters
    # Predictions that are cached under another identifier belong to other settings.
    del freqai["identifier"]
    digest = settings_hash({"model": model, "pairs": config["exchange"], **freqai})
    freqai["identifier"] = f"tuned-{kind}-{digest[:12]}"
    return dict(config)


def write_config(session: Session, choice: Choice, path: Path) -> None:
    """Write that config.

    Raises:
        ConfigError: See `freqai_config`; or the file cannot be written.
    """
    text = json.dumps(freqai_config(session, choice), indent=4) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def _market(session: Session) -> Market:
    pairs = tuple(session.task.started.dataset.tables)
    lacking = [pair for pair in pairs if "/" not in pair]
    if lacking:
        raise ConfigError(
            f"--write-config: {lacking[0]} is no pair such as BTC/USDT, so no bot can trade it."
        )
    return Market(pairs, _timeframe(session))


def _timeframe(session: Session) -> str:
    named = session.task.experiment.data.timeframe
    if named is not None:
        return named
    minutes = bar_length(session.task.started.dataset.calendar).total_seconds() / 60
    for timeframe in LONGER:
        if int(timeframe[:-1]) * MINUTES[timeframe[-1]] == minutes:
            return timeframe
    raise ConfigError(f"--write-config: freqtrade has no bars of {minutes:g} minutes.")


def _parameters(session: Session, choice: Choice, settings: dict[str, Any]) -> dict[str, Any]:
    kind = session.task.kind
    if kind == ENSEMBLE:
        return {"model_kwargs": settings}
    return _of_tree(session, choice) if kind in OBJECTIVES else _of_net(settings)


def _of_net(settings: dict[str, Any]) -> dict[str, Any]:
    training = {key: value for key, value in settings.items() if key in field_names(TrainConfig)}
    shape = {key: value for key, value in settings.items() if key not in training}
    found: dict[str, Any] = {}
    if "learning_rate" in training:
        found["learning_rate"] = training.pop("learning_rate")
    return found | {"model_kwargs": shape, "trainer_kwargs": training}


def _of_tree(session: Session, choice: Choice) -> dict[str, Any]:
    """Return what makes freqtrade's trees the ones that were tuned.

    All of it, for the libraries' defaults are not ours. Nothing ends freqtrade's trainings early by
    the validation rows, so as many trees are grown as the trainings of the search kept.
    """
    task = session.task
    settings = {**default_settings(task.kind), **task.settings, **choice.winner.settings}
    losses = OBJECTIVES[task.kind]
    for name, known in (("lags", ([0],)), ("loss", losses), ("interval", (None,))):
        if settings[name] not in known:
            raise ConfigError(
                f"--write-config: freqtrade's {FREQAI_MODELS[task.kind]} has nothing like "
                f"{name} = {settings[name]!r}: tune it with {next(iter(known))!r}."
            )
    found = {
        name: value
        for name, value in settings.items()
        if name not in (*NOT_FOR_TREES, WINDOW) and value is not None
    }
    found |= {
        "n_estimators": choice.winner.worth.passes,
        "objective": losses[settings["loss"]],
        "random_state": task.experiment.seeds[0],
    }
    # LightGBM takes all rows unless it is told how often to draw some.
    sampled = task.kind == "lightgbm" and settings["subsample"] < 1
    return found | ({"subsample_freq": 1} if sampled else {})
