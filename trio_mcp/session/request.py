"""One request that a server is working on.

Owns its scope, its progress, its log threshold and its state. Refuses to know the session,
except for the data that a handler may ask for.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import trio
from msgspec import UNSET, Struct, field

from trio_mcp.concurrency.stopped_scopes import StoppedScopes
from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.schema.flaws import encode_json
from trio_mcp.session.connection import ServerConnection
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.eras import Era
from trio_mcp.wire.frames import Notification, RequestId
from trio_mcp.wire.handshake import RequestMeta
from trio_mcp.wire.messages import LOGGING_LEVELS, LoggingLevel, LogParams, Params, Result

DEFAULT_LOG_LEVEL: LoggingLevel = "info"
"""The level of a legacy client that has not set one (MCP logging lets the server decide)."""

MARGIN_SHARE: Final = 0.1
"""The share of a client's deadline that is kept for the answer, if `deadline_margin` would be more."""


class SessionData(Struct, eq=False):
    """The data that a legacy session keeps between its requests."""

    log_level: LoggingLevel = DEFAULT_LOG_LEVEL
    state: dict[str, Any] = {}


class RunningTask(Protocol):
    """The background task that a request has become."""

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""

    @property
    def related_meta(self) -> dict[str, Any] | None:
        """The `_meta` of its messages, or None."""


class RequestRound(Protocol):
    """One run of a handler that has asked its client, or may ask it again (MCP multi round-trip requests)."""

    @property
    def has_ended(self) -> bool:
        """Whether its questions have ended the run."""

    def conclude(self) -> Result | None:
        """The questions that have ended the run, or None if something else has; called at its end."""


class ServerRequest(Struct, eq=False):
    """A request in flight; `session` is None in eras that have no sessions.

    `task` is the background task that the request has become, or None. If its progress token is
    valid beyond the answer, `call_queue` is that of the task from then on. `stopped` are its scopes that
    stand still while the client is asked something, if it `pauses` then; None until it was asked.
    `round` is None until the handler asks its client by an answer, or the request answers such questions.
    It `was_cancelled` if it is `withdrawn` because the client has said so, and not because that is gone.
    """

    id: RequestId
    method: str
    era: Era
    params: Params
    meta: RequestMeta
    call_queue: CallQueue
    progress: ProgressReporter
    connection: ServerConnection
    session: SessionData | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    state: dict[str, Any] = {}
    withdrawn: bool = False
    was_cancelled: bool = False
    task: RunningTask | None = None
    stopped: StoppedScopes | None = None
    pauses: bool = True
    round: RequestRound | None = None

    @property
    def task_name(self) -> str:
        """The name of the Trio task in which the request is worked on."""
        return f"{self.method} {self.id!r}"

    @property
    def deadline(self) -> float:
        """The time on Trio's clock at which the handler is cancelled because the client gives up, or inf."""
        return self.find_deadline(self.scope)

    def find_deadline(self, scope: trio.CancelScope) -> float:
        """The deadline of a scope of this request, also if it stands still now."""
        return scope.deadline if self.stopped is None else self.stopped.find_deadline(scope)

    @property
    def is_over(self) -> bool:
        """Whether the messages of its handler go nowhere any more."""
        return self.call_queue.closed if self.task is None else self.task.is_final

    @property
    def log_level(self) -> LoggingLevel | None:
        """The lowest level that the client wants to see, or None if it wants no logs."""
        return self.meta.log_level if self.session is None else self.session.log_level

    def wants_log(self, level: LoggingLevel) -> bool:
        """Whether a log message of `level` would be sent."""
        threshold = None if self.call_queue.closed else self.log_level
        return threshold is not None and LOGGING_LEVELS.index(level) >= LOGGING_LEVELS.index(threshold)

    def put_log(self, level: LoggingLevel, data: Any, logger: str | None) -> None:
        """Queue a log message behind the pending messages of this request (MCP logging).

        Raises ValueError for data that is not JSON.
        """
        related = None if self.task is None else self.task.related_meta
        meta = UNSET if related is None else related
        try:
            params = encode_value(LogParams(level=level, data=encode_json(data), logger=logger, meta=meta))
        except UNENCODABLE as error:
            raise ValueError(f"a log message must be JSON: {error}") from None
        self.call_queue.put(Notification("notifications/message", params))

    def expire_after(self, seconds: float, margin: float) -> None:
        """Cancel the handler `margin` seconds before `seconds` have passed, when the client gives up."""
        self.scope.deadline = trio.current_time() + seconds - min(margin, seconds * MARGIN_SHARE)

    def lift_deadline(self) -> None:
        """Set no deadline any more, because the call has become a background task.

        Its handler has run in `LiveTask.scope` from the beginning. This scope holds the rest of the
        call, which must still be able to answer that there is a task.
        """
        self.scope.deadline = math.inf

    def withdraw(self) -> None:
        """Stop working on the request: its client no longer wants an answer."""
        self.withdrawn = True
        self.call_queue.withdraw()
        self.scope.cancel()
