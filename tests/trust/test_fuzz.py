"""Files that are damaged or made up meet nothing worse than our own error."""

from __future__ import annotations

import io
import random
import time
import zipfile
from pathlib import Path

import pytest

from freqai_lstm_plugins import load_model
from freqai_lstm_plugins.errors import FreqaiLSTMError
from tests.trust.formats.make import answers

FORMATS = Path(__file__).parent / "formats"
FILES = ["format-1-lstm", "format-2-classifier", "format-3-interval", "format-3-panel"]
SECONDS = 20.0


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


SIZES = [pytest.param(150, id="short"), pytest.param(6000, id="long", marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [damaged, rebuilt], ids=["damaged", "forged"])
@pytest.mark.parametrize("n_files", SIZES)
def test_no_file_gets_past_our_own_error(tmp_path, record_figure, file, content, change, n_files):
    """Catches a reader that crashes, runs what it reads, or takes for ever."""
    path = tmp_path / "model.zip"
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
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}")
        slowest = max(slowest, time.monotonic() - started)
    record_figure(
        f"fuzz, {change.__name__} files of {file}",
        f"{n_files - loaded} of {n_files} refused, {loaded} sound enough to load, "
        f"slowest {slowest:.1f} s",
    )
    assert slowest < SECONDS
    # Some damage is in bytes that mean nothing; most is not.
    assert loaded < n_files / 2
