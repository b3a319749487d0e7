"""Every regressor of the contract by its name, made from settings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.config import TrainConfig
from freqai_lstm_plugins.errors import ConfigError, MissingExtraError
from freqai_lstm_plugins.models.boosting import LightGBM, XGBoost
from freqai_lstm_plugins.models.linear import Ridge
from freqai_lstm_plugins.models.naive import NaiveLast, NaiveZero
from freqai_lstm_plugins.models.regressor import SequenceRegressor
from freqai_lstm_plugins.names import closest
from freqai_lstm_plugins.nets import NETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.models.contract import Model
    from freqai_lstm_plugins.models.tabular import TabularRegressor

TABULAR: dict[str, type[TabularRegressor]] = {
    model.kind: model for model in (LightGBM, XGBoost, Ridge)
}
NAIVE: dict[str, type[NaiveZero]] = {model.kind: model for model in (NaiveZero, NaiveLast)}
# What the extra `trees` brings for a model: package -> what it is imported as.
_PACKAGES = {
    "lightgbm": ("lightgbm", "lightgbm"),
    "xgboost": ("xgboost", "xgboost"),
    "ridge": ("scikit-learn", "sklearn"),
}
# Settings of a regressor that reads a user's own rows.
_OF_THE_DATA = ("valid_size", "label_period", "step", "symbol", "scale", "progress")
# What whoever makes the model says once, for nets as for everything else.
_OF_THE_MAKER = ("net", "window", "symbol_embedding")
# Settings by which a tree depends on its seed.
_DRAWS = ("subsample", "colsample_bytree")


def model_names() -> list[str]:
    """Return the names of all models that can be made."""
    return [*NETS, *TABULAR, *NAIVE]


def new_model(
    name: str, settings: Mapping[str, Any], *, window: int, seed: int, symbol_embedding: int = 0
) -> Model:
    """Make a model that is not trained yet.

    Args:
        name: Name of a net, of a tree, `ridge`, or of a naive forecast.
        settings: Its settings, without those below.
        window: W.
        seed: Seed of whatever it draws.
        symbol_embedding: Learned numbers that tell a net the symbol, where rows name one.

    Raises:
        ConfigError: No model has that name, or it has no such setting.
    """
    if name in NETS:
        given = next((key for key in settings if key in _OF_THE_DATA), None)
        if given is not None:
            raise ConfigError(
                f"{name}: {given} counts for nothing here, as rows are split and scaled for all "
                f"models alike. Leave it out."
            )
        given = next((key for key in settings if key in _OF_THE_MAKER), None)
        if given is not None:
            raise ConfigError(
                f"{name}: {given} = {settings[given]!r} is said elsewhere, once for all that is "
                f"trained on these windows. Leave it out."
            )
        options = {"progress": False, "seed": seed, **settings}
        return SequenceRegressor(
            net=name, window=window, symbol_embedding=symbol_embedding, **options
        )
    if name in TABULAR:
        return TABULAR[name](**{"seed": seed, **settings})
    if name in NAIVE:
        if settings:
            raise ConfigError(f"{name} has no settings, not {next(iter(settings))!r}.")
        return NAIVE[name]()
    raise _unknown(name)


def _unknown(name: str) -> ConfigError:
    return ConfigError(
        f"unknown model {name!r}: the models are {', '.join(model_names())}."
        f"{closest(name, model_names())}"
    )


def require_library(name: str) -> None:
    """Raise MissingExtraError where a model's library is not installed."""
    package, module = _PACKAGES.get(name, ("", ""))
    if module and find_spec(module) is None:
        raise MissingExtraError(package, "trees", f"The model {name}")


def settings_classes(name: str) -> tuple[type[Any], ...]:
    """Return the classes that hold a model's settings, none for a model without settings.

    Raises:
        ConfigError: No model has that name.
    """
    if name in NETS:
        return (NETS[name].config, TrainConfig)
    if name in TABULAR:
        return (TABULAR[name].config_class,)
    if name in NAIVE:
        return ()
    raise _unknown(name)


def depends_on_seed(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether trainings from two seeds may differ; those that cannot are made once."""
    if name in NETS:
        return True
    return name in TABULAR and any(settings.get(draw, 1) != 1 for draw in _DRAWS)


def takes_symbols(name: str) -> bool:
    """Whether a model of a panel can be told the symbol."""
    return name in NETS or name in TABULAR


def takes_threads(name: str) -> bool:
    """Whether a model has the setting `num_threads`."""
    return name in NETS or name in TABULAR


def is_adaptive(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a model's interval is wider at some rows than at others."""
    if name in NETS:
        loss = settings.get("loss", "auto")
        return bool(
            loss == "quantile" or (loss == "auto" and NETS[name].default_loss == "quantile")
        )
    return name in TABULAR and settings.get("loss") == "quantile"
