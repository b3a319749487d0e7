"""What the package is to those who install it, build it or check their own files against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import freqai_lstm_plugins

ROOT = Path(__file__).parents[1]

USERS_FILE = """
import numpy as np
from freqai_lstm_plugins import SequenceRegressor
forecast = SequenceRegressor(net="gru", window=24).fit(np.ones((9, 2)), np.ones(9)).predict(0)
reveal_type(SequenceRegressor.load("model.zip"))
reveal_type(forecast)
"""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_package_says_that_it_is_typed():
    assert (Path(freqai_lstm_plugins.__file__).parent / "py.typed").is_file()
    assert "Typing :: Typed" in project()["classifiers"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy comes with the extra dev")
def test_a_users_file_is_checked_against_the_package(tmp_path):
    (tmp_path / "mine.py").write_text(USERS_FILE)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--cache-dir",
            str(tmp_path / "c"),
            "mine.py",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # As an installed package is found, wherever this checkout stands.
        env={**os.environ, "MYPYPATH": str(ROOT)},
        check=False,
    )
    assert 'Revealed type is "freqai_lstm_plugins.models.regressor.SequenceRegressor"' in (
        result.stdout
    )
    errors = [line for line in result.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, result.stdout
    # The types are known, so that a wrong argument is found.
    assert errors[0].startswith("mine.py:4: error: Argument 1")


def test_every_python_that_is_promised_is_tested():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    (tested,) = re.findall(r"python: \[(.*)\]", workflow)
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert re.findall(r"3\.\d+", tested) == promised


def test_every_package_of_an_extra_is_pinned():
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for needs in [project()["dependencies"], *project()["optional-dependencies"].values()]:
        # What names one version is pinned by that, such as qlib, which is never installed beside.
        open_needs = [need for need in needs if "==" not in need]
        names = {re.split(r"[\[><=]", need)[0].lower().replace("_", "-") for need in open_needs}
        assert names - pinned <= {"freqai-lstm-plugins"}


@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling comes with the extra dev")
def test_the_source_archive_holds_what_its_tests_read(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout to compare with")
    names = set(listed.stdout.splitlines())
    missing = [name for name in sorted(names) if not (unpacked / name).is_file()]
    assert missing == []
