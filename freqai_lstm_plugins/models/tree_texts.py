"""Checks texts of trees before LightGBM's and XGBoost's own parsers see them.

Those parsers are made for files of friends: what a text says of sizes and indices they take for
true, and a wrong one may lead them out of their memory. Here a text is read by rules that leave
nothing open, and is written anew from what was read, so nothing else reaches the libraries.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from freqai_lstm_plugins.errors import MismatchError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# More than any training gives; a forged count is not believed.
MOST_TREES = 100_000
MOST_CATEGORIES = 2**20
_END = "end of trees"
_OBJECTIVE = re.compile(r"regression|regression_l1|quantile")
_RANGES = re.compile(r"[\[\]:.\w+-]+( [\[\]:.\w+-]+)*")
# What the header of LightGBM's text says, in this order; all but the last three are fixed.
_HEADER = {
    "version": "v4",
    "num_class": "1",
    "num_tree_per_iteration": "1",
    "label_index": "0",
}
# Numbers of a tree by how many there are: one a leaf, or one a split.
_OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_OF_SPLITS = ("split_gain", "threshold", "internal_value", "internal_weight", "internal_count")
_CATEGORICAL = 1
_XGBOOST_OBJECTIVES = ("reg:squarederror", "reg:absoluteerror", "reg:quantileerror")
# Arrays of a tree in XGBoost's JSON that hold one number a node.
_FLOATS = ("base_weights", "loss_changes", "split_conditions", "sum_hessian")
_INTEGERS = (
    "default_left",
    "left_children",
    "parents",
    "right_children",
    "split_indices",
    "split_type",
)
_CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


class _UnsoundError(ValueError):
    """A text says something that cannot be."""


def sound_lightgbm(text: Any, n_columns: int) -> str:
    """Return LightGBM's text of trees as far as predictions need it, checked line by line.

    Args:
        text: What `model_to_string` gave, or what a file holds.
        n_columns: Columns of the rows that it predicts.

    Raises:
        MismatchError: It is no sound text of trees of so many columns.
    """
    try:
        return _lightgbm(text, n_columns)
    except (ValueError, OverflowError) as error:
        raise _refusal("LightGBM", error) from error


def sound_xgboost(text: Any, n_columns: int) -> str:
    """Return XGBoost's JSON of trees, checked and written anew; arguments as of `sound_lightgbm`.

    Raises:
        MismatchError: It is no sound JSON of trees of so many columns.
    """
    try:
        content = json.loads(_text(text))
        _check_xgboost(content, n_columns)
        return json.dumps(content, separators=(",", ":"))
    except (ValueError, OverflowError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise _refusal("XGBoost", error) from error
    except RecursionError as error:
        raise _refusal("XGBoost", "it is nested without an end") from error


@contextmanager
def library_errors(library: str) -> Iterator[None]:
    """Turn what a library raises at a text that passed into an error of model files."""
    try:
        yield
    # LightGBM's and XGBoost's own kinds, which need not be imported for it.
    except Exception as error:
        raise _refusal(library, error) from error


@contextmanager
def own_texts(library: str, version: str) -> Iterator[None]:
    """Say what is wrong where a library writes trees that this module does not know.

    Args:
        library: Name of the library.
        version: The one that is installed.

    Raises:
        TrainingError: Its text was refused.
    """
    try:
        yield
    except MismatchError as error:
        raise TrainingError(
            f"{library} {version} writes its trees in a way that this version of "
            f"freqai_lstm_plugins does not know ({error.__cause__ or error}): install another "
            f"version of either."
        ) from error


def _refusal(library: str, reason: object) -> MismatchError:
    words = " ".join(str(reason).split())[:200]
    return MismatchError(
        f"The model file holds trees that {library} cannot have written ({words}): train it again."
    )


def _text(text: Any) -> str:
    if not isinstance(text, str) or not text.isascii():
        raise _UnsoundError("they are no plain text")
    return text


# LightGBM


def _lightgbm(text: Any, n_columns: int) -> str:
    trees, end, _ = _text(text).partition(f"\n{_END}\n")
    header, gap, body = trees.partition("\n\n")
    if not end or not gap:
        raise _UnsoundError("the text has no beginning or no end")
    first, *lines = header.split("\n")
    found = _fields(lines)
    sizes = _check_header(first, found, n_columns)
    # Before the end stands one more empty line than after each tree.
    body += "\n"
    start = 0
    for number, size in enumerate(sizes):
        _check_tree(body[start : start + size], number, n_columns)
        start += size
    if body[start:].strip("\n"):
        raise _UnsoundError("there are more trees than sizes of trees")
    return f"{header}\n\n{body[:start]}{_END}\n\npandas_categorical:null\n"


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """Read lines of `name=value`, each name once."""
    found: dict[str, str] = {}
    for line in lines:
        name, is_one, value = line.partition("=")
        if not is_one or name in found:
            raise _UnsoundError(f"line {line[:40]!r} is none, or stands twice")
        found[name] = value
    return found


def _check_header(first: str, found: dict[str, str], n_columns: int) -> list[int]:
    """Return the sizes of the trees in bytes."""
    names = [*_HEADER, "max_feature_idx", "objective", "feature_names", "feature_infos"]
    if first != "tree" or list(found) != [*names, "tree_sizes"]:
        raise _UnsoundError("its header has other lines")
    wanted = {**_HEADER, "max_feature_idx": str(n_columns - 1)}
    if re.fullmatch(r"v[0-9]{1,4}", found["version"]) and found["version"] != wanted["version"]:
        raise MismatchError(
            f"The trees are in LightGBM's format {found['version']}, and this version of "
            f"freqai_lstm_plugins reads {wanted['version']}: use the versions of both that wrote "
            f"them, or train again."
        )
    for name, value in wanted.items():
        if found[name] != value:
            raise _UnsoundError(f"{name} is {found[name][:20]!r} and not {value}")
    if not _OBJECTIVE.fullmatch(found["objective"]):
        raise _UnsoundError("its objective is unknown")
    for name in ("feature_names", "feature_infos"):
        if not _RANGES.fullmatch(found[name]) or found[name].count(" ") != n_columns - 1:
            raise _UnsoundError(f"{name} are not those of {n_columns} columns")
    sizes = _integers(found["tree_sizes"], 0, 2**31)
    if not 0 < len(sizes) <= MOST_TREES:
        raise _UnsoundError(f"{len(sizes)} trees")
    return sizes


def _check_tree(text: str, number: int, n_columns: int) -> None:
    first, *lines = text.rstrip("\n").split("\n")
    if first != f"Tree={number}" or not text.endswith("\n\n"):
        raise _UnsoundError(f"tree {number} does not stand where the sizes say")
    found = _fields(lines)
    (n_leaves,) = _integers(found.pop("num_leaves", ""), 1, 2**20, 1)
    (n_categorical,) = _integers(found.pop("num_cat", ""), 0, n_leaves - 1, 1)
    if found.pop("is_linear", "0") != "0":
        raise _UnsoundError(f"tree {number} is of linear leaves")
    _floats(found.pop("shrinkage", ""), 1)
    n_splits = n_leaves - 1
    features = _integers(found.pop("split_feature", ""), 0, n_columns - 1, n_splits)
    kinds = _integers(found.pop("decision_type", ""), 0, 15, n_splits)
    left, right = (
        _integers(found.pop(f"{side}_child", ""), -n_leaves, n_splits - 1, n_splits)
        for side in ("left", "right")
    )
    # Behind its parent, a child can't lead back; met once each, nodes make one tree.
    children = [*zip(range(n_splits), left, strict=True), *zip(range(n_splits), right, strict=True)]
    if any(0 <= child <= parent for parent, child in children):
        raise _UnsoundError(f"a child of tree {number} stands before its parent")
    wanted = [*range(-n_leaves, 0), *range(1, n_splits)] if n_splits else []
    if sorted(child for _, child in children) != wanted:
        raise _UnsoundError(f"nodes of tree {number} are met twice, or never")
    thresholds = _floats(found.get("threshold", ""), n_splits)
    chosen = [t for t, kind in zip(thresholds, kinds, strict=True) if kind & _CATEGORICAL]
    _check_categories(found, chosen, n_categorical)
    assert len(features) == n_splits
    _check_numbers(found, number, n_leaves)


def _check_numbers(found: dict[str, str], number: int, n_leaves: int) -> None:
    if not {"leaf_value", "threshold" if n_leaves > 1 else "leaf_value"} <= set(found):
        raise _UnsoundError(f"tree {number} lacks values")
    for name, value in found.items():
        if name in _OF_LEAVES:
            # A tree without a split says nothing of its rows, or of the one leaf's.
            _floats(value, n_leaves, may_lack=n_leaves == 1 and name != "leaf_value")
        elif name in _OF_SPLITS:
            _floats(value, n_leaves - 1)
        else:
            raise _UnsoundError(f"tree {number} has a line {name[:20]!r}")


def _check_categories(found: dict[str, str], chosen: list[float], count: int) -> None:
    """Check which categories go left; a categorical split's threshold numbers its list of them."""
    if not count:
        if chosen:
            raise _UnsoundError("a split asks for categories, and there are none")
        return
    bounds = _integers(found.pop("cat_boundaries", ""), 0, MOST_CATEGORIES, count + 1)
    _integers(found.pop("cat_threshold", ""), 0, 2**32 - 1, bounds[-1])
    if bounds[0] != 0 or any(b <= a for a, b in itertools.pairwise(bounds)):
        raise _UnsoundError("lists of categories overlap")
    if sorted(chosen) != list(range(count)):
        raise _UnsoundError("lists of categories and splits are not of one number")


