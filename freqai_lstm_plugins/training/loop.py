"""The training loop.

`fit` -> `_run_epochs` -> `_train_epoch` -> `_train_step`: each does one thing. Rows stay one tensor
on the device, batches are index vectors, and the loss is read once an epoch.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import WindowSet, gather_windows
from freqai_lstm_plugins.errors import ConfigError, DataError, TrainingError
from freqai_lstm_plugins.nets import (
    is_stepwise,
    keeps_nothing,
    replayed_by_torch,
    seeded,
    splits_batches,
)
from freqai_lstm_plugins.nets.cpu import keep_memory, team
from freqai_lstm_plugins.training.averaging import WeightAverage
from freqai_lstm_plugins.training.batches import Batch, epoch_batches, steps_an_epoch
from freqai_lstm_plugins.training.history import Epoch, History
from freqai_lstm_plugins.training.objectives import Answer, Numbers, Quantiles
from freqai_lstm_plugins.training.prediction import all_outputs
from freqai_lstm_plugins.training.ranks import rank_correlation

if TYPE_CHECKING:
    from freqai_lstm_plugins.config import TrainConfig

OnEpoch = Callable[[Epoch], bool | None]

# Dropout draws from another stream than the initial weights, which have the seed itself.
_DROPOUT_STREAM = 2**32


@dataclass(frozen=True)
class Trained:
    """Outcome of `fit`.

    Attributes:
        history: Losses by epoch.
        optimizer_state: For continual learning.
        valid_outputs: (M, O) what the weights that are kept say of the validation windows, on the
            CPU; None without them.
    """

    history: History
    optimizer_state: dict[str, Any]
    valid_outputs: Tensor | None = None


@dataclass(frozen=True)
class _Task:
    """What a training is about; nothing of it changes but the weights of the net."""

    net: nn.Module
    train: WindowSet
    valid: WindowSet | None
    answer: Answer
    config: TrainConfig


@dataclass
class _Run:
    """What changes from step to step, and the weights of the best epoch so far."""

    optimizer: torch.optim.Optimizer
    average: WeightAverage
    batches: torch.Generator
    n_steps_left: float
    watched: float = math.inf
    best_watched: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Any] | None = None
    best_outputs: Tensor | None = None


def fit(
    net: nn.Module,
    train: WindowSet,
    valid: WindowSet | None,
    config: TrainConfig,
    answer: Answer | None = None,
    *,
    optimizer_state: dict[str, Any] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train `net` in place and leave the best weights in it.

    The order of batches and what dropout drops come from `config.seed` alone, whatever other
    threads draw.

    Args:
        net: Maps (B, W, F) to (B, O), on the device to train on.
        train: Windows to learn from.
        valid: Windows that decide the best epoch and early stopping; None or empty trains all
            epochs and keeps the last weights.
        config: Training settings.
        answer: What the net's outputs mean; by default one number a target, whose squared error
            counts.
        optimizer_state: State of an earlier training to go on from.
        on_epoch: Called after each epoch. Where it returns True the training ends as if it had
            run out of patience; what it raises ends it too, and leaves no usable net.

    Raises:
        DataError: There is no training window, or net and targets disagree in shape.
        ConfigError: Dense supervision of a net that cannot serve it.
        TrainingError: A loss is no longer finite.
    """
    require_windows(train)
    device = next(net.parameters()).device
    config = resolve_supervision(config, net)
    task = _Task(
        net,
        train.to(device),
        valid.to(device) if valid is not None and len(valid) else None,
        answer or Numbers(train.targets.shape[1]),
        config,
    )
    with _sharing(net), seeded(config.seed + _DROPOUT_STREAM):
        _check_output(net, task.train, task.answer)
        _check_supervision(net, config.supervision)
        optimizer = _optimizer(net, config, optimizer_state)
        history, outputs = _run_epochs(task, optimizer, on_epoch)
    net.eval()
    # A bot keeps many fitted nets, and nobody asks for their gradients.
    net.zero_grad(set_to_none=True)
    return Trained(history, optimizer.state_dict(), outputs)


@contextmanager
def _sharing(net: nn.Module) -> Iterator[None]:
    """Let parts of each batch run beside each other where the net's layers are made for that."""
    if splits_batches(net):
        with team(torch.get_num_threads()), keep_memory():
            yield
    else:
        yield


def _run_epochs(
    task: _Task, optimizer: torch.optim.Optimizer, on_epoch: OnEpoch | None
) -> tuple[History, Tensor | None]:
    config, net = task.config, task.net
    n_epochs = count_epochs(config, task.train)
    schedule = _schedule(optimizer, config, n_epochs)
    history = History(
        n_train_windows=len(task.train),
        n_valid_windows=0 if task.valid is None else len(task.valid),
    )
    batches = torch.Generator().manual_seed(config.seed)
    run = _Run(optimizer, WeightAverage(net, config.ema_decay), batches, _n_steps(config))
    for number in itertools.count(1):
        epoch = _run_epoch(task, run, number)
        history.epochs.append(epoch)
        history.best_epoch = run.best_epoch
        is_stopped = on_epoch is not None and on_epoch(epoch) is True
        is_stale = 0 < config.patience <= number - history.best_epoch
        is_last = run.n_steps_left <= 0 if config.max_epochs is None else number == n_epochs
        if is_stopped or is_stale or is_last:
            break
        _advance(schedule, run.watched)
    if run.best_weights is not None:
        net.load_state_dict(run.best_weights)
        return history, run.best_outputs
    run.average.exchange()
    # Without validation nothing has looked at what the last step made of the weights.
    if not all(bool(weight.isfinite().all()) for weight in net.parameters()):
        raise TrainingError(_divergence_message(number, math.nan, None, config))
    return history, None


