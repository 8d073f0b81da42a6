"""Reading an HTTP request over ASGI: its peer, its headers, its disconnect.

Owns the reading, except that of the body. What is read is judged by the endpoint.
"""

from __future__ import annotations

from functools import lru_cache

from trio_mcp.transports.asgi.types import DISCONNECT, Receive, Scope


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


async def wait_disconnect(receive: Receive) -> None:
    """Wait until the client has gone; checkpoints."""
    while (await receive())["type"] != DISCONNECT:
        pass