def _integers(text: str, least: int, most: int, count: int | None = None) -> list[int]:
    parts = text.split(" ") if text else []
    if count is not None and len(parts) != count:
        raise _UnsoundError(f"{len(parts)} numbers where {count} belong")
    if not all(re.fullmatch(r"-?[0-9]{1,10}", part) for part in parts):
        raise _UnsoundError(f"{text[:40]!r} is no list of whole numbers")
    return [_within(int(part), least, most) for part in parts]


def _within(value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _UnsoundError(f"{str(value)[:40]} lies outside {least} to {most}")
    return value


def _floats(text: str, count: int, *, may_lack: bool = False) -> list[float]:
    parts = text.split(" ") if text else []
    if len(parts) != count and not (may_lack and not parts):
        raise _UnsoundError(f"{len(parts)} numbers where {count} belong")
    if not all(re.fullmatch(r"[-+0-9.eE]{1,40}", part) for part in parts):
        raise _UnsoundError(f"{text[:40]!r} is no list of numbers")
    return [_finite(float(part)) for part in parts]


def _finite(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise _UnsoundError(f"{str(value)[:40]} is no finite number")
    return float(value)


# XGBoost


def _check_xgboost(content: Any, n_columns: int) -> None:
    _require_keys(content, ("learner", "version"))
    learner = content["learner"]
    _require_keys(
        learner,
        (
            *("attributes", "feature_names", "feature_types", "gradient_booster"),
            *("learner_model_param", "objective"),
        ),
    )
    _array(content["version"], 3)
    for number in content["version"]:
        _within(number, 0, 10_000)
    if not all(isinstance(v, str) for v in learner["attributes"].values()):
        raise _UnsoundError("its attributes are no texts")
    types = learner["feature_types"]
    if learner["feature_names"] != [] or (types != [] and len(_array(types)) != n_columns):
        raise _UnsoundError(f"its features are not {n_columns}")
    if not all(kind in ("q", "c") for kind in types):
        raise _UnsoundError("its features are of unknown kinds")
    _check_learner(learner["learner_model_param"], learner["objective"], n_columns)
    booster = learner["gradient_booster"]
    _require_keys(booster, ("model", "name"))
    if booster["name"] != "gbtree":
        raise _UnsoundError("it is no booster of trees")
    _check_forest(booster["model"], n_columns)


def _check_learner(parameters: Any, objective: Any, n_columns: int) -> None:
    wanted = {"num_class": "0", "num_feature": str(n_columns), "num_target": "1"}
    _require_keys(parameters, ("base_score", "boost_from_average", *wanted))
    if any(parameters[name] != value for name, value in wanted.items()):
        raise _UnsoundError(f"it is not of one target and {n_columns} columns")
    if parameters["boost_from_average"] not in ("0", "1"):
        raise _UnsoundError("boost_from_average is neither 0 nor 1")
    score = _text(parameters["base_score"])
    if not re.fullmatch(r"\[?-?[0-9.]{1,20}(E[+-]?[0-9]{1,2})?\]?", score):
        raise _UnsoundError("its base is no number")
    if objective.get("name") not in _XGBOOST_OBJECTIVES:
        raise _UnsoundError("its objective is unknown")
    for value in objective.values():
        parts = value.values() if isinstance(value, dict) else [value]
        if not all(isinstance(part, str) and len(part) < 100 for part in parts):
            raise _UnsoundError("its objective is no text")


def _check_forest(model: Any, n_columns: int) -> None:
    # XGBoost writes it from 3.1 on, and of categories without names it knows nothing.
    without: dict[str, list[int]] = {"enc": [], "feature_segments": [], "sorted_idx": []}
    if model.get("cats", without) != without:
        raise _UnsoundError("it names categories")
    keys = ("gbtree_model_param", "iteration_indptr", "tree_info", "trees")
    _require_keys(model, ("cats", *keys) if "cats" in model else keys)
    trees = _array(model["trees"])
    count = len(trees)
    if not 0 < count <= MOST_TREES:
        raise _UnsoundError(f"{count} trees")
    if model["gbtree_model_param"] != {"num_parallel_tree": "1", "num_trees": str(count)}:
        raise _UnsoundError(f"there are {count} trees, and it speaks of others")
    if model["iteration_indptr"] != list(range(count + 1)) or model["tree_info"] != [0] * count:
        raise _UnsoundError("its trees are of other rounds")
    for number, tree in enumerate(trees):
        _check_nodes(tree, number, n_columns)


def _check_nodes(tree: Any, number: int, n_columns: int) -> None:
    _require_keys(tree, (*_FLOATS, *_INTEGERS, *_CATEGORIES, "id", "tree_param"))
    parameters, n_nodes = tree["tree_param"], len(_array(tree["left_children"]))
    _require_keys(parameters, ("num_deleted", "num_feature", "num_nodes", "size_leaf_vector"))
    (n_deleted,) = _integers(parameters["num_deleted"], 0, max(n_nodes - 1, 0), 1)
    wanted = {"num_feature": str(n_columns), "num_nodes": str(n_nodes), "size_leaf_vector": "1"}
    if tree["id"] != number or {**parameters, **wanted} != parameters or not n_nodes:
        raise _UnsoundError(f"tree {number} does not say what it is of")
    for name in _INTEGERS:
        for value in _array(tree[name], n_nodes):
            _within(value, -1, 2**31 - 1)
    # Categories decide there; versions before 2.1 write NaN for the number that does not.
    conditions = zip(_array(tree["split_conditions"], n_nodes), tree["split_type"], strict=True)
    tree["split_conditions"] = [0.0 if kind and v != v else v for v, kind in conditions]
    for name in _FLOATS:
        # The library asks for a point in each of them.
        tree[name] = [_finite(value) for value in _array(tree[name], n_nodes)]
    met = _walk(tree, number, n_columns)
    if n_nodes - len(met) != n_deleted:
        raise _UnsoundError(f"nodes of tree {number} are met by no way")
    _check_node_categories(tree, met)


def _walk(tree: Any, number: int, n_columns: int) -> set[int]:
    """Follow children from the root on, and return the nodes that are met."""
    met, waiting = {0}, [0]
    while waiting:
        node = waiting.pop()
        left, right = tree["left_children"][node], tree["right_children"][node]
        _within(tree["default_left"][node], 0, 1)
        _within(tree["split_type"][node], 0, 1)
        if left == right == -1:
            continue
        _within(tree["split_indices"][node], 0, n_columns - 1)
        for child in (left, right):
            _within(child, node + 1, len(tree["parents"]) - 1)
            if child in met or tree["parents"][child] != node:
                raise _UnsoundError(f"node {child} of tree {number} has two parents")
            met.add(child)
            waiting.append(child)
    return met


def _check_node_categories(tree: Any, met: set[int]) -> None:
    nodes, starts, sizes = (_array(tree[name]) for name in _CATEGORIES[1:])
    values = _array(tree["categories"])
    for value in values:
        _within(value, 0, MOST_CATEGORIES)
    splits = [n for n in sorted(met) if tree["split_type"][n] and tree["left_children"][n] != -1]
    if nodes != splits or not len(nodes) == len(starts) == len(sizes):
        raise _UnsoundError("lists of categories and splits are not of one number")
    place = 0
    for start, size in zip(starts, sizes, strict=True):
        if start != place:
            raise _UnsoundError("lists of categories overlap")
        place += _within(size, 1, MOST_CATEGORIES)
    if place != len(values):
        raise _UnsoundError("lists of categories are of another length")


def _require_keys(content: Any, names: Sequence[str]) -> None:
    if not isinstance(content, dict) or set(content) != set(names):
        found = ", ".join(map(str, content))[:60] if isinstance(content, dict) else content
        raise _UnsoundError(f"it holds {str(found)[:60]!r} where {', '.join(names)[:60]} belong")


def _array(value: Any, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise _UnsoundError(f"{str(value)[:40]} is no list of {count} values")
    return value
