"""The one place where rows become windows.

A *row* is one candle's features, a *window* is W consecutive rows. The window that belongs to row
r ends at r. Rows are consecutive when both are usable (finite, not missing) and one step of time
lies between them, so no window bridges a gap. N consecutive usable rows give N - W + 1 windows.

Nothing here copies all windows at once: rows stay one (N, F) tensor, and windows are gathered from
it a batch at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freqai_lstm_plugins.data.arrays import BoolArray, IntArray, finite_rows, to_float32
from freqai_lstm_plugins.errors import DataError


def run_lengths(usable: BoolArray, follows: BoolArray | None = None) -> IntArray:
    """Count, for each row, the consecutive usable rows that end there.

    Args:
        usable: (N,) whether a row may stand in a window.
        follows: (N,) whether a row is one step of time after the row before it; all do by default.

    Returns:
        (N,) counts; 0 where the row itself is not usable.

    >>> run_lengths(np.array([True, True, False, True, True]))
    array([1, 2, 0, 1, 2])
    """
    position = np.arange(len(usable), dtype=np.int64)
    starts = np.ones(len(usable), dtype=bool)
    starts[1:] = ~usable[:-1]
    if follows is not None:
        starts |= ~follows
    first = np.maximum.accumulate(np.where(starts, position, 0)) if len(usable) else position
    return np.where(usable, position - first + 1, 0)


def window_ends(usable: BoolArray, window: int, follows: BoolArray | None = None) -> BoolArray:
    """Tell at which rows a full window ends. Shapes as in `run_lengths`."""
    return run_lengths(usable, follows) >= window


def rows_held(ends: BoolArray, window: int) -> BoolArray:
    """Tell which rows the windows hold that end at `ends` (N,): (N,).

    Training rows are those that training windows hold: what is learned of features, such as how to
    scale them, is learned of these.

    >>> rows_held(np.array([False, False, True, False, False, False, True]), 2)
    array([False,  True,  True, False, False,  True,  True])
    """
    # A row is held by the windows that end at it or at one of the W - 1 rows after it.
    n_before = np.concatenate([[0], np.cumsum(ends), np.full(window - 1, ends.sum())])
    return n_before[window:] > n_before[: len(ends)]


def consecutive_in_time(times: npt.NDArray[np.datetime64], step: np.timedelta64) -> BoolArray:
    """Tell which rows come exactly one `step` after the row before them; the first never does.

    >>> consecutive_in_time(np.array([0, 5, 10, 20], "M8[m]"), np.timedelta64(5, "m"))
    array([False,  True,  True, False])
    """
    follows = np.zeros(len(times), dtype=bool)
    follows[1:] = np.diff(times) == step
    return follows


def gather_windows(rows: Tensor, ends: Tensor, window: int) -> Tensor:
    """Copy the windows that end at `ends`: rows (N, F), ends (B,) -> (B, W, F).

    In memory time comes first, as recurrent layers read it.
    """
    lags = torch.arange(1 - window, 1, device=rows.device)
    return rows[ends + lags.unsqueeze(1)].transpose(0, 1)


class RowWindows(NamedTuple):
    """Windows that are not copied: those of `rows` (N, F) that end at `ends` (B,), ascending."""

    rows: Tensor
    ends: Tensor
    window: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, W, F), as that of the copy that `gather_windows` makes."""
        return len(self.ends), self.window, self.rows.shape[1]

    def places(self, part: slice) -> tuple[Tensor, Tensor]:
        """Tell which rows some of the windows use, and where among them each window's rows are.

        Returns:
            used: (U,) rows, ascending.
            places: (W, b) positions in `used`, for each step of each window.

        >>> windows = RowWindows(torch.empty(9, 2), torch.tensor([3, 4, 8]), 3)
        >>> used, places = windows.places(slice(3))
        >>> used.tolist()
        [1, 2, 3, 4, 6, 7, 8]
        >>> places.T.tolist()
        [[0, 1, 2], [1, 2, 3], [4, 5, 6]]
        """
        ends = self.ends[part]
        starts = ends - (self.window - 1)
        ends_before = torch.cat([starts[:1] - 1, ends[:-1]])
        n_new = ends - torch.maximum(starts, ends_before + 1) + 1
        last_places = n_new.cumsum(0) - 1
        used = torch.repeat_interleave(ends - last_places, n_new)
        used += torch.arange(len(used))
        # The rows of a window follow each other, and all of them are used.
        return used, last_places + torch.arange(1 - self.window, 1).unsqueeze(1)


