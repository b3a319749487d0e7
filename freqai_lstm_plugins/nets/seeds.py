"""Random numbers that belong to one computation, not to the process.

torch draws initial weights and dropout from one generator a process. A thread that draws beside
another then changes what the other gets, however both were seeded. Inside `seeded` the calling
thread draws from generators of its own.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Functions that take a generator, by what torch calls them.
_TAKE_A_GENERATOR = {
    "bernoulli",
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "kaiming_uniform_",
    "log_normal_",
    "multinomial",
    "normal",
    "normal_",
    "rand",
    "randint",
    "randn",
    "random_",
    "randperm",
    "trunc_normal_",
    "uniform_",
}
_RECURRENT = {"gru", "lstm", "rnn_relu", "rnn_tanh"}
# Functions that draw, where they do, from the process's generator alone.
_TAKE_NONE = {
    *_RECURRENT,
    "alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_",
    "feature_alpha_dropout",
    "feature_dropout",
    "gumbel_softmax",
    "multi_head_attention_forward",
    "poisson",
    "rand_like",
    "randint_like",
    "randn_like",
    "rrelu",
    "rrelu_",
    "scaled_dot_product_attention",
}
_DRAW = {"dropout", *_TAKE_A_GENERATOR, *_TAKE_NONE}
# Held while the process's generators stand in for a computation's own.
_process_lock = threading.Lock()


class _Draws(TorchFunctionMode):
    """Answers what the calling thread draws from generators of one seed.

    A mode of torch reaches constructors and nets that know nothing of it, such as a user's own.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._own: dict[torch.device, torch.Generator] = {}
        self._is_lent = False

    def generator(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device, which goes on from call to call."""
        if device not in self._own:
            self._own[device] = torch.Generator(device).manual_seed(self._seed)
        return self._own[device]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, and hand it a generator if it draws."""
        name, options = getattr(func, "__name__", ""), kwargs or {}
        # Every operation of a training comes by here, also each look at a shape: nearly all draw
        # nothing. torch asks the modes of outer blocks too, after the innermost one.
        if name not in _DRAW or self._is_lent or _innermost.draws is not self:
            return func(*args, **options)
        if name == "dropout":
            return self._dropout(*args, **options)
        if name in _TAKE_A_GENERATOR and options.get("generator") is None:
            options = {**options, "generator": self.generator(_device_of(args, options))}
        elif name in _TAKE_NONE and _draws(name, args, options):
            with self.lent():
                return func(*args, **options)
        return func(*args, **options)

    def _dropout(
        self,
        input: Tensor,  # noqa: A002  # torch's name
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        train: bool = True,
    ) -> Tensor:
        """Do what `torch.dropout` and `torch.nn.functional.dropout` do."""
        if not (training and train and p):
            return input
        mask = dropout_mask(input.shape, p, self.generator(input.device)).to(input.dtype)
        return input.mul_(mask) if inplace else input * mask

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the process's generators go on from where this computation's own are."""
        if self._is_lent:
            yield
            return
        with _process_lock:
            pairs = [(self.generator(theirs.device), theirs) for theirs in _process_generators()]
            before = [theirs.get_state() for _, theirs in pairs]
            for own, theirs in pairs:
                theirs.set_state(own.get_state())
            self._is_lent = True
            try:
                yield
            finally:
                self._is_lent = False
                for (own, theirs), state in zip(pairs, before, strict=True):
                    own.set_state(theirs.get_state())
                    theirs.set_state(state)


def _draws(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Whether a function without a generator draws at all, called like this.

    Where it does not, the process's generator is left alone: others may be drawing from it.
    """
    if name in _RECURRENT:
        # torch.lstm(..., dropout, train, bidirectional, ...): the one float, and what follows it.
        at = next((i for i, item in enumerate(args) if isinstance(item, float)), None)
        return at is not None and args[at] > 0 and bool(args[at + 1])
    return not (options.get("training") is False or options.get("dropout_p") == 0)


_innermost = threading.local()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let all that the calling thread draws by torch come from generators of `seed`.

    The process's generators are neither read nor moved. Inside another such block the inner one
    counts, and the outer one goes on after it from where it was.
    """
    before, draws = getattr(_innermost, "draws", None), _Draws(seed)
    _innermost.draws = draws
    try:
        with draws:
            yield
    finally:
        _innermost.draws = before


@contextmanager
def replayed_by_torch() -> Iterator[None]:
    """Draw from the process's generators inside `seeded`, at the numbers of the block's own.

    For a step of a net that nothing is known of: `torch.utils.checkpoint` in it replays what was
    drawn by rewinding the process's generator. Other threads wait that enter here too.
    """
    draws = getattr(_innermost, "draws", None)
    if draws is None:
        yield
        return
    with draws.lent():
        yield


def draw_seed() -> int:
    """Draw a number to seed with."""
    return int(torch.randint(2**62, ()))


def dropout_mask(
    shape: tuple[int, ...], fraction: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw zeros at random and scale what is kept, from 16 random bits a value.

    torch draws 53 bits for each, one after another, which costs as much as a layer's gates. The
    mask is on the generator's device; without one it comes from what the calling thread draws from.
    """
    dropped = min(round(fraction * 2**16), 2**16 - 1)
    numel = math.prod(shape)
    device = None if generator is None else generator.device
    words = torch.empty(-(-numel // 4), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    kept = words.view(torch.int16)[:numel].view(shape) >= dropped - 2**15
    return kept.float().mul_(2**16 / (2**16 - dropped))


def _process_generators() -> list[torch.Generator]:
    generators = [torch.default_generator]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    return generators


def _device_of(args: tuple[Any, ...], options: Mapping[str, Any]) -> torch.device:
    tensors = (item for item in args if isinstance(item, Tensor))
    if (first := next(tensors, None)) is not None:
        return first.device
    return torch.device(options.get("device") or torch.get_default_device())
