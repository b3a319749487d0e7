"""The errors that this package raises.

```text
FreqaiLSTMError
├── ConfigError        a setting is unknown, misspelt, of wrong type or out of range (a ValueError)
├── DataError          features, targets or candles cannot be used as they are (a ValueError)
│   └── UnwritableError       a disk is full, or may only be read
├── TrainingError      a training had to stop, for example on a loss that is not finite
│   ├── StoppedError          somebody asked for it, such as a bot that shuts down
│   └── WorkersLostError      nobody is there to do it, such as a cluster that does not answer
├── CheckpointError    a model file cannot be read or written
│   ├── NotACheckpointError   the file is damaged, or no model file of this package
│   ├── NewerFormatError      the file was written by a newer version of this package
│   └── MismatchError         the file is sound, but made for other features, labels or another net
├── ReplayError        the replay exchange cannot start or has no candles to serve
├── UserDirError       files cannot be written into a freqtrade user directory
└── MissingExtraError  an optional dependency is not installed (an ImportError)
```

Every message says what was wrong, with which value, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class FreqaiLSTMError(Exception):
    """Root of all errors raised by this package."""


class ConfigError(FreqaiLSTMError, ValueError):
    """A setting is unknown, misspelt, of a wrong type or out of range."""


class DataError(FreqaiLSTMError, ValueError):
    """Features, targets or candles cannot be used as they are."""


class UnwritableError(DataError):
    """A disk is full or may only be read, which says nothing against what was to be written."""


class TrainingError(FreqaiLSTMError, RuntimeError):
    """A training had to stop before it produced a usable model."""


class StoppedError(TrainingError):
    """A training was given up because somebody asked for it, and not for a failure of its own."""


class WorkersLostError(TrainingError):
    """Nobody is there to do trainings, which says nothing against what was to be trained."""


class CheckpointError(FreqaiLSTMError):
    """A model file cannot be read or written."""


class NotACheckpointError(CheckpointError):
    """The file is damaged, or no model file of this package."""


class NewerFormatError(CheckpointError):
    """The file was written by a newer version of this package."""


class MismatchError(CheckpointError):
    """The file is sound, but made for other features, labels or another net."""


class ReplayError(FreqaiLSTMError):
    """The replay exchange cannot start, or has no candles to serve."""


class UserDirError(FreqaiLSTMError):
    """Files cannot be written into a freqtrade user directory."""


class MissingExtraError(FreqaiLSTMError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed: "
            f'run `pip install "freqai_lstm_plugins[{extra}]"`.'
        )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then the one that led to it, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
