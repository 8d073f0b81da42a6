"""One line in the log for each HTTP request, when its response has ended, and for each WebSocket at its end.

Owns the logger `trio_mcp.access`, and how a program that is a server and nothing else shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from trio_mcp.transports.asgi.request import read_peer
from trio_mcp.transports.asgi.types import ASGIApp, Message, Receive, Scope, Send

logger: Final = logging.getLogger("trio_mcp.access")

WEBSOCKET: Final = "WEBSOCKET"
"""Stands in the place of the method."""

_HANDSHAKES: Final = {"websocket.accept": "101", "websocket.close": "403"}
"""What a server answers to a handshake if the application sends this first (ASGI, "Websocket")."""


def is_logged() -> bool:
    """Whether anybody asks for these lines: without that, a request costs nothing more."""
    return logger.isEnabledFor(logging.INFO)


def log_line(method: str, path: str, status: str, begun: float, peer: str) -> None:
    """Log what began at `begun` in Trio's time; the path is without its query, which may hold secrets."""
    milliseconds = (trio.current_time() - begun) * 1000
    logger.info("%s %s %s %.0f ms %s", method, path, status, milliseconds, peer or "-")


async def serve_logged(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let `app` serve one HTTP request or WebSocket, then log it; checkpoints and raises as `app` does.

    The status is "-" if there was no response.
    """
    status = "-"

    async def send_watched(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = str(message["status"])
        elif status == "-" and message["type"] in _HANDSHAKES:
            status = _HANDSHAKES[message["type"]]
        await send(message)

    begun = trio.current_time()
    try:
        await app(scope, receive, send_watched)
    finally:
        log_line(scope.get("method", WEBSOCKET), scope["path"], status, begun, read_peer(scope))


@contextmanager
def access_log_shown() -> Iterator[None]:
    """Show these lines on stderr while the block lasts, unless the program has configured its logging.

    Then only the level is set, and that too only if the program has set none.
    """
    level = logger.level
    handler: logging.Handler | None = None
    if level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        if handler is not None:
            logger.removeHandler(handler)
