"""The error of a request that cannot go on until a person has opened a page (2025-11-25).

Owns its data. It is imported by servers that raise it, and by clients that receive it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from trio_mcp.wire.errors import URL_ELICITATION_REQUIRED, ProtocolError


@attrs.frozen
class UrlElicitation:
    """A page that a person has to open, why, and the name by which its end is told."""

    message: str
    url: str
    elicitation_id: str = attrs.field(factory=lambda: secrets.token_urlsafe(16))


class UrlElicitationRequiredError(ProtocolError):
    """A request needs a person to open pages first; then it can be made again (code -32042).

    A handler raises it with the `elicitations`. Revisions that lack this error get an error result, whose
    text names the pages (MCP elicitation 2025-11-25, "URL Elicitation Required Error").
    """

    def __init__(self, elicitations: Sequence[UrlElicitation], message: str | None = None) -> None:
        self.elicitations = list(elicitations)
        if not self.elicitations:
            raise ValueError("UrlElicitationRequiredError needs the pages that a person has to open")
        listed = [
            {"mode": "url", "elicitationId": page.elicitation_id, "url": page.url, "message": page.message}
            for page in self.elicitations
        ]
        super().__init__(
            URL_ELICITATION_REQUIRED,
            message or "This request needs a person to open a page first",
            {"elicitations": listed},
        )

    @property
    def text(self) -> str:
        """What a person has to do, in words."""
        pages = "\n".join(f"{page.message}: {page.url}" for page in self.elicitations)
        return f"{self.message}. Then it can be made again.\n{pages}"


class _Page(msgspec.Struct, rename="camel"):
    url: str
    elicitation_id: str
    message: str = ""


class _Data(msgspec.Struct):
    elicitations: list[_Page]


def read_required(code: int, message: str, data: Any) -> ProtocolError:
    """The exception for an error of a server, which is a plain ProtocolError if its data are malformed."""
    try:
        pages = msgspec.convert(data, _Data).elicitations
        return UrlElicitationRequiredError(
            [UrlElicitation(page.message, page.url, page.elicitation_id) for page in pages], message
        )
    except (msgspec.ValidationError, ValueError):
        return ProtocolError(code, message, data)
