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


ROW = re.compile(r"^\| (\d+) \| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)


def test_the_reading_order_names_twelve_files_and_what_to_read_in_each():
    rows = ROW.findall((ROOT / "docs/design/reading-order.md").read_text())
    assert [int(number) for number, _, _ in rows] == list(range(1, 13))
    for _, file, parts in rows:
        defined = qualified_names(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        named = CODE.findall(parts)
        assert named, file
        assert set(named) <= defined, f"{file} has no {set(named) - defined}"


def qualified_names(tree: ast.Module) -> set[str]:
    """Functions, classes, methods as `Class.method`, and constants of a module."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.ClassDef():
                names.add(node.name)
                functions = (ast.FunctionDef, ast.AsyncFunctionDef)
                names.update(
                    f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, functions)
                )
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.AnnAssign(target=ast.Name()):
                names.add(node.target.id)
    return names


def test_the_glossary_has_at_most_25_words():
    lines = (ROOT / "docs/design/glossary.md").read_text().splitlines()
    assert 0 < sum(line.startswith("|") for line in lines) - 2 <= 25
