"""Models whose kind is not known beforehand: made from settings, ensembles too, or from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.checkpoint import (
    Checkpoint,
    model_class,
    read_checkpoint,
    write_checkpoint,
)
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models import catalogue
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.models.ensemble.settings import (
    EnsembleConfig,
    make_member,
    read_members,
)
from freqai_lstm_plugins.models.estimator import SequenceEstimator, with_net
from freqai_lstm_plugins.models.intervals import rows_for
from freqai_lstm_plugins.models.tabular import TabularRegressor
from freqai_lstm_plugins.names import closest
from freqai_lstm_plugins.training.devices import require_device_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freqai_lstm_plugins.models.contract import Model
    from freqai_lstm_plugins.models.parameters import NetFactory

ENSEMBLE = EnsembleRegressor.kind


def model_names() -> list[str]:
    """Return the names of all models that can be made."""
    return [*catalogue.model_names(), ENSEMBLE]


def new_model(
    name: str,
    settings: Mapping[str, Any],
    *,
    window: int,
    seed: int,
    symbol_embedding: int = 0,
    label_period: int = 0,
) -> Model:
    """Make a model, or an ensemble of them, that is not trained yet.

    Args:
        name: Name of a net, of a tree, `ridge`, of a naive forecast, or `ensemble`.
        settings: Its settings, without those below; those of an ensemble hold its `members`.
        window: W.
        seed: Seed of whatever it draws.
        symbol_embedding: Learned numbers that tell a net the symbol, where rows name one.
        label_period: Rows that a target looks ahead.

    Raises:
        ConfigError: No model has that name, or it has no such setting.
        MissingExtraError: The library of an ensemble's member is not installed.
    """
    if name == ENSEMBLE:
        own = dict(settings)
        members = own.pop("members", {})
        placed = {
            "seed": seed,
            "symbol_embedding": symbol_embedding,
            "label_period": label_period,
        }
        return EnsembleRegressor(members, window=window, **(placed | own))
    if name not in catalogue.model_names():
        raise ConfigError(
            f"unknown model {name!r}: the models are {', '.join(model_names())}."
            f"{closest(name, model_names())}"
        )
    return catalogue.new_model(
        name, settings, window=window, seed=seed, symbol_embedding=symbol_embedding
    )


def require_trainable(model: Model, *, window: int, n_train: int, n_valid: int) -> None:
    """Raise ConfigError where a model's settings allow no training, whatever the rows hold.

    Args:
        model: Not trained yet.
        window: W.
        n_train: Training rows at most.
        n_valid: Validation rows at most.
    """
    if isinstance(model, EnsembleRegressor):
        for number, member in enumerate(model.members):
            made = make_member(member, number, model.config, window)
            if isinstance(made, TabularRegressor):
                made.require_window(window)
    elif isinstance(model, TabularRegressor):
        model.require_window(window)
        _require_rows(model.config.interval, n_valid)
    elif isinstance(model, SequenceEstimator):
        config = model.train_config
        require_device_name(config.device)
        _require_rows(config.interval, n_valid)
        if config.min_windows is not None and config.min_windows > n_train:
            raise ConfigError(
                f"min_windows = {config.min_windows} asks for more windows than the {n_train} "
                f"training rows that there are. Set it lower, or give more rows."
            )


def _require_rows(interval: float | None, n_valid: int) -> None:
    if interval is not None and rows_for(interval) > n_valid:
        raise ConfigError(
            f"interval = {interval:g} needs at least {rows_for(interval)} validation rows to be "
            f"calibrated on, and there are {n_valid}. Validate on more rows, or ask for a smaller "
            f"interval."
        )


def settings_classes(name: str) -> tuple[type[Any], ...]:
    """Return the classes that hold a model's settings; those of an ensemble hold no members.

    Raises:
        ConfigError: No model has that name.
    """
    return (EnsembleConfig,) if name == ENSEMBLE else catalogue.settings_classes(name)


def depends_on_seed(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether trainings from two seeds may differ; those that cannot are made once."""
    if name != ENSEMBLE:
        return catalogue.depends_on_seed(name, settings)
    members = read_members(settings.get("members", {}))
    return any(catalogue.depends_on_seed(member.kind, member.settings) for member in members)


def takes_symbols(name: str) -> bool:
    """Whether a model of a panel can be told the symbol."""
    return name == ENSEMBLE or catalogue.takes_symbols(name)


def takes_threads(name: str) -> bool:
    """Whether a model has the setting `num_threads`."""
    return name == ENSEMBLE or catalogue.takes_threads(name)


def from_checkpoint(checkpoint: Checkpoint) -> Any:
    """Build the model that a file holds; a net of one's own waits for `bind`.

    Raises:
        CheckpointError: The state is damaged, or of another version.
    """
    return model_class(checkpoint.kind).from_state(checkpoint.state)


def load_model(path: str | Path, net: NetFactory | None = None) -> Any:
    """Read a model of any kind from a file without executing anything that it holds.

    Args:
        path: A file that `save`, `save_model` or freqtrade wrote.
        net: The function that makes the net, where the file holds a net of your own.

    Raises:
        CheckpointError: The file is damaged, foreign, too new, or its weights do not fit `net`.
    """
    model = from_checkpoint(read_checkpoint(Path(path)))
    return with_net(model, path, net) if isinstance(model, SequenceEstimator) else model


def save_model(model: Model, path: str | Path) -> None:
    """Write a fitted model of any kind in `KINDS` to a file, whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_checkpoint(Checkpoint(model.kind, model.to_state()), Path(path))
