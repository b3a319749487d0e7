"""Cuts windows into the batches of an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from freqai_lstm_plugins.data.windows import (
    RowWindows,
    WindowSet,
    gather_sequences,
    gather_windows,
    join_windows,
)
from freqai_lstm_plugins.nets import forward_rows, forward_steps, shares_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freqai_lstm_plugins.config import TrainConfig

# So many features of a window's row, all of whose products are spared, pay for the sharing.
FEATURES_WORTH_SHARING = 40


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        x: (B, W, F) windows, the same as rows that they share, or (B, 2W - 1, F) sequences.
        targets: (T, K) one for each window.
        weights: (T,) of mean 1 over all training windows.
        is_target: (B, W) which of a sequence's last steps have a target; None for windows.
    """

    x: Tensor | RowWindows
    targets: Tensor
    weights: Tensor
    is_target: Tensor | None = None

    def predict(self, net: nn.Module) -> Tensor:
        """Return the outputs (T, O)."""
        if isinstance(self.x, RowWindows):
            return forward_rows(net, self.x)
        if self.is_target is None:
            output: Tensor = net(self.x)
            return output
        return forward_steps(net, self.x, self.is_target.shape[1])[self.is_target]


def epoch_batches(
    net: nn.Module, train: WindowSet, config: TrainConfig, generator: torch.Generator
) -> Iterator[Batch]:
    """Cut an epoch as `supervision` says, in an order that `generator` draws."""
    if config.supervision == "dense":
        return dense_batches(train, config.batch_size, generator)
    return exact_batches(net, train, config.batch_size, generator)


def steps_an_epoch(train: WindowSet, config: TrainConfig) -> int:
    """Return how many batches an epoch has; dense ones differ by few from epoch to epoch."""
    if config.supervision == "dense":
        n_sequences = len(join_windows(train.ends, train.window, 0))
        return math.ceil(n_sequences / _sequences_a_batch(config.batch_size, train.window))
    return math.ceil(len(train) / config.batch_size)


def exact_batches(
    net: nn.Module, train: WindowSet, batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Cut windows into batches, each window once."""
    order = torch.randperm(len(train), generator=generator).to(train.ends.device)
    weights = train.weights / train.weights.mean()
    over_rows = None
    for unsorted in order.split(batch_size):
        # Neighbours that follow each other share rows.
        batch = unsorted.sort().values
        windows = RowWindows(train.rows, train.ends[batch], train.window)
        if over_rows is None:
            # One batch tells for all, as they are drawn at random.
            over_rows = _learns_over_rows(net, windows)
        yield Batch(
            # Held by nobody here, so that the next one is gathered without it.
            windows if over_rows else gather_windows(*windows),
            train.targets[batch],
            weights[batch],
        )


def _learns_over_rows(net: nn.Module, windows: RowWindows) -> bool:
    """Whether products that these windows share are worth the work of sharing them."""
    if windows.rows.device.type != "cpu" or not shares_rows(net):
        return False
    used, places = windows.places(slice(None))
    spared = 1 - len(used) / places.numel()
    return spared * windows.rows.shape[1] >= FEATURES_WORTH_SHARING


def dense_batches(train: WindowSet, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Cut windows into batches of sequences that share their rows, each window once."""
    # Tiles begin elsewhere in each epoch, so that a target is seen with contexts of all lengths.
    offset = int(torch.randint(train.window, (), generator=generator))
    joined = join_windows(train.ends, train.window, offset)
    order = torch.randperm(len(joined), generator=generator).to(train.ends.device)
    weights = train.weights / train.weights.mean()
    for batch in order.split(_sequences_a_batch(batch_size, train.window)):
        x = gather_sequences(train.rows, joined.firsts[batch], joined.lasts[batch], train.window)
        members = joined.members[batch]
        is_target = members >= 0
        members = members[is_target]
        yield Batch(x, train.targets[members], weights[members], is_target)


def _sequences_a_batch(batch_size: int, window: int) -> int:
    """Return how many sequences have about `batch_size` targets."""
    return max(batch_size // window, 1)
