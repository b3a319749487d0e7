"""What an error of the core means in FreqAI: the core's line, and which key there answers it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freqai_lstm_plugins.errors import DataError, MismatchError

NEW_IDENTIFIER = "In FreqAI a new model needs a new freqai.identifier."

ROWS = (
    "In FreqAI rows come from train_period_days, validation rows from "
    "data_split_parameters.test_size, and min_windows and interval stand in "
    "model_training_parameters.trainer_kwargs."
)


@contextmanager
def advice_on(kind: type[DataError | MismatchError], advice: str) -> Iterator[None]:
    """Add a sentence to errors of one kind, which stay of that kind."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{error} {advice}") from error
