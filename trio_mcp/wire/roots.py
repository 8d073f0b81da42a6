"""The roots of a client: the directories and files that it works with (MCP client features, "Roots").

Owns their form. It is imported by servers that ask for roots, and by clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from msgspec import Struct, field


class Root(Struct, rename="camel", omit_defaults=True, frozen=True):
    """A directory or file that a client works with: a file URI, and a name to show."""

    uri: str
    name: str | None = None
    meta: dict[str, Any] | None = field(name="_meta", default=None)

    @property
    def path(self) -> Path:
        """The path that the URI names; raises ValueError if it is no file URI."""
        parts = urlsplit(self.uri)
        if parts.scheme != "file":
            raise ValueError(f"{self.uri!r} is no file URI")
        return Path(url2pathname(parts.path))


class ListRootsResult(Struct):
    """The answer to roots/list."""

    roots: list[Root]
