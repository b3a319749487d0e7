"""The training loop and the prediction loop.

`fit` -> `_run_epoch` -> `_train_step`: each does one thing. Rows stay one tensor on the device,
batches are index vectors, and the loss is read once an epoch.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.config import TrainConfig
from freqai_lstm_plugins.data.windows import (
    WindowSet,
    gather_windows,
)
from freqai_lstm_plugins.errors import ConfigError, DataError, TrainingError
from freqai_lstm_plugins.nets import RecurrentNet
from freqai_lstm_plugins.nets.cpu.cells import compiled_kernels
from freqai_lstm_plugins.nets.cpu.memory import keep_memory
from freqai_lstm_plugins.nets.cpu.threads import team
from freqai_lstm_plugins.nets.recurrent import SMALLEST_OWN_BATCH
from freqai_lstm_plugins.nets.symbols import inner_net
from freqai_lstm_plugins.training.batches import Batch, dense_batches, exact_batches
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.objectives import Answer, Numbers, Quantiles
from freqai_lstm_plugins.training.prediction import all_outputs


@dataclass(frozen=True)
class Trained:
    """Outcome of `fit`: the history, and the optimizer's state for continual learning."""

    history: History
    optimizer_state: dict[str, Any]


def fit(
    net: nn.Module,
    train: WindowSet,
    valid: WindowSet | None,
    config: TrainConfig,
    answer: Answer | None = None,
    *,
    optimizer_state: dict[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train `net` in place and leave the best weights in it.

    Args:
        net: Maps (B, W, F) to (B, O), on the device to train on.
        train: Windows to learn from.
        valid: Windows that decide the best epoch and early stopping; None or empty trains all
            epochs and keeps the last weights.
        config: Training settings.
        answer: What the net's outputs mean; by default one number a target, whose squared error
            counts.
        optimizer_state: State of an earlier training to go on from.
        on_epoch: Called after each epoch.

    Raises:
        DataError: There is no training window, or net and targets disagree in shape.
        ConfigError: Dense supervision of a net that cannot serve it.
        TrainingError: A loss is no longer finite.
    """
    require_windows(train)
    with _sharing(net, config):
        return _fit(net, train, valid, config, answer, optimizer_state, on_epoch)


@contextmanager
def _sharing(net: nn.Module, config: TrainConfig) -> Iterator[None]:
    """Let parts of each batch run beside each other where the steps of a net are compiled.

    Dense supervision has too few sequences a batch for that.
    """
    is_on_cpu = next(net.parameters()).device.type == "cpu"
    is_wide = config.supervision == "exact" and config.batch_size >= SMALLEST_OWN_BATCH
    if is_on_cpu and is_wide and isinstance(inner_net(net), RecurrentNet) and compiled_kernels():
        with team(torch.get_num_threads()), keep_memory():
            yield
    else:
        yield


def _fit(
    net: nn.Module,
    train: WindowSet,
    valid: WindowSet | None,
    config: TrainConfig,
    answer: Answer | None,
    optimizer_state: dict[str, Any] | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> Trained:
    device = next(net.parameters()).device
    train = train.to(device)
    valid = valid.to(device) if valid is not None and len(valid) else None
    answer = answer or Numbers(train.targets.shape[1])
    _check_output(net, train, answer)
    _check_supervision(net, config.supervision)
    optimizer = _optimizer(net, config, optimizer_state)
    n_epochs = count_epochs(config, len(train))
    schedule = _schedule(optimizer, config, n_epochs)
    history = History(
        n_train_windows=len(train), n_valid_windows=0 if valid is None else len(valid)
    )
    generator = torch.Generator().manual_seed(config.seed)
    best_loss, best_weights = math.inf, None
    for number in range(1, n_epochs + 1):
        started = time.perf_counter()
        rate = float(optimizer.param_groups[0]["lr"])
        train_loss = _run_epoch(net, train, answer, optimizer, config, generator)
        valid_loss = None if valid is None else mean_loss(net, valid, answer)
        watched = train_loss if valid_loss is None else valid_loss
        if not (math.isfinite(train_loss) and math.isfinite(watched)):
            raise TrainingError(_divergence_message(number, train_loss, valid_loss, config))
        epoch = Epoch(number, train_loss, valid_loss, rate, time.perf_counter() - started)
        history.epochs.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
        if valid is None or watched < best_loss:
            best_loss, history.best_epoch = watched, number
            if valid is not None:
                best_weights = copy.deepcopy(net.state_dict())
        elif config.patience and number - history.best_epoch >= config.patience:
            break
        _advance(schedule, watched)
    if best_weights is not None:
        net.load_state_dict(best_weights)
    # Without validation nothing has looked at what the last step made of the weights.
    elif not all(bool(weight.isfinite().all()) for weight in net.parameters()):
        raise TrainingError(_divergence_message(n_epochs, math.nan, None, config))
    net.eval()
    # A bot keeps many fitted nets, and nobody asks for their gradients.
    net.zero_grad(set_to_none=True)
    return Trained(history, optimizer.state_dict())


def require_windows(train: WindowSet) -> None:
    """Raise DataError where there is no training window."""
    if len(train) == 0:
        raise DataError(
            f"No training window: {len(train.rows)} rows hold no {train.window} consecutive usable "
            f"rows that end at a row with a target. Give more rows, or a smaller window."
        )


def _optimizer(
    net: nn.Module, config: TrainConfig, state: dict[str, Any] | None
) -> torch.optim.Optimizer:
    """Make AdamW, which goes on from `state` under the settings of `config`."""
    optimizer = torch.optim.AdamW(
        net.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        # One pass over all weights; where torch has none it falls back by itself on None.
        fused=next(net.parameters()).device.type in {"cpu", "cuda"} or None,
    )
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
        for group in optimizer.param_groups:
            group.update(lr=config.learning_rate, weight_decay=config.weight_decay)
    return optimizer


def count_epochs(config: TrainConfig, n_windows: int) -> int:
    """Return the epochs to train: `max_epochs`, or as many as make `n_steps` steps."""
    if config.max_epochs is not None:
        return config.max_epochs
    assert config.n_steps is not None
    steps_an_epoch = math.ceil(n_windows / config.batch_size)
    return max(round(config.n_steps / steps_an_epoch), 1)


def _check_supervision(net: nn.Module, supervision: str) -> None:
    if supervision == "dense" and not hasattr(net, "forward_steps"):
        raise ConfigError(
            f"supervision = 'dense' needs a net with a method forward_steps(x, n_steps), and "
            f"{type(net).__name__} has none: set supervision to 'exact'."
        )


def _check_output(net: nn.Module, train: WindowSet, answer: Answer) -> None:
    net.eval()
    with torch.no_grad():
        output = net(gather_windows(train.rows, train.ends[:1], train.window))
    expected = (1, answer.n_outputs)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != expected:
        raise DataError(
            f"The net maps one window (1, {train.window}, {train.rows.shape[1]}) to {shape}, but "
            f"the targets need {expected}: its last layer must give one number {_each(answer)}."
        )


def _each(answer: Answer) -> str:
    if isinstance(answer, Quantiles):
        return f"for each of the quantiles {list(answer.levels)} of each target"
    return "a target" if isinstance(answer, Numbers) else "a class"


def _run_epoch(
    net: nn.Module,
    train: WindowSet,
    answer: Answer,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    generator: torch.Generator,
) -> float:
    net.train()
    total = torch.zeros((), device=train.ends.device)
    if config.supervision == "dense":
        batches = dense_batches(train, config.batch_size, generator)
    else:
        batches = exact_batches(net, train, config.batch_size, generator)
    for batch in batches:
        loss = _train_step(net, batch, answer, optimizer, config.gradient_clip)
        total += loss * len(batch.targets)
    return float(total.item()) / len(train)


def _train_step(
    net: nn.Module,
    batch: Batch,
    answer: Answer,
    optimizer: torch.optim.Optimizer,
    gradient_clip: float,
) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss = (answer.loss(batch.predict(net), batch.targets) * batch.weights).mean()
    loss.backward()
    if gradient_clip:
        nn.utils.clip_grad_norm_(net.parameters(), gradient_clip)
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def mean_loss(net: nn.Module, windows: WindowSet, answer: Answer | None = None) -> float:
    """Return the weighted mean loss of `net` in evaluation mode; `answer` as in `fit`."""
    answer = answer or Numbers(windows.targets.shape[1])
    net.eval()
    outputs = all_outputs(net, windows.rows, windows.ends, windows.window)
    losses = answer.loss(outputs, windows.targets) * windows.weights
    return float((losses.sum() / windows.weights.sum()).item())


Schedule = torch.optim.lr_scheduler.LRScheduler | torch.optim.lr_scheduler.ReduceLROnPlateau | None


def _schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, n_epochs: int) -> Schedule:
    if config.lr_schedule == "plateau":
        patience = max((config.patience or 15) // 3, 1)
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    if config.lr_schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_epochs)
    return None


def _advance(schedule: Schedule, loss: float) -> None:
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        schedule.step(loss)
    elif schedule is not None:
        schedule.step()


def _divergence_message(
    number: int, train_loss: float, valid_loss: float | None, config: TrainConfig
) -> str:
    losses = f"training loss {train_loss}"
    if valid_loss is not None:
        losses += f", validation loss {valid_loss}"
    clip = "" if config.gradient_clip else " and a gradient_clip of 1.0"
    return (
        f"Training stopped in epoch {number}: {losses}. Try a lower learning_rate "
        f"(now {config.learning_rate:g}){clip}, and look for extreme feature or label values."
    )
