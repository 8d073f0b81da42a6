"""One line in the log for each HTTP request, when its response has ended.

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


def is_logged() -> bool:
    """Whether anybody asks for these lines: without that, a request costs nothing more."""
    return logger.isEnabledFor(logging.INFO)


async def serve_logged(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let `app` answer one HTTP request, then log it; checkpoints and raises as `app` does.

    The query is not logged: it may hold secrets. The status is "-" if there was no response.
    """
    status = "-"

    async def send_watched(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = str(message["status"])
        await send(message)

    begun = trio.current_time()
    try:
        await app(scope, receive, send_watched)
    finally:
        milliseconds = (trio.current_time() - begun) * 1000
        peer = read_peer(scope) or "-"
        logger.info("%s %s %s %.0f ms %s", scope["method"], scope["path"], status, milliseconds, peer)


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
