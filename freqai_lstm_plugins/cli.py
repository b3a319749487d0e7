"""The command `freqai-lstm`: builds one program of the commands, and shows errors as one line."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from freqai_lstm_plugins.commands import (
    compare,
    demo,
    explain,
    features,
    inspect,
    install,
    models,
    path,
    replay,
    train,
    tune,
)
from freqai_lstm_plugins.commands.console import err, out
from freqai_lstm_plugins.errors import FreqaiLSTMError
from freqai_lstm_plugins.version import __version__

# In the order in which `--help` lists them. A module imports what it calls when it is called, so
# that `--help` is at hand at once.
COMMANDS = (
    install.install,
    path.path,
    inspect.inspect,
    explain.explain,
    features.features,
    train.train,
    compare.compare,
    tune.tune,
    models.models,
    replay.replay,
    demo.demo,
)

app = typer.Typer(
    help="Sequence models for FreqAI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)

_options = {"debug": False}


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"freqai_lstm_plugins {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show log lines, and a traceback on an error.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback has answered and left before.
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of every command."""
    _options["debug"] = debug
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr)


def main() -> None:
    """Run the command, and show errors of ours as one line."""
    try:
        app()
    except FreqaiLSTMError as error:
        if _options["debug"]:
            raise
        err.print(f"Error: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
