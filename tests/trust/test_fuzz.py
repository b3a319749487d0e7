"""Files that are damaged or made up meet nothing worse than our own error."""

from __future__ import annotations

import io
import json
import random
import re
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.checkpoint import PyTrainer
from freqai_lstm_plugins.errors import FreqaiLSTMError
from tests.trust.formats.make import answers

FORMATS = Path(__file__).parent / "formats"
FILES = ["format-1-lstm", "format-2-classifier", "format-3-interval", "format-3-panel"]
# What holds trees may end the whole process, so it is read in one of its own.
TREES = "format-3-ensemble"
SECONDS = 20.0
# What a sound file takes is a part of it; a forged count would ask for all there is.
MOST_MEMORY = 8 * 2**30


@pytest.fixture(scope="module", params=FILES)
def file(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def content(file) -> bytes:
    return (FORMATS / f"{file}.zip").read_bytes()


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Change the file's bytes: checksums no longer match, most of the time."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        place = chance.randrange(len(data)) if data else 0
        how = chance.choice(["flip", "cut", "drop", "double", "insert"])
        if how == "flip" and data:
            data[place] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del data[place:]
        elif how == "drop":
            del data[place : place + chance.randrange(1, 50)]
        elif how == "double":
            data[place:place] = data[place : place + chance.randrange(1, 200)]
        else:
            data[place:place] = chance.randbytes(chance.randrange(1, 50))
    return bytes(data)


def rebuilt(content: bytes, chance: random.Random) -> bytes:
    """Change what is inside, and give it the right checksums: what a forger would do."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        names = old.namelist()
        target = chance.choice([name for name in names if name.endswith("data.pkl")] + names)
        for name in names:
            data = old.read(name)
            if name == target:
                data = damaged(data, chance) if chance.random() < 0.97 else b""
            if name != target or chance.random() < 0.98:
                new.writestr(name, data)
    return result.getvalue()


def regrown(content: bytes, chance: random.Random) -> bytes:
    """Change texts of trees alone, in a file that is sound in all else."""
    torch.serialization.add_safe_globals([PyTrainer])
    whole = torch.load(io.BytesIO(content), weights_only=True)
    members = whole["state"]["trained"]
    trees = [one for one in members if one["model"] in ("lightgbm", "xgboost")]
    learned = chance.choice(trees)["state"]["learned"]
    levels = chance.choice(learned)
    place = chance.randrange(len(levels))
    levels[place] = bent(levels[place], chance)
    result = io.BytesIO()
    torch.save(whole, result)
    return result.getvalue()


def bent(text: str, chance: random.Random) -> str:
    """Change a text of trees: a bit, a number, its length, or its order."""
    how = chance.choice(["flip", "number", "number", "number", "cut", "swap", "drop"])
    place = chance.randrange(len(text))
    if how == "flip":
        return text[:place] + chr(ord(text[place]) ^ (1 << chance.randrange(7))) + text[place + 1 :]
    if how == "cut":
        return text[:place]
    if how == "drop":
        return text[:place] + text[place + chance.randrange(1, 40) :]
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    one, other = sorted(chance.sample(range(len(numbers)), 2))
    first, second = numbers[one], numbers[other]
    if how == "swap":
        parts = [text[: first.start()], second[0], text[first.end() : second.start()], first[0]]
        return "".join(parts) + text[second.end() :]
    wrong = chance.choice(["-1", "0", "1", "7", "99999", "2147483647", "-2147483648", "1e308"])
    return text[: first.start()] + wrong + text[first.end() :]


SIZES = [pytest.param(150, id="short"), pytest.param(6000, id="long", marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [damaged, rebuilt], ids=["damaged", "forged"])
@pytest.mark.parametrize("n_files", SIZES)
def test_no_file_gets_past_our_own_error(tmp_path, record_figure, file, content, change, n_files):
    """Catches a reader that crashes, runs what it reads, or takes for ever."""
    loaded, slowest = read_all(content, change, n_files, tmp_path)
    record_figure(
        f"fuzz, {change.__name__} files of {file}",
        f"{n_files - loaded} of {n_files} refused, {loaded} sound enough to load, "
        f"slowest {slowest:.1f} s",
    )
    assert slowest < SECONDS
    # Some damage is in bytes that mean nothing; most is not.
    assert loaded < n_files / 2


@pytest.mark.parametrize("change", ["damaged", "rebuilt", "regrown"])
@pytest.mark.parametrize("n_files", SIZES)
def test_no_file_of_trees_ends_the_process(tmp_path, record_figure, change, n_files):
    """Catches sizes and indices of trees that a library's own parser takes for true."""
    code = "from tests.trust.test_fuzz import child; child()"
    command = [sys.executable, "-W", "ignore", "-c", code, change, str(n_files), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert ended.returncode == 0, ended.stderr[-2000:]
    loaded, slowest = json.loads(ended.stdout.splitlines()[-1])
    record_figure(
        f"fuzz, {change} files of {TREES}",
        f"{n_files - loaded} of {n_files} refused, {loaded} sound enough to load, "
        f"slowest {slowest:.1f} s",
    )
    assert slowest < SECONDS
    # With another number in a leaf it is another model, and a sound one.
    assert loaded < n_files * (0.8 if change == "regrown" else 0.5)


def child() -> None:
    """Read changed files of trees, and tell how many loaded and how long the slowest took."""
    change, n_files, folder = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    content = (FORMATS / f"{TREES}.zip").read_bytes()
    changes = {"damaged": damaged, "rebuilt": rebuilt, "regrown": regrown}
    print(json.dumps(read_all(content, changes[change], int(n_files), Path(folder))))


def read_all(content: bytes, change, n_files: int, folder: Path) -> tuple[int, float]:
    """Return how many of the changed files loaded and answered, and the slowest one's seconds."""
    path = folder / "model.zip"
    loaded, slowest = 0, 0.0
    for seed in range(n_files):
        path.write_bytes(change(content, random.Random(seed)))
        started = time.monotonic()
        try:
            answers(load_model(path))
            loaded += 1
        except FreqaiLSTMError:
            pass
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, time.monotonic() - started)
    return loaded, slowest
