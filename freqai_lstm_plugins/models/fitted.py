"""What a training leaves, and the training of a net itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.models.building import new_net, start_from_constant
from freqai_lstm_plugins.models.yardstick import with_yardstick
from freqai_lstm_plugins.names import require_names
from freqai_lstm_plugins.training.devices import choose_device, seeded, torch_threads
from freqai_lstm_plugins.training.loop import (
    Trained,
    count_epochs,
    fit,
    require_windows,
    resolve_supervision,
)
from freqai_lstm_plugins.training.progress import epoch_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from freqai_lstm_plugins.data.preparation import Prepared, Schema
    from freqai_lstm_plugins.data.scaling import Scaling
    from freqai_lstm_plugins.models.intervals import Calibration
    from freqai_lstm_plugins.models.parameters import Parameters
    from freqai_lstm_plugins.training.history import Epoch, History
    from freqai_lstm_plugins.training.objectives import Answer


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model, whole: a model is given it in one assignment, or keeps what it had.

    Attributes:
        net: The net; None where a model was loaded whose own net nobody has built yet.
        weights: What that net will get; None once there is a net.
        schema: Names of features, targets, classes and symbols.
        scaling: How rows and targets are standardized; None where the model does not scale.
        history: Losses of the training.
        blank: The forecast that knows nothing, in the net's units: (K,) mean training target, or
            (O,) frequency of each class.
        optimizer_state: AdamW's state, from which a training can go on.
        calibration: How far intervals reach; None without intervals.
    """

    net: nn.Module | None
    weights: dict[str, Tensor] | None
    schema: Schema
    scaling: Scaling | None
    history: History
    blank: list[float]
    optimizer_state: dict[str, Any] | None = None
    calibration: Calibration | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, whether they are in a net yet or not."""
        if self.net is not None:
            return self.net.state_dict()
        return self.weights or {}


def require_same_names(data: Prepared, former: Fitted) -> None:
    """Raise MismatchError where a former model knows other classes or symbols."""
    mine, theirs = (
        [repr(name) for names in schema.classes for name in names]
        for schema in (data.schema, former.schema)
    )
    require_names("classes", mine, theirs)
    require_names("symbols", data.schema.symbols, former.schema.symbols)


def require_enough(data: Prepared, min_windows: int | None) -> None:
    """Raise DataError where there are too few training windows to learn anything from."""
    require_windows(data.train)
    least = data.train.window if min_windows is None else min_windows
    if len(data.train) < least:
        raise DataError(
            f"{len(data.train)} training windows of {data.train.window} rows are too few to learn "
            f"from: min_windows is {least}. Give more rows, or set min_windows lower."
        )


def train_net(
    parameters: Parameters,
    data: Prepared,
    answer: Answer,
    former: Fitted | None = None,
    on_epoch: Callable[[Epoch], bool | None] | None = None,
) -> tuple[nn.Module, Trained]:
    """Build a net, or go on from a former one's weights, and train it.

    Args:
        parameters: Which net, and how it is trained.
        data: Windows to learn from and to validate.
        answer: What the net's outputs mean.
        former: A fitted model of the same shape. It is only read, so it may go on predicting in
            another thread.
        on_epoch: Called after each epoch.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    config, schema = parameters.train, data.schema
    device = choose_device(config.device)
    n_symbols = len(schema.symbols)
    with torch_threads(config.num_threads), seeded(config.seed):
        n_features = data.train.rows.shape[1] - bool(n_symbols)
        net = new_net(parameters, n_features, answer.n_outputs, n_symbols).to(device)
        if former is not None:
            net.load_state_dict(former.state_dict())
        else:
            start_from_constant(net, parameters, answer, data.train)
        n_epochs = count_epochs(resolve_supervision(config, net), data.train)
        show, name = parameters.data.progress, parameters.net_name
        with epoch_progress(show, n_epochs, name, on_epoch) as report:
            trained = fit(
                net,
                data.train,
                data.valid,
                config,
                answer,
                optimizer_state=None if former is None else former.optimizer_state,
                on_epoch=report,
            )
        history = with_yardstick(trained.history, trained.valid_outputs, data, answer, name)
    return net, replace(trained, history=history)
