"""What a user's own net depends on: the source that it comes from, and arguments that it takes."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import logging
import re
import sys
import sysconfig
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from freqai_lstm_plugins.errors import ConfigError, FreqaiLSTMError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_SITES = {"site-packages", "dist-packages"}

# How Python words that a call does not fit the function.
_MISFIT = re.compile(r"(\w+)(?:\.__init__)?\(\) (?:got|missing|takes) .*\bargument")
# Numbers of features and outputs to try a net with; many divisors, as heads must divide a width.
_TRIED_SHAPE = (48, 3)


def own_sources(model: type, user_dir: Path) -> dict[str, str]:
    """Return a digest of each of the user's files that a model's net comes from.

    The files of the model's classes count, and those of the user's own that they import, inside
    functions too; comments and empty lines do not. A class that does no more than name a net of
    this package has none.

    Args:
        model: Class of a FreqAI model.
        user_dir: freqtrade's user directory.

    Returns:
        File, relative to `user_dir` where it lies there -> digest.
    """
    classes = [cls for cls in model.__mro__ if _changes_something(cls)]
    waiting = [path for cls in classes if (path := _file_of(cls)) is not None and _is_own(path)]
    # Where freqtrade's loader lets a model's file import from.
    roots = list(dict.fromkeys(path.parent for path in waiting))
    digests: dict[Path, str] = {}
    while waiting:
        path = waiting.pop()
        if path in digests:
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        digests[path] = _digest(source)
        waiting += [found for found in _imported_files(source, path, roots) if _is_own(found)]
    return {_shown(path, user_dir): digest for path, digest in sorted(digests.items())}


def _changes_something(cls: type) -> bool:
    names = {name for name in vars(cls) if not re.fullmatch(r"__\w+__|_abc_impl", name)}
    return bool(names - {"net"}) or "__init__" in vars(cls)


def _file_of(cls: type) -> Path | None:
    # freqtrade's loader leaves it there, and the module in no list.
    given = vars(cls).get("__file__") or getattr(sys.modules.get(cls.__module__), "__file__", None)
    if given is None:
        codes = (getattr(value, "__code__", None) for value in vars(cls).values())
        given = next((code.co_filename for code in codes if code is not None), None)
    return None if given is None else Path(given).resolve()


def _is_own(path: Path) -> bool:
    if path.suffix != ".py" or not path.is_file() or path.is_relative_to(_PACKAGE):
        return False
    return not _INSTALLED & set(path.parents) and not _SITES & set(path.parts)


def _imported_files(source: str, path: Path, roots: list[Path]) -> Iterator[Path]:
    """Yield the files of the modules that a source imports, and of the packages around them."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of_module(alias.name, roots)
        elif isinstance(node, ast.ImportFrom):
            places = [path.parents[node.level - 1]] if node.level else roots
            for alias in node.names:
                name = ".".join(filter(None, (node.module, alias.name)))
                yield from _files_of_module(name, places, is_absolute=not node.level)


def _files_of_module(name: str, roots: list[Path], is_absolute: bool = True) -> Iterator[Path]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        places = [root.joinpath(*parts[:count]) for root in roots]
        files = [place.with_name(f"{place.name}.py") for place in places]
        files += [place / "__init__.py" for place in places]
        found = [file.resolve() for file in files if file.is_file()]
        loaded = sys.modules.get(".".join(parts[:count])) if is_absolute else None
        if not found and (given := getattr(loaded, "__file__", None)):
            found = [Path(given).resolve()]
        yield from found


def _digest(source: str) -> str:
    lines = source.splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):
        logger.debug("A source that is no Python counts with its comments.")
    kept = "\n".join(line.rstrip() for line in lines if line.strip())
    return hashlib.sha256(kept.encode()).hexdigest()[:16]


def _shown(path: Path, user_dir: Path) -> str:
    folder = user_dir.resolve()
    is_inside = path.is_relative_to(folder)
    return (path.relative_to(folder) if is_inside else Path(*path.parts[-2:])).as_posix()


def require_fitting_constructor(
    build: Callable[[int, int], nn.Module], model_kwargs: Mapping[str, Any], where: str
) -> None:
    """Refuse settings that the constructor of a user's own net does not take.

    The net is built once without memory for its weights. What else goes wrong on the way may be
    due to the made-up numbers of features and outputs, and is left to the first training.

    Args:
        build: The model's `build_net`.
        model_kwargs: `model_training_parameters.model_kwargs`.
        where: What the user calls that place.

    Raises:
        ConfigError: Names the arguments that are given and those that are taken.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build(*_TRIED_SHAPE)
    except FreqaiLSTMError:
        raise
    except TypeError as error:
        found = _MISFIT.search(str(error))
        if found is not None:
            given = ", ".join(model_kwargs) or "nothing"
            raise ConfigError(
                f"The net of {where} cannot be built: {error}. model_kwargs gives {given}"
                f"{_takes(build, found.group(1))}. Let the constructor take these names, or change "
                f"freqai.model_training_parameters.model_kwargs."
            ) from error
        logger.debug("A first try to build the net of %s failed: %s", where, error)
    # A net may well not suit the shape that it is tried with.
    except Exception as error:
        logger.debug("A first try to build the net of %s failed: %s", where, error)


def _takes(build: Callable[[int, int], nn.Module], name: str) -> str:
    function = inspect.unwrap(build)
    names = getattr(getattr(function, "__func__", function), "__globals__", {})
    if not inspect.isclass(names.get(name)):
        return ""
    return f", and {name} takes {', '.join(inspect.signature(names[name]).parameters)}"
