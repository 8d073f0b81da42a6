"""What a client says of itself at authorization servers, and how its user is asked.

Owns the options that the code flow and the client's registration share. Does nothing with them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

import attrs


class Receiver(Protocol):
    """What waits for the answer to one authorization request; `uri` is where it is to be sent."""

    @property
    def uri(self) -> str: ...

    async def wait_callback(self) -> str:
        """Wait for the answer, and return its query; checkpoints."""


class Redirect(Protocol):
    """Receives the answers of authorization servers, such as a `LoopbackRedirect`."""

    def open_receiver(self, state: str) -> AbstractAsyncContextManager[Receiver]:
        """Receive the answer that carries `state` while the block lasts; raises OSError if that cannot be."""


FetchCallback: TypeAlias = Callable[[str], Awaitable[str]]
"""Takes the user to the URL that it is given, and returns the query of the URL to which that leads back."""

OpenBrowser: TypeAlias = Callable[[str], Awaitable[None]]
"""Shows the user the URL that it is given."""


@attrs.frozen
class ClientOptions:
    """Who the client is at authorization servers, and how its user is asked; see `OAuth`."""

    client_id: str | None
    client_secret: str | None = attrs.field(repr=False)
    client_metadata_url: str | None
    client_name: str
    scopes: frozenset[str] | None
    issuer: str | None
    redirect: Redirect | FetchCallback
    redirect_uri: str | None
    open_browser: OpenBrowser
    timeout: float
    now: Callable[[], float] = time.time
