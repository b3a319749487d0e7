"""Pictures of a search's pages: `python -m tests.research.tune.pictures FOLDER`.

The search is one on made-up candles. Chromium takes the pictures, of the report on the holdout and
of optuna-dashboard on the study.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from PIL import Image

from freqai_lstm_plugins.research.tune.choice import choose
from freqai_lstm_plugins.research.tune.holdout import open_holdout
from freqai_lstm_plugins.research.tune.objective import Runner
from tests.research.tune.studies import search, write_candles

if TYPE_CHECKING:
    from collections.abc import Iterator

N_TRIALS = 24
RANGES = {
    "lightgbm": {
        "num_leaves": {"min": 2, "max": 32},
        "lr": {"min": 0.005, "max": 0.3, "log": True},
        "min_child_samples": {"min": 5, "max": 60, "step": 5},
    }
}
# What a page draws itself takes a while after it has loaded.
DRAWN_MS = 20_000
REPORT, DASHBOARD = (1280, 1900), (1280, 1220)
# Of the report, which is long.
SHOWN = ("verdict", "rivals", "search_history", "search_coordinates")


def make_search(place: Path) -> Path:
    """Search, choose and open the holdout; return the report."""
    folder = write_candles(place / "candles", "ABC", n=700, signal=True)
    changes = {"models": {"lightgbm": {"n_estimators": 40}}, "seeds": [1]}
    session = search(folder, place / "out", N_TRIALS, ranges=RANGES, changes=changes)
    return open_holdout(session, choose(session, Runner()), Runner()).page


def shoot(address: str, size: tuple[int, int], path: Path) -> None:
    """Take a picture of a page, in few colours."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is not installed.")
    with TemporaryDirectory() as profile:
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={size[0]},{size[1]}",
                f"--virtual-time-budget={DRAWN_MS}",
                f"--screenshot={path}",
                address,
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


@contextmanager
def dashboard(study: Path) -> Iterator[str]:
    """Serve a study; give the address of its page."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = ["optuna-dashboard", f"sqlite:///{study}", "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/dashboard/studies/1"
    finally:
        process.terminate()
        process.wait()


def shorten(report: Path) -> Path:
    """Write a copy of the report that shows some sections alone."""
    shown = ",".join(f"#{name}" for name in SHOWN)
    style = f"<style>main section,nav{{display:none}}{shown}{{display:block!important}}</style>"
    path = report.with_name("short.html")
    path.write_text(report.read_text("utf-8").replace("</head>", f"{style}</head>", 1), "utf-8")
    return path


def main(folder: Path, place: Path) -> None:
    """Make everything below `place`, and the pictures in `folder`."""
    report = make_search(place)
    shoot(shorten(report).as_uri(), REPORT, folder / "tune_report.png")
    with dashboard(place / "out" / "study.db") as address:
        shoot(address, DASHBOARD, folder / "tune_dashboard.png")


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        main(Path(sys.argv[1]), Path(place))
