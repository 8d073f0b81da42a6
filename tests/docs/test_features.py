"""docs/features.md has a row for each feature, and each link leads to a section whose code shows it.

Python blocks are executed by `test_examples.py`, so what a row names there is a part of a program that runs.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from tests.docs.test_examples import ROOT, read_blocks
from tests.docs.test_links import find_anchors

PAGE = ROOT / "docs" / "features.md"
COUNT = 48
"""The features that the SDK tier audit of MCP asks for, without the experimental ones."""

ROW = re.compile(
    r"^\|(?: (\d+) \|)? ([A-Za-z][^|`]+) \| (`[^|]+`) \| \[[^\]]+\]\((\w[\w-]*\.md)#([\w-]+)\) \|$",
    re.MULTILINE,
)
HEADING = re.compile(r"^#{1,6} ")


@attrs.frozen
class Row:
    """One feature, the names that its example uses, and the section that has it."""

    number: int | None
    feature: str
    names: list[str]
    page: Path
    anchor: str

    def __str__(self) -> str:
        return f"{self.number or 'task'} {self.feature}"


def read_rows(text: str) -> list[Row]:
    return [
        Row(
            int(number) if number else None,
            feature,
            re.findall(r"`([^`]+)`", names),
            ROOT / "docs" / page,
            anchor,
        )
        for number, feature, names, page, anchor in ROW.findall(text)
    ]


def read_section_code(page: Path, anchor: str) -> str:
    """The Python code between the heading named `anchor` and the next heading."""
    lines = page.read_text().splitlines()
    fenced: set[int] = set()
    blocks = read_blocks(page)
    for block in blocks:
        fenced.update(range(block.line, block.line + block.text.count("\n") + 2))
    headings = [n for n, line in enumerate(lines, 1) if n not in fenced and HEADING.match(line)]
    for position, start in enumerate(headings):
        if anchor not in find_anchors("\n".join(lines[:start])) - find_anchors("\n".join(lines[: start - 1])):
            continue
        end = headings[position + 1] if position + 1 < len(headings) else len(lines) + 1
        return "\n".join(b.text for b in blocks if b.language == "python" and start < b.line < end)
    raise AssertionError(f"{page.name} has no section {anchor}")


ROWS = read_rows(PAGE.read_text())


def test_every_feature_has_a_row_of_its_own() -> None:
    numbered = [row for row in ROWS if row.number is not None]
    assert [row.number for row in numbered] == list(range(1, COUNT + 1))
    assert len({row.feature for row in numbered}) == COUNT


def test_no_row_is_overlooked() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and ".md" in line]
    assert len(rows) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_feature_is_used_by_the_code_of_its_section(row: Row) -> None:
    code = read_section_code(row.page, row.anchor)
    assert code, f"{row.page.name}#{row.anchor} has no Python code"
    for name in row.names:
        assert name in code, f"the code of {row.page.name}#{row.anchor} has no {name}"


def test_a_section_ends_at_the_next_heading(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n```python\n# No heading\nfirst()\n```\n\n## Two\n\n```text\nsecond()\n```\n\n# One\n\n"
        "```python\nthird()\n```\n"
    )
    assert read_section_code(page, "one") == "# No heading\nfirst()\n"
    assert read_section_code(page, "two") == ""
    assert read_section_code(page, "one-1") == "third()\n"
    with pytest.raises(AssertionError, match="no section"):
        read_section_code(page, "no-heading")
