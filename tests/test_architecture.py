"""The lines that hold the house: who may import whom, and what may happen where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import freqai_lstm_plugins

PACKAGE = Path(freqai_lstm_plugins.__file__).parent
NAME = "freqai_lstm_plugins"

# Imports run downwards only, from a lower number to a higher one.
LEVELS = {
    "cli": 0,
    "demo": 1,
    "child": 2,
    "install": 2,
    "freqaimodels": 2,
    "freqai": 3,
    "replay": 3,
    "research": 3,
    "models": 4,
    "trees": 4,
    "explanation": 5,
    "regressor": 5,
    "classifier": 5,
    "estimator": 6,
    "inputs": 7,
    "intervals": 7,
    "progress": 8,
    "scaling": 8,
    "plots": 8,
    "training": 9,
    "checkpoint": 9,
    "answers": 10,
    "nets": 10,
    "parallel": 11,
    "windows": 11,
    "config": 11,
    "files": 12,
    "errors": 12,
}
HOST_FOLDERS = {"freqai", "freqaimodels", "userdir"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path, *, at_run_time=True):
    """Yield the modules that a file imports; those for type checkers apart."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(id(child) for child in ast.walk(node))
        # checkpoint makes models for freqtrade, which asks it to at run time.
        if isinstance(node, ast.FunctionDef) and not at_run_time:
            skipped.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            yield node.module
            if node.module == NAME:
                yield from (f"{NAME}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    if part(path) in {"__init__", "userdir"}:
        return
    for module in imports(path, at_run_time=False):
        if module.startswith(f"{NAME}."):
            target = module.split(".")[1]
            if target not in LEVELS:
                # A name of the package itself.
                target = {"SequenceRegressor": "regressor", "__version__": "errors"}[target]
            same = target == part(path)
            assert same or LEVELS[part(path)] < LEVELS[target], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_adapter_imports_freqtrade(path):
    hosts = {module.split(".")[0] for module in imports(path)} & {"freqtrade", "datasieve"}
    assert not hosts or part(path) in HOST_FOLDERS


def test_no_import_inside_a_function_runs_upwards_but_one():
    upward = set()
    for path in FILES:
        if part(path) in {"__init__", "userdir"}:
            continue
        for module in imports(path):
            target = module.split(".")[1] if module.startswith(f"{NAME}.") else None
            if LEVELS.get(target, 99) < LEVELS[part(path)]:
                upward.add((part(path), target))
    # freqtrade asks what it finds in a model file to make the model.
    assert upward == {("checkpoint", "models")}


def test_every_part_has_its_level():
    assert {part(path) for path in FILES} - {"__init__", "userdir"} == set(LEVELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_prints(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    printing = {name for name in names if name.split(".")[-1] in {"print", "echo", "secho"}}
    printing |= names & {"sys.stdout.write", "sys.stderr.write"}
    assert not printing or part(path) == "cli"


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, freqai_lstm_plugins\n"
        "print(sorted({'torch', 'freqtrade', 'pandas', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_core_works_where_there_is_no_freqtrade(tmp_path):
    code = f"""
import sys
for name in ("freqtrade", "datasieve", "sklearn", "aiohttp", "matplotlib"):
    sys.modules[name] = None  # so that importing it fails as if it were not installed
import numpy as np
from freqai_lstm_plugins import SequenceRegressor
rows = np.random.default_rng(0).normal(size=(60, 2))
model = SequenceRegressor(window=4, hidden_size=4, max_epochs=1).fit(rows, rows[:, 0])
model.save({str(tmp_path / "m.zip")!r})
print(SequenceRegressor.load({str(tmp_path / "m.zip")!r}).predict(rows).shape)
from freqai_lstm_plugins.errors import MissingExtraError
try:
    model.plot_history()
except MissingExtraError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "(60,)" in result.stdout
    assert "freqai_lstm_plugins[plot]" in result.stdout


def test_the_public_names_are_these():
    assert freqai_lstm_plugins.__all__ == [
        "SequenceClassifier",
        "SequenceRegressor",
        "__version__",
        "explain",
        "explain_trees",
        "load_model",
    ]
    pytest.importorskip("freqtrade")
    from freqai_lstm_plugins import freqai

    assert freqai.__all__ == ["SequenceClassifierModel", "SequenceRegressorModel"]
