"""The files of a directory as resources; nothing outside of it can be read.

Owns the checks of a path that a client sends, and how a file becomes text or bytes. On systems that have
`dir_fd`, a file is opened part by part without following links, so that a link which is put there between
the check and the opening leads nowhere.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

import attrs

from trio_mcp.errors import ResourceDefinitionError, ResourceError, ResourceNotFound
from trio_mcp.wire.content import ResourceContents

_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9\xb9\xb2\xb3]|lpt[0-9\xb9\xb2\xb3]) *(?:[.:].*)?",
    re.IGNORECASE,
)
"""What Windows takes for a device, in any directory and with any extension."""

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
"""No file that Windows can name has one of these; a colon also begins a stream or follows a drive."""

_TEXT_TYPES: Final = re.compile(
    r"text/.*|.*\+(?:json|xml|yaml)|application/(?:json|xml|yaml|toml|javascript|sql|x-sh|x-python)"
)
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer must not hold up the thread
    | getattr(os, "O_BINARY", 0)
)
_BY_DESCRIPTOR: Final = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_ENCODED_TYPES: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
# The types of the standard library alone: what the machine adds to them differs.
_types = mimetypes.MimeTypes()
_types.add_type("text/markdown", ".md")  # in the standard library since Python 3.13


def make_directory(path: str | os.PathLike[str], max_bytes: int, *, hidden: bool) -> Directory:
    """The directory at `path`; raises ResourceDefinitionError if there is none."""
    if type(max_bytes) is not int or max_bytes < 1:
        raise ResourceDefinitionError(f"max_bytes must be a number of bytes, not {max_bytes!r}")
    try:
        root = Path(path).resolve(strict=True)
    except (OSError, ValueError) as error:
        raise ResourceDefinitionError(f"the directory {os.fspath(path)!r} cannot be used: {error}") from None
    if not root.is_dir():
        raise ResourceDefinitionError(f"{os.fspath(path)!r} is no directory")
    return Directory(root, max_bytes, hidden)


@attrs.frozen
class Directory:
    """A directory whose files are read; `root` is its real path.

    `hidden` says whether those whose names begin with a dot are, too.
    """

    root: Path
    max_bytes: int
    hidden: bool

    def read(self, uri: str, path: str) -> ResourceContents:
        """Read the file `path`, whose parts are separated by "/"; blocks.

        Raises ResourceNotFound if there is no such file in the directory, also if the path leads out of it,
        and ResourceError if it is too large.
        """
        try:
            data = self._read_bytes(self._find(path))
        except (OSError, ValueError, RuntimeError):  # RuntimeError: a circle of links, before Python 3.13
            raise ResourceNotFound from None
        return _make_contents(uri, _guess_type(path), data)

    def _find(self, path: str) -> Path:
        """The real path of a file below the root; raises OSError, ValueError or RuntimeError for others."""
        parts = path.split("/")
        if not all(map(_is_plain, parts)):
            raise ValueError(f"{path!r} is no relative path of plain names")
        found = self.root.joinpath(*parts).resolve(strict=True)
        if not found.is_relative_to(self.root):
            raise ValueError(f"{path!r} leads out of the directory")
        named = (*parts, *found.relative_to(self.root).parts)
        if not self.hidden and any(name.startswith(".") for name in named):
            raise ValueError(f"{path!r} is hidden")
        return found

    def _read_bytes(self, file: Path) -> bytes:
        with ExitStack() as stack:
            if _BY_DESCRIPTOR:
                descriptor = self._open_part_by_part(file.relative_to(self.root).parts, stack)
            else:
                descriptor = os.open(file, _FLAGS)
            stack.callback(os.close, descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{file} is no regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as opened:
                data = opened.read(self.max_bytes + 1)
        if len(data) > self.max_bytes:
            raise ResourceError(f"the file is larger than {self.max_bytes:,} bytes")
        return data

    def _open_part_by_part(self, parts: tuple[str, ...], stack: ExitStack) -> int:
        """The descriptor of a file; those of the directories above it are closed with `stack`."""
        *directories, name = parts
        above = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, above)
        for directory in directories:
            above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            stack.callback(os.close, above)
        return os.open(name, _FLAGS, dir_fd=above)


def _is_plain(name: str) -> bool:
    """Whether `name` is that of a file or directory on every system, and not a way to another place."""
    is_dots = not name.strip(". ")  # also the empty name, and "..." and ".. ", which Windows cuts
    return not (is_dots or _FORBIDDEN.search(name) or _DEVICE.fullmatch(name))


def _guess_type(path: str) -> str | None:
    mime_type, encoding = _types.guess_type(path.rpartition("/")[2])
    return mime_type if encoding is None else _ENCODED_TYPES.get(encoding, "application/octet-stream")


def _make_contents(uri: str, mime_type: str | None, data: bytes) -> ResourceContents:
    """Text if the type does not say otherwise and the data is text, else bytes."""
    if mime_type is None or _TEXT_TYPES.fullmatch(mime_type):
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" not in text:
            return ResourceContents(uri=uri, mime_type=mime_type or "text/plain", text=text)
    blob = base64.b64encode(data).decode()
    return ResourceContents(uri=uri, mime_type=mime_type or "application/octet-stream", blob=blob)


def directory_function(directory: Directory, uri: str) -> Callable[[str], ResourceContents]:
    """The function of the template "`uri`/{path*}"."""

    def read_file(path: str) -> ResourceContents:
        # The URI of the contents is written in one way, however the client has encoded it.
        return directory.read(f"{uri}/{quote(path)}", path)

    return read_file
