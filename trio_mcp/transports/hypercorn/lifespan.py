"""The lifespan of an ASGI application, seen from the server that runs it.

Owns the task in which the application runs from startup to shutdown. Refuses to
know requests. (ASGI lifespan specification, version 2.0)
"""

from __future__ import annotations

import logging
from typing import Any

import trio

from trio_mcp.concurrency.failures import split_failure
from trio_mcp.transports.asgi.types import ASGIApp, Message, Scope

logger = logging.getLogger("trio_mcp.transports")


class Lifespan:
    """Startup and shutdown of one application; `state` is what it shares with its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._told_startup = False
        self._stopping = trio.Event()
        self._startup_over = trio.Event()
        self._shutdown_over = trio.Event()
        self._refusal: str | None = None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the application in `nursery` and wait until it has started. Checkpoints.

        Raises RuntimeError if it answers `lifespan.startup.failed`. An application that raises or
        returns instead has no lifespan, and is served without one, as the specification requires.
        """
        nursery.start_soon(self._live)
        await self._startup_over.wait()
        if self._refusal is not None:
            raise RuntimeError(f"the application refused to start: {self._refusal or 'it gave no reason'}")

    async def stop(self) -> None:
        """Tell the application to shut down and wait until it has. Checkpoints."""
        self._stopping.set()
        await self._shutdown_over.wait()

    async def _live(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:  # noqa: ASYNC103  # foreign code; Cancelled is raised again below
            passing, failure = split_failure(error)
            if failure is not None:
                self._log(failure)
            if passing is not None:
                raise passing from None  # noqa: ASYNC104
        finally:
            self._startup_over.set()
            self._shutdown_over.set()

    def _log(self, failure: BaseException) -> None:
        if self._refusal is not None:
            return  # start() raises it
        if self._startup_over.is_set():
            logger.error("The application's lifespan failed", exc_info=failure)
        elif self._told_startup:
            logger.warning("The application failed at startup; served without lifespan", exc_info=failure)
        else:
            logger.debug("The application has no lifespan", exc_info=failure)

    async def _receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        if not self._told_startup:
            self._told_startup = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        if self._shutdown_over.is_set():
            await trio.sleep_forever()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._startup_over.set()
        elif kind == "lifespan.startup.failed":
            self._refusal = str(message.get("message", ""))
            self._startup_over.set()
        elif kind == "lifespan.shutdown.complete":
            self._shutdown_over.set()
        elif kind == "lifespan.shutdown.failed":
            logger.error("The application failed to shut down: %s", message.get("message", ""))
            self._shutdown_over.set()
        else:
            raise RuntimeError(f"{kind!r} is no message of the lifespan protocol")
