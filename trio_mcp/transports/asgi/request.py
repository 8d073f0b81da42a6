"""Reading an HTTP request over ASGI: its peer, its headers, its body, its disconnect.

Owns the reading. What is read is judged by the endpoint.
"""

from __future__ import annotations

from functools import lru_cache

import trio

from trio_mcp.transports.asgi.types import DISCONNECT, Receive, Scope
from trio_mcp.wire.frame_meter import FRAMES_AT_ONCE, Patience


class WastefulBodyError(Exception):
    """A body comes in ever more pieces with hardly anything in them."""


def read_peer(scope: Scope) -> str:
    """The address of the client; empty if it has none, as on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def read_headers(scope: Scope) -> dict[str, str]:
    """The headers by their lower-case names; repeated ones are joined (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


@lru_cache(64)  # clients send the same one each time
def accepts(accepted: str, content_type: str) -> bool:
    """Whether an Accept header admits a type, by itself or by a wildcard (RFC 9110, section 12.5.1)."""
    kind = content_type.partition("/")[0]
    ranges = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return bool(ranges & {content_type, f"{kind}/*", "*/*"})


def is_longer(declared: str, limit: int) -> bool:
    """Whether a Content-Length is well-formed, and larger than `limit`."""
    return declared.isascii() and declared.isdigit() and int(declared[:19]) > limit


async def take_body(receive: Receive, limit: int) -> tuple[bytes | None, bool]:
    """Read a body, and whether it is complete; None if it is longer than `limit`. Checkpoints.

    Raises WastefulBodyError if its client only wastes time.
    """
    parts: list[bytes] = []
    length = judged = 0
    patience: Patience | None = None
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", False  # the client has gone
        part = message.get("body", b"")
        length += len(part)
        if length > limit:
            return None, False
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts), True
        if len(parts) % FRAMES_AT_ONCE == 0:
            patience = patience or Patience()
            if patience.is_exhausted_by((FRAMES_AT_ONCE, length - judged), trio.current_time()):
                raise WastefulBodyError
            judged = length
            await trio.lowlevel.checkpoint()  # the pieces may have been there all at once


async def wait_disconnect(receive: Receive) -> None:
    """Wait until the client has gone; checkpoints."""
    while (await receive())["type"] != DISCONNECT:
        pass
