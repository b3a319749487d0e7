"""Start-up: what a user waits for before anything happens."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.measure import Ratio, Row, Spread, alternate
from benchmarks.sizes import Size

LIMIT = 0.5
COMMANDS = {
    "import freqai_lstm_plugins": ["-c", "import freqai_lstm_plugins"],
    "freqai-lstm --help": ["-c", "from freqai_lstm_plugins.cli import main; main()", "--help"],
    "freqtrade --help": ["-m", "freqtrade", "--help"],
    "python alone": ["-c", "pass"],
}


def imports(size: Size) -> Row:
    """Time processes that import the package or show help, and end."""
    row = Row(
        "imports",
        "Start-up",
        "Wall time of a whole child process, Python's own start included.",
    )
    sides = {name: partial(_run, arguments) for name, arguments in COMMANDS.items()}
    times = alternate(sides, size.rounds)
    for name in list(COMMANDS)[:2]:
        faster = Spread.of([LIMIT / seconds for seconds in times[name]])
        row.ratios.append(Ratio(f"half a second against {name}", faster, "at least 1"))
    kept = {name: times[name] for name in ("freqai-lstm --help", "freqtrade --help")}
    row.compare("help", kept, {})
    for name in ("import freqai_lstm_plugins", "python alone"):
        row.absolute.append((name, Spread.of(times[name]), "s"))
    return row


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
