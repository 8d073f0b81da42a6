"""Serving an ASGI 3 application on hypercorn's trio worker, inside the caller's nursery.

Owns listening, the application's lifespan and the shutdown. Knows nothing of what
is served, nor of hypercorn, which `connection.py` hides.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.transports.asgi.types import ASGIApp
from trio_mcp.transports.hypercorn.connection import HypercornConnection, Worker
from trio_mcp.transports.hypercorn.guarded_stream import Limits
from trio_mcp.transports.hypercorn.lifespan import Lifespan
from trio_mcp.transports.hypercorn.listeners import (
    close_listeners,
    name_address,
    open_listeners,
    remove_paths,
)

logger = logging.getLogger("trio_mcp.transports")

# Seconds that the application's lifespan has for its shutdown, after the last request has ended.
LIFESPAN_GRACE: Final = 5.0

# HTTP/2 over TLS 1.2 forbids the rest (RFC 9113, appendix A); TLS 1.3 has its own.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@attrs.frozen(kw_only=True)
class TLS:
    """The certificate of a server, from PEM files.

    `keyfile` is not needed if `certfile` holds the key too; `password` decrypts an
    encrypted key. With `ca`, a client must show a certificate signed by one of these.
    """

    certfile: str | os.PathLike[str]
    keyfile: str | os.PathLike[str] | None = None
    password: str | None = attrs.field(default=None, repr=False)
    ca: str | os.PathLike[str] | None = None

    def make_context(self) -> ssl.SSLContext:
        """Load the files. Raises OSError or ssl.SSLError if one cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.load_cert_chain(self.certfile, self.keyfile, self.password)
        if self.ca is not None:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


async def serve_asgi(  # noqa: ASYNC128  # the service calls it
    app: ASGIApp,
    *,
    bind: str | Sequence[str] = "127.0.0.1:8000",
    tls: TLS | ssl.SSLContext | None = None,
    on_shutdown: Callable[[], None] | None = None,
    shutdown_grace: float = 3.0,
    read_timeout: float = 30.0,
    keep_alive_timeout: float = 60.0,
    stall_timeout: float = 30.0,
    backlog: int = 2048,
    max_head_bytes: int = 64 * 1024,
    max_body_bytes: int = 16 * 1024 * 1024,
    max_buffered_bytes: int | None = None,
    max_buffered_bytes_per_peer: int | None = None,
    ping_interval: float | None = 20.0,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI 3 application over HTTP/1.1, HTTP/2 and WebSocket until cancelled. Checkpoints.

    `addresses = await nursery.start(serve_asgi, app)` returns the URLs, one for each socket, with
    the real ports, once connections are accepted and the application's lifespan has started. `bind`
    takes "host:port" (0: any free port), "[::1]:port" and "unix:/path". An ssl.SSLContext as `tls` is
    used as it is; without "h2" among its ALPN protocols there is no HTTP/2. `Limits` says what the
    other timeouts and the caps bound. Times are in seconds, math.inf for no limit.

    Once the server is cancelled, `on_shutdown` is called, synchronously, so that endless responses
    can end. Running requests have `shutdown_grace` seconds left; then they are cancelled and their
    connections closed, whatever the peers do. The lifespan has 5 s more for its own shutdown.

    A request that fails is logged (logger "trio_mcp"; hypercorn's own messages go to
    "hypercorn.error") and answered with 500, or broken off if its response had begun; nothing else
    ends. Signals are the caller's business. Raises RuntimeError if the application answers
    `lifespan.startup.failed`, OSError if a socket cannot be bound, ValueError for a bad `bind`, and
    what loading the certificate raises.
    """
    limits = Limits(
        read_timeout,
        keep_alive_timeout,
        stall_timeout,
        max_head_bytes,
        max_body_bytes,
        4 * max_body_bytes if max_buffered_bytes is None else max_buffered_bytes,
        2 * max_body_bytes if max_buffered_bytes_per_peer is None else max_buffered_bytes_per_peer,
        ping_interval,
    )
    binds = [bind] if isinstance(bind, str) else list(bind)
    context = tls.make_context() if isinstance(tls, TLS) else tls
    service = _Service(app, binds, context, limits, backlog, on_shutdown, shutdown_grace)
    async with open_unwrapping_nursery() as nursery:
        nursery.start_soon(service.watch)
        with service.shield:
            await service.run(task_status.started)
        nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Service:
    """One call of serve_asgi."""

    app: ASGIApp
    binds: list[str]
    tls: ssl.SSLContext | None
    limits: Limits
    backlog: int
    on_shutdown: Callable[[], None] | None
    shutdown_grace: float
    # The caller's cancellation must not reach the requests before their grace is over. `watch`,
    # outside, sees it at once and gives the shield its deadline.
    shield: trio.CancelScope = attrs.Factory(lambda: trio.CancelScope(shield=True))
    accepting: trio.CancelScope | None = None
    connections: set[HypercornConnection] = attrs.Factory(set)

    async def watch(self) -> None:
        """Wait for the caller's cancellation and begin the shutdown."""
        try:
            await trio.sleep_forever()
        finally:
            self._shut_down()

    def _shut_down(self) -> None:
        if self.accepting is None:
            self.shield.cancel()
            return
        # One second more, so that the tasks get to run; each of their waits has its own bound.
        self.shield.deadline = trio.current_time() + self.shutdown_grace + LIFESPAN_GRACE + 1
        self.accepting.cancel()
        if self.on_shutdown is not None:
            try:
                self.on_shutdown()
            except BaseException as error:  # noqa: ASYNC103  # the caller's function must not stop the shutdown
                contain_failure(error, "on_shutdown", logger)

    async def run(self, started: Callable[[list[str]], None]) -> None:
        async with open_unwrapping_nursery() as nursery:
            lifespan = Lifespan(self.app)
            await lifespan.start(nursery)
            try:
                listeners = await open_listeners(self.binds, self.backlog)
                try:
                    await self._serve(listeners, lifespan, started)
                finally:
                    close_listeners(listeners)
            finally:
                with trio.move_on_after(LIFESPAN_GRACE):
                    await lifespan.stop()  # noqa: ASYNC102  # under the shield, which has its deadline by now
            nursery.cancel_scope.cancel()

    async def _serve(
        self,
        listeners: list[trio.SocketListener],
        lifespan: Lifespan,
        started: Callable[[list[str]], None],
    ) -> None:
        worker = Worker(self.app, self.limits, lifespan.state, self.tls)

        async def handle(stream: trio.SocketStream) -> None:
            connection = HypercornConnection(worker, stream)
            self.connections.add(connection)
            try:
                await connection.run()
            finally:
                self.connections.discard(connection)

        try:
            async with open_unwrapping_nursery() as timer:
                async with open_unwrapping_nursery() as nursery:
                    self.accepting = trio.CancelScope()
                    scheme = "https" if self.tls else "http"
                    started([name_address(listener, scheme) for listener in listeners])
                    try:
                        with self.accepting:
                            await trio.serve_listeners(handle, listeners, handler_nursery=nursery)
                    finally:
                        remove_paths(self.binds)
                    await worker.drain()
                    for connection in list(self.connections):
                        nursery.start_soon(connection.drain)
                    timer.start_soon(self._end_after_grace)
                timer.cancel_scope.cancel()
        finally:
            self._end_connections()

    async def _end_after_grace(self) -> None:
        await trio.sleep(self.shutdown_grace)
        self._end_connections()

    def _end_connections(self) -> None:
        for connection in list(self.connections):
            connection.end()
