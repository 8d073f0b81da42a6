"""Instruments: what a program gives to a server or a client to be told what happens there.

Owns the hooks, what they are told, and that an instrument which fails harms nothing. Refuses to know who
tells: a server and a client without instruments never import this module.

Who has instruments is decided when a server starts and when a client connects, so that what is not observed
costs nothing: other classes are used then (`session/observed_session.py`, `client/observed_session.py`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Literal, TypeAlias

import trio
from msgspec import Struct, field

from trio_mcp.concurrency.failures import log_failure
from trio_mcp.wire.frames import RequestId
from trio_mcp.wire.messages import Implementation

logger = logging.getLogger("trio_mcp.instruments")

Side: TypeAlias = Literal["server", "client"]

Transport: TypeAlias = Literal["memory", "stdio", "http", "sse", "websocket", "other"]

Outcome: TypeAlias = Literal["result", "tool_error", "error", "cancelled", "lost"]
"""How a call has ended: with a result, which may be that of a tool that failed; with a JSON-RPC error;
because its caller wanted no answer any more; or without an answer, because the connection was lost."""


class ObservedSession(Struct, eq=False, kw_only=True):
    """A client's session at a server, or a client's connection to one.

    `transport` is how messages travel, and `peer` at a server the address of a client on the network.
    `protocol_version` is the revision of the handshake, or of the first request if there is none.
    `principal` is the name of whom a client acts for. `id` is that of a legacy session over HTTP, else None:
    whoever knows it may use the session. `peer_info` is what the other side says that it is. Times are on
    Trio's clock.
    """

    side: Side
    transport: Transport
    peer: str | None = None
    protocol_version: str | None = None
    principal: str | None = None
    id: str | None = None
    peer_info: Implementation | None = None
    started_at: float = field(default_factory=trio.current_time)
    ended_at: float | None = None

    @property
    def duration(self) -> float | None:
        """The seconds from begin to end; None while it lasts."""
        return None if self.ended_at is None else self.ended_at - self.started_at


current_call: Final[ContextVar[ObservedCall | None]] = ContextVar("trio_mcp_observed_call", default=None)
"""The request at a server in whose handler we are, if it is observed."""


class ObservedCall(Struct, eq=False, kw_only=True):
    """One request of a client, at the client or at the server.

    `target` is the name of the tool or prompt, or the URI of the resource; None for other methods. `meta` is
    the `_meta` of the request: at a server as it was received, at a client what an instrument adds when the
    call starts. What an instrument puts into `trace` at a server, by the keys of a W3C context, goes with a
    task of the call to the process that runs it. `session` is None for a modern request over HTTP, which has
    none. From the end on there are `outcome`, `error` for one that failed, as an exception, and `error_code`
    if it was answered with a JSON-RPC error. `task_id` is that of the background task that the call has
    become. `reports` counts those that were told, and `dropped` those that the full buffer has pushed out at
    a server.
    """

    side: Side
    method: str
    target: str | None
    id: RequestId
    protocol_version: str
    transport: Transport
    session: ObservedSession | None
    meta: Mapping[str, Any] | dict[str, Any]
    trace: dict[str, str] = {}
    peer: str | None = None
    principal: str | None = None
    started_at: float = field(default_factory=trio.current_time)
    ended_at: float | None = None
    outcome: Outcome | None = None
    error: BaseException | None = None
    error_code: int | None = None
    error_message: str | None = None
    task_id: str | None = None
    reports: int = 0
    dropped: int = 0

    @property
    def duration(self) -> float | None:
        """The seconds from start to end; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class ObservedTask(Struct, eq=False, kw_only=True):
    """A background task that a server runs.

    `status` is the present one, as MCP names it, or "lost" if another process has the task now. `previous` is
    the one before, None for a task that has just begun here. `call` is the request that has made it, None if
    it was taken over from the store; `trace` is then the W3C context of that request. `reports`
    counts those that were told. `is_final` says that nothing more is told of it.
    """

    id: str
    tool: str
    status: str
    previous: str | None = None
    message: str | None = None
    call: ObservedCall | None = None
    trace: Mapping[str, str] = {}
    is_final: bool = False
    reports: int = 0
    started_at: float = field(default_factory=trio.current_time)
    ended_at: float | None = None

    @property
    def duration(self) -> float | None:
        """The seconds for which it ran here; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class ObservedRefusal(Struct, frozen=True, kw_only=True):
    """A request or connection that a server did not take.

    `kind` is the kind of reason: that of `RunningServer.refusals` for the network, "request" for what is
    answered with a JSON-RPC error before any handler runs; then `method`, `code` and `reason` say more.
    """

    kind: str
    method: str | None = None
    code: int | None = None
    reason: str | None = None


class Instrument:
    """A base class for instruments, whose hooks do nothing; an instrument may also be of any other class.

    A hook is called on the Trio thread and must not wait. What it raises is logged, once with its traceback
    and then by a count, and harms nobody. A hook that is not overridden is not called.
    """

    def call_started(self, call: ObservedCall) -> None:
        """A request begins: at a server in the task of its handler, at a client before it is sent.

        What a client's instrument puts into `call.meta` goes with the request.
        """

    def call_ended(self, call: ObservedCall) -> None:
        """A request has ended; told once for each that has started, in the same task."""

    def progress(
        self,
        source: ObservedCall | ObservedTask,
        progress: float | None,
        total: float | None,
        message: str | None,
    ) -> None:
        """A handler has reported progress (server), or a report has arrived (client)."""

    def task_changed(self, task: ObservedTask) -> None:
        """A task has begun, changed its status or ended."""

    def task_entered(self, task: ObservedTask) -> None:
        """The handler of a task begins to run; told in the task in which it runs."""

    def session_opened(self, session: ObservedSession) -> None:
        """A client has connected, or a client's handshake is done."""

    def session_ended(self, session: ObservedSession) -> None:
        """A session has ended."""

    def refused(self, refusal: ObservedRefusal) -> None:
        """A server has refused a request or a connection."""


