"""The pages of docs/design stay true and short: the files and names that they mention exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "design").glob("*.md"))
CODE = re.compile(r"`([^`]+)`")


def quoted(page: Path) -> list[str]:
    return CODE.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_exist(page):
    for text in quoted(page):
        if re.fullmatch(r"[\w/.-]+(\.\w+|/)", text) and ("/" in text or text.endswith(".py")):
            places = (ROOT / text, ROOT / "trio_mcp" / text)
            assert any(place.exists() for place in places), f"{page.name} names {text}"


def defined_names() -> set[str]:
    """All names that the package defines: classes, functions, constants, fields, attributes of instances."""
    names: set[str] = set()
    for path in (ROOT / "trio_mcp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    names.add(node.name)
                case ast.Name(ctx=ast.Store()):
                    names.add(node.id)
                case ast.Attribute(ctx=ast.Store()):
                    names.add(node.attr)
                case ast.arg():
                    names.add(node.arg)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_classes_and_constants_exist(page):
    """Every CamelCase or UPPER_CASE name in backquotes, also with an attribute behind it, is defined."""
    defined = defined_names()
    foreign = {"MockClock", "Mcp"}
    for text in quoted(page):
        if re.fullmatch(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*(\.\w+)?|[A-Z][A-Z_]{3,}", text):
            for name in text.split("."):
                assert name in defined | foreign, f"{page.name} names {text}"


def test_the_reading_order_has_twelve_files():
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "docs/design/reading-order.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == list(range(1, 13))


def test_the_glossary_has_at_most_25_words():
    lines = (ROOT / "docs/design/glossary.md").read_text().splitlines()
    assert 0 < sum(line.startswith("|") for line in lines) - 2 <= 25
