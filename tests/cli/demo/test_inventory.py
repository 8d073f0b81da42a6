"""The inventory of a directory tree: its counts, and that each step is bounded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from trio_mcp.cli.demo import inventory
from trio_mcp.cli.demo.inventory import Inventory, Kind, Tally, walk
from trio_mcp.cli.demo.run import merge_small

FILES = {
    "a.b/z.txt": b"one\ntwo\n",
    "a.c": b"c",
    "a/deep/er/x.PY": b"import trio\n",
    "a/y.py": b"",
    "binary.bin": b"\n\0\n" * 1000,
    "none": b"line\n" * 100_000,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, contents in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    (root / "link").symlink_to(tmp_path)
    (root / "loop").symlink_to(root)
    (root / "file-link").symlink_to(root / "none")
    os.mkfifo(root / "fifo")
    return root


def take_inventory(root: Path) -> Inventory:
    tally = Tally(str(root), lambda: None)
    for path in walk(str(root), tally.skip):
        tally.add(path)
    return tally.finish()


def test_files_come_in_the_order_of_their_whole_paths(tree: Path) -> None:
    found = [os.path.relpath(path, tree) for path in walk(str(tree), lambda error: None)]
    assert found == sorted(FILES)


def test_an_inventory_counts_files_lines_and_bytes_by_type(tree: Path) -> None:
    found = take_inventory(tree)
    contents = [FILES[name] for name in sorted(FILES)]
    assert found.sha256 == hashlib.sha256(b"".join(contents)).hexdigest()
    assert found.bytes == sum(map(len, contents))
    assert (found.files, found.lines, found.skipped) == (6, 100_003, 0)
    assert found.kinds == [
        Kind("(none)", 1, 100_000, 500_000),
        Kind(".bin", 1, 0, 3000),
        Kind(".py", 2, 1, 12),
        Kind(".txt", 1, 2, 8),
        Kind(".c", 1, 0, 1),
    ]


def test_what_cannot_be_read_is_skipped_and_counted(tree: Path, tmp_path: Path) -> None:
    tally = Tally(str(tree), lambda: None)
    tally.add(str(tree / "vanished.txt"))
    tally.add(str(tree / "a"))
    assert list(walk(str(tree / "vanished"), tally.skip)) == []
    tally.add(str(tree / "a.c"))
    found = tally.finish()
    assert (found.files, found.skipped) == (1, 3)
    assert found.sha256 == hashlib.sha256(b"c").hexdigest()


def test_cancellation_is_checked_between_the_parts_of_a_large_file(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "CHUNK_BYTES", 1000)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1

    Tally(str(tree), check).add(str(tree / "none"))
    assert asked == 500


def test_the_number_of_kinds_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MAX_KINDS", 2)
    for number in range(5):
        (tmp_path / f"file.{number}").touch()
    assert [kind.suffix for kind in take_inventory(tmp_path).kinds] == ["(others)", ".0", ".1"]


def test_names_need_not_be_unicode(tmp_path: Path) -> None:
    name = b"odd\xff.\xff"
    try:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    except OSError:
        pytest.skip("this file system wants Unicode")
    assert [kind.suffix for kind in take_inventory(tmp_path).kinds] == [".\N{REPLACEMENT CHARACTER}"]


def test_small_kinds_are_merged_in_the_table() -> None:
    kinds = [Kind(f".{number}", 1, 2, 3) for number in range(15)]
    assert merge_small(kinds[:10]) == kinds[:10]
    assert merge_small(kinds) == [*kinds[:9], Kind("6 more", 6, 12, 18)]
