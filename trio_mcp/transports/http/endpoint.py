"""What a transport asks of the endpoint that it sends to: a request out, its answer in.

Owns the interface alone. `ServerUrl` is the usual one, and `AuthorizedUrl` adds tokens to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import trio

from trio_mcp.transports.http.response import HttpResponse

if TYPE_CHECKING:
    import httpx2


class HttpEndpoint(Protocol):
    """One URL of a server; `limit` is the largest message in bytes.

    `pausing` is entered while a person is asked to let the client in, if that can happen.
    """

    pausing: Callable[[], AbstractContextManager[None]]

    @property
    def url(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def limit(self) -> int: ...

    @property
    def general_client(self) -> httpx2.AsyncClient | None:
        """The client of httpx2 that the server is asked through, with its cookies; None if it is not."""

    def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        sent: trio.Event | None = None,
        *,
        is_repeatable: bool = False,
    ) -> AbstractAsyncContextManager[HttpResponse]:
        """Send one request; see `ServerUrl.ask`."""

    async def aclose(self) -> None:
        """Close all connections; bounded, checkpoints."""
