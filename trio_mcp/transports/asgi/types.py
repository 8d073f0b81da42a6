"""The parts of an ASGI 3 application, as type aliases.

Owns these names for both sides: the application (`asgi/`) and the host (`hypercorn/`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
# Any, and not Message: some hosts and frameworks type their events as TypedDicts, which are no mappings.
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECT: Final = "http.disconnect"
"""The type of the last event that an HTTP request receives: its client has gone, or has its response."""
