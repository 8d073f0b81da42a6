"""One document of a URL, read whole: what authorization asks of authorization servers.

Owns the caps of size and time. Refuses to know what a document says, and which URLs may be asked.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

import attrs
import trio

from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.transports.http.server_url import open_endpoint
from trio_mcp.validators import check_count, check_positive

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""Far more than metadata or a set of keys needs: the largest in use have some 50 KiB."""

ANSWER_SECONDS: Final = 10.0
"""How long one document may take; who waits for it holds a request of its own."""

_ACCEPTED: Final = "application/json, application/*+json"

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen
class Document:
    """The answer to one request, whole; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


class Fetch(Protocol):
    """Asks for one document. Raises UnreachableError or OSError if there is no answer."""

    async def __call__(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] = NO_HEADERS, body: bytes = b""
    ) -> Document:
        """Send one request, and return its answer, whatever its status; checkpoints."""


@attrs.frozen
class DocumentFetcher:
    """Asks over a connection that is opened for the request and closed behind it.

    `ssl_context` is for servers whose certificates are not publicly trusted. A document has at most `limit`
    bytes and takes at most `seconds`. Redirects are followed within one origin only.
    """

    ssl_context: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    seconds: float = attrs.field(default=ANSWER_SECONDS, validator=check_positive)
    limit: int = attrs.field(default=MAX_DOCUMENT_BYTES, validator=check_count)

    async def __call__(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] = NO_HEADERS, body: bytes = b""
    ) -> Document:
        """See `Fetch`; checkpoints. Raises UnreachableError, also if the answer is too large or too slow."""
        sent = {"accept": _ACCEPTED, **{name.lower(): value for name, value in headers.items()}}
        with trio.move_on_after(self.seconds):
            return await self._ask(url, method, sent, body)
        raise UnreachableError(f"{url} has not answered within {self.seconds:g} seconds")

    async def _ask(self, url: str, method: str, headers: Mapping[str, str], body: bytes) -> Document:
        async with (
            open_endpoint(
                url,
                limit=self.limit,
                headers=None,
                auth=None,
                http_client=None,
                ssl_context=self.ssl_context,
            ) as endpoint,
            endpoint.ask(method, headers, body, is_repeatable=method == "GET") as answer,
        ):
            content = await answer.read_body()
            if content is None:
                raise UnreachableError(f"{url} answered with more than {self.limit} bytes")
            return Document(answer.code, answer.headers, content)
