"""One HTTP endpoint: the URL of a server, and the client that asks it.

Owns the choice between connections of our own and httpx2, which is imported only if it is needed.
Refuses to know methods, sessions and eras.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from trio_mcp.transports.http.address import Address, may_have_proxy, parse_address
from trio_mcp.transports.http.h11_client import H11Client
from trio_mcp.transports.http.h11_request import is_ordinary
from trio_mcp.transports.http.response import HttpResponse, UnreachableError

if TYPE_CHECKING:
    import httpx2

    from trio_mcp.transports.http.authorizer import Authorizer
    from trio_mcp.transports.http.endpoint import HttpEndpoint
    from trio_mcp.transports.http.httpx_client import HttpxClient

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEPS_POST: Final = frozenset({307, 308})


@attrs.define(eq=False)
class ServerUrl:
    """The URL of a server, and how to ask it; `limit` is the largest message in bytes.

    A server that redirects or sets cookies is asked through httpx2 from then on.
    """

    url: str
    origin: str
    limit: int
    _direct: H11Client | None
    _make_general: Callable[[], HttpxClient]
    _general: HttpxClient | None = None
    pausing: Callable[[], AbstractContextManager[None]] = nullcontext

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        sent: trio.Event | None = None,
        *,
        is_repeatable: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        """Send one request; its answer can be read while the block lasts. Checkpoints.

        `sent` is set when the request is written. One that `is_repeatable` is sent again if the
        server has closed the kept connection on which it was sent. Raises UnreachableError, also if the
        answer breaks off in the block.
        """
        if self._direct is not None:
            direct = await self._direct.ask(method, headers, body, sent, is_repeatable=is_repeatable)
            try:
                if not self._is_redirect(method, direct.answer):
                    if "set-cookie" in direct.answer.headers:
                        self._use_general().note_cookies(direct.head)
                    yield direct.answer
                    return
            finally:
                direct.body.close()
        general = self._use_general()
        async with general.ask(method, headers, body, sent, is_repeatable=is_repeatable) as answer:
            yield answer

    @property
    def general_client(self) -> httpx2.AsyncClient | None:
        """The client of httpx2 that the server is asked through, with its cookies; None if it is not."""
        return None if self._general is None else self._general.client

    def _is_redirect(self, method: str, answer: HttpResponse) -> bool:
        """Whether `answer` sends the request elsewhere, so that it is to be sent again.

        Raises UnreachableError if it would become a GET there.
        """
        location = answer.headers.get("location")
        if answer.code not in _REDIRECTS or location is None:
            return False
        if method == "POST" and answer.code not in _KEEPS_POST:
            from urllib.parse import urljoin  # here, because it takes long and few need it

            raise UnreachableError(
                f"{self.url} redirects to {urljoin(self.url, location)}, which makes a GET of "
                f"each {method}; use that URL"
            )
        return True

    def _use_general(self) -> HttpxClient:
        """Ask through httpx2 from now on; raises UnreachableError if that is not installed."""
        if self._general is None:
            try:
                self._general = self._make_general()
            except ImportError as error:
                raise UnreachableError(f"{self.url} cannot be asked: {error}") from error
        if self._direct is not None:
            self._direct.pool.close()
            self._direct = None
        return self._general

    async def aclose(self) -> None:
        """Close all connections; bounded, checkpoints."""
        if self._direct is not None:
            self._direct.pool.close()
        if self._general is not None:
            await self._general.aclose()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_endpoint(
    url: str,
    *,
    limit: int,
    headers: Mapping[str, str] | None,
    auth: Any,
    http_client: httpx2.AsyncClient | None,
    ssl_context: ssl.SSLContext | None = None,
    allow_redirects_to: Collection[str] | None = None,
    authorizer: Authorizer | None = None,
) -> AsyncIterator[HttpEndpoint]:
    """An endpoint on `http_client`, which stays open, or on connections of its own. Checkpoints.

    Its requests carry what `authorizer` gives them. Raises ValueError unless `url` can be that of a server
    and `allow_redirects_to` are origins, TypeError unless `headers` are headers.
    """
    address = parse_address(url)
    origins = frozenset({address.origin, *_read_origins(allow_redirects_to)})

    def make_general() -> HttpxClient:
        from trio_mcp.transports.http.httpx_client import HttpxClient

        return HttpxClient(
            url,
            limit=limit,
            headers=headers,
            auth=auth,
            http_client=http_client,
            ssl_context=ssl_context,
            origins=origins,
        )

    is_plain = is_ordinary(headers) and http_client is None and auth is None
    if is_plain and not address.has_credentials and not may_have_proxy(address):
        direct = H11Client(url, address, prepare_context(address, ssl_context), headers, limit)
        endpoint = ServerUrl(url, address.origin, limit, direct, make_general)
    else:
        endpoint = ServerUrl(url, address.origin, limit, None, make_general, make_general())
    try:
        yield endpoint if authorizer is None else _authorize(endpoint, authorizer)
    finally:
        await endpoint.aclose()


def _authorize(endpoint: ServerUrl, authorizer: Authorizer) -> HttpEndpoint:
    # Imported here: few servers want a token.
    from trio_mcp.transports.http.authorized_url import AuthorizedUrl

    return AuthorizedUrl(endpoint, authorizer)


def _read_origins(origins: Collection[str] | None) -> set[str]:
    if isinstance(origins, str):
        raise TypeError(f"allow_redirects_to is a collection of origins, not one text: {origins!r}")
    found = set()
    for text in origins or ():
        address = parse_address(text)
        if address.target != "/" or address.has_credentials or text.endswith("/"):
            raise ValueError(f'{text!r} is no origin, such as "https://host:8000"')
        found.add(address.origin)
    return found


def prepare_context(address: Address, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The TLS context for an address, by default one with the usual certificates; None if it needs none."""
    if address.scheme == "http":
        return None
    if ssl_context is None:
        from trio_mcp.transports.http.httpx_client import default_context

        ssl_context = default_context()
    ssl_context.set_alpn_protocols(["http/1.1"])
    return ssl_context
