"""The lines that hold the house: who may import whom, and what may happen where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import freqai_lstm_plugins

PACKAGE = Path(freqai_lstm_plugins.__file__).parent
NAME = "freqai_lstm_plugins"

# Imports run to a later line only; parts on one line are strangers to each other.
ORDER = [
    {"cli"},
    {"commands"},
    {"freqaimodels"},
    {"freqai", "research", "qlib"},
    {"explanations"},
    {"models"},
    {"training"},
    {"nets", "features", "replay"},
    {"data"},
    {"config", "checkpoint", "figures", "install"},
    {"names"},
    {"files"},
    {"errors", "version"},
]
LEVELS = {part: level for level, parts in enumerate(ORDER) for part in parts}
HOST_FOLDERS = {"freqai", "freqaimodels", "userdir"}
FILES = sorted(PACKAGE.rglob("*.py"))
OURS = [
    path for path in FILES if path.relative_to(PACKAGE).parts[0] not in ("userdir", "__init__.py")
]
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path) for path in FILES}


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield each imported module with the names taken from it.

    Imports inside functions and those for type checkers count.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name"
            names = [alias.name for alias in node.names]
            modules = [f"{node.module}.{name}" for name in names]
            yield from ((module, []) for module in modules if module in MODULES)
            plain = [name for name in names if f"{node.module}.{name}" not in MODULES]
            if plain:
                yield node.module, plain


def own_imports(path):
    return [module for module, _ in imports(path) if module.startswith(f"{NAME}.")]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    for module in own_imports(path):
        target = module.split(".")[1]
        same = target == part(path)
        assert same or LEVELS[part(path)] < LEVELS[target], f"{path.name} imports {module}"


def test_no_files_import_each_other_in_a_circle():
    arrows = {module_name(path): set(own_imports(path)) for path in OURS}
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for leaf in leaves:
            del arrows[leaf]
    assert not arrows, f"these import each other in a circle: {sorted(arrows)}"


@EACH_FILE
def test_private_names_stay_in_their_module(path):
    taken = [
        f"{name} of {module}"
        for module, names in imports(path)
        for name in names
        if module.startswith(NAME) and name.startswith("_") and not name.startswith("__")
    ]
    assert not taken


def hosts_of(path):
    return {module.split(".")[0] for module, _ in imports(path)}


@EACH_FILE
def test_only_the_adapters_import_their_host(path):
    assert not hosts_of(path) & {"freqtrade", "datasieve"} or part(path) in HOST_FOLDERS
    assert "qlib" not in hosts_of(path) or part(path) == "qlib"
    assert "torch" not in hosts_of(path) or part(path) != "research"


CORE = [path for path in OURS if LEVELS[part(path)] >= LEVELS["models"] and part(path) != "replay"]
HOST_WORDS = re.compile(r"FreqAI\b|freqaimodel|identifier|train_period|data_split|user_data")
# The one way by which models of freqtrade itself reach the core.
HOST_DOOR = ("parameterized.py", "model")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_errors_of_the_core_advise_about_no_host(path):
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef) or (path.name, function.name) == HOST_DOOR:
            continue
        for error in (node for node in ast.walk(function) if isinstance(node, ast.Raise)):
            assert not HOST_WORDS.search(ast.unparse(error)), f"{path.name}:{error.lineno}"


def test_every_part_has_its_level():
    assert {part(path) for path in OURS} <= set(LEVELS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_prints(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    printing = {name for name in names if name.split(".")[-1] in {"print", "echo", "secho"}}
    printing |= names & {"sys.stdout.write", "sys.stderr.write"}
    assert not printing or part(path) in {"cli", "commands"}


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
