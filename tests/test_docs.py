"""The documentation names things that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.test_architecture import ORDER, PACKAGE

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page):
    for place in re.findall(r"`(tests/[\w/.:]+)`", page.read_text(encoding="utf-8")):
        path, _, name = place.partition("::")
        assert (ROOT / path).exists(), place
        if name:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if hasattr(node, "name")}, place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_readme_leads_to_every_page():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert not pages - set(links)


def test_the_page_of_the_house_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[`*]+([\w/]+)[`*]+", page))
    rooms = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    assert not rooms - named - {"userdir/strategies"}


def test_the_page_of_the_house_shows_who_may_import_whom():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (chain,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    shown = [set(re.findall(r"\w+", parts)) for parts in chain.split(">")]
    assert shown == ORDER


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_place_that_a_page_of_the_house_names_exists(name):
    page = (ROOT / name).read_text(encoding="utf-8")
    named = [place.rstrip("/") for place in re.findall(r"`(\w+(?:/\w+)*(?:\.py|/))`", page)]
    named += re.findall(r"`((?:data|nets|training|models|freqai|userdir)/\w+)`", page)
    assert named
    for place in named:
        beside = [ROOT / place, PACKAGE / place, PACKAGE / f"{place}.py"]
        # A part of the plan may be named before it is built.
        planned = place in {*(part for parts in ORDER for part in parts), "qlib.py"}
        assert planned or any(path.exists() for path in beside), place
