"""An inventory of a directory tree: files, bytes and lines by file type, and one digest of all.

Owns the file work, which blocks: every function here must run in a worker
thread. Refuses to know MCP.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Final

import attrs

CHUNK_BYTES: Final = 256 * 1024
"""How much of a file is in memory at once, and how much is read between two checks for cancellation."""

MAX_KINDS: Final = 500
"""How many file types are counted separately; a tree can have as many types as files."""

OTHERS: Final = "(others)"

CheckCancelled = Callable[[], None]


@attrs.define
class Kind:
    """All files of one type."""

    suffix: str
    files: int = 0
    lines: int = 0
    bytes: int = 0


@attrs.define
class Inventory:
    """All that was counted; `skipped` files and directories could not be read and count nowhere else.

    `sha256` is the digest of all contents, one after another, in the order of their paths, as of
    `find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | sha256sum`.
    """

    directory: str
    files: int = 0
    lines: int = 0
    bytes: int = 0
    skipped: int = 0
    sha256: str = ""
    kinds: list[Kind] = attrs.field(factory=list)


def walk(directory: str, on_error: Callable[[OSError], None], exclude: Collection[str] = ()) -> Iterator[str]:
    """Yield every regular file below `directory`, in the order of their whole paths as bytes.

    Directories whose name is in `exclude` are left out. Symbolic links are neither
    followed nor counted. Memory holds the names of one directory for each level of depth.
    """
    try:
        with os.scandir(directory) as entries:
            found = sorted(map(_sort_key, entries))
    except OSError as error:
        on_error(error)
        return
    for key, is_file in found:
        path = os.path.join(directory, os.fsdecode(key))
        if is_file:
            yield path
        elif key.endswith(b"/") and os.path.basename(path[:-1]) not in exclude:
            yield from walk(path[:-1], on_error, exclude)


def _sort_key(entry: os.DirEntry[str]) -> tuple[bytes, bool]:
    """A directory sorts with its slash, as it does in the paths below it."""
    is_directory = entry.is_dir(follow_symlinks=False)
    return os.fsencode(entry.name) + b"/" * is_directory, entry.is_file(follow_symlinks=False)


class Tally:
    """Counts files, and makes an inventory of the counts."""

    def __init__(self, directory: str, check_cancelled: CheckCancelled) -> None:
        self._inventory = Inventory(readable(directory))
        self._check_cancelled = check_cancelled
        self._digest = hashlib.sha256()
        self._kinds: dict[str, Kind] = {}

    def skip(self, error: OSError) -> None:
        """Count something that cannot be read."""
        self._inventory.skipped += 1

    def add(self, path: str) -> None:
        """Read one file and count it, or skip it."""
        digest = self._digest.copy()  # if reading fails midway, nothing of the file counts
        lines = size = 0
        is_text = True
        try:
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    self._check_cancelled()
                    digest.update(chunk)
                    is_text = is_text and b"\0" not in chunk
                    lines += chunk.count(b"\n")
                    size += len(chunk)
        except OSError as error:
            self.skip(error)
            return
        self._digest = digest
        for sums in (self._inventory, self._kind(path)):
            sums.files += 1
            sums.lines += lines if is_text else 0
            sums.bytes += size

    def finish(self) -> Inventory:
        """The inventory, with the largest kinds first."""
        self._inventory.sha256 = self._digest.hexdigest()
        self._inventory.kinds = sorted(self._kinds.values(), key=lambda kind: (-kind.bytes, kind.suffix))
        return self._inventory

    def _kind(self, path: str) -> Kind:
        suffix = readable(PurePath(path).suffix.lower()) or "(none)"
        if suffix not in self._kinds and len(self._kinds) >= MAX_KINDS:
            suffix = OTHERS
        return self._kinds.setdefault(suffix, Kind(suffix))


def readable(path: str) -> str:
    """A path as text that can be sent: names need not be Unicode."""
    return os.fsencode(path).decode(errors="replace")