@dataclass(frozen=True)
class WindowSet:
    """Windows with their targets, as indices into shared rows.

    Attributes:
        rows: (N, F) float32 features; rows that no window holds may be anything.
        ends: (M,) int64 rows at which a window ends, in ascending order.
        targets: (M, K) float32 target of each window.
        weights: (M,) float32 weight of each window's loss, of mean 1.
        window: W, rows a window.
        mean_weight: What the mean of the weights was; two sets are weighed against each other by
            `weights` times this.
    """

    rows: Tensor
    ends: Tensor
    targets: Tensor
    weights: Tensor
    window: int
    mean_weight: float = 1.0

    def __len__(self) -> int:
        return len(self.ends)

    def to(self, device: torch.device) -> WindowSet:
        """Return the same windows with every tensor on `device`."""
        return WindowSet(
            self.rows.to(device),
            self.ends.to(device),
            self.targets.to(device),
            self.weights.to(device),
            self.window,
            self.mean_weight,
        )


@dataclass(frozen=True)
class SequenceSet:
    """Windows put together to sequences of W + S - 1 rows that share their rows, S = W.

    Attributes:
        firsts: (C,) row of each sequence's first target; the W - 1 rows before it are context.
        lasts: (C,) row of its last target.
        members: (C, S) for each of the S rows from the first target on, the window that ends there,
            as a position in the `WindowSet`; -1 where none of this sequence does.
    """

    firsts: Tensor
    lasts: Tensor
    members: Tensor

    def __len__(self) -> int:
        return len(self.firsts)


def join_windows(ends: Tensor, window: int, offset: int) -> SequenceSet:
    """Put windows whose ends fall into the same tile of W rows together to one sequence.

    Two windows that end less than W rows apart overlap or touch, and each holds consecutive rows
    alone; so no sequence bridges a gap.

    Args:
        ends: (M,) rows at which windows end, in ascending order.
        window: W.
        offset: From 0 to W - 1: where the tiles begin.

    >>> join_windows(torch.tensor([2, 3, 5, 9]), 3, 0).members.tolist()
    [[0, -1, -1], [1, -1, 2], [3, -1, -1]]
    """
    _, counts = torch.unique_consecutive((ends + offset) // window, return_counts=True)
    stops = counts.cumsum(0)
    firsts, lasts = ends[stops - counts], ends[stops - 1]
    sequence = torch.repeat_interleave(counts)
    members = torch.full((len(counts), window), -1, device=ends.device)
    members[sequence, ends - firsts[sequence]] = torch.arange(len(ends), device=ends.device)
    return SequenceSet(firsts, lasts, members)


def gather_sequences(rows: Tensor, firsts: Tensor, lasts: Tensor, window: int) -> Tensor:
    """Copy sequences: rows (N, F), firsts and lasts (B,) -> (B, 2W - 1, F).

    After its last target a sequence repeats that row, which no earlier step can see.
    """
    lags = torch.arange(1 - window, window, device=rows.device)
    return rows[torch.minimum(firsts + lags.unsqueeze(1), lasts)].transpose(0, 1)


def build_window_set(
    rows: Tensor,
    targets: npt.NDArray[np.floating],
    weights: npt.NDArray[np.floating],
    has_window: BoolArray,
    window: int,
) -> WindowSet:
    """Collect the windows that have a target.

    Args:
        rows: (N, F) features.
        targets: (N, K); a row with a NaN or infinite target is context only.
        weights: (N,) of any scale; a row without a weight above 0 is context only.
        has_window: (N,) where a full window ends.
        window: W.

    Raises:
        DataError: A weight is negative or not finite.
    """
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("Sample weights must be finite and at least 0; some are negative or NaN.")
    ends = np.flatnonzero(has_window & finite_rows(targets) & (weights > 0))
    relative, mean = _of_mean_one(weights[ends])
    return WindowSet(
        rows=rows,
        ends=torch.from_numpy(ends),
        targets=torch.from_numpy(to_float32(targets[ends])),
        weights=torch.from_numpy(to_float32(relative)),
        window=window,
        mean_weight=mean,
    )


def _of_mean_one(weights: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.float64], float]:
    """Scale weights so that float32 holds them, whatever their unit; return their mean as well."""
    if not len(weights):
        return np.asarray(weights, dtype=np.float64), 1.0
    # First by the largest, since a sum of large ones may be infinite.
    relative = np.asarray(weights, dtype=np.float64) / weights.max()
    return relative / relative.mean(), float(weights.max() * relative.mean())
