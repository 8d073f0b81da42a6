"""What a handler can read of its request: who asks, by which revision, until when, and what it may keep.

Owns the attributes of `Context` that are read only. What a handler can do is in `context.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trio_mcp.errors import NotSupportedByEra
from trio_mcp.server.task_choice import find_payer
from trio_mcp.server.task_run import TaskRun
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.frames import RequestId
from trio_mcp.wire.messages import Implementation

if TYPE_CHECKING:
    import trio

    from trio_mcp.server.child_caller import ChildCaller
    from trio_mcp.session.principal import Principal
    from trio_mcp.tasks.record import Owner


class RequestFacts:
    """The part of a `Context` that tells of its request."""

    __slots__ = ("_calls", "_lifespan", "_request", "_run", "_state")

    # `Context` sets them: a constructor here would cost each request a call.
    _request: ServerRequest
    _run: TaskRun | None
    _lifespan: Any
    _calls: ChildCaller
    _state: dict[str, Any]

    def __repr__(self) -> str:
        run = "" if self._run is None else f" {self._run!r}"
        return f"<{type(self).__name__} of {self._request.method} {self._request.id!r}{run}>"

    @property
    def request_id(self) -> RequestId:
        """The JSON-RPC id of the request."""
        return self._request.id

    @property
    def protocol_version(self) -> str:
        """The protocol revision that the request follows, for example "2026-07-28"."""
        return self._request.era.version

    @property
    def client_info(self) -> Implementation | None:
        """The name and version that the client gives, for display only; None if it gives none."""
        return self._request.meta.client_info

    @property
    def client_capabilities(self) -> Mapping[str, Any]:
        """What the client declared that it can do (MCP capabilities)."""
        return self._request.meta.client_capabilities

    @property
    def request_meta(self) -> Mapping[str, Any]:
        """The request's `_meta`, as the client sent it."""
        return self._request.meta.values

    @property
    def principal(self) -> Principal | None:
        """Whom the client acts for, as the token of this request says, or `authenticate`; or None.

        In a background task it is that of the request that started it.
        """
        return self._request.connection.principal

    @property
    def caller(self) -> Owner:
        """Whom this request counts for: its principal, or an anonymous client by its address or connection.

        All requests of one principal have the same, whatever connection they come by. The name of an
        anonymous client is no secret of its session only if it is an address: do not log it.
        """
        return find_payer(self._request)

    @property
    def called_by(self) -> Sequence[str]:
        """The tools through which this one was called, from that of the request on; empty if by none."""
        return self._calls.path[:-1]

    @property
    def is_asking(self) -> bool:
        """Whether this run of the handler was cancelled to ask the client, with whose answer it is run again.

        That happens in the modern era only (MCP multi round-trip requests).
        """
        return self._request.round is not None and self._request.round.has_ended

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the HTTP request, or of the handshake of the WebSocket; read-only.

        Names are lower-case. In a background task they are those of the request that started it.
        Empty over stdio and in memory, which have none.
        """
        return MappingProxyType(self._request.connection.headers)

    @property
    def deadline(self) -> float:
        """When this call is cancelled because its time is over, on Trio's clock; `math.inf` for never.

        That is shortly before the client gives up, if the client says when it will; for a
        background task, when its own `timeout` ends. The seconds left are
        `ctx.deadline - trio.current_time()`.
        """
        request = self._request
        limit = None if self._run is None else self._run.limit
        own = math.inf if limit is None else request.find_deadline(limit)
        return min(request.deadline, own)

    @property
    def state(self) -> dict[str, Any]:
        """A place for values that live as long as this request, or this call of another tool."""
        return self._state

    @property
    def session_id(self) -> str | None:
        """The id of the client's session, which nobody can guess; None on the modern wire, which has none.

        Over HTTP it is that of the header `Mcp-Session-Id`; else it lasts as long as the connection.
        """
        return None if self._request.session is None else self._request.connection.session_id

    @property
    def session_state(self) -> dict[str, Any]:
        """A place for values that live as long as the client's session.

        Raises NotSupportedByEra on the modern wire, which has no sessions (MCP
        base protocol 2026-07-28, "Statelessness").
        """
        if self._request.session is None:
            raise NotSupportedByEra(
                f"protocol {self.protocol_version} has no sessions: pass an explicit handle between "
                "calls, or keep values of one request in ctx.state"
            )
        return self._request.session.state

    @property
    def task_id(self) -> str | None:
        """The id of the background task that this call runs as, or None if it is answered directly."""
        return None if self._run is None or self._request.task is None else self._run.live.id

    @property
    def attempt(self) -> int:
        """How often the handler of this task was begun, this time included; 1 for other calls."""
        return 1 if self._run is None or self._calls.path else self._run.live.record.attempt

    @property
    def restored(self) -> Any:
        """What an earlier attempt of this task has kept last by `Context.checkpoint`; None if nothing."""
        return None if self._run is None or self._calls.path else self._run.restored

    @property
    def gathered(self) -> Any:
        """What the tool's `gather` function returned before the task was made; None without one."""
        if self._calls.path:
            return self._calls.gathered
        return None if self._run is None else self._run.gathered

    @property
    def thread_limiter(self) -> trio.CapacityLimiter:
        """What bounds the worker threads of sync tools: a `limiter` for `trio.to_thread.run_sync`."""
        return self._calls.limiter

    @property
    def server(self) -> Any:
        """The `Server` that this request is served by; its tools, prompts and resources may change."""
        return self._calls.server

    @property
    def lifespan(self) -> Any:
        """What the server's lifespan yielded (`Server.lifespan`); None if it has none."""
        return self._lifespan
