"""Requests to an ASGI application without a network.

Owns the scope of such a request. Refuses to know what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import trio

from trio_mcp.testing.authorization.exchange import Answer
from trio_mcp.transports.asgi.types import ASGIApp, Scope


async def ask_app(app: ASGIApp, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Make one request from this machine; checkpoints. Names of `headers` are lower-case."""
    split = urlsplit(url)
    fields = {"host": split.netloc, **headers}
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": split.scheme,
        "path": split.path or "/",
        "query_string": split.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()],
        "client": ("127.0.0.1", 1),
    }
    head: dict[str, Any] = {}
    content = bytearray()

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            head.update(message)
        else:
            content.extend(message.get("body", b""))

    await app(scope, receive, send)
    answered = {name.decode("latin-1"): value.decode("latin-1") for name, value in head["headers"]}
    return Answer(head["status"], answered, bytes(content))
