"""Every relative link of a page leads to a file, and its anchor to a heading of that file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.test_examples import FENCE, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

INLINE = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
ATTRIBUTE = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")
NAMED = re.compile(r"<a\b[^>]*?\b(?:id|name)=\"([^\"]+)\"")
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def find_links(text: str) -> Iterator[str]:
    """The targets of all links and pictures that lead to no other host."""
    prose = CODE.sub("", FENCE.sub("", text))
    for pattern in (INLINE, REFERENCE, ATTRIBUTE):
        for target in pattern.findall(prose):
            if not SCHEME.match(target) and not target.startswith("//"):
                yield target


def find_anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings, and those that the page gives itself."""
    prose = FENCE.sub("", text)
    names = set(NAMED.findall(prose))
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(prose):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def find_problems(page: Path, root: Path) -> list[str]:
    problems = []
    for target in find_links(page.read_text()):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path if path else page).resolve()
        if not linked.is_relative_to(root):
            problems.append(f"{target} leaves the repository")
        elif not linked.exists():
            problems.append(f"{target} leads nowhere")
        elif anchor and (linked.suffix != ".md" or anchor not in find_anchors(linked.read_text())):
            problems.append(f"{target} names no heading")
    return problems


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    assert not find_problems(page, ROOT)


def test_there_are_pages() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert names >= {"README.md", "CHANGELOG.md", "docs/index.md", "docs/benchmarks/report.md"}


def test_the_index_leads_to_every_page() -> None:
    docs = ROOT / "docs"
    linked = {target.partition("#")[0] for target in find_links((docs / "index.md").read_text())}
    assert {page.name for page in docs.glob("*.md")} - {"index.md"} <= linked


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    (tmp_path / "other.md").write_text(
        '# One\n\n## `two()` and [three](page.md)\n\n# One\n\n<a id="four"></a>\n'
    )
    page.write_text(
        "[a](../other.md#one) [b](../other.md#two-and-three) [c](../other.md#one-1) [d](../other.md#four)\n"
        "[e](../other.md#five) [f](gone.md) ![g](gone.svg) [h](../../other.md) [i](#six)\n"
        '[j](https://e.org/#x) <img src="gone.png"> `[k](code.md)` ``[l](`code`.md)``\n\n'
        "```sh\n[m](code.md)\n```\n\n[n]: gone.txt\n"
    )
    assert find_problems(page, tmp_path) == [
        "../other.md#five names no heading",
        "gone.md leads nowhere",
        "gone.svg leads nowhere",
        "../../other.md leaves the repository",
        "#six names no heading",
        "gone.txt leads nowhere",
        "gone.png leads nowhere",
    ]
