"""Progress of a training: a bar where a terminal watches, log lines where none does."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freqai_lstm_plugins.training.history import Epoch

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def epoch_progress(
    show: bool | None,
    n_epochs: int,
    name: str,
    on_epoch: Callable[[Epoch], bool | None] | None,
) -> Iterator[Callable[[Epoch], bool | None]]:
    """Give the function to call after each epoch, which answers what `on_epoch` does.

    Args:
        show: Show a bar, or log lines; None decides by whether standard error is a terminal.
        n_epochs: Epochs at most.
        name: What is trained.
        on_epoch: Called after each epoch too.
    """
    if show is None:
        show = sys.stderr is not None and sys.stderr.isatty()
    if not show:
        yield _logging_reporter(n_epochs, name, on_epoch)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Training {name}", total=n_epochs)

        def report(epoch: Epoch) -> bool | None:
            loss = epoch.train_loss if epoch.valid_loss is None else epoch.valid_loss
            progress.update(task, completed=epoch.number, description=f"{name} loss {loss:.4g}")
            return None if on_epoch is None else on_epoch(epoch)

        yield report


def _logging_reporter(
    n_epochs: int, name: str, on_epoch: Callable[[Epoch], bool | None] | None
) -> Callable[[Epoch], bool | None]:
    last = time.monotonic()

    def report(epoch: Epoch) -> bool | None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            valid = "" if epoch.valid_loss is None else f", validation {epoch.valid_loss:.4g}"
            logger.info(
                "%s: epoch %d of at most %d, training loss %.4g%s",
                name,
                epoch.number,
                n_epochs,
                epoch.train_loss,
                valid,
            )
        return None if on_epoch is None else on_epoch(epoch)

    return report