def _run_epoch(task: _Task, run: _Run, number: int) -> Epoch:
    """Train on every window once, or until no step is left, and keep the weights if they are best.

    Raises:
        TrainingError: A loss is no longer finite.
    """
    started, rate = time.perf_counter(), float(run.optimizer.param_groups[0]["lr"])
    train_loss = _train_epoch(task, run)
    with run.average.applied():
        outputs = None if task.valid is None else _outputs(task.net, task.valid)
        valid_loss, run.watched = _judge(task, outputs, train_loss)
        if not all(map(math.isfinite, (train_loss, valid_loss or 0.0, run.watched))):
            raise TrainingError(_divergence_message(number, train_loss, valid_loss, task.config))
        if valid_loss is None:
            run.best_epoch = number
        elif run.watched < run.best_watched:
            run.best_watched, run.best_epoch = run.watched, number
            run.best_weights = copy.deepcopy(task.net.state_dict())
            run.best_outputs = None if outputs is None else outputs.float().cpu()
    return Epoch(number, train_loss, valid_loss, rate, time.perf_counter() - started)


def _train_epoch(task: _Task, run: _Run) -> float:
    """Take the steps of an epoch, and return the mean loss of the windows that were seen."""
    task.net.train()
    total, n_seen = torch.zeros((), device=task.train.ends.device), 0
    for batch in epoch_batches(task.net, task.train, task.config, run.batches):
        total += _train_step(task, batch, run.optimizer) * len(batch.targets)
        run.average.update()
        n_seen += len(batch.targets)
        run.n_steps_left -= 1
        # The next one is gathered without this one beside it.
        del batch
        if run.n_steps_left <= 0:
            break
    return float(total.item()) / n_seen


def _judge(task: _Task, outputs: Tensor | None, train_loss: float) -> tuple[float | None, float]:
    """Return the validation loss of outputs, and what the best epoch is the lowest in."""
    if task.valid is None or outputs is None:
        return None, train_loss
    loss = mean_loss(task.answer, outputs, task.valid)
    if task.config.monitor == "loss":
        return loss, loss
    weights = task.valid.weights.cpu()
    told = rank_correlation(task.answer, outputs.float().cpu(), task.valid.targets.cpu(), weights)
    return loss, -told


def _train_step(task: _Task, batch: Batch, optimizer: torch.optim.Optimizer) -> Tensor:
    net = task.net
    optimizer.zero_grad(set_to_none=True)
    with _own_draws(net):
        outputs = batch.predict(net)
        loss = (task.answer.loss(outputs, batch.targets) * batch.weights).mean()
        loss.backward()
    if task.config.gradient_clip:
        nn.utils.clip_grad_norm_(net.parameters(), task.config.gradient_clip)
    optimizer.step()
    return loss.detach()


def _own_draws(net: nn.Module) -> AbstractContextManager[None]:
    """Let a step draw as its net needs it: a user's may compute parts of itself again."""
    return nullcontext() if keeps_nothing(net) else replayed_by_torch()


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


def count_epochs(config: TrainConfig, train: WindowSet) -> int:
    """Return the epochs at most: `max_epochs`, or as many as `n_steps` steps begin."""
    if config.max_epochs is not None:
        return config.max_epochs
    return math.ceil(_n_steps(config) / max(steps_an_epoch(train, config), 1))


def _n_steps(config: TrainConfig) -> float:
    """Return the steps at most."""
    if config.max_epochs is not None:
        return math.inf
    assert config.n_steps is not None
    return config.n_steps


def resolve_supervision(config: TrainConfig, net: nn.Module) -> TrainConfig:
    """Return the settings with `auto` replaced by what the net can serve."""
    if config.supervision != "auto":
        return config
    return dataclasses.replace(config, supervision="dense" if is_stepwise(net) else "exact")


def _check_supervision(net: nn.Module, supervision: str) -> None:
    if supervision == "dense" and not is_stepwise(net):
        raise ConfigError(
            f"supervision = 'dense' needs a net with a method forward_steps(x, n_steps), and "
            f"{type(net).__name__} has none that looks at no later row: set supervision to 'exact'."
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


@torch.no_grad()
def _outputs(net: nn.Module, windows: WindowSet) -> Tensor:
    net.eval()
    return all_outputs(net, windows.rows, windows.ends, windows.window, by_series=True)


@torch.no_grad()
def mean_loss(answer: Answer, outputs: Tensor, windows: WindowSet) -> float:
    """Return the weighted mean loss of outputs (M, O) of M windows; `answer` as in `fit`."""
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


def _advance(schedule: Schedule, watched: float) -> None:
    if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        schedule.step(watched)
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