HOOKS: Final = (
    "call_started",
    "call_ended",
    "progress",
    "task_changed",
    "task_entered",
    "session_opened",
    "session_ended",
    "refused",
)


def check_instrument(instrument: object) -> None:
    """Raise TypeError for what has none of the hooks, or has one that is async or no function."""
    found = [hook for hook in HOOKS if getattr(instrument, hook, None) is not None]
    if isinstance(instrument, type):
        raise TypeError(f"an instrument is an object, and {instrument.__name__} is a class: make one of it")
    if not found:
        raise TypeError(f"{instrument!r} has none of the hooks of an instrument: {', '.join(HOOKS)}")
    for hook in found:
        function = getattr(instrument, hook)
        if not callable(function):
            raise TypeError(f"the hook {hook} of {instrument!r} is no function")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"the hook {hook} of {instrument!r} is async, and hooks must not wait")


class Instruments:
    """Those of one running server, or of one client; tells each hook of all that have it, in their order."""

    def __init__(self, instruments: Sequence[object]) -> None:
        self._hooks: dict[str, tuple[Callable[..., Any], ...]] = {
            hook: tuple(_find_hooks(instruments, hook)) for hook in HOOKS
        }
        self.observes_progress: Final = bool(self._hooks["progress"])
        self.observes_tasks: Final = any(
            self._hooks[hook] for hook in ("progress", "task_changed", "task_entered")
        )

    def __repr__(self) -> str:
        return f"<Instruments: {', '.join(hook for hook, found in self._hooks.items() if found)}>"

    def start_call(self, call: ObservedCall) -> None:
        """Tell that a call starts."""
        self._tell("call_started", call)

    def end_call(self, call: ObservedCall) -> None:
        """Tell that a call has ended, now."""
        call.ended_at = trio.current_time()
        self._tell("call_ended", call, is_last=True)

    def report(
        self,
        source: ObservedCall | ObservedTask,
        progress: float | None,
        total: float | None,
        message: str | None,
    ) -> None:
        """Tell of one report."""
        source.reports += 1
        self._tell("progress", source, progress, total, message)

    def change_task(self, task: ObservedTask) -> None:
        """Tell that a task has begun, changed or ended."""
        self._tell("task_changed", task)

    def enter_task(self, task: ObservedTask) -> None:
        """Tell that the handler of a task begins to run."""
        self._tell("task_entered", task)

    def open_session(self, session: ObservedSession) -> None:
        """Tell that a session has begun."""
        self._tell("session_opened", session)

    def end_session(self, session: ObservedSession) -> None:
        """Tell that a session has ended, now."""
        session.ended_at = trio.current_time()
        self._tell("session_ended", session, is_last=True)

    def refuse(self, refusal: ObservedRefusal) -> None:
        """Tell that something was refused."""
        self._tell("refused", refusal)

    def _tell(self, hook: str, *args: Any, is_last: bool = False) -> None:
        functions = self._hooks[hook]
        for function in reversed(functions) if is_last else functions:
            try:
                function(*args)
            except Exception as error:  # a user's code may raise anything, and what it observes goes on
                log_failure(error, f"the hook {hook} of an instrument", logger)


def _find_hooks(instruments: Sequence[object], hook: str) -> list[Callable[..., Any]]:
    """The hooks of that name, without those that are those of `Instrument` itself."""
    unused = getattr(Instrument, hook)
    found = [(type(one), getattr(one, hook, None)) for one in instruments]
    return [function for kind, function in found if function and getattr(kind, hook, None) is not unused]
