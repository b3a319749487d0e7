"""The one contract of all models: nets, trees, linear and naive forecasts, ensembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from freqai_lstm_plugins.data.arrays import BoolArray, FloatArray
    from freqai_lstm_plugins.data.preparation import Prepared
    from freqai_lstm_plugins.training.history import Epoch, History


@dataclass(frozen=True)
class Predictions:
    """What a model says of N rows, in the units of the targets that it was trained on.

    Attributes:
        point: (N, K) forecasts; NaN where no window ends. Of classes: (N, K) numbers of the most
            probable ones.
        lower: (N, K) lower ends of intervals; None where the model gives none.
        upper: (N, K) upper ends.
        probabilities: (N, C) of the classes of all targets; None where targets are numbers.
    """

    point: FloatArray
    lower: FloatArray | None = None
    upper: FloatArray | None = None
    probabilities: FloatArray | None = None


class Model(Protocol):
    """What is trained on windows and predicts rows.

    A fit that fails leaves the model as it was.
    """

    kind: ClassVar[str]

    @property
    def history_(self) -> History:
        """Losses of the passes of the last training; none for a model that makes no passes."""

    def fit_windows(
        self, data: Prepared, *, on_epoch: Callable[[Epoch], None] | None = None
    ) -> Self:
        """Train; `on_epoch` is called after each pass of a model that makes passes."""

    def predict_windows(self, rows: FloatArray, has_window: BoolArray) -> Predictions:
        """Predict the rows (N, F) at which `has_window` (N,) says that a full window ends."""

    def to_state(self) -> dict[str, Any]:
        """Return plain data and tensors from which `from_state` builds the same model."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Build the model that `to_state` described."""
