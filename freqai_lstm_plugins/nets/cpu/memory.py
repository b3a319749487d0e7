"""Where layers take their tensors from: the allocator, or what an earlier batch left."""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Memory:
    """Tensors from the allocator."""

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor with any content."""
        return torch.empty(shape, dtype=dtype)

    def over(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same shape for what replaces it: the same one, if that may go."""
        return torch.empty_like(tensor)

    def borrow(self, kept: Iterable[Tensor] = ()) -> Memory:
        """Return a memory that gives back `kept`, and what it gave out itself, at once."""
        return self

    def put(self, tensor: Tensor) -> None:
        """Take a tensor of `empty` that nobody reads any more."""

    def give_back(self) -> None:
        """Nothing: the allocator sees for itself what nobody reads any more."""


class Kept(Memory):
    """Tensors that one training step, or batch of a prediction, leaves to the next.

    A step uses some tens of MB, in pieces that an allocator gives back to the system and fetches
    anew, page by page, in a tenth of the step's time.
    """

    def __init__(self) -> None:
        # What is made in inference mode cannot be written outside it.
        self._free: dict[tuple[int, torch.dtype, bool], list[Tensor]] = {}

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return a view of a piece that was given back, or of a new one of a rounded size."""
        size = math.prod(shape)
        # Eight sizes for each power of two, as the rows that a batch uses differ in number.
        grain = 1 << max(size.bit_length() - 4, 0)
        room = -(-size // grain) * grain
        try:
            found = self._free[room, dtype, torch.is_inference_mode_enabled()].pop()
        except (KeyError, IndexError):
            found = super().empty(room, dtype=dtype)
        return found[:size].view(shape)

    def borrow(self, kept: Iterable[Tensor] = ()) -> Memory:
        """Return a memory that gives back `kept`, and what it gave out, when it is told to."""
        return Borrowed(self, kept)

    def put(self, tensor: Tensor) -> None:
        """Keep the whole piece that `tensor` is a view of, for a later `empty`."""
        # A view of a view says only its own size; the storage knows the piece.
        whole = tensor.new_empty(0).set_(tensor.untyped_storage())
        key = (len(whole), whole.dtype, whole.is_inference())
        self._free.setdefault(key, []).append(whole)


class Borrowed(Memory):
    """What a step has from `Kept`, and gives back when its gradients are computed."""

    def __init__(self, owner: Kept, kept: Iterable[Tensor]) -> None:
        self._owner = owner
        # One layer's states may be the inputs of the next: each counts once.
        self._taken = {tensor.data_ptr(): tensor for tensor in kept}

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor of the owner's, and note that it is to go back."""
        found = self._owner.empty(*shape, dtype=dtype)
        self._taken[found.data_ptr()] = found
        return found

    def over(self, tensor: Tensor) -> Tensor:
        """Return `tensor` itself: who borrows reads each tensor for the last time here."""
        return tensor

    def give_back(self) -> None:
        """Hand the owner all that was taken; none of it may be read any more."""
        for tensor in self._taken.values():
            self._owner.put(tensor)


_own = threading.local()


@contextmanager
def keep_memory(memory: Memory | None = None) -> Iterator[Memory]:
    """Let the layers that the calling thread runs use the same memory again and again.

    Inside, the gradients of a result are to be computed once at most.

    Args:
        memory: What `current_memory` is inside, and what other threads may use beside this one; by
            default what this thread keeps already, or something new.
    """
    before = current_memory()
    if memory is None:
        memory = before if isinstance(before, Kept) else Kept()
    _own.memory = memory
    try:
        yield memory
    finally:
        _own.memory = before


def current_memory() -> Memory:
    """Return where the calling thread's layers take their tensors from."""
    return getattr(_own, "memory", None) or Memory()
